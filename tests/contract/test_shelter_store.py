"""Where sheltered renders wait: one contract over memory and PostgreSQL."""

import asyncio
import random
from uuid import UUID

import msgspec
import pytest
from gatekit import NOW
from storekit import ADAPTERS, runner

from commands.shelter_memory import MemoryShelter
from commands.shelter_postgres import PostgresShelter
from commands.shelter_store import (
    DROP_MAX,
    RECORD_KEPT_MS,
    Counts,
    Dropped,
    KeptOrder,
    Room,
    Settled,
    Sheltered,
    Waiting,
)
from domain.ids import mint
from domain.shelter import Signed

TTL = 1_000
WIDE = Room(1_000, 1 << 30)


@pytest.fixture(params=ADAPTERS)
def run(request):
    return runner(request, MemoryShelter, PostgresShelter)


def an_event(number, *, home="us-1", impression=None, **changes):
    fields = {
        "home": home,
        "region": home[:2],
        "impression": mint(NOW, 7, number if impression is None else impression),
        "event_id": UUID(int=number),
        "received_at": NOW + number,
        "expires_at": NOW + TTL,
        "sealed": b"sealed %03d" % number,
    }
    return Sheltered(**{**fields, **changes})


def some(*numbers, **changes):
    return [an_event(number, **changes) for number in numbers]


def ids(events):
    return [event.event_id.int for event in events]


async def due(store, home="us-1", now=NOW, limit=100, bytes_max=1 << 20):
    return ids(await store.due(home, now, limit, bytes_max))


def moved(*numbers, **changes):
    return [Settled(event.key, "taken valid") for event in some(*numbers, **changes)]


def test_what_is_kept_comes_back_as_it_was_in_order_of_arrival(run):
    async def test(store):
        events = some(5, 3, 9)
        assert await store.keep(events, WIDE) == set()
        assert await store.keep(some(1), WIDE) == set()
        found = await store.due("us-1", NOW, 100, 1 << 20)
        assert ids(found) == [5, 3, 9, 1]
        first = found[0]
        assert (first.region, first.impression, first.received_at, first.expires_at, first.sealed, first.tries) == (
            events[0].region,
            events[0].impression,
            events[0].received_at,
            events[0].expires_at,
            events[0].sealed,
            0,
        )
        assert [one.number for one in found] == sorted({one.number for one in found})

    run(test)


def test_a_retry_is_kept_once_as_it_first_came_in_one_batch_or_two(run):
    async def test(store):
        again = an_event(1, sealed=b"another spelling", received_at=NOW + 500)
        assert await store.keep([an_event(1), again, an_event(2)], WIDE) == set()
        assert await store.keep([again], WIDE) == set()
        found = await store.due("us-1", NOW, 100, 1 << 20)
        assert [(one.event_id.int, one.sealed, one.received_at) for one in found] == [
            (1, b"sealed 001", NOW + 1),
            (2, b"sealed 002", NOW + 2),
        ]
        assert await store.count(NOW) == Counts(waiting=2, bytes_waiting=20)

    run(test)


def test_one_event_id_of_two_impressions_is_two_events(run):
    async def test(store):
        await store.keep([an_event(1), an_event(1, impression=2)], WIDE)
        assert (await store.count(NOW)).waiting == 2

    run(test)


@pytest.mark.parametrize("room", [Room(3, 1 << 20), Room(1_000, 30)])
def test_what_there_is_no_room_for_is_named_and_what_is_here_needs_none(run, room):
    async def test(store):
        assert await store.keep(some(1, 2), room) == set()
        refused = await store.keep(some(2, 3, 1, 4, 5), room)
        assert refused == {event.key for event in some(4, 5)}
        assert await store.keep(some(3, 4), room) == {an_event(4).key}
        assert await due(store) == [1, 2, 3]
        await store.settle(moved(2), NOW)
        assert await store.keep(some(2, 4, 5), room) == {an_event(5).key}
        assert await due(store) == [1, 3, 4]

    run(test)


def test_room_that_time_took_back_is_room_again(run):
    async def test(store):
        await store.keep(some(1, 2), Room(2, 100))
        assert await store.drop_expired(NOW + TTL) == Dropped(2)
        assert await store.keep(some(3, 4, 5, expires_at=NOW + 9 * TTL), Room(2, 100)) == {an_event(5).key}

    run(test)


def test_two_gates_fill_one_room(run):
    async def test(first, second):
        room = Room(10, 1 << 20)
        batches = [
            store.keep(some(*range(at, at + 3)), room)
            for store, at in zip([first, second] * 4, range(0, 24, 3), strict=True)
        ]
        refused = [key for found in await asyncio.gather(*batches) for key in found]
        counted = await first.count(NOW)
        assert (counted.waiting, len(refused)) == (10, 14)
        assert counted.bytes_waiting == 100

    run(test)


def test_two_gates_that_get_the_same_at_once_keep_it_once(run):
    async def test(first, second):
        for at in range(0, 50, 5):
            batch = some(*range(at, at + 5))
            assert await asyncio.gather(first.keep(batch, WIDE), second.keep(batch, WIDE)) == [set(), set()]
        assert await first.count(NOW) == Counts(waiting=50, bytes_waiting=500)
        assert await first.keep(some(50), Room(51, 1 << 20)) == set()
        assert await first.keep(some(51), Room(51, 1 << 20)) == {an_event(51).key}

    run(test)


def test_pages_have_a_limit_of_events_and_of_bytes_and_at_least_one_event(run):
    async def test(store):
        await store.keep([*some(1, 2, 3), an_event(4, sealed=b"x" * 500), an_event(5)], WIDE)
        assert await due(store, limit=2) == [1, 2]
        assert await due(store, bytes_max=25) == [1, 2]
        await store.settle(moved(1, 2, 3), NOW)
        assert await due(store, bytes_max=25) == [4]

    run(test)


def test_homes_do_not_wait_for_each_other(run):
    async def test(store):
        await store.keep([*some(1, 2), *some(3, home="ap-1"), *some(4, 5, home="us-2")], WIDE)
        assert await store.homes() == ["ap-1", "us-1", "us-2"]
        assert [await due(store, home) for home in ("us-1", "ap-1", "us-2", "sa-1")] == [[1, 2], [3], [4, 5], []]
        assert await store.waiting(NOW) == [
            Waiting(home="ap-1", region="ap", events=1, oldest_at=NOW + 3),
            Waiting(home="us-1", region="us", events=2, oldest_at=NOW + 1),
            Waiting(home="us-2", region="us", events=2, oldest_at=NOW + 4),
        ]
        await store.settle(moved(3, home="ap-1"), NOW)
        assert await store.homes() == ["us-1", "us-2"]

    run(test)


def test_what_is_put_off_holds_up_nothing_behind_it(run):
    async def test(store):
        await store.keep(some(1, 2, 3), WIDE)
        await store.defer([an_event(1).key, an_event(3).key], NOW + 100)
        assert await due(store) == [2]
        assert await due(store, now=NOW + 100) == [1, 2, 3]
        assert [one.tries for one in await store.due("us-1", NOW + 100, 9, 999)] == [1, 0, 1]

    run(test)


def test_what_its_home_took_is_deleted_and_remembered_and_a_retry_is_not_kept_again(run):
    async def test(store):
        await store.keep(some(1, 2), WIDE)
        await store.settle(moved(1), NOW + 10)
        await store.settle(moved(1, 7), NOW + 20)
        assert await due(store) == [2]
        assert await store.keep(some(1), WIDE) == set()
        assert await due(store) == [2]
        counted = await store.count(NOW)
        assert counted == Counts(waiting=1, moved=1, bytes_waiting=10)
        assert counted.kept == 2

    run(test)


def test_time_takes_the_body_and_after_a_while_the_entry(run):
    async def test(store):
        await store.keep([an_event(1), an_event(2, expires_at=NOW + 5 * TTL)], WIDE)
        assert await due(store, now=NOW + TTL) == [2]
        assert await store.count(NOW + TTL) == Counts(waiting=1, expired=1, bytes_waiting=10)
        assert await store.drop_expired(NOW + TTL) == Dropped(1)
        assert await store.drop_expired(NOW + TTL) == Dropped()
        assert await store.count(NOW + TTL) == Counts(waiting=1, expired=1, bytes_waiting=10)
        await store.settle(moved(1), NOW + TTL)
        assert await store.count(NOW + TTL) == Counts(waiting=1, moved=1, bytes_waiting=10)
        assert await store.drop_expired(NOW + TTL + RECORD_KEPT_MS) == Dropped(1, 1)
        assert await store.count(NOW + TTL) == Counts(expired=1)

    run(test)


def test_much_that_is_over_goes_in_several_calls(run):
    async def test(store):
        many = [an_event(number) for number in range(DROP_MAX + 5)]
        await store.keep(many, Room(1 << 20, 1 << 30))
        assert await store.drop_expired(NOW + TTL) == Dropped(DROP_MAX)
        assert not Dropped(DROP_MAX).is_all
        assert await store.drop_expired(NOW + TTL) == Dropped(5)
        assert await store.count(NOW + TTL) == Counts(expired=DROP_MAX + 5)
        later = NOW + TTL + RECORD_KEPT_MS
        assert [await store.drop_expired(later) for _ in range(2)] == [Dropped(0, DROP_MAX), Dropped(0, 5)]
        assert await store.count(later) == Counts()

    run(test)


@pytest.mark.parametrize("seed", range(8))
def test_the_sums_are_those_of_what_is_there_whatever_happens_to_it(run, seed):
    dice = random.Random(seed)
    model = MemoryShelter()

    async def page_of(store, now):
        return [msgspec.structs.replace(one, number=0) for one in await store.due("us-1", now, 3, 25)]

    async def both(store, call):
        mine, theirs = await call(model), await call(store)
        assert mine == theirs
        return mine

    async def test(store):
        now = NOW
        for _ in range(60):
            now += dice.choice([0, 10, 300])
            chosen = [an_event(dice.randrange(30), expires_at=now + dice.choice([50, TTL])) for _ in range(4)]
            batch = list({event.key: event for event in chosen}.values())
            keys = [event.key for event in batch]
            room = Room(dice.choice([5, 100]), dice.choice([60, 10_000]))
            call = dice.choice(
                [
                    lambda one, b=batch, r=room: one.keep(b, r),
                    lambda one, k=keys, n=now: one.settle([Settled(key, "taken") for key in k], n),
                    lambda one, k=keys, n=now: one.defer(k, n + 40),
                    lambda one, k=keys[:1], n=now: one.arrived([("own", *key[1:]) for key in k], n),
                    lambda one, n=now: one.drop_expired(n),
                    lambda one, n=now: page_of(one, n),
                ]
            )
            await both(store, call)
            await both(store, lambda one, n=now: one.count(n))
            await both(store, lambda one, n=now: one.waiting(n))
        await both(store, lambda one: one.drop_expired(now + 2 * RECORD_KEPT_MS))
        await both(store, lambda one: one.drop_expired(now + 4 * RECORD_KEPT_MS))
        assert await store.count(now) == Counts()

    run(test)


def test_what_came_out_of_anothers_shelter_is_counted_once(run):
    async def test(store):
        keys = [event.key for event in some(1, 2)]
        await store.arrived([*keys, keys[0]], NOW)
        await store.arrived(keys[:1], NOW + 5)
        assert await store.count(NOW) == Counts(arrived=2)
        assert await store.homes() == []

    run(test)


def an_order(number, valid_until=NOW + TTL):
    return KeptOrder(UUID(int=number), Signed("ops", b"payload %d" % number, b"signature"), valid_until)


def test_orders_are_kept_until_they_are_over_and_a_revoked_one_stays_so(run):
    async def test(store):
        first, second = an_order(1), an_order(2, NOW + 2 * TTL)
        assert await store.keep_order(second) == second
        assert await store.keep_order(first) == first
        assert await store.orders(NOW) == [first, second]
        revoked = await store.revoke(first.order_id, NOW + 5)
        assert (revoked.order_id, revoked.revoked_at) == (first.order_id, NOW + 5)
        assert await store.revoke(first.order_id, NOW + 9) == revoked
        assert await store.keep_order(first) == revoked
        assert await store.orders(NOW + TTL) == [second]
        assert await store.revoke(UUID(int=3), NOW) is None
        late = await store.revoke(second.order_id, NOW + 3 * TTL)
        assert await store.orders(NOW + 2 * TTL) == [late]

    run(test)
