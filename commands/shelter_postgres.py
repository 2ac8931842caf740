"""The shelter's store on PostgreSQL."""

from collections.abc import Sequence
from uuid import UUID

from commands.shelter_store import (
    DROP_MAX,
    ORDERS_MAX,
    RECORD_KEPT_MS,
    Counts,
    Dropped,
    KeptOrder,
    Key,
    Room,
    Settled,
    Sheltered,
    Waiting,
)
from domain.shelter import Signed
from ledger.postgres_arrays import ByteaArray, TextArray, UuidArray
from ledger.postgres_connection import PostgresConnection, Row

# The row of `shelter_room` is locked first, so that two gates never fill the same room.
_KEEP = """
with room as materialized (select waiting, bytes from shelter_room for update),
wanted as (
    select v.*, row_number() over (order by n) as nth, sum(length(s)) over (order by n) as upto
    from unnest(%s, %s, %s, %s, %s::bigint[], %s::bigint[], %s) with ordinality as v(h, r, i, e, t, x, s, n)
    where not exists (select from sheltered k where (k.home, k.impression, k.event_id) = (v.h, v.i, v.e))
),
fitting as (
    select w.*, room.waiting + nth <= %s and room.bytes + upto <= %s as fits from wanted w, room
),
kept as (
    insert into sheltered (home, region, impression, event_id, received_at, expires_at, size, sealed, state)
    select h, r, i, e, t, x, length(s), s, 'waiting' from fitting where fits order by n
    on conflict do nothing returning size
),
grown as (
    update shelter_room
    set waiting = waiting + (select count(*) from kept), bytes = bytes + (select coalesce(sum(size), 0) from kept)
)
select h, i, e from fitting where not fits
"""
_HOMES = """
with recursive found as (
    (select home from sheltered where state = 'waiting' order by home limit 1)
    union all
    select (select home from sheltered s where s.state = 'waiting' and s.home > found.home order by home limit 1)
    from found where home is not null
)
select home from found where home is not null
"""
_DUE = """
select home, region, impression, event_id, received_at, expires_at, sealed, number, tries from (
    select s.*, sum(size) over (order by number) as upto, row_number() over (order by number) as nth from (
        select * from sheltered
        where home = %s and state = 'waiting' and next_at <= %s and expires_at > %s order by number limit %s
    ) s
) page where nth = 1 or upto <= %s order by number
"""
_NAMED = "from unnest(%s, %s, %s, %s) as v(h, i, e, o) where (s.home, s.impression, s.event_id) = (v.h, v.i, v.e)"
# Rows first, then the row of `shelter_room`: who holds that waits for nobody.
_COUNTED = """
with gone as materialized ({}),
counted as (
    update shelter_room set waiting = waiting - n, bytes = bytes - size, {}
    from (select count(*) as n, coalesce(sum(size), 0) as size from gone) sums where n > 0
)
select count(*) from gone
"""
_SETTLE = _COUNTED.format(
    f"update sheltered s set sealed = null, state = 'moved', outcome = v.o, gone_at = %s {_NAMED} "  # noqa: S608
    "and s.state = 'waiting' returning s.size",
    "moved = moved + n",
)
_SETTLE_EXPIRED = f"""
with late as materialized (
    update sheltered s set state = 'moved', outcome = v.o, gone_at = %s {_NAMED} and s.state = 'expired' returning 1
),
counted as (
    update shelter_room set expired = expired - n, moved = moved + n
    from (select count(*) as n from late) sums where n > 0
)
select count(*) from late
"""  # noqa: S608 (made of constants)
_DEFER = f"""
update sheltered s set tries = tries + 1, next_at = %s {_NAMED} and s.state = 'waiting' returning s.home
"""  # noqa: S608
_EXPIRE = _COUNTED.format(
    "update sheltered set sealed = null, state = 'expired', gone_at = %s where (home, impression, event_id) in ("  # noqa: S608
    "select home, impression, event_id from sheltered where state = 'waiting' and expires_at <= %s "
    f"limit {DROP_MAX} for update skip locked) returning size",
    "expired = expired + n",
)
_FORGET = f"""
with forgotten as materialized (
    delete from sheltered where (home, impression, event_id) in (
        select home, impression, event_id from sheltered where gone_at <= %s limit {DROP_MAX} for update skip locked
    ) returning state
),
counted as (
    update shelter_room set moved = moved - m, expired = expired - x, arrived = arrived - a from (
        select
            count(*) filter (where state = 'moved') as m,
            count(*) filter (where state = 'expired') as x,
            count(*) filter (where state = 'arrived') as a
        from forgotten
    ) sums where m + x + a > 0
)
select count(*) from forgotten
"""  # noqa: S608
_ARRIVED = """
with came as materialized (
    insert into sheltered (home, region, impression, event_id, received_at, expires_at, size, state, gone_at)
    select h, '', i, e, t, t, 0, 'arrived', t from unnest(%s, %s, %s) as v(h, i, e), (values (%s::bigint)) as now(t)
    on conflict do nothing returning home
),
counted as (
    update shelter_room set arrived = arrived + n from (select count(*) as n from came) sums where n > 0
)
select count(*) from came
"""
_WAITING = """
select home, min(region), count(*), min(received_at) from sheltered
where state = 'waiting' and expires_at > %s group by home order by home
"""
_COUNT = """
select r.waiting - late.n, r.expired + late.n, r.moved, r.arrived, (r.bytes - late.size)::bigint
from shelter_room r, (
    select count(*) as n, coalesce(sum(size), 0) as size from sheltered where state = 'waiting' and expires_at <= %s
) late
"""
_ORDER = "order_id, signed_by, payload, signature, valid_until, revoked_at"
_KEEP_ORDER = f"""
insert into shelter_orders ({_ORDER}) values (%s, %s, %s, %s, %s, null)
on conflict (order_id) do update set order_id = excluded.order_id returning {_ORDER}
"""  # noqa: S608
_REVOKE = f"""
update shelter_orders set revoked_at = coalesce(revoked_at, %s) where order_id = %s returning {_ORDER}
"""  # noqa: S608
_ORDERS = f"""
select * from (
    select {_ORDER} from shelter_orders where greatest(valid_until, coalesce(revoked_at, 0)) > %s
    order by valid_until desc, order_id desc limit {ORDERS_MAX}
) latest order by valid_until, order_id
"""  # noqa: S608


class PostgresShelter:
    """A `ShelterStore`. Give it a connection of its own: it must not wait for others, nor they for it."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def keep(self, events: Sequence[Sheltered], room: Room) -> set[Key]:
        by_key: dict[Key, Sheltered] = {}
        for event in events:
            by_key.setdefault(event.key, event)
        once = list(by_key.values())
        if not once:
            return set()
        rows = await self._connection.fetch(
            _KEEP,
            [
                TextArray.of([event.home for event in once]),
                TextArray.of([event.region for event in once]),
                UuidArray.of([event.impression for event in once]),
                UuidArray.of([event.event_id for event in once]),
                [event.received_at for event in once],
                [event.expires_at for event in once],
                ByteaArray.of([event.sealed for event in once]),
                room.events_max,
                room.bytes_max,
            ],
        )
        return {(home, impression, event_id) for home, impression, event_id in rows}

    async def homes(self) -> list[str]:
        return [home for [home] in await self._connection.fetch(_HOMES, [])]

    async def due(self, home: str, now: int, limit: int, bytes_max: int) -> list[Sheltered]:
        rows = await self._connection.fetch(_DUE, [home, now, now, limit, bytes_max])
        return [_sheltered(row) for row in rows]

    async def settle(self, settled: Sequence[Settled], now: int) -> None:
        if not settled:
            return
        named = [*_arrays([one.key for one in settled]), TextArray.of([one.outcome for one in settled])]
        await self._connection.fetch(_SETTLE, [now, *named])
        await self._connection.fetch(_SETTLE_EXPIRED, [now, *named])

    async def defer(self, keys: Sequence[Key], until: int) -> None:
        if keys:
            await self._connection.fetch(_DEFER, [until, *_arrays(keys), TextArray.of([""] * len(keys))])

    async def arrived(self, keys: Sequence[Key], now: int) -> None:
        once = sorted(set(keys), key=str)  # in one order everywhere: two batches never deadlock
        if once:
            await self._connection.fetch(_ARRIVED, [*_arrays(once), now])

    async def waiting(self, now: int) -> list[Waiting]:
        return [
            Waiting(home=home, region=region, events=events, oldest_at=oldest_at)
            for home, region, events, oldest_at in await self._connection.fetch(_WAITING, [now])
        ]

    async def count(self, now: int) -> Counts:
        [[waiting, expired, moved, arrived, size]] = await self._connection.fetch(_COUNT, [now])
        return Counts(waiting=waiting, expired=expired, moved=moved, arrived=arrived, bytes_waiting=size)

    async def drop_expired(self, now: int) -> Dropped:
        [[bodies]] = await self._connection.fetch(_EXPIRE, [now, now])
        [[entries]] = await self._connection.fetch(_FORGET, [now - RECORD_KEPT_MS])
        await self._connection.fetch(
            "delete from shelter_orders where greatest(valid_until, coalesce(revoked_at, 0)) <= %s returning order_id",
            [now - RECORD_KEPT_MS],
        )
        return Dropped(bodies, entries)

    async def keep_order(self, order: KeptOrder) -> KeptOrder:
        signed = order.signed
        rows = await self._connection.fetch(
            _KEEP_ORDER, [order.order_id, signed.by, signed.payload, signed.signature, order.valid_until]
        )
        return _order(rows[0])

    async def revoke(self, order_id: UUID, now: int) -> KeptOrder | None:
        rows = await self._connection.fetch(_REVOKE, [now, order_id])
        return _order(rows[0]) if rows else None

    async def orders(self, since: int) -> list[KeptOrder]:
        return [_order(row) for row in await self._connection.fetch(_ORDERS, [since])]


def _arrays(keys: Sequence[Key]) -> tuple[TextArray, UuidArray, UuidArray]:
    return (
        TextArray.of([home for home, _, _ in keys]),
        UuidArray.of([impression for _, impression, _ in keys]),
        UuidArray.of([event_id for _, _, event_id in keys]),
    )


def _sheltered(row: Row) -> Sheltered:
    home, region, impression, event_id, received_at, expires_at, sealed, number, tries = row
    return Sheltered(
        home=home,
        region=region,
        impression=impression,
        event_id=event_id,
        received_at=received_at,
        expires_at=expires_at,
        sealed=bytes(sealed),
        number=number,
        tries=tries,
    )


def _order(row: Row) -> KeptOrder:
    order_id, signed_by, payload, signature, valid_until, revoked_at = row
    return KeptOrder(order_id, Signed(signed_by, bytes(payload), bytes(signature)), valid_until, revoked_at)
