"""Where feedback is kept until it is a label: one contract over memory and PostgreSQL."""

import asyncio
import random
from uuid import UUID

import pytest
from feedbackkit import NOW, SOURCES, an_impression, kept, traffic
from storekit import ADAPTERS, runner

from commands.feedback_memory import MemoryFeedback
from commands.feedback_postgres import PostgresFeedback
from commands.feedback_store import (
    LISTED_MAX,
    ORPHAN_KEPT_MS,
    SETTLED_KEPT_MS,
    Fate,
    FeedbackBooks,
    FeedbackState,
    Move,
    Room,
    Wanted,
)
from ledger.postgres_connection import PostgresConnection

WIDE = Room(1_000, 1_000, 1_000)
WAITING, PARKED, ORPHANED, APPLIED, REFUSED, HELD = FeedbackState
AGAIN = NOW + 60_000


@pytest.fixture(params=ADAPTERS)
def run(request):
    return runner(request, MemoryFeedback, PostgresFeedback)


def id_(number):
    return UUID(int=number)


def ids(*numbers):
    return [id_(number) for number in numbers]


def numbers(found):
    return [one.feedback.id.int for one in found]


async def fates(store, items, room):
    placed = await store.keep(items, room)
    for one, item in zip(placed, items, strict=True):
        kept_now = await store.find(item.feedback.id)
        assert one.digest == ("" if kept_now is None else kept_now.digest)
    return [one.fate for one in placed]


def held(number, **changes):
    return kept(number, None, type="sdk_bug", traffic=traffic(), **changes)


def move(number, state, due_at=None, error=""):
    return Move(id_(number), state, due_at, error)


def test_what_is_kept_is_found_as_it_was_kept(run):
    async def test(store):
        one, many = kept(1, 1, type="human_review", label="human"), held(2)
        assert await fates(store, [one, many], WIDE) == [Fate.KEPT, Fate.KEPT]
        assert await store.find(id_(1)) == one
        assert await store.find(id_(2)) == many
        assert await store.find(id_(3)) is None
        assert await fates(store, [], WIDE) == []

    run(test)


def test_the_same_is_known_and_another_content_under_its_id_is_not_taken(run):
    async def test(store):
        await fates(store, [kept(1), held(2)], WIDE)
        again = [kept(1, received_at=NOW + 9), kept(2), kept(3), kept(1, observed_at=NOW - 7)]
        assert await fates(store, again[:3], WIDE) == [Fate.KNOWN, Fate.REUSED, Fate.KEPT]
        assert await fates(store, again[3:], WIDE) == [Fate.REUSED]
        assert await store.find(id_(1)) == kept(1)
        assert (await store.books()).accepted == 3

    run(test)


def test_what_is_settled_stays_known(run):
    async def test(store):
        await fates(store, [kept(1)], WIDE)
        await store.move([move(1, APPLIED)], NOW)
        assert await fates(store, [kept(1)], WIDE) == [Fate.KNOWN]
        assert (await store.find(id_(1))).state is APPLIED

    run(test)


def test_a_full_store_takes_what_fits_in_order_and_knows_what_is_there(run):
    async def test(store):
        room = Room(2, 1, 1_000)
        assert await fates(store, [kept(1), held(2), held(3), kept(4), kept(5)], room) == [
            Fate.KEPT,
            Fate.KEPT,
            Fate.FULL,
            Fate.KEPT,
            Fate.FULL,
        ]
        assert await fates(store, [kept(1), kept(5)], room) == [Fate.KNOWN, Fate.FULL]
        await store.move([move(1, PARKED, AGAIN)], NOW)
        assert await fates(store, [kept(5)], room) == [Fate.FULL]
        await store.move([move(1, ORPHANED, AGAIN)], NOW)
        assert await fates(store, [kept(5)], room) == [Fate.KEPT]

    run(test)


def test_one_impression_cannot_have_more_than_its_share_and_takes_no_room_from_others(run):
    async def test(store):
        room = Room(3, 0, 2)
        sent = [kept(1, 7), kept(2, 7), kept(3, 7), kept(4, 8)]
        assert await fates(store, sent, room) == [Fate.KEPT, Fate.KEPT, Fate.CROWDED, Fate.KEPT]
        await store.move([move(1, APPLIED)], NOW)
        assert await fates(store, [kept(3, 7)], room) == [Fate.CROWDED]

    run(test)


def test_what_is_due_is_claimed_by_one_caller_the_longest_due_first(run):
    async def test(store, other):
        await fates(store, [kept(3)], WIDE)
        await fates(store, [kept(1, received_at=NOW + 1), held(2)], WIDE)
        await fates(store, [kept(4, received_at=NOW + 5)], WIDE)
        assert await store.claim(NOW + 4, AGAIN, 1) == ids(3)
        assert await other.claim(NOW + 4, AGAIN, 10) == ids(1)
        assert await store.claim(NOW + 4, AGAIN, 10) == []
        assert await other.claim(AGAIN, AGAIN + 1, 10) == ids(4, 1, 3)

    run(test)


def test_callers_that_claim_at_once_share_what_is_due(run):
    async def test(store, other):
        await fates(store, [kept(number) for number in range(1, 101)], WIDE)
        claimed = await asyncio.gather(*(one.claim(NOW, AGAIN, 30) for one in [store, other] * 3))
        found = [one for batch in claimed for one in batch]
        assert len(found) == len(set(found))
        rest = await store.claim(NOW, AGAIN, 1_000)
        assert sorted([*found, *rest]) == ids(*range(1, 101))

    run(test)


def test_only_what_is_not_settled_is_given_to_be_applied(run):
    async def test(store):
        await fates(store, [*(kept(number) for number in range(1, 6)), held(6)], WIDE)
        moves = [move(2, PARKED, AGAIN), move(3, ORPHANED, AGAIN), move(4, APPLIED), move(5, REFUSED)]
        assert await store.move(moves, NOW) == 4
        assert sorted(numbers(await store.unsettled(ids(*range(1, 8))))) == [1, 2, 3]
        assert await store.unsettled([]) == []

    run(test)


def test_what_is_settled_stays_as_it_is(run):
    async def test(store):
        await fates(store, [kept(1), kept(2), held(3)], WIDE)
        await store.move([move(1, APPLIED), move(2, REFUSED)], NOW + 1)
        late = [move(1, PARKED, AGAIN), move(2, APPLIED), move(3, APPLIED), move(4, APPLIED)]
        assert await store.move(late, NOW + 2) == 0
        assert await store.move([], NOW) == 0
        settled = await store.find(id_(1))
        assert (settled.state, settled.due_at, settled.settled_at) == (APPLIED, None, NOW + 1)
        assert (await store.find(id_(3))).state is HELD

    run(test)


def test_a_move_says_when_it_is_due_and_counts_failures_in_a_row(run):
    async def test(store):
        await fates(store, [kept(1)], WIDE)
        for tries in (1, 2):
            await store.move([move(1, WAITING, AGAIN, "it is torn")], NOW)
            found = await store.find(id_(1))
            assert (found.state, found.due_at, found.error, found.tries) == (WAITING, AGAIN, "it is torn", tries)
        assert (await store.books()).failing == 1
        await store.move([move(1, PARKED, NOW + 7)], NOW)
        found = await store.find(id_(1))
        assert (found.state, found.due_at, found.error, found.tries, found.settled_at) == (PARKED, NOW + 7, "", 0, None)
        assert (await store.books()).failing == 0

    run(test)


def test_the_books_add_up_to_what_was_accepted_and_say_since_when_something_waits(run):
    async def test(store):
        assert await store.books() == FeedbackBooks()
        await fates(store, [kept(number, received_at=NOW + 5) for number in range(1, 7)], WIDE)
        await fates(store, [held(7, received_at=NOW + 7), kept(8, received_at=NOW + 7)], WIDE)
        await store.move(
            [move(1, APPLIED), move(2, APPLIED), move(3, PARKED, AGAIN), move(4, ORPHANED, AGAIN), move(5, REFUSED)],
            NOW,
        )
        books = await store.books()
        assert books == FeedbackBooks(
            accepted=8, waiting=2, parked=1, orphaned=1, applied=2, refused=1, held=1, oldest_at=NOW + 5
        )
        assert books.unaccounted == 0
        await store.move([move(3, APPLIED), move(4, APPLIED)], NOW)
        assert await store.count() == {WAITING: 2, APPLIED: 4, REFUSED: 1, HELD: 1}
        assert (await store.books()).unaccounted == 0

    run(test)


def test_settled_feedback_and_orphans_are_forgotten_and_still_counted(run):
    async def test(store):
        await fates(store, [*(kept(number) for number in range(1, 5)), held(5)], WIDE)
        await store.move([move(1, APPLIED), move(2, ORPHANED, AGAIN), move(3, PARKED, AGAIN)], NOW)
        assert await store.forget(NOW + SETTLED_KEPT_MS - 1) == 0
        assert await store.forget(NOW + SETTLED_KEPT_MS) == 1
        assert await store.forget(NOW + ORPHAN_KEPT_MS) == 1
        assert await store.count() == {PARKED: 1, WAITING: 1, HELD: 1}
        books = await store.books()
        assert (books.accepted, books.applied, books.orphaned, books.unaccounted) == (5, 1, 1, 0)
        assert await fates(store, [kept(1)], WIDE) == [Fate.KEPT]

    run(test)


def test_lists_are_the_newest_first_by_state_impression_and_failure_in_pages(run):
    async def test(store):
        for number in range(1, 10):
            await fates(store, [kept(number, number % 2, received_at=NOW + number // 3)], WIDE)
        await fates(store, [held(10)], WIDE)
        await store.move(
            [move(1, ORPHANED, AGAIN), move(2, PARKED, AGAIN), move(4, WAITING, AGAIN, "torn"), move(5, APPLIED)], NOW
        )
        assert numbers(await store.entries(Wanted())) == [9, 8, 7, 6, 5, 4, 3, 10, 2, 1]
        assert numbers(await store.entries(Wanted(states=(ORPHANED, PARKED)))) == [2, 1]
        assert numbers(await store.entries(Wanted(failing=True))) == [4]
        assert numbers(await store.entries(Wanted(impression=an_impression(0)))) == [8, 6, 4, 2]
        assert numbers(await store.entries(Wanted(impression=an_impression(0), states=(WAITING,), failing=True))) == [4]
        assert numbers(await store.entries(Wanted(impression=an_impression(0), states=(WAITING,)))) == [8, 6, 4]
        seen, after = [], None
        while page := await store.entries(Wanted(after=after, limit=3)):
            seen += numbers(page)
            after = (page[-1].received_at, page[-1].feedback.id)
        assert seen == [9, 8, 7, 6, 5, 4, 3, 10, 2, 1]

    run(test)


def test_a_question_without_end_is_refused():
    for limit in (0, LISTED_MAX + 1):
        with pytest.raises(ValueError, match="is not in 1 to 1000"):
            Wanted(limit=limit)


def some_feedback(dice, number, now):
    if dice.random() < 0.25:
        return held(number, received_at=now)
    return kept(number, number % 11, received_at=now, observed_at=NOW - dice.randint(0, 1))


def some_move(dice, number, now):
    state = dice.choice([WAITING, PARKED, ORPHANED, APPLIED, REFUSED])
    return (
        move(number, state)
        if state in {APPLIED, REFUSED}
        else move(number, state, now + dice.randint(0, 50_000), dice.choice(["", "torn"]))
    )


@pytest.mark.slow
def test_postgresql_does_what_memory_does_through_a_history_from_a_seed(postgres_url):
    async def main():
        connection = PostgresConnection(postgres_url, deadline_s=5.0)
        stores, dice, now = (PostgresFeedback(connection), MemoryFeedback()), random.Random(3), NOW
        for _ in range(150):
            now += dice.randint(0, 10_000)
            room = Room(dice.randint(5, 60), dice.randint(0, 4), dice.randint(1, 6))
            items = [some_feedback(dice, number, now) for number in dice.sample(range(1, 200), 9)]
            moves = [some_move(dice, number, now) for number in dice.sample(range(1, 200), 12)]
            limit, again = dice.randint(1, 9), now + dice.randint(1, 30_000)
            one, other = [
                (
                    await fates(store, items, room),
                    await store.claim(now, again, limit),
                    await store.move(moves, now),
                    await store.books(),
                    await store.count(),
                )
                for store in stores
            ]
            assert one == other
        await connection.close()

    asyncio.run(main())


def test_each_type_comes_back_as_it_was_sent(run):
    async def test(store):
        ban = {"type": "publisher_ban", "traffic": traffic(sdk=None, surface=None, publisher="p-1")}
        sent = [held(1), kept(2, None, **ban), kept(3, 3, type="human_review", label="invalid")]
        sent += [kept(n, n, type=source.value) for n, source in enumerate(SOURCES, 4) if source.value != "human_review"]
        await fates(store, sent, WIDE)
        for one in sent:
            assert await store.find(one.feedback.id) == one

    run(test)
