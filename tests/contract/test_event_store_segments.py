"""What a ledger in segments promises where its two stores, or two writers, come apart."""

import asyncio
import random
from uuid import UUID

import psycopg
import pytest
from esdb_double import Fault, Node, script
from esdbkit import DAY, NOON, an_append, everything, impression
from segmentskit import Break, Breaking, stores_on

from domain.ids import mint
from domain.vocabulary import DataSet
from ledger.codec import decode, encode
from ledger.eventstoredb import EventStoreDbStore
from ledger.memory import MemoryStore
from ledger.segments import open_segments
from ledger.segments_codec import BYTES_MAX, UnreadableSegment, proposals, read_segment
from ledger.segments_index import WrongLedger
from ledger.segments_log import Place, SegmentLog
from ledger.store import AlreadyAppended, Appended, Conflict, LedgerError, LedgerUnavailable, NoPartition
from service.migrate import _LOCK as MIGRATING

slow = pytest.mark.slow
NOTHING = Breaking()


def larger_than_one_segment(commits=8):
    return [an_append(events=2_500) for _ in range(commits)]


@slow
@pytest.mark.parametrize("point", Break)
@pytest.mark.parametrize("at_another_writer", [False, True])
def test_p8_a_writer_that_fails_anywhere_is_retried_and_every_commit_is_real_once(
    segments_urls, point, at_another_writer
):
    async def main():
        async with stores_on(segments_urls, Breaking(point), NOTHING) as stores:
            appends = [an_append(), an_append("rejects-eu-1"), an_append()]
            with pytest.raises(LedgerUnavailable, match=point):
                await stores[0].append(appends, NOON)
            real = await everything(stores[1])
            assert len(real) == (3 if point is Break.AFTER_CLAIMING else 0)
            outcomes = await stores[at_another_writer].append(appends, NOON + 1)
            expected = AlreadyAppended if point is Break.AFTER_CLAIMING else Appended
            assert {type(outcome) for outcome in outcomes} == {expected}
            commits = await everything(stores[1])
            assert sorted(commit.cause for commit in commits) == sorted(append.cause for append in appends)
            assert commits[: len(real)] == real
            assert [decode(commit.data) for commit in commits] == [
                next(append.events for append in appends if append.cause == commit.cause) for commit in commits
            ]

    asyncio.run(main())


@slow
def test_commits_are_claimed_while_tables_are_being_migrated(segments_urls):
    async def main():
        async with stores_on(segments_urls, NOTHING) as [store]:
            with psycopg.connect(segments_urls[1]) as migrating:
                migrating.execute("select pg_advisory_lock(%s)", [MIGRATING])
                assert await store.append([an_append()], NOON) == [Appended()]

    asyncio.run(main())


@slow
@pytest.mark.parametrize("point", Break)
def test_p8_a_call_larger_than_a_segment_that_fails_in_its_middle_is_completed_by_its_retry(segments_urls, point):
    async def main():
        async with stores_on(segments_urls, NOTHING) as [store]:
            appends = larger_than_one_segment()
            parts = proposals(appends, NOON)
            assert len(parts) > 2
            store._index.breaking = store._log.breaking = Breaking(Break.AFTER_CLAIMING)
            with pytest.raises(LedgerUnavailable):
                await store.append(appends, NOON)
            store._index.breaking = store._log.breaking = Breaking(point)
            first = await everything(store)
            assert len(first) == len(parts[0].places)
            with pytest.raises(LedgerUnavailable):
                await store.append(appends, NOON)
            outcomes = await store.append(appends, NOON)
            assert [type(outcome) for outcome in outcomes[: len(first)]] == [AlreadyAppended] * len(first)
            assert [type(outcome) for outcome in outcomes[len(first) :]] == [Appended] * (len(appends) - len(first))
            assert [commit.cause for commit in await everything(store)] == [append.cause for append in appends]

    asyncio.run(main())


@slow
def test_p3_of_two_writers_that_proposed_the_same_stream_one_wins_and_the_other_is_never_seen(segments_urls):
    async def main():
        async with stores_on(segments_urls, NOTHING, NOTHING) as [one, other]:
            stream = impression()
            won, lost = an_append(stream, events=2), an_append(stream, events=1)
            [proposal] = proposals([lost], NOON)
            place = await other._log.write(proposal.data, b"{}", NOON)
            assert await one.append([won], NOON) == [Appended()]
            [found] = await other._index.claim(place, [lost], [])
            assert (found.current, found.known) == (2, None)
            assert await other.append([lost], NOON) == [Conflict(2)]
            [commit] = await everything(other)
            assert commit.cause == won.cause
            assert (await other.read_streams([stream], 10)) == {stream: [commit]}

    asyncio.run(main())


@slow
def test_p5_a_position_is_not_readable_before_all_lower_ones_are(segments_urls):
    async def main():
        async with stores_on(segments_urls, NOTHING) as [store]:
            slow_one = an_append()
            [proposal] = proposals([slow_one], NOON)
            place = await store._log.write(proposal.data, b"{}", NOON)
            async with await psycopg.AsyncConnection.connect(segments_urls[1]) as slow_writer:
                await slow_writer.execute(
                    "select * from claim_segment(%s, %s, %s::uuid[], '{0}', '{3}', %s::uuid[], %s::uuid[], "
                    "'{}', '{}', '{}', '{}', '{}')",
                    [place.segment, place.revision, [slow_one.stream], [slow_one.cause], [slow_one.cause]],
                )
                quick_one = an_append()
                quick = asyncio.create_task(store.append([quick_one], NOON))
                done, _ = await asyncio.wait([quick], timeout=0.3)
                assert not done
                assert await store.read_all(0, 10) == []
                await slow_writer.commit()
            assert await quick == [Appended()]
            assert [commit.cause for commit in await everything(store)] == [slow_one.cause, quick_one.cause]

    asyncio.run(main())


@slow
def test_a_claim_whose_bytes_cannot_be_had_is_never_passed_over(segments_urls):
    async def main():
        async with stores_on(segments_urls, NOTHING, deadline_s=0.2) as [store]:
            real, bare = an_append(), an_append()
            await store.append([real], NOON)
            assert await store._index.claim(Place("segment-none", 0), [bare], []) == []
            await store.append([an_append()], NOON)
            assert await store.head() == 3
            assert [commit.position for commit in await store.read_all(0, 1)] == [1]
            for read in (lambda: store.read_all(1, 10), lambda: store.read_streams([bare.stream], 10)):
                with pytest.raises(LedgerUnavailable):
                    await read()

    asyncio.run(main())


@slow
def test_p3_a_segment_that_takes_no_more_is_left_and_another_one_begun(postgres_url):
    async def main(node):
        async with stores_on((f"{node.url}&layout=segments", postgres_url), NOTHING, deadline_s=0.3) as [store]:
            appends = [an_append() for _ in range(4)]
            for append, fault in zip(appends, (None, Fault.WRONG_VERSION, Fault.LOST_AFTER, None), strict=True):
                node.append_faults = script([fault])
                try:
                    assert await store.append([append], NOON) == [Appended()]
                except LedgerUnavailable:
                    assert fault is Fault.LOST_AFTER
                    assert await store.append([append], NOON) == [Appended()]
            commits = await everything(store)
            assert [commit.cause for commit in commits] == [append.cause for append in appends]
            places = [batch.place for _, batch in await store._index.after(0, 10)]
            assert [place.revision for place in places] == [0, 0, 0, 1]

    with Node() as node:
        asyncio.run(main(node))


def _random_append(dice, model, streams, causes):
    stream = dice.choice(streams)
    cause = dice.choice(causes)
    expected = dice.choice([0, model.get(stream, 0), model.get(stream, 0), dice.randrange(4)])
    return an_append(stream, expected, cause=cause, digest=dice.choice("aab"), events=dice.randint(1, 3))


@slow
@pytest.mark.parametrize("seed", range(6))
def test_any_calls_are_answered_and_read_as_in_the_ledger_in_memory(segments_urls, seed):
    async def main():
        dice, model = random.Random(seed), MemoryStore()
        await model.prepare_days(DAY, DAY, DataSet.LIVE)
        streams = [mint(NOON, 7, dice.getrandbits(62)) for _ in range(12)] + [f"rejects-eu-{n}" for n in range(4)]
        causes = [UUID(int=dice.getrandbits(128)) for _ in range(15)]
        lengths = {}
        async with stores_on(segments_urls, NOTHING, NOTHING) as stores:
            for at in range(40):
                appends = {
                    append.stream: append
                    for append in (_random_append(dice, lengths, streams, causes) for _ in range(dice.randint(1, 9)))
                }.values()
                expected = await model.append(list(appends), NOON + at)
                found = await dice.choice(stores).append(list(appends), NOON + at)
                assert [_plain(one) for one in found] == [_plain(one) for one in expected]
                for append, outcome in zip(appends, expected, strict=True):
                    if outcome == Appended():
                        lengths[append.stream] = append.expected + len(append.events)
            await _compare(stores[0], model, streams)

    asyncio.run(main())


async def _compare(store, model, streams):
    """Within a call, impressions come before other streams here; otherwise the order is the same."""
    commits, of_model = await everything(store, page=7), await everything(model)
    assert sorted(map(_content, commits)) == sorted(map(_content, of_model))
    for last in range(len(commits) + 2):
        after = await store.before_last(last)
        assert await store.read_all(after, 1_000) == commits[max(0, len(commits) - last) :]
    assert await store.head() == commits[-1].position
    for limit in (1, 100):
        found, expected = await store.read_streams(streams, limit), await model.read_streams(streams, limit)
        assert {stream: list(map(_content, of)) for stream, of in found.items()} == {
            stream: list(map(_content, of)) for stream, of in expected.items()
        }


def _plain(outcome):
    return _content(outcome.commit) if isinstance(outcome, AlreadyAppended) else outcome


def _content(commit):
    return (
        commit.recorded_at,
        str(commit.stream),
        commit.version,
        commit.count,
        commit.cause,
        commit.digest,
        commit.data,
    )


@slow
def test_streams_that_were_written_apart_are_read_together(segments_urls):
    async def main():
        async with stores_on(segments_urls, NOTHING, NOTHING) as stores:
            appends = [an_append(events=1 + at % 3) for at in range(60)]
            for at, append in enumerate(appends):
                await stores[at % 2].append([append, an_append()], NOON)
            found = await stores[0].read_streams([append.stream for append in reversed(appends[::3])], 10)
            assert {stream: commit.cause for stream, [commit] in found.items()} == {
                append.stream: append.cause for append in appends[::3]
            }
            assert [commit.position for commit in await stores[1].read_all(3, 100)] == list(range(4, 104))

    asyncio.run(main())


@slow
def test_an_index_is_that_of_one_ledger_and_a_ledger_in_streams_is_not_taken_for_an_empty_one(esdb_url, segments_urls):
    async def main():
        url, database_url = segments_urls
        streams = EventStoreDbStore(esdb_url)
        await streams.prepare_days(DAY, DAY, DataSet.LIVE)
        await streams.append([an_append()], NOON)
        store = open_segments(url, database_url)
        with pytest.raises(WrongLedger, match="stream per impression"):
            await store.head()
        first = open_segments(url.replace("/test_", "/other_"), database_url)
        assert await first.head() == 0
        second = open_segments(url.replace("/test_", "/another_"), database_url)
        with pytest.raises(WrongLedger, match="not of another_"):
            await second.read_all(0, 1)
        other_layout = EventStoreDbStore(esdb_url.replace("/test_", "/other_"))
        with pytest.raises(LedgerError, match="layout=segments"):
            await other_layout.prepare_days(DAY, DAY, DataSet.LIVE)
        with pytest.raises(NoPartition):
            await other_layout.append([an_append()], NOON)
        for one in (streams, store, first, second, other_layout):
            await one.close()

    asyncio.run(main())


def test_an_address_names_its_layout_and_neither_store_opens_the_other_one():
    plain, segments = "esdb://host?tls=false", "esdb://host?tls=false&layout=segments"
    with pytest.raises(ValueError, match="segments"):
        EventStoreDbStore(segments)
    with pytest.raises(ValueError, match="layout=segments"):
        SegmentLog(plain)
    with pytest.raises(ValueError, match="layout is streams or segments"):
        SegmentLog("esdb://host?tls=false&layout=rows")


def test_commits_come_out_of_a_segment_as_they_went_in_and_in_segments_that_the_server_takes():
    appends = [*larger_than_one_segment(), an_append("rejects-eu-1"), an_append()]
    parts = proposals(appends, NOON)
    assert max(len(part.data) for part in parts) <= BYTES_MAX
    assert sorted(at for part in parts for at in part.places) == list(range(len(appends)))
    for part in parts:
        segment = read_segment(part.data)
        for at, place in enumerate(part.places):
            commit, append = segment.commit(at, 5 + at), appends[place]
            assert (commit.stream, commit.version, commit.cause) == (append.stream, append.expected, append.cause)
            assert (commit.count, commit.digest, commit.data) == (len(append.events), "d", encode(append.events))
            assert (commit.position, commit.recorded_at) == (5 + at, NOON)
        with pytest.raises(UnreadableSegment):
            segment.commit(len(part.places), 9)


def test_an_append_larger_than_the_server_takes_and_damaged_bytes_are_refused():
    with pytest.raises(ValueError, match="larger"):
        proposals([an_append(events=12_000)], NOON)
    for data in (b"", b"{}", b'{"recorded_at":1,"impressions":[[]],"names":[]}', b"\xff"):
        with pytest.raises(UnreadableSegment):
            read_segment(data)


def test_a_stream_that_could_be_taken_for_an_impressions_is_refused():
    async def main():
        store = open_segments("esdb://host?tls=false&layout=segments", "postgresql://nowhere")
        for name in ("impression-1", ""):
            with pytest.raises(ValueError, match="called"):
                await store.append([an_append(name)], NOON)
        await store.close()

    asyncio.run(main())
