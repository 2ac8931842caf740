"""A ledger that traffic runs through."""

import asyncio
from datetime import date
from uuid import UUID

from domain.aggregates import AnswersCounted
from domain.ids import mint
from domain.vocabulary import DataSet
from ledger.passing import PassingStore
from ledger.store import Append, Appended, Conflict

NOON = 1_790_000_000_000
KEPT_MS = 1_000


def append(stream, number=1, expected=0):
    cause = UUID(int=number)
    event = AnswersCounted(cause=cause, digest="d", counted_at=0)
    return Append(stream=stream, expected=expected, cause=cause, digest="d", events=(event,))


def run(test):
    async def main():
        store = PassingStore(KEPT_MS)
        await store.prepare_days(date(2026, 9, 21), date(2026, 9, 21), DataSet.LIVE)
        await test(store)

    asyncio.run(main())


def stream(number):
    return mint(NOON, 7, number)


def test_commits_are_taken_out_once_and_positions_go_on():
    async def test(store):
        await store.append([append(stream(1), 1), append(stream(2), 2)], NOON)
        assert [commit.position for commit in store.take()] == [1, 2]
        assert store.take() == []
        await store.append([append(stream(3), 3)], NOON)
        assert [commit.position for commit in await store.read_all(0, 10)] == [3]
        assert [commit.position for commit in await store.read_all(2, 10)] == [3]
        assert await store.read_all(3, 10) == []
        assert (await store.head(), await store.before_last(2)) == (3, 1)

    run(test)


def test_what_was_taken_out_is_still_the_stream_until_it_is_old():
    async def test(store):
        await store.append([append(stream(1), 1)], NOON)
        store.take()
        await store.append([append(stream(2), 2)], NOON + KEPT_MS)
        store.take()
        assert len((await store.read_streams([stream(1)], 10))[stream(1)]) == 1
        await store.append([append(stream(3), 3)], NOON + KEPT_MS + 1)
        store.take()
        assert await store.read_streams([stream(1)], 10) == {}
        assert await store.append([append(stream(1), 1)], NOON + KEPT_MS + 1) == [Appended()]

    run(test)


def test_whoever_comes_back_keeps_the_stream_alive():
    async def test(store):
        await store.append([append(stream(1), 1)], NOON)
        assert await store.append([append(stream(1), 2)], NOON + 500) == [Conflict(1)]
        await store.append([append(stream(1), 2, expected=1)], NOON + 900)
        await store.append([append(stream(2), 3)], NOON + 1_800)
        store.take()
        assert len((await store.read_streams([stream(1)], 10))[stream(1)]) == 2

    run(test)


def test_streams_that_are_no_impressions_are_kept():
    async def test(store):
        await store.append([append("rejects-eu-1", 1)], NOON)
        await store.append([append(stream(2), 2)], NOON + 10 * KEPT_MS)
        store.take()
        assert len((await store.read_streams(["rejects-eu-1"], 10))["rejects-eu-1"]) == 1

    run(test)
