"""The promises P1-P8 of the port, kept by every adapter."""

import asyncio
from datetime import date
from uuid import UUID, uuid4

import pytest

from domain.aggregates import AnswersCounted
from domain.ids import TIME_MAX_MS, mint
from domain.vocabulary import DataSet
from ledger.codec import decode, encode
from ledger.eventstoredb import EventStoreDbStore
from ledger.memory import MemoryStore
from ledger.postgres import PostgresStore
from ledger.segments import open_segments
from ledger.store import AlreadyAppended, Append, Appended, Conflict, NoPartition, read_everything

NOON = 1_790_000_000_000
DAY = date(2026, 9, 21)


STORES = {
    "memory": lambda _: MemoryStore(),
    "postgres": PostgresStore,
    "esdb": EventStoreDbStore,
    "segments": lambda urls: open_segments(*urls),
}


@pytest.fixture(
    params=[
        "memory",
        pytest.param("postgres_url", marks=pytest.mark.slow, id="postgres"),
        pytest.param("esdb_url", id="eventstoredb"),
        pytest.param("esdb_server_url", id="eventstoredb-server"),
        pytest.param("segments_urls", marks=pytest.mark.slow, id="segments"),
    ]
)
def runner(request):
    """Runs a coroutine function on a fresh store of each kind, with the test's day prepared."""
    url = None if request.param == "memory" else request.getfixturevalue(request.param)

    def run(test):
        async def main():
            store = STORES[request.param.split("_")[0]](url)
            await store.prepare_days(DAY, DAY, DataSet.LIVE)
            try:
                await test(store)
            finally:
                await store.close()

        asyncio.run(main())

    return run


def impression(entropy=None, at=NOON):
    return mint(at, 7, uuid4().int if entropy is None else entropy)


def fact(cause: UUID, at: int = 0):
    return AnswersCounted(cause=cause, digest="d", unmoved=1, counted_at=at)


def an_append(stream=None, expected=0, cause=None, digest="d", events=1):
    cause = cause or uuid4()
    return Append(
        stream=impression() if stream is None else stream,
        expected=expected,
        cause=cause,
        digest=digest,
        events=tuple(fact(cause, n) for n in range(events)),
    )


@pytest.mark.parametrize("stream", [impression(1), "rejects-eu-1"])
def test_p1_events_of_one_append_stand_together_and_in_order(runner, stream):
    async def test(store):
        append = an_append(stream, events=3)
        assert await store.append([append], NOON) == [Appended()]
        [commit] = (await store.read_streams([stream], 10))[stream]
        assert (commit.version, commit.count, commit.cause, commit.recorded_at) == (0, 3, append.cause, NOON)
        assert decode(commit.data) == append.events
        assert commit.data == encode(append.events)

    runner(test)


def test_p1_each_stream_of_a_call_has_its_own_outcome(runner):
    async def test(store):
        taken, known = an_append(), an_append("rejects-eu-2")
        await store.append([taken, known], NOON)
        outcomes = await store.append(
            [
                an_append(events=2),
                an_append(taken.stream),
                an_append(taken.stream.__class__(int=taken.stream.int ^ 1), expected=4),
                known,
                an_append("rejects-eu-3"),
            ],
            NOON + 1,
        )
        assert [type(outcome) for outcome in outcomes] == [Appended, Conflict, Conflict, AlreadyAppended, Appended]
        assert (outcomes[1].current, outcomes[2].current) == (1, 0)
        assert len(await store.read_all(0, 10)) == 4

    runner(test)


def test_p1_a_stream_may_not_stand_in_one_call_twice(runner):
    async def test(store):
        stream = impression()
        with pytest.raises(ValueError, match="twice"):
            await store.append([an_append(stream), an_append(stream)], NOON)
        with pytest.raises(ValueError, match="no events"):
            await store.append([an_append(events=0)], NOON)
        assert await store.head() == 0

    runner(test)


def test_p2_a_repeated_append_changes_nothing_whatever_its_events(runner):
    async def test(store):
        first = an_append(events=2)
        await store.append([first], NOON)
        again = Append(
            stream=first.stream, expected=0, cause=first.cause, digest=first.digest, events=(fact(first.cause, 99),)
        )
        [outcome] = await store.append([again], NOON + 5)
        assert isinstance(outcome, AlreadyAppended)
        assert decode(outcome.commit.data) == first.events
        assert (outcome.commit.recorded_at, outcome.commit.stream) == (NOON, first.stream)
        assert len(await store.read_all(0, 10)) == 1

    runner(test)


def test_p2_a_cause_retried_at_a_reread_version_is_recognised(runner):
    async def test(store):
        first = an_append(events=3)
        await store.append([first], NOON)
        retry = an_append(first.stream, expected=3, cause=first.cause)
        [outcome] = await store.append([retry], NOON)
        assert isinstance(outcome, AlreadyAppended)
        assert len(await store.read_all(0, 10)) == 1

    runner(test)


def test_p2_the_same_cause_id_with_another_digest_is_a_conflict(runner):
    async def test(store):
        first = an_append(digest="one")
        await store.append([first], NOON)
        for expected in (0, 1):
            other = an_append(first.stream, expected=expected, cause=first.cause, digest="two")
            assert await store.append([other], NOON) == [Conflict(1)]
        assert len(await store.read_all(0, 10)) == 1

    runner(test)


def test_p3_a_second_first_append_and_a_gap_are_conflicts(runner):
    async def test(store):
        first = an_append(events=3)
        await store.append([first], NOON)
        for expected in (0, 1, 2, 4):
            assert await store.append([an_append(first.stream, expected=expected)], NOON) == [Conflict(3)]
        assert await store.append([an_append(first.stream, expected=3)], NOON) == [Appended()]

    runner(test)


def test_p5_positions_grow_and_reading_all_is_in_order_over_both_kinds_of_stream(runner):
    async def test(store):
        for n in range(12):
            await store.append([an_append(), an_append(f"rejects-eu-{n}"), an_append()], NOON)
        commits = [commit async for commit in read_everything(store, page=5)]
        positions = [commit.position for commit in commits]
        assert len(commits) == 36
        assert positions == sorted(set(positions))
        assert positions[-1] == await store.head()
        assert sum(isinstance(commit.stream, str) for commit in commits) == 12

    runner(test)


def test_p6_resuming_after_a_checkpoint_loses_and_repeats_nothing_also_at_the_tail(runner):
    async def test(store):
        await store.append([an_append() for _ in range(5)], NOON)
        head = await store.head()
        assert await store.read_all(head, 10) == []
        await store.append([an_append()], NOON)
        [commit] = await store.read_all(head, 10)
        assert commit.position > head
        assert await store.read_all(commit.position, 10) == []

    runner(test)


def test_the_last_commits_are_found_whatever_lies_between_positions(runner):
    async def test(store):
        assert await store.before_last(3) == 0
        for n in range(4):
            await store.append([an_append(events=2), an_append(f"rejects-eu-{n}"), an_append()], NOON)
            await store.append([an_append(f"rejects-eu-{n}", expected=9)], NOON)
        commits = [commit async for commit in read_everything(store)]
        for last in (0, 1, 5, 11):
            after = await store.before_last(last)
            assert after == commits[-last - 1].position
            assert await store.read_all(after, 100) == commits[len(commits) - last :]
        assert await store.before_last(12) == await store.before_last(1_000) == 0

    runner(test)


def test_p7_every_read_has_a_limit(runner):
    async def test(store):
        first = an_append()
        await store.append([first], NOON)
        for n in range(1, 6):
            await store.append([an_append(first.stream, expected=n)], NOON)
        assert [c.version for c in (await store.read_streams([first.stream], 3))[first.stream]] == [0, 1, 2]
        assert len(await store.read_all(0, 2)) == 2
        for limit in (0, -1, 10_001):
            with pytest.raises(ValueError, match="limit"):
                await store.read_all(0, limit)
            with pytest.raises(ValueError, match="limit"):
                await store.read_streams([first.stream], limit)

    runner(test)


def test_streams_that_do_not_exist_are_absent(runner):
    async def test(store):
        assert await store.read_streams([impression(), "campaign-none"], 10) == {}
        assert await store.append([], NOON) == []

    runner(test)


def test_a_day_without_a_partition_is_refused_whole_and_works_once_it_is_made(runner):
    async def test(store):
        late = an_append(impression(at=NOON + 5 * 86_400_000))
        fine = an_append()
        with pytest.raises(NoPartition, match="2026-09-26"):
            await store.append([fine, late], NOON)
        assert await store.head() == 0
        await store.prepare_days(date(2026, 9, 26), date(2026, 9, 26), DataSet.REPLAY)
        await store.prepare_days(date(2026, 9, 26), date(2026, 9, 27), DataSet.LIVE)
        assert await store.append([fine, late], NOON) == [Appended(), Appended()]

    runner(test)


def test_ids_of_the_first_and_last_millisecond_of_a_day_belong_to_it(runner):
    async def test(store):
        midnight = 1_789_948_800_000
        edges = [an_append(impression(at=midnight)), an_append(impression(at=midnight + 86_400_000 - 1))]
        assert await store.append(edges, NOON) == [Appended(), Appended()]
        with pytest.raises(NoPartition):
            await store.append([an_append(impression(at=midnight - 1))], NOON)

    runner(test)


def test_the_last_day_that_there_is_can_be_prepared(runner):
    async def test(store):
        await store.prepare_days(date(9999, 12, 31), date(9999, 12, 31), DataSet.REPLAY)
        assert await store.append([an_append(impression(at=TIME_MAX_MS))], NOON) == [Appended()]

    runner(test)
