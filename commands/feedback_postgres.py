"""The store of feedback on PostgreSQL."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from commands.feedback_store import (
    FORGOTTEN_MAX,
    OPEN,
    OPENED_MAX,
    ORPHAN_KEPT_MS,
    SETTLED,
    SETTLED_KEPT_MS,
    Fate,
    FeedbackBooks,
    FeedbackState,
    Kept,
    Move,
    Placed,
    Room,
    Wanted,
)
from domain.feedback import Feedback
from ledger.postgres_arrays import ByteaArray, TextArray, UuidArray
from ledger.postgres_connection import PostgresConnection, Row

_NOBODY = UUID(int=0)
_NEVER = -1
_IS_OPEN = " or ".join(f"f.state = '{state.value}'" for state in OPEN)
_SETTLED = ", ".join(f"'{state.value}'" for state in SETTLED)
_COLUMNS = "body, digest, sent_by, received_at, orphan_at, state, due_at, tries, error, settled_at"

_KEEP = "select fate, kept from keep_feedback(%s, %s, %s, %s, %s::bigint[], %s, %s, %s, %s, %s)"
_CLAIM = """
with due as materialized (
    select id, due_at from feedback where due_at <= %s order by due_at, id limit %s for update skip locked
),
claimed as (update feedback f set due_at = %s from due d where f.id = d.id returning f.id)
select d.id from due d join claimed c on c.id = d.id order by d.due_at, d.id
"""
_UNSETTLED = f"select {_COLUMNS} from feedback f where id = any(%s) and ({_IS_OPEN}) limit {OPENED_MAX}"  # noqa: S608
# Rows first, in one order everywhere, then the row of `feedback_room`: who holds that waits for nobody.
_MOVE = f"""
with locked as materialized (
    select f.id, f.state as was, v.s as state, v.d as due_at, v.e as error
    from unnest(%s, %s, %s::bigint[], %s) as v(i, s, d, e) join feedback f on f.id = v.i
    where {_IS_OPEN} order by f.id for update of f
),
moved as (
    update feedback f set
        state = l.state, due_at = nullif(l.due_at, {_NEVER}), error = l.error,
        tries = case when l.error = '' then 0 else f.tries + 1 end,
        settled_at = case when l.state in ({_SETTLED}) then %s::bigint end
    from locked l where f.id = l.id returning 1
),
counted as (
    update feedback_room r set {{counts}}
    from (select {{sums}} from locked) s where exists (select from locked)
)
select count(*) from moved
""".format(  # noqa: S608 (made of constants)
    counts=", ".join(f"{one.value} = r.{one.value} + s.{one.value}" for one in (*OPEN, *SETTLED)),
    sums=", ".join(
        f"count(*) filter (where state = '{one.value}') - count(*) filter (where was = '{one.value}') as {one.value}"
        for one in (*OPEN, *SETTLED)
    ),
)
_FIND = f"select {_COLUMNS} from feedback where id = %s"  # noqa: S608
_BY_STATE = f"""
select {_COLUMNS} from unnest(%(states)s::text[]) as s(one) cross join lateral (
    select * from feedback where state = s.one and (received_at, id) < (%(at)s::bigint, %(id)s::uuid)
    order by received_at desc, id desc limit %(limit)s
) f order by received_at desc, f.id desc limit %(limit)s
"""  # noqa: S608
_CHOSEN = f"""
select {_COLUMNS} from feedback where {{chosen}} and state = any(%(states)s::text[])
and (received_at, id) < (%(at)s::bigint, %(id)s::uuid) order by received_at desc, id desc limit %(limit)s
"""  # noqa: S608
_OF_IMPRESSION = _CHOSEN.format(chosen="impression = %(impression)s and (not %(failing)s or error <> '')")
_FAILING = _CHOSEN.format(chosen="error <> ''")
_BOOKS = """
select accepted, waiting, parked, orphaned, applied, refused, held,
    (select count(*) from feedback where error <> '' and state = 'waiting'),
    (select received_at from feedback where state = 'waiting' order by received_at, id limit 1)
from feedback_room
"""
_COUNT = "select state, count(*) from feedback group by state"
_FORGET = f"""
delete from feedback where id in (
    select id from feedback where {{old}} <= %s limit {FORGOTTEN_MAX} for update skip locked
) returning id
"""  # noqa: S608
_FORGET_SETTLED = _FORGET.format(old="settled_at")
_FORGET_ORPHANS = _FORGET.format(old="state = 'orphaned' and received_at")
_LAST = (1 << 62, UUID(int=(1 << 128) - 1))


class PostgresFeedback:
    """A `FeedbackStore`. Give it a connection of its own: it must not wait for others, nor they for it."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def keep(self, items: Sequence[Kept], room: Room) -> list[Placed]:
        if not items:
            return []
        rows = await self._connection.fetch(
            _KEEP,
            [
                UuidArray.of([item.feedback.id for item in items]),
                TextArray.of([item.digest for item in items]),
                UuidArray.of([item.feedback.impression_id or _NOBODY for item in items]),
                ByteaArray.of([msgspec.json.encode(item.feedback) for item in items]),
                [_NEVER if item.orphan_at is None else item.orphan_at for item in items],
                items[0].sent_by,
                items[0].received_at,
                room.pending_max,
                room.held_max,
                room.impression_max,
            ],
        )
        return [Placed(Fate(fate), digest) for fate, digest in rows]

    async def claim(self, now: int, again_at: int, limit: int) -> list[UUID]:
        return [id_ for [id_] in await self._connection.fetch(_CLAIM, [now, limit, again_at])]

    async def unsettled(self, ids: Sequence[UUID]) -> list[Kept]:
        return [_kept(row) for row in await self._connection.fetch(_UNSETTLED, [UuidArray.of(ids)])] if ids else []

    async def move(self, moves: Sequence[Move], now: int) -> int:
        if not moves:
            return 0
        [[moved]] = await self._connection.fetch(
            _MOVE,
            [
                UuidArray.of([move.id for move in moves]),
                TextArray.of([move.state.value for move in moves]),
                [_NEVER if move.due_at is None else move.due_at for move in moves],
                TextArray.of([move.error for move in moves]),
                now,
            ],
        )
        return int(moved)

    async def find(self, id_: UUID) -> Kept | None:
        rows = await self._connection.fetch(_FIND, [id_])
        return _kept(rows[0]) if rows else None

    async def entries(self, wanted: Wanted) -> list[Kept]:
        at, id_ = wanted.after or _LAST
        asked: dict[str, Any] = {"at": at, "id": id_, "limit": wanted.limit}
        asked["states"] = [state.value for state in wanted.states or FeedbackState]
        statement = _BY_STATE
        if wanted.impression is not None:
            statement, asked = _OF_IMPRESSION, {**asked, "impression": wanted.impression, "failing": wanted.failing}
        elif wanted.failing:
            statement = _FAILING
        return [_kept(row) for row in await self._connection.fetch(statement, asked)]

    async def books(self) -> FeedbackBooks:
        [row] = await self._connection.fetch(_BOOKS, [])
        return FeedbackBooks(**dict(zip(FeedbackBooks.__struct_fields__, row, strict=True)))

    async def count(self) -> dict[FeedbackState, int]:
        return {FeedbackState(state): count for state, count in await self._connection.fetch(_COUNT, [])}

    async def forget(self, now: int) -> int:
        settled = await self._connection.fetch(_FORGET_SETTLED, [now - SETTLED_KEPT_MS])
        orphans = await self._connection.fetch(_FORGET_ORPHANS, [now - ORPHAN_KEPT_MS])
        return len(settled) + len(orphans)


def _kept(row: Row) -> Kept:
    body, digest, sent_by, received_at, orphan_at, state, due_at, tries, error, settled_at = row
    return Kept(
        feedback=msgspec.json.decode(body, type=Feedback),
        digest=digest,
        sent_by=sent_by,
        received_at=received_at,
        orphan_at=orphan_at,
        state=FeedbackState(state),
        due_at=due_at,
        tries=tries,
        error=error,
        settled_at=settled_at,
    )
