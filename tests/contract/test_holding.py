"""Day keys, quarantine and parked views: one contract over memory and PostgreSQL."""

import asyncio
from contextlib import asynccontextmanager
from datetime import date
from uuid import uuid4

import pytest
from gatekit import NOW, Minter
from msgspec.structs import replace

from commands.gate_postgres import PostgresDayKeys, PostgresHolding, PostgresHoldingElsewhere
from commands.holding_memory import MemoryDayKeys, MemoryHolding
from commands.keyring import DAY_MS, LIFE_DAYS, Keyring
from commands.quarantine import RECORD_KEPT_MS, ROOM, Held, ParkedView, Parking, QuarantinedBody, ViewRoom
from domain.aggregates import AnswersCounted
from domain.vocabulary import DataSet
from ledger.memory import MemoryStore
from ledger.postgres import PostgresStore
from ledger.postgres_connection import PostgresConnection
from ledger.store import Append, LedgerUnavailable

DAY = NOW // DAY_MS


BESIDE = "postgres beside another ledger"


@pytest.fixture(params=["memory", *(pytest.param(name, marks=pytest.mark.slow) for name in ("postgres", BESIDE))])
def run(request):
    url = None if request.param == "memory" else request.getfixturevalue("postgres_url")

    @asynccontextmanager
    async def stores():
        if url is None:
            store = MemoryStore()
            yield store, MemoryDayKeys(), MemoryHolding(store)
            return
        connection = PostgresConnection(url, deadline_s=5.0)
        store = MemoryStore() if request.param == BESIDE else PostgresStore(url)
        elsewhere = PostgresHoldingElsewhere(connection, store)
        holding = elsewhere if request.param == BESIDE else PostgresHolding(connection)
        yield store, PostgresDayKeys(connection), holding
        await connection.close()
        await store.close()

    def runs(test):
        async def main():
            async with stores() as (store, day_keys, holding):
                await test(store, day_keys, holding)

        asyncio.run(main())

    return runs


class Silent:
    """Day keys that are destroyed without an answer."""

    def __init__(self, store):
        self.load_or_keep = store.load_or_keep
        self._destroy_due = store.destroy_due

    async def destroy_due(self, now):
        await self._destroy_due(now)
        raise LedgerUnavailable("the answer got lost")


def a_body(name, expires_at=NOW + 1_000):
    return QuarantinedBody(
        name=name,
        event_id=uuid4(),
        code="invalid",
        detail="Expected `int` >= 0",
        path="$.client_at",
        size=3,
        received_at=NOW,
        expires_at=expires_at,
        key_day=DAY,
        sealed=b"\x00sealed",
    )


def a_view(impression, digest="d", received_at=NOW):
    return ParkedView(event_id=uuid4(), impression=impression, digest=digest, received_at=received_at, sealed=b"\x01")


async def render(store, impression):
    await store.prepare_days(date(2026, 9, 21), date(2026, 9, 21), DataSet.LIVE)
    cause = uuid4()
    event = AnswersCounted(cause=cause, digest="d", counted_at=NOW)
    await store.append([Append(stream=impression, expected=0, cause=cause, digest="d", events=(event,))], NOW)


def test_the_first_key_of_a_day_is_the_one_that_everybody_gets(run):
    async def test(_, day_keys, __):
        assert await day_keys.load_or_keep(DAY, b"first", NOW + 5) == (b"first", NOW + 5)
        assert await day_keys.load_or_keep(DAY, b"second", NOW + 9) == (b"first", NOW + 5)

    run(test)


def test_two_processes_make_the_same_pseudonyms(run):
    async def test(_, day_keys, __):
        rings = [Keyring(day_keys, b"r" * 32), Keyring(day_keys, b"r" * 32)]
        for number, ring in enumerate(rings):
            await ring.ensure([DAY, DAY + 1], NOW, bytes([number]) * 32)
        one, two = (ring.of(DAY).pseudonym("anna", b"user") for ring in rings)
        assert one == two
        assert one != rings[0].of(DAY + 1).pseudonym("anna", b"user")
        assert one != rings[0].of(DAY).pseudonym("anna", b"device")

    run(test)


def test_a_destroyed_key_is_gone_for_everybody_and_no_new_one_takes_its_place(run):
    async def test(_, day_keys, __):
        ring = Keyring(day_keys, b"r" * 32)
        await ring.ensure([DAY], NOW, b"f" * 32)
        assert await ring.destroy_due(NOW + LIFE_DAYS * DAY_MS) == 0
        assert await ring.destroy_due(NOW + (LIFE_DAYS + 1) * DAY_MS) == 1
        await ring.ensure([DAY], NOW, b"g" * 32)
        assert ring.of(DAY) is None
        assert await ring.destroy_due(NOW + (LIFE_DAYS + 1) * DAY_MS) == 0

    run(test)


def test_a_key_that_is_due_is_gone_from_every_keyring_whichever_of_them_destroyed_it(run):
    async def test(_, day_keys, __):
        rings = [Keyring(day_keys, b"r" * 32), Keyring(day_keys, b"r" * 32)]
        for ring, met in zip(rings, (NOW, NOW + 5 * DAY_MS), strict=True):
            await ring.ensure([DAY], met, b"f" * 32)
        due = NOW + (LIFE_DAYS + 1) * DAY_MS
        assert [await ring.destroy_due(due) for ring in rings] == [1, 0]
        assert [ring.of(DAY) for ring in rings] == [None, None]

    run(test)


def test_a_key_that_is_due_is_gone_from_the_keyring_even_if_the_store_does_not_answer(run):
    async def test(_, day_keys, __):
        ring = Keyring(Silent(day_keys), b"r" * 32)
        await ring.ensure([DAY], NOW, b"f" * 32)
        with pytest.raises(LedgerUnavailable):
            await ring.destroy_due(NOW + (LIFE_DAYS + 1) * DAY_MS)
        assert ring.of(DAY) is None

    run(test)


def test_a_key_that_is_not_due_stays_at_hand_while_another_is_destroyed(run):
    async def test(_, day_keys, __):
        ring = Keyring(day_keys, b"r" * 32)
        await ring.ensure([DAY, DAY + 1], NOW, b"f" * 32)
        kept = ring.of(DAY + 1)
        assert await ring.destroy_due(NOW + (LIFE_DAYS + 1) * DAY_MS) == 1
        assert (ring.of(DAY), ring.of(DAY + 1)) == (None, kept)

    run(test)


def test_the_same_body_is_quarantined_once_and_until_its_time_is_up(run):
    async def test(_, __, holding):
        await holding.quarantine([a_body("one"), a_body("two", expires_at=NOW + 2_000)])
        await holding.quarantine([a_body("one")])
        assert await holding.count(NOW) == Held(waiting=2)
        assert await holding.drop_expired(NOW + 999, 0) == 0
        assert await holding.count(NOW + 1_000) == Held(waiting=1, expired=1)
        assert await holding.drop_expired(NOW + 1_000, 0) == 1
        assert await holding.drop_expired(NOW + 1_000, 0) == 0
        assert await holding.count(NOW + 1_000) == Held(waiting=1, expired=1)
        assert await holding.drop_expired(NOW + 1_000 + RECORD_KEPT_MS, 0) == 2
        assert await holding.count(NOW + 1_000 + RECORD_KEPT_MS) == Held(expired=1)

    run(test)


def test_a_parked_view_is_due_once_its_render_has_landed(run):
    async def test(store, _, holding):
        landed, missing = (Minter(seed).token().impression for seed in (1, 2))
        views = [a_view(landed), a_view(missing)]
        assert await holding.park(views, ROOM) == [Parking.KEPT] * 2
        assert await holding.park(views, ROOM) == [Parking.KEPT] * 2
        assert await holding.due_views(10) == []
        await render(store, landed)
        assert await holding.due_views(10) == [views[0]]
        await holding.unpark([views[0].event_id])
        assert await holding.due_views(10) == []
        assert await holding.count(NOW) == Held(parked=1)

    run(test)


def test_views_that_stay_although_their_render_is_there_keep_no_others_from_their_turn(run):
    async def test(store, _, holding):
        landed = Minter().token().impression
        views = [a_view(landed) for _ in range(5)]
        await holding.park(views, ROOM)
        await render(store, landed)
        seen = [view.event_id for _ in range(3) for view in await holding.due_views(2)]
        assert sorted(seen) == sorted(view.event_id for view in views)
        assert len(await holding.due_views(2)) == 2
        await holding.unpark([])
        assert await holding.count(NOW) == Held(parked=5)

    run(test)


def test_an_id_that_is_parked_with_another_content_is_told(run):
    async def test(_, __, holding):
        view = a_view(Minter().token().impression)
        await holding.park([view], ROOM)
        other = ParkedView(
            event_id=view.event_id, impression=view.impression, digest="other", received_at=NOW, sealed=b"\x02"
        )
        assert await holding.park([other, view], ROOM) == [Parking.REUSED, Parking.KEPT]
        assert await holding.count(NOW) == Held(parked=1)

    run(test)


def test_of_one_impression_no_more_views_are_parked_than_there_is_room_for_and_of_others_they_are(run):
    async def test(_, __, holding):
        one, other = (Minter(seed).token().impression for seed in (1, 2))
        views = [a_view(one), a_view(one), a_view(other), a_view(one)]
        room = ViewRoom(impression_max=2, total_max=10)
        assert await holding.park(views, room) == [Parking.KEPT, Parking.KEPT, Parking.KEPT, Parking.FULL]
        assert await holding.park(views[1:], room) == [Parking.KEPT, Parking.KEPT, Parking.FULL]
        assert await holding.park([a_view(one), a_view(other)], room) == [Parking.FULL, Parking.KEPT]
        assert await holding.count(NOW) == Held(parked=4)

    run(test)


def test_in_all_no_more_views_are_parked_than_there_is_room_for_until_some_are_gone(run):
    async def test(_, __, holding):
        views = [a_view(Minter(seed).token().impression, received_at=NOW + seed) for seed in range(4)]
        room = ViewRoom(impression_max=10, total_max=3)
        assert await holding.park(views, room) == [Parking.KEPT] * 3 + [Parking.FULL]
        await holding.unpark([views[1].event_id])
        assert await holding.park(views[1:], room) == [Parking.KEPT, Parking.KEPT, Parking.FULL]
        assert await holding.drop_expired(NOW, parked_before=NOW + 1) == 1
        assert await holding.park([views[3], views[0]], room) == [Parking.KEPT, Parking.FULL]
        assert await holding.count(NOW) == Held(parked=3)

    run(test)


def test_a_view_that_comes_twice_at_once_takes_the_room_of_one(run):
    async def test(_, __, holding):
        one, other = (a_view(Minter(seed).token().impression) for seed in (1, 2))
        changed = replace(one, digest="other")
        room = ViewRoom(impression_max=10, total_max=2)
        parked = await holding.park([one, one, changed, other], room)
        assert parked == [Parking.KEPT, Parking.KEPT, Parking.REUSED, Parking.KEPT]
        assert await holding.park([], room) == []

    run(test)


@pytest.mark.slow
def test_two_gates_that_park_at_once_never_fill_more_than_the_room(postgres_url):
    room = ViewRoom(impression_max=5, total_max=12)
    crowded = Minter().token().impression

    async def park(holding, seeds):
        views = [a_view(crowded) for _ in seeds] + [a_view(Minter(seed).token().impression) for seed in seeds]
        kept = [view for view in views if await holding.park([view], room) == [Parking.KEPT]]
        return sum(view.impression == crowded for view in kept), len(kept)

    async def main():
        connections = [PostgresConnection(postgres_url, deadline_s=5.0) for _ in range(2)]
        one, two = map(PostgresHolding, connections)
        of_crowded, in_all = zip(*await asyncio.gather(park(one, range(1, 9)), park(two, range(9, 17))), strict=True)
        assert (sum(of_crowded), sum(in_all)) == (5, 12)
        assert await one.count(NOW) == Held(parked=12)
        for connection in connections:
            await connection.close()

    asyncio.run(main())


def test_views_whose_render_never_comes_are_dropped_in_the_end(run):
    async def test(_, __, holding):
        await holding.park([a_view(Minter().token().impression, received_at=NOW - 10)], ROOM)
        assert await holding.drop_expired(NOW, parked_before=NOW - 10) == 0
        assert await holding.drop_expired(NOW, parked_before=NOW - 9) == 1

    run(test)
