"""Promises that need several writers, lost answers or a dead server: PostgreSQL only."""

import asyncio
import multiprocessing
from datetime import date, timedelta
from uuid import uuid4

import psycopg
import pytest
from test_event_store import DAY, NOON, an_append, impression

from domain.vocabulary import DataSet
from ledger.codec import written
from ledger.postgres import PostgresStore
from ledger.store import AlreadyAppended, Appended, Conflict, LedgerUnavailable, read_everything

pytestmark = pytest.mark.slow

WRITERS, BATCHES, BATCH = 3, 12, 400


async def _prepared(url):
    store = PostgresStore(url)
    await store.prepare_days(DAY, DAY, DataSet.LIVE)
    return store


def _write(url, batches):
    async def main():
        store = PostgresStore(url)
        for batch in range(batches):
            outcomes = await store.append([an_append(events=2) for _ in range(BATCH)], NOON + batch)
            assert set(map(type, outcomes)) == {Appended}
        await store.close()

    asyncio.run(main())


def test_p5_a_polling_reader_skips_nothing_of_three_writing_processes(postgres_url):
    """Naive identity order skipped one in six here; see docs/decisions."""

    async def main():
        reader = await _prepared(postgres_url)
        spawn = multiprocessing.get_context("spawn")
        writers = [spawn.Process(target=_write, args=(postgres_url, BATCHES)) for _ in range(WRITERS)]
        for writer in writers:
            writer.start()
        seen, after = [], 0
        total = WRITERS * BATCHES * BATCH
        async with asyncio.timeout(120):
            while len(seen) < total:
                page = await reader.read_all(after, 1_000)
                seen += [commit.position for commit in page]
                after = seen[-1] if seen else 0
        for writer in writers:
            writer.join()
            assert writer.exitcode == 0
        assert seen == sorted(set(seen))
        stored = [commit.position async for commit in read_everything(reader)]
        assert seen == stored
        await reader.close()

    asyncio.run(main())


def test_p5_a_position_is_not_readable_before_all_lower_ones_are(postgres_url):
    """The deterministic form: a writer that holds the lock open holds back later positions too."""

    async def main():
        store = await _prepared(postgres_url)
        async with await psycopg.AsyncConnection.connect(postgres_url) as slow:
            await slow.execute(
                "select append_stream_commits(array['rejects-slow'], array[0], array[1], array[%s]::uuid[], "
                "array['d'], array['[1]'::bytea], 1::bigint)",
                [uuid4()],
            )
            quick = asyncio.create_task(store.append([an_append()], NOON))
            done, _ = await asyncio.wait([quick], timeout=0.3)
            assert not done
            assert await store.read_all(0, 10) == []
            await slow.commit()
            assert await quick == [Appended()]
        assert [commit.stream for commit in await store.read_all(0, 1)] == ["rejects-slow"]
        await store.close()

    asyncio.run(main())


def test_p3_of_many_writers_of_one_stream_exactly_one_is_first(postgres_url):
    async def main():
        stores = [await _prepared(postgres_url) for _ in range(4)]
        streams = [impression() for _ in range(50)]
        results = await asyncio.gather(
            *(store.append([an_append(stream) for stream in streams], NOON) for store in stores)
        )
        for outcomes in zip(*results, strict=True):
            assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Appended"] + ["Conflict"] * 3
        for store in stores:
            await store.close()

    asyncio.run(main())


def test_two_unsorted_batches_over_the_same_streams_never_deadlock(postgres_url):
    async def main():
        one, two = await _prepared(postgres_url), await _prepared(postgres_url)
        for _ in range(10):
            streams = [impression() for _ in range(100)]
            forth = [an_append(stream) for stream in streams]
            back = [an_append(stream) for stream in reversed(streams)]
            first, second = await asyncio.gather(one.append(forth, NOON), two.append(back, NOON))
            assert {type(outcome) for outcome in first} | {type(outcome) for outcome in second} == {Appended, Conflict}
        await one.close()
        await two.close()

    asyncio.run(main())


def test_several_gates_make_the_same_days_at_once(postgres_url):
    async def main():
        gates = [PostgresStore(postgres_url) for _ in range(4)]
        for day in range(5):
            first = date(2026, 12, 29) + timedelta(days=day)
            await asyncio.gather(*(gate.prepare_days(first, first, DataSet.LIVE) for gate in gates))
        for gate in gates:
            await gate.close()

    asyncio.run(main())


def test_p8_an_append_whose_answer_was_lost_is_safe_to_repeat(postgres_url):
    async def main():
        store = await _prepared(postgres_url)
        append = an_append(events=3)
        await store.append([append], NOON)
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as killer:
            await killer.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and usename = current_user and pid <> pg_backend_pid()"
            )
        with pytest.raises(LedgerUnavailable):
            await store.append([append], NOON)
        [outcome] = await store.append([append], NOON)
        assert isinstance(outcome, AlreadyAppended)
        assert await store.head() == 1
        await store.close()

    asyncio.run(main())


def test_p8_a_server_that_does_not_answer_in_time_is_unavailable(postgres_url):
    async def main():
        store = PostgresStore(postgres_url, deadline_s=0.5)
        await store.prepare_days(DAY, DAY, DataSet.LIVE)
        async with await psycopg.AsyncConnection.connect(postgres_url) as blocker:
            await blocker.execute("lock table impression_commits in access exclusive mode")
            with pytest.raises(LedgerUnavailable):
                await store.append([an_append()], NOON)
        assert await store.append([an_append()], NOON) == [Appended()]
        await store.close()

    asyncio.run(main())


def test_an_unreachable_server_is_unavailable():
    async def main():
        store = PostgresStore("postgresql://nobody@/none?host=/nonexistent")
        with pytest.raises(LedgerUnavailable):
            await store.head()
        await store.close()

    asyncio.run(main())


def test_reading_one_stream_touches_one_partition(postgres_url):
    async def main():
        store = await _prepared(postgres_url)
        await store.prepare_days(date(2026, 9, 1), date(2026, 9, 30), DataSet.LIVE)
        append = an_append()
        await store.append([append], NOON)
        async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
            plan = await (
                await connection.execute(
                    f"explain (analyze, costs off) select * from impression_commits where stream = '{append.stream}'"
                )
            ).fetchall()
        assert sum("impression_commits_2026" in line for [line] in plan) <= 2
        await store.close()

    asyncio.run(main())


def test_a_commit_lies_compressed_in_its_row(postgres_url):
    async def main():
        store = await _prepared(postgres_url)
        append = an_append(events=30)
        await store.append([append], NOON)
        async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
            [[size]] = await (await connection.execute("select length(data) from impression_commits")).fetchall()
            [[moved]] = await (
                await connection.execute(
                    "select pg_relation_size(reltoastrelid) from pg_class where relname = 'impression_commits_20260921'"
                )
            ).fetchall()
        assert 4 * size < len(written(append))
        assert moved == 0
        await store.close()

    asyncio.run(main())
