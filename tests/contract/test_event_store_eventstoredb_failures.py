"""What fails, and for how long: lost answers, other leaders, none at all, refusals; EventStoreDB's double only."""

import asyncio
import time

import pytest
from esdb_double import Cluster, Fault, checks, script
from esdbkit import DAY, NOON, an_append, everything, impression, on_a_node, trying

from domain.vocabulary import DataSet
from ledger.eventstoredb import EventStoreDbStore
from ledger.eventstoredb_connection import StreamGone
from ledger.store import AlreadyAppended, Appended, LedgerUnavailable

pytestmark = pytest.mark.slow

BREAKS = [Fault.UNAVAILABLE, Fault.BROKEN_AFTER, Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.BUSY, Fault.NOT_READY]


@pytest.mark.parametrize("fault", [Fault.LOST_AFTER, Fault.LOST_BEFORE])
def test_p8_an_append_without_an_answer_is_unavailable_and_safe_to_repeat(fault):
    async def test(tried):
        store, append, neighbour = await tried.store(deadline_s=0.3), an_append(), an_append()
        tried.node.append_faults = script([None, fault])
        with pytest.raises(LedgerUnavailable):
            await store.append([neighbour, append], NOON)
        outcomes = await store.append([neighbour, append], NOON)
        expected = AlreadyAppended if fault is Fault.LOST_AFTER else Appended
        assert [type(outcome) for outcome in outcomes] == [AlreadyAppended, expected]
        assert len(await everything(store)) == 2

    on_a_node(test)


@pytest.mark.parametrize("fault", BREAKS)
def test_p8_a_batch_whose_call_breaks_in_the_middle_is_finished_within_the_deadline(fault):
    async def test(tried):
        store, appends = await tried.store(), [an_append() for _ in range(100)]
        tried.node.append_faults = script([None] * 40 + [fault])
        assert await store.append(appends, NOON) == [Appended()] * 100
        assert len(await everything(store)) == 100

    on_a_node(test)


@pytest.mark.parametrize("seed", range(6))
def test_a_leader_change_in_the_middle_of_a_batch_is_waited_out(seed):
    async def main(cluster):
        async with trying(cluster.nodes[0], cluster.url) as tried:
            store = await tried.store(window=16)
            appends = [an_append() for _ in range(150)]
            asked = asyncio.create_task(store.append(appends, NOON))
            written = 3 * (10 + seed * 20)
            await asyncio.to_thread(_wait_for, cluster.log, written)
            cluster.elect(None)
            await asyncio.wait([asked], timeout=0.02)
            cluster.elect(1 + seed % 2)
            assert await asked == [Appended()] * 150
            assert len(await everything(store)) == 150
            [again, *_] = await store.append(appends, NOON)
            assert isinstance(again, AlreadyAppended)

    with Cluster() as cluster:
        asyncio.run(main(cluster))


def test_reads_follow_the_leader_too_and_a_dead_node_is_left():
    async def main(cluster):
        async with trying(cluster.nodes[0], cluster.url) as tried:
            store, append = await tried.store(), an_append()
            await store.append([append], NOON)
            cluster.elect(1)
            assert append.stream in await store.read_streams([append.stream], 1)
            cluster.elect(2)
            await asyncio.to_thread(cluster.nodes[1].stop)
            await asyncio.to_thread(cluster.nodes[0].stop)
            assert len(await everything(store)) == 1
            assert await store.append([an_append()], NOON) == [Appended()]

    with Cluster() as cluster:
        asyncio.run(main(cluster))


def test_a_leader_that_vanished_without_a_word_is_left_for_the_next_one():
    async def main(cluster):
        async with trying(cluster.nodes[0], cluster.url) as tried:
            store, append = await tried.store(deadline_s=0.3), an_append()
            await store.append([append], NOON)
            cluster.nodes[0].silent = True
            cluster.nodes[0].append_faults = lambda _: Fault.LOST_BEFORE
            cluster.elect(1)
            for ask in (lambda: store.append([an_append()], NOON), store.head):
                for _ in range(4):
                    try:
                        await ask()
                        break
                    except LedgerUnavailable:
                        continue
                else:
                    raise AssertionError("the next leader was not found")
            assert isinstance((await store.append([append], NOON))[0], AlreadyAppended)
            cluster.nodes[0].silent = False

    with Cluster() as cluster:
        asyncio.run(main(cluster))


def test_without_a_leader_everything_is_unavailable_by_the_deadline_and_works_again_after():
    async def main(cluster):
        async with trying(cluster.nodes[0], cluster.url) as tried:
            store, append = await tried.store(deadline_s=0.4), an_append()
            cluster.elect(None)
            for ask in (store.append([append], NOON), store.head(), store.read_all(0, 1)):
                began = time.monotonic()
                with pytest.raises(LedgerUnavailable):
                    await ask
                assert time.monotonic() - began < 2
            cluster.elect(0)
            assert await store.append([append], NOON) == [Appended()]

    with Cluster() as cluster:
        asyncio.run(main(cluster))


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.UNAVAILABLE])
def test_reads_that_are_not_answered_are_unavailable_by_the_deadline(fault):
    async def test(tried):
        store = await tried.store(deadline_s=0.3)
        tried.node.read_faults = lambda _: fault
        for ask in (store.head(), store.read_all(0, 1), store.read_streams([impression()], 1)):
            with pytest.raises(LedgerUnavailable):
                await ask
        tried.node.read_faults = script([Fault.UNAVAILABLE, Fault.NOT_LEADER])
        assert await store.head() == 0

    on_a_node(test)


def test_a_stuck_call_does_not_hold_up_the_next():
    async def test(tried):
        store = await tried.store(deadline_s=0.3)
        tried.node.append_faults = lambda _: Fault.LOST_BEFORE
        with pytest.raises(LedgerUnavailable):
            await store.append([an_append() for _ in range(300)], NOON)
        tried.node.append_faults = script([])
        assert await store.append([an_append() for _ in range(50)], NOON) == [Appended()] * 50

    on_a_node(test)


def test_an_unreachable_server_is_unavailable():
    async def main():
        store = EventStoreDbStore("esdb://127.0.0.1:1?tls=false", deadline_s=0.3)
        for ask in (store.head(), store.prepare_days(DAY, DAY, DataSet.LIVE), store.append([an_append()], NOON)):
            with pytest.raises(LedgerUnavailable):
                await ask
        await store.close()

    asyncio.run(main())


def test_what_the_server_refuses_is_said_at_once():
    async def test(tried):
        store = await tried.store()
        tried.node.append_faults = script([Fault.DENIED])
        with pytest.raises(LedgerUnavailable, match="AccessDenied"):
            await store.append([an_append()], NOON)
        checks.bury(tried.node.log, "ledger:displaced", checks.ANY)
        with pytest.raises(StreamGone):
            await store.read_streams([impression()], 1)

    on_a_node(test)


def test_what_is_too_large_or_misnamed_is_refused_before_it_is_sent():
    async def test(tried):
        store = await tried.store()
        before = tried.node.calls
        with pytest.raises(ValueError, match="larger"):
            await store.append([an_append(events=5_000)], NOON)
        for name in ("impression-1", "1~rejects"):
            with pytest.raises(ValueError, match="may be called"):
                await store.append([an_append(name)], NOON)
        assert tried.node.calls == before

    on_a_node(test)


def _wait_for(log, records):
    with log.changed:
        assert log.changed.wait_for(lambda: log.visible >= records, timeout=10)
