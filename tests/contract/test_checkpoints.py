"""The promises C1-C5 of the checkpoints, kept by every adapter."""

import asyncio
import time

import psycopg
import pytest
from deskkit import Clock

from projections.checkpoints import HEAD_MS, Known, MemoryCheckpoints, Progress, Range
from projections.checkpoints_postgres import PostgresCheckpoints
from projections.errors import CheckpointsUnavailable, LeaseLost, QueryRefused

LONG_MS = 60_000


class MemoryWorld:
    """Checkpoints whose clock the test moves."""

    def __init__(self):
        self._clock = Clock(int(time.time() * 1_000))
        self._checkpoints = MemoryCheckpoints(self._clock)

    def connect(self):
        return self._checkpoints

    async def later(self, milliseconds):
        self._clock.pass_by(milliseconds)

    def now(self):
        return self._clock()

    async def close(self):
        return


class PostgresWorld:
    """Checkpoints whose past the test moves back, for their clock is the database's."""

    def __init__(self, url):
        self._url = url
        self._open = []

    def connect(self):
        self._open.append(PostgresCheckpoints(self._url))
        return self._open[-1]

    async def later(self, milliseconds):
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            await connection.execute(
                "update projections set leased_until = leased_until - %s * interval '1 ms'", [milliseconds]
            )
            heads = await (await connection.execute("delete from projection_heads returning *")).fetchall()
            for name, handled_at, position in heads:
                moved = [name, handled_at - milliseconds, position]
                await connection.execute("insert into projection_heads values (%s, %s, %s)", moved)

    def now(self):
        return int(time.time() * 1_000)

    async def close(self):
        for checkpoints in self._open:
            await checkpoints.close()


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def runner(request):
    """Runs a coroutine function in a world of each kind."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None

    def run(test):
        async def main():
            world = MemoryWorld() if url is None else PostgresWorld(url)
            try:
                await test(world)
            finally:
                await world.close()

        asyncio.run(main())

    return run


async def held(world, holder="one"):
    checkpoints = world.connect()
    return checkpoints, await checkpoints.lease(holder, LONG_MS)


async def do(checkpoints, lease, block, generation=1, known_at=0):
    await checkpoints.begin(lease, generation, block)
    await checkpoints.finish(lease, generation, block, known_at)


def test_nothing_is_known_before_anything_was_done(runner):
    async def test(world):
        checkpoints = world.connect()
        assert await checkpoints.known() == Known(1, 0, 0)
        assert await checkpoints.progress(1) == Progress()
        assert await checkpoints.position_at(world.now()) == 0

    runner(test)


def test_c1_one_holder_at_a_time_has_the_lease(runner):
    async def test(world):
        _, first = await held(world)
        other = world.connect()
        assert first is not None
        assert await other.lease("two", LONG_MS) is None
        await world.later(LONG_MS + 1)
        second = await other.lease("two", LONG_MS)
        assert second.fence > first.fence

    runner(test)


def test_c1_the_holder_renews_with_the_same_fence(runner):
    async def test(world):
        checkpoints, first = await held(world)
        await world.later(LONG_MS // 2)
        assert await checkpoints.lease("one", LONG_MS) == first
        await world.later(LONG_MS // 2 + 1)
        assert await world.connect().lease("two", LONG_MS) is None

    runner(test)


def test_c1_a_lease_that_is_given_up_can_be_taken_at_once(runner):
    async def test(world):
        checkpoints, first = await held(world)
        await checkpoints.release(first)
        second = await world.connect().lease("two", LONG_MS)
        assert second.fence > first.fence
        await checkpoints.release(first)
        assert await world.connect().lease("three", LONG_MS) is None

    runner(test)


def test_c1_nothing_is_written_with_a_lost_lease(runner):
    async def test(world):
        checkpoints, old = await held(world)
        block = Range(0, 5)
        await checkpoints.begin(old, 1, block)
        await world.later(LONG_MS + 1)
        await world.connect().lease("two", LONG_MS)
        for write in (
            checkpoints.begin(old, 1, block),
            checkpoints.finish(old, 1, block, 0),
            checkpoints.touch(old, 1, 9),
            checkpoints.activate(old, 1),
        ):
            with pytest.raises(LeaseLost):
                await write
        assert await checkpoints.progress(1) == Progress(0, block)

    runner(test)


def test_c2_a_range_that_was_begun_is_found_by_the_next_holder(runner):
    async def test(world):
        checkpoints, lease = await held(world)
        await checkpoints.begin(lease, 1, Range(0, 5))
        await checkpoints.release(lease)
        other, new = await held(world, "two")
        assert await other.progress(1) == Progress(0, Range(0, 5))
        await other.begin(new, 1, Range(0, 5))
        with pytest.raises(LeaseLost):
            await other.begin(new, 1, Range(0, 6))
        await other.finish(new, 1, Range(0, 5), 0)
        assert await other.progress(1) == Progress(5)

    runner(test)


def test_c3_ranges_join(runner):
    async def test(world):
        checkpoints, lease = await held(world)
        await do(checkpoints, lease, Range(0, 5))
        for apart in (Range(0, 5), Range(4, 9), Range(6, 9)):
            with pytest.raises(LeaseLost):
                await checkpoints.begin(lease, 1, apart)
        await do(checkpoints, lease, Range(5, 9))
        assert await checkpoints.progress(1) == Progress(9)

    runner(test)


def test_only_the_pending_range_can_be_finished(runner):
    async def test(world):
        checkpoints, lease = await held(world)
        for unknown in (Range(0, 5), Range(0, 4)):
            with pytest.raises(LeaseLost):
                await checkpoints.finish(lease, 1, unknown, 0)
            await checkpoints.begin(lease, 1, Range(0, 5))
        assert await checkpoints.progress(1) == Progress(0, Range(0, 5))

    runner(test)


def test_what_is_known_grows_and_never_shrinks(runner):
    async def test(world):
        checkpoints, lease = await held(world)
        await do(checkpoints, lease, Range(0, 5), known_at=70)
        assert await checkpoints.known() == Known(1, 5, 70)
        await checkpoints.touch(lease, 1, 90)
        await checkpoints.touch(lease, 1, 80)
        assert await checkpoints.known() == Known(1, 5, 90)
        await do(checkpoints, lease, Range(5, 6), known_at=10)
        assert await checkpoints.known() == Known(1, 6, 90)

    runner(test)


def test_c4_a_time_that_was_asked_for_is_never_given_a_position_later(runner):
    async def test(world):
        checkpoints, lease = await held(world)
        await do(checkpoints, lease, Range(0, 5))
        await world.later(HEAD_MS)
        asked = world.now()
        assert await checkpoints.position_at(asked) == 5
        await do(checkpoints, lease, Range(5, 8))
        assert await checkpoints.position_at(asked) == 5
        await do(checkpoints, lease, Range(8, 9))
        assert await checkpoints.position_at(asked) == 5

    runner(test)


def test_c4_the_future_has_no_position(runner):
    async def test(world):
        checkpoints, lease = await held(world)
        await do(checkpoints, lease, Range(0, 5))
        with pytest.raises(QueryRefused, match="future"):
            await checkpoints.position_at(world.now() + HEAD_MS)

    runner(test)


def test_c5_a_time_has_the_last_position_that_was_handled_by_then(runner):
    async def test(world):
        checkpoints, lease = await held(world)
        await do(checkpoints, lease, Range(0, 5))
        await world.later(10 * HEAD_MS)
        await do(checkpoints, lease, Range(5, 8))
        await do(checkpoints, lease, Range(8, 9))
        await world.later(10 * HEAD_MS)
        now = world.now()
        assert await checkpoints.position_at(now) == 9
        assert await checkpoints.position_at(now - 9 * HEAD_MS) == 9
        assert await checkpoints.position_at(now - 12 * HEAD_MS) == 5
        assert await checkpoints.position_at(now - 60 * HEAD_MS) == 0

    runner(test)


def test_what_is_forgotten_is_done_again_from_the_beginning(runner):
    async def test(world):
        checkpoints, lease = await held(world)
        await do(checkpoints, lease, Range(0, 5), known_at=70)
        await checkpoints.begin(lease, 1, Range(5, 8))
        await checkpoints.forget(lease, 1)
        assert await checkpoints.known() == Known(1, 0, 0)
        await do(checkpoints, lease, Range(0, 3), known_at=20)
        assert await checkpoints.known() == Known(1, 3, 20)
        await checkpoints.release(lease)
        await checkpoints.lease("two", LONG_MS)
        with pytest.raises(LeaseLost):
            await checkpoints.forget(lease, 1)

    runner(test)


def test_c5_heads_wait_until_what_was_forgotten_is_done_again(runner):
    async def test(world):
        checkpoints, lease = await held(world)
        await do(checkpoints, lease, Range(0, 5))
        await world.later(2 * HEAD_MS)
        await checkpoints.forget(lease, 1)
        await do(checkpoints, lease, Range(0, 3))
        await world.later(2 * HEAD_MS)
        assert await checkpoints.position_at(world.now()) == 5
        await do(checkpoints, lease, Range(3, 8))
        await world.later(2 * HEAD_MS)
        assert await checkpoints.position_at(world.now()) == 8
        assert await checkpoints.position_at(world.now() - 2 * HEAD_MS) == 5

    runner(test)


def test_a_shadow_generation_moves_by_itself_and_makes_no_heads(runner):
    async def test(world):
        checkpoints, lease = await held(world)
        await do(checkpoints, lease, Range(0, 5), known_at=70)
        await do(checkpoints, lease, Range(0, 9), generation=2, known_at=90)
        assert await checkpoints.known() == Known(1, 5, 70)
        await world.later(2 * HEAD_MS)
        assert await checkpoints.position_at(world.now()) == 5

    runner(test)


def test_a_shadow_that_caught_up_becomes_the_active_generation(runner):
    async def test(world):
        checkpoints, lease = await held(world)
        await do(checkpoints, lease, Range(0, 5))
        await do(checkpoints, lease, Range(0, 4), generation=2)
        with pytest.raises(LeaseLost):
            await checkpoints.activate(lease, 2)
        await checkpoints.begin(lease, 2, Range(4, 6))
        with pytest.raises(LeaseLost):
            await checkpoints.activate(lease, 2)
        await checkpoints.finish(lease, 2, Range(4, 6), 60)
        await checkpoints.activate(lease, 2)
        assert await checkpoints.known() == Known(2, 6, 60)
        await world.later(HEAD_MS)
        assert await checkpoints.position_at(world.now()) == 6

    runner(test)


@pytest.mark.slow
def test_postgres_that_does_not_answer_is_one_error():
    async def main():
        checkpoints = PostgresCheckpoints("postgresql://nobody@/none?host=/nowhere")
        with pytest.raises(CheckpointsUnavailable):
            await checkpoints.known()

    asyncio.run(main())


@pytest.mark.slow
def test_c4_a_time_waits_for_a_head_that_is_being_written(postgres_url):
    async def main():
        checkpoints = PostgresCheckpoints(postgres_url)
        lease = await checkpoints.lease("one", LONG_MS)
        before = int(time.time() * 1_000)  # not later: once the head of 5 is handled, it is the answer
        await do(checkpoints, lease, Range(0, 5))
        asking = PostgresCheckpoints(postgres_url)
        async with await psycopg.AsyncConnection.connect(postgres_url) as writer:
            await writer.execute("select active from projections for update")
            waits = asyncio.create_task(asking.position_at(before))
            async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as watcher:
                waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
                while (await (await watcher.execute(waiting)).fetchone())[0] == 0:
                    assert not waits.done()
            await writer.execute("insert into projection_heads values ('desk', 0, 77)")
            await writer.commit()
        assert await waits == 77
        await asking.close()
        await checkpoints.close()

    asyncio.run(main())
