"""Day keys, quarantine and parked views on PostgreSQL."""

from collections.abc import Sequence
from uuid import UUID

from msgspec.structs import replace

from commands.quarantine import DROPPED_MAX, RECORD_KEPT_MS, Held, ParkedView, Parking, QuarantinedBody, Room
from commands.quarantine_entries import REUSED
from ledger.postgres_arrays import ByteaArray, TextArray, UuidArray
from ledger.postgres_connection import PostgresConnection, Row
from ledger.store import EventStore

_KEEP_KEY = """
with kept as (
    insert into day_keys values (%(day)s, %(wrapped)s, %(destroy_at)s) on conflict (day) do nothing
    returning wrapped, destroy_at
)
select wrapped, destroy_at from kept
union all select wrapped, destroy_at from day_keys where day = %(day)s limit 1
"""
_IS_GONE = """quarantine.state = 'expired' or (
    quarantine.state = 'waiting' and quarantine.expires_at <= excluded.received_at
)"""
_RENEWED = ", ".join(
    f"{column} = case when {_IS_GONE} then excluded.{column} else quarantine.{column} end"
    for column in ("code", "detail", "path", "sdk", "size", "expires_at", "key_day", "sealed", "sender", "state")
)
# Triggers keep `quarantine_room`, after all rows: who waits for it holds its own rows already, so nobody deadlocks.
_QUARANTINE = f"""
with wanted as (
    select v.*, q.sealed is not null as is_here,
        room.bodies + count(*) filter (where q.sealed is null) over (order by n) as nth,
        room.bytes + sum(length(s)) filter (where q.sealed is null) over (order by n) as upto
    from unnest(
        %s, %s, %s, %s, %s, %s, %s::integer[], %s::integer[], %s::bigint[], %s::bigint[], %s::integer[], %s, %s
    ) as v(n, e, c, d, p, k, z, t, r, x, y, s, f)
    left join quarantine q on q.name = n cross join quarantine_room room
)
insert into quarantine (
    name, event_id, code, detail, path, sdk, size, times, received_at, last_at, expires_at, key_day, sealed, sender
)
select n, nullif(e, '')::uuid, c, d, p, k, z, t, r, r, x, y, s, nullif(f, ''::bytea)
from wanted where is_here or (nth <= %s and upto <= %s) order by n
on conflict (name) do update
set times = quarantine.times + excluded.times, last_at = greatest(quarantine.last_at, excluded.last_at), {_RENEWED}
returning name
"""  # noqa: S608 (made of constants)
_COUNT = """
select
    count(*) filter (where code <> %(reused)s and state = 'waiting' and expires_at > %(now)s),
    count(*) filter (
        where code <> %(reused)s and (state = 'expired' or (state = 'waiting' and expires_at <= %(now)s))
    ),
    (select count(*) from parked_views),
    count(*) filter (where code <> %(reused)s and state in ('replayed', 'superseded')),
    count(*) filter (where code = %(reused)s)
from quarantine
"""
_EXPIRE = f"""
update quarantine set sealed = null, sender = null, state = case state when 'waiting' then 'expired' else state end
where name in (
    select name from quarantine where expires_at <= %s and sealed is not null
    order by expires_at limit {DROPPED_MAX} for update skip locked
) returning name
"""  # noqa: S608 (made of constants, here and below)
_FORGET = f"""
delete from quarantine where name in (
    select name from quarantine where expires_at <= %s and sealed is null
    order by expires_at limit {DROPPED_MAX} for update skip locked
) returning name
"""  # noqa: S608
_ORPHANS = f"""
delete from parked_views where event_id in (
    select event_id from parked_views where received_at < %s
    order by received_at limit {DROPPED_MAX} for update skip locked
) returning event_id
"""  # noqa: S608
_PARK = "select parking from park_views(%s, %s, %s, %s::bigint[], %s, %s, %s)"
_DUE = """
select v.event_id, v.impression, v.digest, v.received_at, v.sealed from parked_views v
cross join lateral (select true from impression_commits c where c.stream = v.impression limit 1) rendered
where v.event_id > %s and v.event_id <= %s order by v.event_id limit %s
"""
_LOOKED_MAX = 20_000
"""Parked views that one look passes over."""
_END_OF_LOOK = "select event_id from parked_views where event_id > %s order by event_id offset %s limit 1"

_PARKED_AFTER = """
select event_id, impression, digest, received_at, sealed from parked_views
where event_id > %s order by event_id limit %s
"""
_FIRST_ID, _LAST_ID = UUID(int=0), UUID(int=(1 << 128) - 1)

_TEXTS = ("name", "event_id", "code", "detail", "path", "sdk")
_NUMBERS = ("size", "times", "received_at", "expires_at", "key_day")


class PostgresDayKeys:
    """A `DayKeyStore`."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def load_or_keep(self, day: int, wrapped: bytes, destroy_at: int) -> tuple[bytes, int] | None:
        arguments = {"day": day, "wrapped": wrapped, "destroy_at": destroy_at}
        rows = await self._connection.fetch(_KEEP_KEY, arguments)
        # Another process kept its key between the two halves of the statement: the next look finds it.
        [[kept, kept_until]] = rows or await self._connection.fetch(_KEEP_KEY, arguments)
        return None if kept is None else (bytes(kept), kept_until)

    async def destroy_due(self, now: int) -> int:
        rows = await self._connection.fetch(
            "update day_keys set wrapped = null where wrapped is not null and destroy_at <= %s returning day", [now]
        )
        return len(rows)


class PostgresHolding:
    """A `HoldingStore`."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection
        self._asked = _FIRST_ID

    async def quarantine(self, bodies: Sequence[QuarantinedBody], room: Room) -> set[str]:
        if not bodies:
            return set()
        by_name: dict[str, QuarantinedBody] = {}
        for body in bodies:
            known = by_name.get(body.name)
            by_name[body.name] = body if known is None else replace(known, times=known.times + body.times)
        rows = [by_name[name] for name in sorted(by_name)]  # in one order everywhere: two batches never deadlock
        kept = await self._connection.fetch(
            _QUARANTINE,
            [
                *(TextArray.of([str(getattr(row, name) or "") for row in rows]) for name in _TEXTS),
                *([getattr(row, name) for row in rows] for name in _NUMBERS),
                ByteaArray.of([row.sealed for row in rows]),
                ByteaArray.of([row.sender or b"" for row in rows]),
                room.bodies,
                room.body_bytes,
            ],
        )
        return by_name.keys() - {name for [name] in kept}

    async def park(self, views: Sequence[ParkedView], room: Room) -> list[Parking]:
        if not views:
            return []
        rows = await self._connection.fetch(
            _PARK,
            [
                UuidArray.of([view.event_id for view in views]),
                UuidArray.of([view.impression for view in views]),
                TextArray.of([view.digest for view in views]),
                [view.received_at for view in views],
                ByteaArray.of([view.sealed for view in views]),
                room.impression_views,
                room.views,
            ],
        )
        return [Parking(parking) for [parking] in rows]

    async def due_views(self, limit: int) -> list[ParkedView]:
        end = await self._connection.fetch(_END_OF_LOOK, [self._asked, _LOOKED_MAX - 1])
        through = end[0][0] if end else _LAST_ID
        views = list(map(_view, await self._connection.fetch(_DUE, [self._asked, through, limit])))
        if len(views) == limit:
            self._asked = views[-1].event_id
        else:
            self._asked = through if end else _FIRST_ID
        return views

    async def unpark(self, event_ids: Sequence[UUID]) -> None:
        if not event_ids:
            return
        await self._connection.fetch(
            "delete from parked_views where event_id = any(%s) returning event_id", [UuidArray.of(event_ids)]
        )

    async def count(self, now: int) -> Held:
        [[waiting, expired, parked, moved, reused]] = await self._connection.fetch(
            _COUNT, {"now": now, "reused": REUSED}
        )
        return Held(waiting=waiting, expired=expired, parked=parked, moved=moved, reused=reused)

    async def drop_expired(self, now: int, parked_before: int) -> int:
        kinds = (_EXPIRE, now), (_FORGET, now - RECORD_KEPT_MS), (_ORPHANS, parked_before)
        return sum([len(await self._connection.fetch(statement, [before])) for statement, before in kinds])


class PostgresHoldingElsewhere(PostgresHolding):
    """The same beside a ledger in another store, which is asked, some views at a time, whose render has arrived."""

    def __init__(self, connection: PostgresConnection, ledger: EventStore) -> None:
        super().__init__(connection)
        self._ledger = ledger

    async def due_views(self, limit: int) -> list[ParkedView]:
        """Look at the next *limit* views; all of them are looked at in turn."""
        views = list(map(_view, await self._connection.fetch(_PARKED_AFTER, [self._asked, limit])))
        rendered = await self._ledger.read_streams(list({view.impression for view in views}), 1) if views else {}
        self._asked = views[-1].event_id if len(views) == limit else _FIRST_ID
        return [view for view in views if view.impression in rendered]


def _view(row: Row) -> ParkedView:
    event_id, impression, digest, received_at, sealed = row
    return ParkedView(
        event_id=event_id, impression=impression, digest=digest, received_at=received_at, sealed=bytes(sealed)
    )
