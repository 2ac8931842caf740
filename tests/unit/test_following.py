"""Followers take every commit once, in order, whatever fails and whoever else follows."""

import asyncio
import random

import pytest
from lookkit import NOW, a_first, a_lesson, append

from domain.ids import day_of
from domain.vocabulary import DataSet
from ledger.following import Followed, advance
from ledger.memory import MemoryStore
from ledger.store import Append, LedgerUnavailable


class Listing:
    """Keeps what it takes with its checkpoint, at once; several may share what is kept."""

    def __init__(self, kept=None):
        self.kept = kept if kept is not None else {"through": Followed(), "taken": []}
        self.fails = 0

    async def followed(self):
        return self.kept["through"]

    async def take(self, page):
        await asyncio.sleep(0)
        if self.fails:
            self.fails -= 1
            raise LedgerUnavailable("fault")
        if page.after == self.kept["through"].position:
            self.kept["through"] = Followed(page.through, page.at)
            self.kept["taken"] += sorted(one.commit.position for one in (*page.seen, *page.plain))


class Flaky(MemoryStore):
    dice = None

    async def read_all(self, after, limit):
        await asyncio.sleep(0)
        if self.dice and self.dice.random() < 0.2:
            raise LedgerUnavailable("fault")
        return await super().read_all(after, limit)


def run(test):
    asyncio.run(test())


async def a_ledger(n, others=()):
    ledger = MemoryStore()
    await ledger.prepare_days(day_of(NOW), day_of(NOW), DataSet.LIVE)
    for number in range(n):
        one = a_first(number)
        if number in others:
            one = Append(stream="rejects-x", expected=0, cause=one.cause, digest="", events=one.events)
        await ledger.append([one], NOW + number)
    return ledger


def clock():
    return NOW + 1_000


def test_every_commit_is_taken_once_and_in_order():
    async def test():
        ledger, one = await a_ledger(10), Listing()
        assert [await advance(ledger, [one], limit=4, clock=clock) for _ in range(4)] == [4, 4, 2, 0]
        assert one.kept["taken"] == list(range(1, 11))

    run(test)


def test_a_page_that_reaches_the_head_is_known_up_to_when_it_was_asked_for_others_up_to_their_last_commit():
    async def test():
        ledger, one = await a_ledger(5), Listing()
        await advance(ledger, [one], limit=3, clock=clock)
        assert one.kept["through"] == Followed(3, NOW + 2)
        await advance(ledger, [one], limit=3, clock=clock)
        assert one.kept["through"] == Followed(5, clock())

    run(test)


def test_streams_of_others_are_passed_over():
    async def test():
        ledger, one = await a_ledger(5, others={4}), Listing()
        await advance(ledger, [one], limit=9, clock=clock)
        assert (one.kept["taken"], one.kept["through"].position) == ([1, 2, 3, 4], 5)

    run(test)


def test_one_that_failed_takes_what_it_lacks_and_others_do_not_take_it_twice():
    async def test():
        ledger, first, second = await a_ledger(6), Listing(), Listing()
        second.fails = 1
        with pytest.raises(LedgerUnavailable):
            await advance(ledger, [first, second], limit=4, clock=clock)
        assert (first.kept["taken"], second.kept["taken"]) == ([1, 2, 3, 4], [])
        await advance(ledger, [first, second], limit=9, clock=clock)
        assert first.kept["taken"] == second.kept["taken"] == list(range(1, 7))

    run(test)


def test_one_does_not_take_what_those_before_it_lack():
    async def test():
        ledger, first, second = await a_ledger(6), Listing(), Listing()

        async def nothing(_):
            """Another process is at it."""

        first.take = nothing
        await advance(ledger, [first, second], limit=9, clock=clock)
        assert second.kept["taken"] == []

    run(test)


def test_what_cannot_be_read_is_handed_on_as_such():
    async def test():
        ledger, seen, plain = await a_ledger(2), [], []
        torn = ledger._log[0]
        ledger._log[0] = type(torn)(**{name: getattr(torn, name) for name in torn.__struct_fields__} | {"data": b"["})
        one = Listing()
        take = one.take

        async def look(page):
            seen.extend(page.seen)
            plain.extend(page.plain)
            await take(page)

        one.take = look
        await advance(ledger, [one], limit=9, clock=clock)
        assert [(found.commit.position, found.events) for found in seen] == [(1, None)]
        assert [found.commit.position for found in plain] == [2]
        assert one.kept["through"].position == 2

    run(test)


@pytest.mark.parametrize("seed", range(30))
def test_several_processes_that_follow_at_once_and_fail_leave_nothing_out_and_nothing_twice(seed):
    async def test():
        dice, ledger = random.Random(seed), Flaky()
        await ledger.prepare_days(day_of(NOW), day_of(NOW), DataSet.LIVE)
        for number in range(20):
            await ledger.append([a_first(number)], NOW)
            if dice.random() < 0.3:
                await append(ledger, number, a_lesson())
        ledger.dice = dice
        kept = [Listing().kept, Listing().kept]
        processes = [[Listing(kept[0]), Listing(kept[1])] for _ in range(3)]
        head = await ledger.head()
        while any(one["through"].position < head for one in kept):
            tasks = []
            for process in processes:
                process[dice.randrange(2)].fails = dice.random() < 0.3
                limit = dice.randint(1, 9)
                tasks.append(asyncio.create_task(advance(ledger, process, limit=limit, clock=clock)))
            await asyncio.gather(*tasks, return_exceptions=True)
        assert all(one["taken"] == list(range(1, head + 1)) for one in kept)

    run(test)
