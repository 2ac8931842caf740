"""Deadlines, and a breaker that neither opens for a slow store nor flutters."""

import asyncio
from datetime import date

import pytest

from domain.vocabulary import DataSet
from ledger.breaker import LATE_MAX, Breaker, BreakerRules, Guard, GuardedStore, NotAsked
from ledger.memory import MemoryStore
from ledger.store import LedgerUnavailable

RULES = BreakerRules()


class Clock:
    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def a_breaker():
    clock = Clock()
    return Breaker(RULES, clock), clock


def fail_for(breaker, clock, seconds, every=0.05):
    until = clock.now + seconds
    while clock.now <= until:
        breaker.failed()
        clock.sleep(every)


def probe_until_closed(breaker, clock):
    began = clock.now
    while breaker.is_open:
        assert clock.now - began < 120
        clock.sleep(RULES.probe_every_s)
        breaker.probed(is_answered=True)
    return clock.now - began


def test_opens_after_failures_in_a_row_over_some_time():
    breaker, clock = a_breaker()
    for _ in range(RULES.failures * 10):
        breaker.failed()
    assert not breaker.is_open
    clock.sleep(RULES.silence_s)
    breaker.failed()
    assert breaker.is_open


def test_two_failures_far_apart_do_not_open_it():
    breaker, clock = a_breaker()
    breaker.failed()
    clock.sleep(3_600)
    breaker.failed()
    assert not breaker.is_open


def test_an_answer_in_between_begins_the_count_anew():
    breaker, clock = a_breaker()
    for _ in range(50):
        fail_for(breaker, clock, RULES.silence_s - 0.1)
        breaker.answered()
    assert not breaker.is_open


def test_closes_after_answered_probes_in_a_row_not_before_its_pause():
    breaker, clock = a_breaker()
    fail_for(breaker, clock, 1)
    for _ in range(RULES.probes * 2):
        breaker.probed(is_answered=True)
        breaker.probed(is_answered=False)
    clock.sleep(RULES.pause_s)
    breaker.probed(is_answered=True)
    breaker.probed(is_answered=True)
    assert breaker.is_open
    breaker.probed(is_answered=True)
    assert not breaker.is_open


def test_what_fails_again_soon_is_left_alone_twice_as_long_each_time_up_to_a_bound():
    breaker, clock = a_breaker()
    pauses = []
    for _ in range(8):
        fail_for(breaker, clock, 0.4)
        assert breaker.is_open
        pauses.append(probe_until_closed(breaker, clock))
    assert pauses[1] > 1.5 * pauses[0]
    assert pauses[2] > 1.5 * pauses[1]
    assert max(pauses) <= RULES.pause_max_s + 1
    clock.sleep(RULES.calm_s)
    fail_for(breaker, clock, 0.4)
    assert probe_until_closed(breaker, clock) <= pauses[0] + RULES.probe_every_s
    assert breaker.opened == 9


def test_a_failure_while_open_does_not_count():
    breaker, clock = a_breaker()
    fail_for(breaker, clock, 1)
    breaker.failed()
    assert breaker.opened == 1


class SlowStore(MemoryStore):
    """Answers an append when told to."""

    def __init__(self):
        super().__init__()
        self.go = asyncio.Event()
        self.asked = 0

    async def append(self, appends, recorded_at):
        self.asked += 1
        await self.go.wait()
        return await super().append(appends, recorded_at)

    async def read_streams(self, streams, limit):
        raise LedgerUnavailable("always")


def test_a_late_answer_is_waited_for_no_longer_than_the_deadline_and_still_counts_as_one():
    async def main():
        breaker, clock = a_breaker()
        slow = SlowStore()
        store = GuardedStore(slow, Guard(breaker, 0.01))
        for _ in range(LATE_MAX):
            with pytest.raises(LedgerUnavailable, match="within 10 ms"):
                await store.append([], 0)
        with pytest.raises(NotAsked):
            await store.append([], 0)
        assert slow.asked == LATE_MAX
        clock.sleep(RULES.silence_s)
        slow.go.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert await store.append([], 0) == []
        assert not breaker.is_open

    asyncio.run(main())


def test_an_open_breaker_asks_nothing_and_says_that_it_did_not():
    async def main():
        breaker, clock = a_breaker()
        slow = SlowStore()
        slow.go.set()
        store = GuardedStore(slow, Guard(breaker, 1.0))
        for _ in range(4):
            with pytest.raises(LedgerUnavailable):
                await store.read_streams([], 1)
            clock.sleep(0.1)
        assert breaker.is_open
        with pytest.raises(NotAsked):
            await store.append([], 0)
        assert slow.asked == 0

    asyncio.run(main())


def test_a_probe_that_hangs_is_asked_once_and_counts_as_unanswered():
    async def main():
        breaker, clock = a_breaker()
        guard, go, asked = Guard(breaker, 0.005), asyncio.Event(), []
        fail_for(breaker, clock, 1)

        async def ask():
            asked.append(1)
            await go.wait()

        clock.sleep(60)
        for _ in range(3):
            await guard.probe(ask)
        assert (len(asked), breaker.is_open) == (1, True)
        go.set()
        for _ in range(RULES.probes):
            await guard.probe(ask)
        assert not breaker.is_open

    asyncio.run(main())


def test_an_error_of_the_caller_is_an_answer_of_the_store():
    async def main():
        breaker, _ = a_breaker()
        store = GuardedStore(MemoryStore(), Guard(breaker, 1.0))
        breaker.failed()
        with pytest.raises(ValueError, match="limit"):
            await store.read_streams([], 0)
        assert breaker._failures == 0

    asyncio.run(main())


def test_who_is_cancelled_takes_its_call_along():
    async def main():
        breaker, _ = a_breaker()
        slow = SlowStore()
        task = asyncio.create_task(GuardedStore(slow, Guard(breaker, 60.0)).append([], 0))
        for _ in range(5):
            await asyncio.sleep(0)
        assert slow.asked
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_everything_else_of_the_store_is_passed_on():
    async def main():
        store = GuardedStore(MemoryStore(), Guard(a_breaker()[0], 1.0))
        await store.prepare_days(date(2026, 9, 20), date(2026, 9, 21), DataSet.LIVE)
        assert await store.head() == 0
        assert await store.read_all(0, 1) == []
        await store.close()

    asyncio.run(main())
