"""The double as a process of its own: what it answered is there again after kill -9."""

import asyncio
from contextlib import suppress
from uuid import uuid4

import pytest
from esdb_double import Log
from esdb_double.log import Proposed
from esdbkit import DAY, NOON, an_append, everything, killed, port_of, started

from domain.vocabulary import DataSet
from ledger.eventstoredb import EventStoreDbStore
from ledger.store import AlreadyAppended, Appended, LedgerUnavailable

pytestmark = pytest.mark.slow


def test_p4_what_was_acknowledged_survives_kill_9_in_the_middle_of_a_batch_and_the_batch_is_finished(tmp_path):
    async def main():
        process, url = started(tmp_path / "log")
        store = EventStoreDbStore(url, deadline_s=10)
        await store.prepare_days(DAY, DAY, DataSet.LIVE)
        first, second = [an_append() for _ in range(200)], [an_append() for _ in range(2_000)]
        assert await store.append(first, NOON) == [Appended()] * 200
        asked = asyncio.create_task(store.append(second, NOON))
        await asyncio.wait([asked], timeout=0.05)
        killed(process)
        process, _ = started(tmp_path / "log", port_of(url))
        try:
            assert await asked == [Appended()] * 2_000
            outcomes = await store.append(first, NOON)
            assert {type(outcome) for outcome in outcomes} == {AlreadyAppended}
            commits = await everything(store, 1_000)
            assert {commit.cause for commit in commits} == {append.cause for append in first + second}
            assert len(commits) == 2_200
        finally:
            await store.close()
            killed(process)

    asyncio.run(main())


def test_a_store_whose_server_died_is_unavailable_until_it_is_back(tmp_path):
    async def main():
        process, url = started(tmp_path / "log")
        store = EventStoreDbStore(url, deadline_s=0.3)
        try:
            await store.prepare_days(DAY, DAY, DataSet.LIVE)
            append = an_append()
            killed(process)
            with pytest.raises(LedgerUnavailable):
                await store.append([append], NOON)
            process, _ = started(tmp_path / "log", port_of(url))
            [outcome] = await as_soon_as_it_answers(store, append)
            assert isinstance(outcome, Appended | AlreadyAppended)
            assert [commit.cause for commit in await everything(store, 10)] == [append.cause]
        finally:
            await store.close()
            killed(process)

    asyncio.run(main())


async def as_soon_as_it_answers(store, append):
    """A busy machine may take longer than the store has patience, and then the answer is lost."""
    async with asyncio.timeout(60):
        while True:
            with suppress(LedgerUnavailable):
                return await store.append([append], NOON)


def test_a_torn_write_is_cut_off_and_the_log_goes_on(tmp_path):
    path = tmp_path / "log"
    log = Log(path)
    log.write("a", 0, [_event(b"one")])
    log.flush()
    log.close()
    whole = path.read_bytes()
    log = Log(path)
    log.write("a", 1, [_event(b"two")])
    log.flush()
    log.close()
    path.write_bytes(path.read_bytes()[:-1])
    log = Log(path)
    assert [record.event.data for record in log.stream("a").records] == [b"one"]
    assert path.read_bytes() == whole
    log.close()


def _event(data):
    return Proposed(uuid4(), "A", "application/json", data)
