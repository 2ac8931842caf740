"""From the ledger into tables, exactly once, whatever fails and wherever the process ends."""

import asyncio
from collections import Counter

import pytest
from builders import DAY, MINTED, cause
from deskkit import Clock, Crash, a_full_store, fill
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from domain.aggregates import AnswersCounted
from ledger.codec import UnreadableCommit
from ledger.store import Append, LedgerUnavailable
from projections.checkpoints import MemoryCheckpoints, Range
from projections.errors import CheckpointsUnavailable, LeaseLost, TablesUnavailable
from projections.memory import MemoryTables
from projections.projector import LostCommits, Metrics, Pace, Ports, Projector
from projections.rows import answers, rows
from projections.served import served_rows

IMPRESSIONS = 12
BLOCK = 5


class Points:
    """Counts the moments before and after every call of a port, and does *fault* at the one numbered *at*."""

    def __init__(self, at=-1, fault=None):
        self.seen = []
        self._at = at
        self._fault = fault

    def pass_by(self, name):
        self.seen.append(name)
        if len(self.seen) - 1 == self._at:
            raise self._fault(name)


class Watched:
    """A port whose calls pass points."""

    def __init__(self, port, points):
        self._port = port
        self._points = points

    def __getattr__(self, name):
        async def call(*arguments):
            self._points.pass_by(f"before {name}")
            answer = await getattr(self._port, name)(*arguments)
            self._points.pass_by(f"after {name}")
            return answer

        return call


class World:
    """A ledger, its checkpoints and tables in memory, and projectors over them."""

    def __init__(self, store):
        self.clock = Clock(MINTED + 2 * DAY)
        self.store = store
        self.checkpoints = MemoryCheckpoints(self.clock)
        self.tables = MemoryTables()
        self.registry = CollectorRegistry()

    def projector(self, points=None, holder="one", **options):
        points = points or Points()
        ports = Ports(
            store=Watched(self.store, points),
            checkpoints=Watched(self.checkpoints, points),
            sink=Watched(self.tables, points),
            now=self.clock,
        )
        options.setdefault("pace", Pace(block_max=BLOCK))
        registry = options.pop("registry", CollectorRegistry())
        return Projector(ports, holder, Metrics(registry), **options)

    async def expected(self):
        commits = await self.store.read_all(0, 10_000)
        return (
            Counter(fact for commit in commits for fact in rows(commit)),
            Counter(count for commit in commits for count in answers(commit)),
            Counter(row for found in served_rows(commits) for row in found),
        )

    def found(self, generation=1):
        return (
            Counter(self.tables.facts.get(generation, [])),
            Counter(self.tables.answers.get(generation, [])),
            Counter(row for block in self.tables.served.get(generation, []) for found in block for row in found),
        )


@pytest.fixture
def world():
    return World(a_full_store(IMPRESSIONS))


async def drain(projector):
    while await projector.step():
        continue


def points_of_a_run():
    points = Points()
    asyncio.run(drain(World(a_full_store(IMPRESSIONS)).projector(points)))
    return points.seen


ALL_POINTS = points_of_a_run()


def test_everything_in_the_ledger_is_projected_once(world):
    async def main():
        await drain(world.projector())
        assert world.found() == await world.expected()
        assert (await world.checkpoints.known()).position == await world.store.head()

    asyncio.run(main())


def test_a_run_passes_every_kind_of_point_several_times():
    passed = Counter(ALL_POINTS)
    for call in ("lease", "known", "progress", "read_all", "begin", "write", "finish"):
        assert passed[f"before {call}"] == passed[f"after {call}"]
    assert passed["before begin"] >= 4


@pytest.mark.parametrize("at", range(len(ALL_POINTS)))
def test_a_process_that_ends_anywhere_leaves_nothing_out_and_counts_nothing_twice(world, at):
    async def main():
        with pytest.raises(Crash):
            await drain(world.projector(Points(at, Crash)))
        world.clock.pass_by(60_000)
        await drain(world.projector(holder="two"))
        assert world.found() == await world.expected()

    asyncio.run(main())


@pytest.mark.parametrize("at", range(len(ALL_POINTS)))
def test_a_call_that_fails_anywhere_is_made_up_for_by_the_same_process(world, at):
    errors = {"read_all": LedgerUnavailable, "write": TablesUnavailable}
    failed = []

    def fault(name):
        failed.append(errors.get(name.split()[1], CheckpointsUnavailable)(name))
        return failed[0]

    async def main():
        projector = world.projector(Points(at, fault))
        with pytest.raises((LedgerUnavailable, TablesUnavailable, CheckpointsUnavailable)) as caught:
            await drain(projector)
        assert [caught.value] == failed
        await drain(projector)
        assert world.found() == await world.expected()

    asyncio.run(main())


def test_a_pending_range_is_done_again_as_it_was_although_more_has_come(world):
    async def main():
        with pytest.raises(Crash):
            await drain(world.projector(Points(ALL_POINTS.index("after write"), Crash)))
        pending = (await world.checkpoints.progress(1)).pending
        assert pending == Range(0, BLOCK)
        world.clock.pass_by(60_000)
        again = world.projector(holder="two", pace=Pace(block_max=1_000))
        assert await again.step() == BLOCK
        assert (await world.checkpoints.progress(1)).done == pending.through

    asyncio.run(main())


def test_only_the_holder_of_the_lease_projects(world):
    async def main():
        first, second = world.projector(), world.projector(holder="two")
        assert await first.step() == BLOCK
        assert await second.step() == 0
        world.clock.pass_by(60_000)
        assert await second.step() == BLOCK
        with pytest.raises(LeaseLost):
            await world.checkpoints.begin(first._lease, 1, Range(2 * BLOCK, 3 * BLOCK))
        await drain(second)
        assert world.found() == await world.expected()

    asyncio.run(main())


def test_a_projector_that_lost_its_lease_stands_by(world):
    async def main():
        first = world.projector()
        assert await first.step() == BLOCK
        world.clock.pass_by(60_000)
        assert await world.checkpoints.lease("two", 60_000) is not None
        assert await first.step() == 0

    asyncio.run(main())


@pytest.mark.parametrize("is_pending", [False, True])
def test_tables_are_told_since_when_another_may_have_written_a_block(world, is_pending):
    port, call = (world.store, "read_all") if is_pending else (world.checkpoints, "begin")
    answers, write, told = getattr(port, call), world.tables.write, []

    async def and_stand_still(*arguments):
        answer = await answers(*arguments)
        world.clock.pass_by(5_000)
        return answer

    async def written(*arguments):
        told.append(arguments[3])
        return await write(*arguments)

    async def main():
        if is_pending:
            lease = await world.checkpoints.lease("one", 60_000)
            await world.checkpoints.begin(lease, 1, Range(0, BLOCK))
        setattr(port, call, and_stand_still)
        world.tables.write = written
        before = world.clock()
        assert await world.projector().step() == BLOCK
        assert told == [before]

    asyncio.run(main())


def test_what_is_known_is_as_fresh_as_the_last_look_that_found_nothing(world):
    async def main():
        projector = world.projector()
        await drain(projector)
        world.clock.pass_by(5_000)
        assert await projector.step() == 0
        assert (await world.checkpoints.known()).known_at == world.clock()

    asyncio.run(main())


def test_behind_the_end_what_is_known_is_as_old_as_the_last_commit(world):
    async def main():
        world.clock.pass_by(10**9)
        await world.projector().step()
        [last] = await world.store.read_all(BLOCK - 1, 1)
        assert (await world.checkpoints.known()).known_at == last.recorded_at

    asyncio.run(main())


def test_commits_that_cannot_be_read_are_waited_for_and_not_passed_over(world):
    async def main():
        world.store._log[6] = replace(world.store._log[6], data=b"[1,{")
        projector = world.projector()
        assert await projector.step() == BLOCK
        for _ in range(3):
            with pytest.raises(UnreadableCommit):
                await projector.step()
        assert (await world.checkpoints.known()).position == BLOCK

    asyncio.run(main())


def test_tables_of_another_ledger_are_not_written(world):
    async def main():
        lease = await world.checkpoints.lease("one", 60_000)
        await world.checkpoints.begin(lease, 1, Range(0, 10_000))
        with pytest.raises(LostCommits):
            await world.projector().step()
        assert world.found() == (Counter(), Counter(), Counter())

    asyncio.run(main())


def test_a_shadow_generation_catches_up_and_is_read_after_one_switch(world):
    async def main():
        live = world.projector()
        await drain(live)
        shadow = world.projector(generation=2)
        await shadow.step()
        with pytest.raises(LeaseLost):
            await world.checkpoints.activate(shadow._lease, 2)
        await fill(world.store, 3, seed=9)
        await drain(live)
        await drain(shadow)
        await world.checkpoints.activate(shadow._lease, 2)
        assert world.found(2) == world.found(1) == await world.expected()
        await fill(world.store, 3, seed=10)
        await drain(live)
        assert world.found(2) == await world.expected()
        assert (await world.checkpoints.known()).generation == 2

    asyncio.run(main())


def test_it_runs_until_it_is_stopped_and_gives_the_lease_back(world):
    async def main():
        stop = asyncio.Event()
        finished = asyncio.Event()
        points = Points()
        original = points.pass_by

        def pass_by(name):
            original(name)
            if name == "after touch":
                finished.set()

        points.pass_by = pass_by
        projector = world.projector(points, pace=Pace(block_max=BLOCK, poll_s=0.001, spacing_s=0.001))
        running = asyncio.create_task(projector.run(stop))
        await finished.wait()
        stop.set()
        await running
        assert world.found() == await world.expected()
        assert await world.checkpoints.lease("two", 1) is not None

    asyncio.run(main())


def test_it_runs_through_a_failure_and_tells_of_it(world):
    async def main():
        stop = asyncio.Event()
        points = Points(ALL_POINTS.index("before write"), TablesUnavailable)
        seen = []
        original = points.pass_by

        def pass_by(name):
            if name == "before lease" or (name == "before known" and len(seen) < 3):
                seen.append(projector.failure)
            if name == "after touch":
                stop.set()
            original(name)

        points.pass_by = pass_by
        projector = world.projector(
            points, pace=Pace(block_max=BLOCK, poll_s=0.001, spacing_s=0.001, retry_first_s=0.001)
        )
        await projector.run(stop)
        assert any(isinstance(failure, TablesUnavailable) for failure in seen)
        assert projector.failure is None
        assert world.found() == await world.expected()

    asyncio.run(main())


def test_the_lag_grows_while_cycles_fail(world):
    class Failing(Points):
        def pass_by(self, name):
            if name == "before write":
                raise TablesUnavailable(name)

    async def main():
        registry = CollectorRegistry()
        await drain(world.projector())
        projector = world.projector(Failing(), registry=registry)
        assert await projector.step() == 0
        await fill(world.store, 3, seed=9)
        for lag_s in (0, 60, 120):
            assert registry.get_sample_value("impledger_projector_lag_seconds") == lag_s
            world.clock.pass_by(60_000)
            with pytest.raises(TablesUnavailable):
                await projector.step()

    asyncio.run(main())


def test_the_lag_is_that_of_whoever_has_the_lease(world):
    async def main():
        registry = CollectorRegistry()
        waiting = world.projector(holder="two", registry=registry)
        await drain(world.projector())
        for lag_s in (0, 5):
            assert await waiting.step() == 0
            assert registry.get_sample_value("impledger_projector_lag_seconds") == lag_s
            world.clock.pass_by(5_000)
        await world.projector().step()
        assert await waiting.step() == 0
        assert registry.get_sample_value("impledger_projector_lag_seconds") == 0

    asyncio.run(main())


def test_commits_with_nothing_to_count_move_the_position(world):
    async def main():
        await drain(world.projector())
        before = world.found()
        nothing = AnswersCounted(cause=cause(), digest="d", counted_at=MINTED)
        append = Append(stream="config-1", expected=0, cause=nothing.cause, digest="d", events=(nothing,))
        await world.store.append([append], MINTED)
        await drain(world.projector())
        assert world.found() == before
        assert (await world.checkpoints.known()).position == await world.store.head()

    asyncio.run(main())
