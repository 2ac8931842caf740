"""What is to be looked at again, on PostgreSQL."""

from collections.abc import Sequence

from commands.reevaluations import COUNTED_MAX, DUE_MAX, KEPT_MS, Backlog, Noted, Postponed, Reevaluation
from domain.ids import ImpressionId
from domain.reevaluation import Look, Why
from ledger.following import Followed, Page
from ledger.postgres_arrays import BigintArray, IntArray, TextArray, UuidArray
from ledger.postgres_connection import PostgresConnection

_NOTE = "select note_reevaluations(%s, %s, %s, %s)"
_CHOOSE = "select choose_reevaluations(%s, %s, %s, %s, %s, %s, %s)"
_FOLLOWED = "select position, at from ledger_followers where name = 'reevaluations'"
_DUE = "select impression, why, due_at from reevaluations where due_at <= %s order by due_at, impression, why limit %s"
_CLAIM = """
with due as materialized (
    select impression, why, due_at from reevaluations where due_at <= %s
    order by due_at, impression, why limit %s for update skip locked
),
claimed as (
    update reevaluations r set due_at = %s from due d
    where r.impression = d.impression and r.why = d.why returning r.impression
)
select impression from due where impression in (select impression from claimed)
group by impression order by min(due_at), impression
"""
_NOTED = """
select impression, why, wanted_at, notes, tries from reevaluations
where impression = any(%s) and wanted_at <= %s order by impression, why
"""
# Rows are locked in one order everywhere, so that nobody waits for one who waits for him.
_DONE = """
with locked as materialized (
    select r.impression, r.why
    from unnest(%s, %s, %s) as v(i, w, n) join reevaluations r on (r.impression, r.why, r.notes) = (v.i, v.w, v.n)
    order by r.impression, r.why for update of r
)
delete from reevaluations r using locked l where (r.impression, r.why) = (l.impression, l.why) returning r.impression
"""
_POSTPONE = """
with locked as materialized (
    select r.impression, r.why, v.d as due_at, v.e as error
    from unnest(%s, %s, %s, %s, %s) as v(i, w, n, d, e)
    join reevaluations r on (r.impression, r.why, r.notes) = (v.i, v.w, v.n)
    order by r.impression, r.why for update of r
)
update reevaluations r set
    due_at = l.due_at, error = l.error, tries = case when l.error = '' then 0 else r.tries + 1 end
from locked l where (r.impression, r.why) = (l.impression, l.why) returning r.impression
"""
_BACKLOG = f"""
select why, due, failing, oldest_at from unnest(%s) as w(why) cross join lateral (
    select count(*) as due, count(*) filter (where error <> '') as failing, min(wanted_at) as oldest_at from (
        select error, wanted_at from reevaluations r
        where r.why = w.why and wanted_at <= %s order by wanted_at limit {COUNTED_MAX}
    ) first
) counted where due > 0 order by why
"""  # noqa: S608 (made of a constant)
_WAITING = f"select count(*) from (select from reevaluations where why = '{{why}}' limit {COUNTED_MAX}) noted"  # noqa: S608
_FORGET = f"""
delete from reevaluations where (impression, why) in (
    select impression, why from reevaluations where noted_at <= %s limit {DUE_MAX} for update skip locked
) returning impression
"""  # noqa: S608


class PostgresReevaluations:
    """`Reevaluations` on PostgreSQL."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def note(self, impressions: Sequence[ImpressionId], why: Why, due_at: int, now: int) -> None:
        if impressions:
            n = len(impressions)
            whys, dues = TextArray.of([why.value] * n), BigintArray.of([due_at] * n)
            await self._connection.fetch(_NOTE, [UuidArray.of(impressions), whys, dues, now])

    async def followed(self) -> Followed:
        [row] = await self._connection.fetch(_FOLLOWED, [])
        return Followed(*row)

    async def choose(self, page: Page, looks: Sequence[tuple[ImpressionId, Look]], now: int) -> bool:
        arrays = (
            UuidArray.of([impression for impression, _ in looks]),
            TextArray.of([look.why.value for _, look in looks]),
            BigintArray.of([look.due_at for _, look in looks]),
        )
        [[chosen]] = await self._connection.fetch(_CHOOSE, [page.after, page.through, page.at, *arrays, now])
        return bool(chosen)

    async def due(self, now: int, limit: int) -> list[Reevaluation]:
        rows = await self._connection.fetch(_DUE, [now, min(limit, DUE_MAX)])
        return [Reevaluation(impression, Why(why), due_at) for impression, why, due_at in rows]

    async def claim(self, now: int, again_at: int, limit: int) -> list[ImpressionId]:
        rows = await self._connection.fetch(_CLAIM, [now, min(limit, DUE_MAX), again_at])
        return [impression for [impression] in rows]

    async def noted(self, impressions: Sequence[ImpressionId], now: int) -> list[Noted]:
        if not impressions:
            return []
        rows = await self._connection.fetch(_NOTED, [UuidArray.of(impressions), now])
        return [
            Noted(impression=one, why=Why(why), wanted_at=wanted_at, notes=notes, tries=tries)
            for one, why, wanted_at, notes, tries in rows
        ]

    async def done(self, rows: Sequence[Noted]) -> int:
        return len(await self._connection.fetch(_DONE, _keys(rows))) if rows else 0

    async def postpone(self, rows: Sequence[Postponed]) -> None:
        if rows:
            dues, errors = BigintArray.of([row.due_at for row in rows]), TextArray.of([row.error for row in rows])
            await self._connection.fetch(_POSTPONE, [*_keys([row.noted for row in rows]), dues, errors])

    async def backlog(self, now: int) -> list[Backlog]:
        rows = await self._connection.fetch(_BACKLOG, [TextArray.of([why.value for why in Why]), now])
        return [
            Backlog(why=Why(why), due=due, failing=failing, oldest_at=oldest_at)
            for why, due, failing, oldest_at in rows
        ]

    async def waiting(self, why: Why) -> int:
        [[waiting]] = await self._connection.fetch(_WAITING.format(why=why.value), [])
        return int(waiting)

    async def forget(self, now: int) -> int:
        return len(await self._connection.fetch(_FORGET, [now - KEPT_MS]))


def _keys(rows: Sequence[Noted]) -> list[object]:
    return [
        UuidArray.of([row.impression for row in rows]),
        TextArray.of([row.why.value for row in rows]),
        IntArray.of([row.notes for row in rows]),
    ]
