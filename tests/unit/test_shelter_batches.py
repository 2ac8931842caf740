"""Requests that come while a write is under way go together in the next, and nobody waits for ever."""

import asyncio
from uuid import UUID

import pytest
from gatekit import NOW

from commands.shelter_batches import BATCH_MAX, WAIT_MAX_S, SharedWrites
from commands.shelter_memory import MemoryShelter
from commands.shelter_store import Room, Sheltered
from domain.ids import mint
from ledger.store import LedgerUnavailable

WIDE = Room(100_000, 1 << 30)


def an_event(number):
    return Sheltered(
        home="eu-1",
        region="eu",
        impression=mint(NOW, 7, number),
        event_id=UUID(int=number),
        received_at=NOW,
        expires_at=NOW + 1,
        sealed=b"sealed",
    )


class SlowStore(MemoryShelter):
    """Answers when a test lets it; `batches` are the sizes of what it was asked to keep."""

    def __init__(self):
        super().__init__()
        self.gate = asyncio.Event()
        self.batches = []
        self.fails = []

    async def keep(self, events, room):
        self.batches.append(len(events))
        await self.gate.wait()
        if self.fails and self.fails.pop(0):
            raise LedgerUnavailable("down")
        return await super().keep(events, room)


def run(test, room=WIDE):
    async def main():
        store = SlowStore()
        await asyncio.wait_for(test(store, SharedWrites(store, room)), 10)

    asyncio.run(main())


async def begun(writes, *batches):
    """Requests that have reached the queue, in order."""
    tasks = []
    for batch in batches:
        tasks.append(asyncio.create_task(writes.keep([an_event(number) for number in batch])))
        await asyncio.sleep(0)
    return tasks


def test_what_comes_during_a_write_goes_together_in_the_next():
    async def test(store, writes):
        tasks = await begun(writes, [1], [2, 3], [4], [5])
        store.gate.set()
        assert await asyncio.gather(*tasks) == [set()] * 4
        assert store.batches == [1, 4]
        assert [entry.event.event_id.int for entry in store.entries.values()] == [1, 2, 3, 4, 5]

    run(test)


def test_a_write_takes_no_more_requests_than_fill_it():
    async def test(store, writes):
        tasks = await begun(writes, [0], range(1, BATCH_MAX), range(1_000, 1_002), [2_000])
        store.gate.set()
        await asyncio.gather(*tasks)
        assert store.batches == [1, BATCH_MAX + 1, 1]

    run(test)


def test_each_is_told_what_had_no_room():
    async def test(store, writes):
        tasks = await begun(writes, [1], [2, 3], [4])
        store.gate.set()
        first, second, third = await asyncio.gather(*tasks)
        assert not first
        assert an_event(3).key in second & third
        assert an_event(2).key not in second

    run(test, Room(2, 1 << 20))


def test_a_write_that_fails_fails_those_in_it_and_nobody_else():
    async def test(store, writes):
        tasks = await begun(writes, [1], [2], [3])
        store.fails = [False, True]
        store.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [set, LedgerUnavailable, LedgerUnavailable]
        assert await writes.keep([an_event(4)]) == set()

    run(test)


def test_a_request_that_is_given_up_leaves_the_others_alone():
    async def test(store, writes):
        tasks = await begun(writes, [1], [2])
        tasks[0].cancel()
        await asyncio.sleep(0)
        store.gate.set()
        first, second = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(first, asyncio.CancelledError)
        assert second == set()

    run(test)


def test_what_nobody_waits_for_any_more_is_written_with_the_next():
    async def test(store, writes):
        tasks = await begun(writes, [1], [2])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writes._queue[0].since -= WAIT_MAX_S + 0.1
        store.gate.set()
        assert await writes.keep([an_event(3)]) == set()
        assert store.batches[-1] == 2

    run(test)


def test_while_the_oldest_has_waited_too_long_nobody_is_let_in():
    async def test(store, writes):
        [task] = await begun(writes, [1])
        writes._queue[0].since -= WAIT_MAX_S + 0.1
        with pytest.raises(LedgerUnavailable, match="too long"):
            await writes.keep([an_event(2)])
        store.gate.set()
        assert await task == set()
        assert await writes.keep([an_event(2)]) == set()

    run(test)
