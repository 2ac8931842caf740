"""Promises that need several writers, lost answers, other leaders or a collision: EventStoreDB's double only."""

import asyncio
from datetime import date

import pytest
from esdb_double import Fault, Node, checks, script
from esdbkit import NOON, an_append, everything, followed, impression, on_a_node

from domain.vocabulary import DataSet
from ledger.codec import decode, encode
from ledger.store import AlreadyAppended, Appended, Commit, Conflict, LedgerUnavailable, NoPartition

pytestmark = pytest.mark.slow

BREAKS = [Fault.UNAVAILABLE, Fault.BROKEN_AFTER, Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.BUSY, Fault.NOT_READY]


def test_p1_each_event_stands_by_itself_under_its_own_type_with_its_commit_in_its_metadata():
    async def test(tried):
        store, append = await tried.store(), an_append(impression(5))
        await store.append([append], NOON)
        records = tried.node.log.stream(f"ledger.impression-{append.stream}").records
        assert [record.event.type for record in records] == ["AnswersCounted"] * 3
        assert b"".join(record.event.data for record in records[:1]) == encode(append.events[:1])[3:-1]
        assert str(append.cause).encode() in records[0].event.metadata
        assert records[2].event.metadata == b'{"count":3,"index":2}'
        [commit] = await everything(store)
        assert commit.position == records[2].position

    on_a_node(test)


def test_p2_a_client_that_retries_at_another_worker_gets_the_first_ones_answer():
    async def test(tried):
        first, second = await tried.store(deadline_s=0.3), await tried.store()
        append = an_append()
        tried.node.append_faults = script([Fault.LOST_AFTER])
        with pytest.raises(LedgerUnavailable):
            await first.append([append], NOON)
        again = an_append(append.stream, cause=append.cause, at=50)
        [outcome] = await second.append([again], NOON + 9)
        assert isinstance(outcome, AlreadyAppended)
        assert decode(outcome.commit.data) == append.events
        assert len(await everything(second)) == 1

    on_a_node(test)


def test_p2_of_two_workers_with_the_same_cause_at_once_one_appends_and_the_other_reads_what_it_wrote():
    """The server compares ids only: were they the cause's, both would be told of success, each with its own answer."""

    async def test(tried):
        stores = [await tried.store() for _ in range(4)]
        firsts = [an_append() for _ in range(50)]
        batches = [[an_append(one.stream, cause=one.cause, at=n) for one in firsts] for n in range(4)]
        results = await asyncio.gather(*(store.append(batches[n], NOON) for n, store in enumerate(stores)))
        stored = {commit.stream: commit for commit in await everything(stores[0])}
        for at, one in enumerate(firsts):
            kinds = [type(outcomes[at]) for outcomes in results]
            assert sorted(kind.__name__ for kind in kinds) == ["AlreadyAppended"] * 3 + ["Appended"]
            wrote = batches[kinds.index(Appended)][at]
            assert decode(stored[one.stream].data) == wrote.events
            assert all(out[at].commit == stored[one.stream] for out in results if isinstance(out[at], AlreadyAppended))

    on_a_node(test)


def test_p2_the_same_cause_at_a_reread_version_is_recognised_over_other_commits_in_any_kind_of_stream():
    async def test(tried):
        writer, other = await tried.store(), await tried.store()
        for stream in (impression(), "rejects-eu-1"):
            appends = [an_append(stream, expected=n * 3) for n in range(5)]
            for append in appends:
                assert await writer.append([append], NOON) == [Appended()]
            for store in (writer, other, writer):
                [outcome] = await store.append([an_append(stream, 15, cause=appends[1].cause)], NOON)
                assert isinstance(outcome, AlreadyAppended)
                assert outcome.commit.version == 3
                [outcome] = await store.append([an_append(stream, 15, cause=appends[1].cause, digest="x")], NOON)
                assert outcome == Conflict(15)

    on_a_node(test)


def test_a_stream_that_one_process_writes_is_not_read_again_at_each_append():
    async def test(tried):
        store = await tried.store()
        await store.append([an_append("rejects-eu-1", events=1)], NOON)
        before = tried.node.calls
        for n in range(1, 50):
            assert await store.append([an_append("rejects-eu-1", n, events=1)], NOON) == [Appended()]
        assert tried.node.calls == before

    on_a_node(test)


def test_p3_of_many_writers_of_one_stream_exactly_one_is_first():
    async def test(tried):
        stores = [await tried.store() for _ in range(4)]
        streams = [impression() for _ in range(50)]
        results = await asyncio.gather(
            *(store.append([an_append(stream) for stream in streams], NOON) for store in stores)
        )
        for outcomes in zip(*results, strict=True):
            assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Appended"] + ["Conflict"] * 3
            assert {outcome.current for outcome in outcomes if isinstance(outcome, Conflict)} == {3}

    on_a_node(test)


def test_p3_a_conflict_with_what_cannot_be_read_yet_is_waited_for_and_never_taken_for_a_collision():
    async def test(tried):
        store, append = await tried.store(), an_append()
        pending = [checks.Proposed(append.cause, "X", "application/json", b"{}", _note(append))]
        name = f"ledger.impression-{append.stream}"
        tried.node.log.replicated = len(tried.node.log.records)
        checks.append(tried.node.log, name, checks.NO_STREAM, pending)
        asked = asyncio.create_task(store.append([an_append(append.stream)], NOON))
        done, _ = await asyncio.wait([asked], timeout=0.3)
        assert not done
        tried.node.log.replicated = None
        tried.node.log.flush()
        assert await asked == [Conflict(1)]
        assert [name for name in tried.node.log.streams if "~" in name] == []

    on_a_node(test)


def test_p3_a_conflict_with_what_a_leader_change_undid_is_asked_about_and_sends_nothing_elsewhere():
    async def test(tried):
        store, append = await tried.store(), an_append()
        tried.node.append_faults = script([Fault.WRONG_VERSION])
        assert await store.append([append], NOON) == [Appended()]
        assert f"ledger.impression-{append.stream}" in tried.node.log.streams
        assert "ledger:displaced" not in tried.node.log.streams

    on_a_node(test)


@pytest.mark.parametrize("breaks_calls", [None, Fault.DENIED, Fault.CUT])
def test_p3_a_stream_whose_name_collides_in_the_index_is_appended_to_all_the_same_and_stays_one_stream(breaks_calls):
    async def test(tried):
        tried.node.collision_breaks_calls = breaks_calls
        one, other = await tried.store(), await tried.store()
        append, neighbours = an_append(), [an_append() for _ in range(20)]
        await _collide(tried.node, one, append.stream)
        outcomes = await one.append([*neighbours[:10], append, *neighbours[10:]], NOON)
        assert outcomes == [Appended()] * 21
        for store in (one, other):
            [again] = await store.append([append], NOON)
            assert isinstance(again, AlreadyAppended)
            assert again.commit.data == encode(append.events)
            assert await store.append([an_append(append.stream)], NOON) == [Conflict(3)]
            [commit] = (await store.read_streams([append.stream], 10))[append.stream]
            assert (commit.version, commit.stream) == (0, append.stream)
        assert await other.append([an_append(append.stream, 3)], NOON) == [Appended()]
        assert [(c.version, c.count) for c in (await one.read_streams([append.stream], 9))[append.stream]] == [
            (0, 3),
            (3, 3),
        ]
        assert sum(commit.stream == append.stream for commit in await everything(other)) == 2

    on_a_node(test)


@pytest.mark.parametrize("fault", [Fault.DENIED, Fault.CUT])
def test_p3_a_collision_that_ends_a_call_costs_its_neighbours_a_few_calls_and_nothing_else(fault):
    async def test(tried):
        tried.node.collision_breaks_calls = fault
        store = await tried.store()
        appends = [an_append() for _ in range(200)]
        await _collide(tried.node, store, appends[0].stream)
        before = tried.node.calls
        assert await store.append(appends, NOON) == [Appended()] * 200
        assert tried.node.calls - before < 30
        found = await everything(store)
        assert all(sum(commit.cause == append.cause for commit in found) == 1 for append in appends)

    on_a_node(test)


def test_p3_a_stream_that_begins_to_collide_later_goes_on_where_it_was():
    async def test(tried):
        store, append = await tried.store(), an_append()
        await store.append([append], NOON)
        await _collide(tried.node, store, append.stream)
        assert await store.append([an_append(append.stream, 3)], NOON) == [Appended()]
        assert await store.append([an_append(append.stream, 3)], NOON) == [Conflict(6)]
        [known] = await store.append([append], NOON)
        assert isinstance(known, AlreadyAppended)
        commits = (await (await tried.store()).read_streams([append.stream], 9))[append.stream]
        assert [commit.version for commit in commits] == [0, 3]

    on_a_node(test)


def test_p3_of_many_writers_of_a_colliding_stream_exactly_one_is_first():
    async def test(tried):
        stores = [await tried.store() for _ in range(4)]
        stream = impression()
        await _collide(tried.node, stores[0], stream)
        results = await asyncio.gather(*(store.append([an_append(stream)], NOON) for store in stores))
        assert sorted(type(outcome).__name__ for [outcome] in results) == ["Appended"] + ["Conflict"] * 3
        assert len((await stores[0].read_streams([stream], 9))[stream]) == 1

    on_a_node(test)


def test_p5_a_polling_reader_skips_nothing_of_concurrent_writers():
    async def test(tried):
        reader, writers = await tried.store(), [await tried.store(window=8) for _ in range(3)]

        async def write(store):
            for _ in range(6):
                await store.append([an_append(events=2) for _ in range(30)], NOON)

        writing = asyncio.gather(*map(write, writers))
        seen, after = [], 0
        async with asyncio.timeout(60):
            while len(seen) < 540:
                page = await reader.read_all(after, 100)
                seen += [commit.position for commit in page]
                after = seen[-1] if seen else 0
        await writing
        assert seen == sorted(set(seen)) == [commit.position for commit in await everything(reader)]

    on_a_node(test)


def test_p6_a_subscription_resumed_at_the_tail_misses_nothing_though_a_checkpoint_there_would():
    async def test(tried):
        store = await tried.store()
        assert tried.node.tail_checkpoint
        await store.append([an_append() for _ in range(5)], NOON)
        found = await followed(store, 0)
        assert [commit.position for commit in found] == [commit.position for commit in await everything(store)]
        late = an_append()
        await store.append([late], NOON)
        await store.append([an_append("rejects-eu-1")], NOON)
        resumed = await followed(store, found[-1].position)
        assert [commit.stream for commit in resumed] == [late.stream, "rejects-eu-1"]

    on_a_node(test)


def test_p6_a_subscription_goes_on_over_a_restart_of_the_server_without_gap_or_repetition():
    async def test(tried):
        store = await tried.store()
        following, seen = store.follow(0), []
        for times in range(1, 4):
            await store.append([an_append() for _ in range(10)], NOON)
            while len(seen) < 10 * times:
                one = await anext(following)
                if isinstance(one, Commit):
                    seen.append(one.position)
            await asyncio.to_thread(tried.node.stop)
            tried.node.start()
        await following.aclose()
        assert seen == [commit.position for commit in await everything(store)]

    on_a_node(test)


def test_p6_reading_begins_also_after_positions_that_no_event_has():
    async def test(tried):
        store = await tried.store()
        for _ in range(6):
            await store.append([an_append()], NOON)
        commits = await everything(store)
        for after in range(commits[2].position - 200, commits[3].position + 200, 7):
            expected = [commit for commit in commits if commit.position > after]
            assert await store.read_all(after, 100) == expected
            assert await store.read_all(after, 1) == expected[:1]
        assert await store.read_all(commits[-1].position + 10_000, 5) == []
        assert len(await followed(store, commits[2].position - 1)) == 4

    on_a_node(test)


def test_p7_no_more_appends_than_the_window_wait_at_a_time():
    async def test(tried):
        store = await tried.store(window=10)
        assert await store.append([an_append(events=1) for _ in range(200)], NOON) == [Appended()] * 200
        assert 1 <= tried.node.unanswered_max <= 10

    on_a_node(test)


def test_what_others_keep_in_the_same_server_is_not_seen():
    async def test(tried):
        mine = await tried.store()
        address, _, options = tried.url.partition("?")
        theirs = await tried.store(url=f"{address}/other?{options}")
        append = an_append()
        assert await mine.append([append], NOON) == await theirs.append([append], NOON) == [Appended()]
        checks.append(tried.node.log, "foreign-1", checks.ANY, [checks.Proposed(append.cause, "X", "", b"no JSON")])
        tried.node.log.flush()
        assert len(await everything(mine)) == len(await everything(theirs)) == 1
        assert await theirs.head() > await mine.head() > 0

    on_a_node(test)


def test_tombstones_that_an_operator_put_on_streams_are_read_past():
    async def test(tried):
        store = await tried.store()
        appends = [an_append() for _ in range(4)]
        await store.append(appends, NOON)
        following = store.follow(0)
        assert isinstance(await anext(following), Commit)
        for append in (appends[1], appends[3]):
            checks.bury(tried.node.log, f"ledger.impression-{append.stream}", checks.ANY)
        assert [commit.stream for commit in await everything(store)] == [append.stream for append in appends]
        assert await store.head() == (await everything(store))[-1].position
        late = an_append()
        await store.append([late], NOON)
        found = [one async for one in _until(following, late.stream)]
        assert [commit.stream for commit in found] == [append.stream for append in [*appends[1:], late]]

    on_a_node(test)


def test_days_that_one_process_prepared_another_knows():
    async def test(tried):
        await tried.store()
        other = await tried.store(prepared=False)
        assert await other.append([an_append()], NOON) == [Appended()]
        one, two = await tried.store(prepared=False), await tried.store(prepared=False)
        october = (date(2026, 10, 1), date(2026, 10, 31), DataSet.LIVE)
        await asyncio.gather(one.prepare_days(*october), two.prepare_days(*october))
        assert len(tried.node.log.stream("ledger:days").records) == 32
        with pytest.raises(NoPartition, match="2026-09-22"):
            await one.append([an_append(type(impression())(int=impression().int + (86_400_000 << 80)))], NOON)

    on_a_node(test)


async def _until(following, stream):
    async for one in following:
        if isinstance(one, Commit):
            yield one
            if one.stream == stream:
                break
    await following.aclose()


def _note(append):
    return b'{"count":1,"cause":"%s","digest":"other","recorded_at":1,"schema":1}' % str(impression()).encode()


async def _collide(node: Node, store, stream):
    """Make the index take *stream* for another one that has more entries than it looks through."""
    busy = "rejects-busy"
    node.log.collide(f"ledger.{busy}", f"ledger.impression-{stream}")
    for n in range(3):
        await store.append([an_append(busy, n * 50, events=50)], NOON)
