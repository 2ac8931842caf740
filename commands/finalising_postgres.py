"""Runs over a period, on PostgreSQL."""

from collections.abc import Sequence

from commands.finalising import Run
from domain.ids import ImpressionId
from domain.reevaluation import Why
from ledger.postgres_arrays import BigintArray, TextArray, UuidArray
from ledger.postgres_connection import PostgresConnection

_NAMES = Run.__struct_fields__
_COLUMNS = ", ".join(_NAMES)
_VALUES = ", ".join(f"%({name})s" for name in _NAMES)
_SET = ", ".join(f"{name} = excluded.{name}" for name in _NAMES if name != "name")
_FIND = f"select {_COLUMNS} from reevaluation_runs where name = %s"  # noqa: S608 (names of our own fields, and below)
_BEGIN = f"""
insert into reevaluation_runs as known ({_COLUMNS}) values ({_VALUES})
on conflict (name) do update set {_SET} where %(again)s and known.finished_at is not null returning name
"""  # noqa: S608
# What is noted and how far the run is stand together or not at all.
_STEP = """
with moved as (
    update reevaluation_runs set
        noted = %(noted)s, next_at = %(next_at)s, next_until = %(next_until)s, next_after = %(next_after)s::uuid,
        finished_at = %(finished_at)s::bigint
    where name = %(name)s and started_at = %(started_at)s and finished_at is null and noted = %(was_noted)s
        and (next_at, next_until) = (%(was_at)s, %(was_until)s) and next_after is not distinct from %(was_after)s::uuid
    returning 1
)
select note_reevaluations(%(impressions)s, %(whys)s, %(dues)s, %(now)s) from moved
"""


class PostgresRuns:
    """`Runs` on PostgreSQL."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def find(self, name: str) -> Run | None:
        rows = await self._connection.fetch(_FIND, [name])
        return Run(**dict(zip(_NAMES, rows[0], strict=True))) if rows else None

    async def begin(self, run: Run, *, again: bool = False) -> Run:
        fields = {name: getattr(run, name) for name in _NAMES}
        await self._connection.fetch(_BEGIN, {**fields, "again": again})
        known = await self.find(run.name)
        assert known is not None, "it has just been kept"
        return known

    async def step(self, before: Run, after: Run, impressions: Sequence[ImpressionId], now: int) -> bool:
        n = len(impressions)
        asked = {name: getattr(after, name) for name in _NAMES}
        asked |= {"was_noted": before.noted, "was_at": before.next_at, "was_until": before.next_until}
        asked |= {
            "was_after": before.next_after,
            "impressions": UuidArray.of(impressions),
            "whys": TextArray.of([Why.FINALISE.value] * n),
            "dues": BigintArray.of([now] * n),
            "now": now,
        }
        return bool(await self._connection.fetch(_STEP, asked))
