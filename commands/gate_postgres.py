"""Day keys, quarantine and parked views on PostgreSQL."""

from collections.abc import Sequence
from uuid import UUID

from commands.quarantine import ParkedView, QuarantinedBody
from ledger.postgres_arrays import ByteaArray, TextArray, UuidArray
from ledger.postgres_connection import PostgresConnection

_KEEP_KEY = """
with kept as (
    insert into day_keys values (%(day)s, %(wrapped)s, %(destroy_at)s) on conflict (day) do nothing returning wrapped
)
select wrapped from kept union all select wrapped from day_keys where day = %(day)s limit 1
"""
_QUARANTINE = """
insert into quarantine (name, event_id, code, detail, path, size, received_at, expires_at, key_day, sealed)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (name) do nothing returning name
"""
_PARK = """
insert into parked_views (event_id, impression, digest, received_at, sealed)
select e, i, g, %s, s from unnest(%s, %s, %s, %s) as v(e, i, g, s)
on conflict (event_id) do nothing returning event_id
"""
_PARKED_OTHERWISE = """
select event_id from unnest(%s, %s) as v(e, g) join parked_views p on p.event_id = v.e and p.digest <> v.g
"""
_DUE = """
select v.event_id, v.impression, v.digest, v.received_at, v.sealed from parked_views v
cross join lateral (select true from impression_commits c where c.stream = v.impression limit 1) rendered
limit %s
"""


class PostgresDayKeys:
    """A `DayKeyStore`."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def load_or_keep(self, day: int, wrapped: bytes, destroy_at: int) -> bytes | None:
        arguments = {"day": day, "wrapped": wrapped, "destroy_at": destroy_at}
        rows = await self._connection.fetch(_KEEP_KEY, arguments)
        # Another process kept its key between the two halves of the statement: the next look finds it.
        [[kept]] = rows or await self._connection.fetch(_KEEP_KEY, arguments)
        return None if kept is None else bytes(kept)

    async def destroy_due(self, now: int) -> int:
        rows = await self._connection.fetch(
            "update day_keys set wrapped = null where wrapped is not null and destroy_at <= %s returning day", [now]
        )
        return len(rows)


class PostgresHolding:
    """A `HoldingStore`."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def quarantine(self, bodies: Sequence[QuarantinedBody]) -> None:
        for body in bodies:
            await self._connection.fetch(
                _QUARANTINE,
                [
                    body.name,
                    body.event_id,
                    body.code,
                    body.detail,
                    body.path,
                    body.size,
                    body.received_at,
                    body.expires_at,
                    body.key_day,
                    body.sealed,
                ],
            )

    async def park(self, views: Sequence[ParkedView]) -> set[UUID]:
        by_time: dict[int, list[ParkedView]] = {}
        for view in views:
            by_time.setdefault(view.received_at, []).append(view)
        for received_at, group in by_time.items():
            await self._connection.fetch(
                _PARK,
                [
                    received_at,
                    UuidArray.of([view.event_id for view in group]),
                    UuidArray.of([view.impression for view in group]),
                    TextArray.of([view.digest for view in group]),
                    ByteaArray.of([view.sealed for view in group]),
                ],
            )

        arguments = [UuidArray.of([view.event_id for view in views]), TextArray.of([view.digest for view in views])]
        return {event_id for [event_id] in await self._connection.fetch(_PARKED_OTHERWISE, arguments)}

    async def due_views(self, limit: int) -> list[ParkedView]:
        return [
            ParkedView(event_id=event_id, impression=impression, digest=digest, received_at=at, sealed=bytes(sealed))
            for event_id, impression, digest, at, sealed in await self._connection.fetch(_DUE, [limit])
        ]

    async def unpark(self, event_ids: Sequence[UUID]) -> None:
        await self._connection.fetch(
            "delete from parked_views where event_id = any(%s) returning event_id", [UuidArray.of(event_ids)]
        )

    async def count(self) -> tuple[int, int]:
        [[bodies, views]] = await self._connection.fetch(
            "select (select count(*) from quarantine), (select count(*) from parked_views)", []
        )
        return int(bodies), int(views)

    async def drop_expired(self, now: int, parked_before: int) -> int:
        rows = await self._connection.fetch("delete from quarantine where expires_at <= %s returning name", [now])
        orphans = await self._connection.fetch(
            "delete from parked_views where received_at < %s returning event_id", [parked_before]
        )
        return len(rows) + len(orphans)
