"""The tables of embedded ClickHouse: made once, written exactly once, equal to the ledger to the unit."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from builders import DAY, HOUR, MINTED, a_token, admit, given
from deskkit import Clock, Crash, a_commit, a_full_store, an_engine, fill
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from domain.impression import fold
from ledger.codec import UnreadableCommit, decode
from projections.checkpoints import MemoryCheckpoints, Range
from projections.engine import WRITING, Clients
from projections.errors import LeaseLost, TablesUnavailable
from projections.making import make_tables
from projections.projector import Metrics, Pace, Ports, Projector
from projections.queries import Queries
from projections.rebuild import RebuildDiffers, rebuild
from projections.reports import Report
from projections.schema import TABLES, drop, is_made, migrate
from projections.tables import Tables
from projections.verify import verify

pytestmark = pytest.mark.slow

EVERYTHING = Range(0, 10_000)
NOW = Clock(MINTED + 2 * DAY)


class World:
    def __init__(self, engine, impressions=150):
        self.engine = engine
        self.clients = Clients(engine, WRITING, 1)
        self.store = a_full_store(impressions)
        self.checkpoints = MemoryCheckpoints(NOW)
        self.client = engine.connect({})
        migrate(self.client, 1)

    def ports(self, sink=None):
        sink = sink or Tables(self.clients, NOW)
        return Ports(store=self.store, checkpoints=self.checkpoints, sink=sink, now=NOW)

    def projector(self, sink=None, holder="one", block_max=100):
        return Projector(
            self.ports(sink), holder, Metrics(CollectorRegistry()), pace=Pace(block_max=block_max, lease_ttl_ms=0)
        )

    def counts(self):
        return [self.client.command(f"SELECT count() FROM {table}_1") for table in TABLES]

    async def verified(self):
        return await verify(self.store, self.client, 1, await self.store.head())

    def close(self):
        self.clients.close()
        self.client.close()


@pytest.fixture
def world():
    with an_engine() as engine:
        world = World(engine)
        yield world
        world.close()


async def drain(projector):
    while await projector.step():
        continue


def test_the_tables_equal_the_ledger(world):
    async def main():
        await drain(world.projector())
        verification = await world.verified()
        assert verification.good, verification
        assert verification.impressions == 150
        assert verification.totals > 20

    asyncio.run(main())


def test_a_block_written_again_counts_once_in_every_table(world):
    async def main():
        commits = await world.store.read_all(0, 10_000)
        tables = Tables(world.clients, NOW)
        await tables.write(1, EVERYTHING, commits, NOW())
        counts = world.counts()
        await tables.write(1, EVERYTHING, commits, NOW())
        world.clients.close()
        world.clients = Clients(world.engine, WRITING, 1)
        await Tables(world.clients, NOW).write(1, EVERYTHING, commits, NOW())
        assert world.counts() == counts
        assert (await world.verified()).good

    asyncio.run(main())


def test_an_insert_that_comes_long_after_its_block_was_begun_is_not_done(world):
    async def main():
        commits = await world.store.read_all(0, 10_000)
        with pytest.raises(TablesUnavailable, match="another may have it"):
            await Tables(world.clients, NOW).write(1, EVERYTHING, commits, NOW() - 60_001)
        assert set(world.counts()) == {0}
        await Tables(world.clients, NOW).write(1, EVERYTHING, commits, NOW())
        assert (await world.verified()).good

    asyncio.run(main())


def test_a_view_that_failed_is_healed_by_the_same_block(world):
    async def main():
        world.client.command("RENAME TABLE pacing_minute_1 TO away")
        projector = world.projector()
        with pytest.raises(TablesUnavailable):
            await projector.step()
        world.client.command("RENAME TABLE away TO pacing_minute_1")
        await drain(projector)
        assert (await world.verified()).good

    asyncio.run(main())


@pytest.mark.parametrize("after_writes", [0, 1, 2])
def test_a_process_that_ends_before_or_after_it_wrote_is_made_up_for(world, after_writes):
    class Ending:
        def __init__(self, writes):
            self._tables = Tables(world.clients, NOW)
            self._writes = writes

        async def write(self, generation, block, commits, began_at):
            if self._writes == 0:
                raise Crash
            rows = await self._tables.write(generation, block, commits, began_at)
            self._writes -= 1
            if self._writes == 0:
                raise Crash
            return rows

    async def main():
        with pytest.raises(Crash):
            await drain(world.projector(Ending(after_writes)))
        await asyncio.sleep(0)
        await drain(world.projector(block_max=1_000))
        assert (await world.verified()).good

    asyncio.run(main())


def test_verification_names_what_differs(world):
    async def main():
        await drain(world.projector())
        [row] = world.client.query(
            "SELECT campaign, event_at FROM facts_1 WHERE net = 1 ORDER BY position, ordinal LIMIT 1"
        ).result_rows
        world.client.command(
            "INSERT INTO facts_1 SELECT * FROM facts_1 WHERE net = 1 ORDER BY position, ordinal LIMIT 1"
        )
        verification = await world.verified()
        assert not verification.good
        assert {difference.table for difference in verification.differences} == {
            "facts",
            "report_hour",
            "pacing_minute",
            "served_minute",
        }
        [gross] = [d for d in verification.differences if (d.table, d.metric) == ("facts", "gross")]
        assert (gross.campaign, gross.found - gross.ledger) == (row[0], 1)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("table", "metrics"),
    [
        ("served_minute", {"served", "served_micros"}),
        ("serve_reports", {"reports", "kinds", "served", "served_micros"}),
        ("sequences", {"feed 12.0 numbers"}),
    ],
)
def test_verification_names_a_report_that_counts_twice(world, table, metrics):
    async def main():
        await drain(world.projector())
        where = {"served_minute": "served > 0", "sequences": "numbers > 0 AND missing = 0 AND repeats = 0"}
        world.client.command(f"INSERT INTO {table}_1 SELECT * FROM {table}_1 WHERE {where.get(table, 'true')} LIMIT 1")
        verification = await world.verified()
        assert {(found.table, found.metric) for found in verification.differences} == {(table, m) for m in metrics}

    asyncio.run(main())


def test_verification_names_a_cut_that_does_not_add_up(world):
    async def main():
        await drain(world.projector())
        world.client.command(
            "INSERT INTO report_hour_1 (hour, campaign, surface, format, billing_event, counting_method, evidence, "
            "data_set, verdict, gross) "
            "VALUES (0, 'odd', 'feed', 'video', 'viewable', 'delivery', 'none', 'live', 'valid', 1)"
        )
        verification = await world.verified()
        assert [(broken.invariant, "odd" in broken.where) for broken in verification.broken] == [("I3", True)]

    asyncio.run(main())


def test_an_impression_stands_where_its_last_change_left_it(world):
    async def main():
        await drain(world.projector())
        found = world.client.query(
            "SELECT count(), uniqExact(impression_id), sum(gross) FROM impressions_1 WHERE data_set = 'live'"
        ).result_rows
        live = world.client.query(
            "SELECT sum(sign), uniqExact(impression_id), sum(gross) FROM facts_1 WHERE data_set = 'live'"
        ).result_rows
        assert found == live

    asyncio.run(main())


def test_impressions_can_be_asked_for_by_where_they_stand_now(world):
    async def main():
        await drain(world.projector())
        expected = Counter()
        for stream, commits in world.store._streams.items():
            if not isinstance(stream, str):
                state = fold(event for commit in commits for event in decode(commit.data))
                expected[(state.standing.verdict.value, state.cut.sdk)] += 1
        for (verdict, sdk), number in expected.items():
            found = world.client.query(
                "SELECT impression_id FROM impressions_1 WHERE verdict = {verdict:String} AND sdk = {sdk:String}",
                parameters={"verdict": verdict, "sdk": sdk},
            )
            assert len(found.result_rows) == number
        assert len({verdict for verdict, _ in expected}) == 4

    asyncio.run(main())


def test_tables_are_rebuilt_beside_and_put_in_place(world):
    async def main():
        live = world.projector()
        await drain(live)
        rebuilt = await rebuild(world.ports(), world.clients, "one")
        assert (rebuilt.generation, rebuilt.instead_of) == (2, 1)
        await fill(world.store, 20, seed=5)
        await drain(live)
        assert (await verify(world.store, world.client, 2, await world.store.head())).good
        assert not (await world.verified()).good

    asyncio.run(main())


def test_tables_that_come_out_otherwise_are_not_put_in_place(world):
    async def main():
        await drain(world.projector())
        world.client.command("INSERT INTO facts_1 SELECT * FROM facts_1 LIMIT 1")
        with pytest.raises(RebuildDiffers):
            await rebuild(world.ports(), world.clients, "one")
        assert (await world.checkpoints.known()).generation == 1
        rebuilt = await rebuild(world.ports(), world.clients, "one", may_differ=True)
        assert (await verify(world.store, world.client, rebuilt.generation, rebuilt.position)).good

    asyncio.run(main())


def test_a_process_that_does_not_project_cannot_rebuild(world):
    async def main():
        await world.checkpoints.lease("other", 60_000)
        with pytest.raises(LeaseLost, match="another process"):
            await rebuild(world.ports(), world.clients, "one")

    asyncio.run(main())


_KILLED = """
import asyncio, structlog, sys
sys.path.insert(0, "tests")
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
from deskkit import a_full_store
from projections.checkpoints_postgres import PostgresCheckpoints
from projections.engine import WRITING, Clients, Engine
from projections.projector import Metrics, Pace, Ports, Projector
from projections.schema import migrate
from projections.tables import Tables
from projections.verify import verify
from prometheus_client import CollectorRegistry

store = a_full_store(400)

async def main(folder, url, holder):
    engine, checkpoints = Engine(f"chdb://{folder}"), PostgresCheckpoints(url)
    clients = Clients(engine, WRITING, 1)
    await clients.run(lambda client: migrate(client, 1))
    ports = Ports(store=store, checkpoints=checkpoints, sink=Tables(clients, lambda: 0), now=lambda: 0)
    projector = Projector(ports, holder, Metrics(CollectorRegistry()), pace=Pace(block_max=40, lease_ttl_ms=0))
    while await projector.step():
        print("block", flush=True)
    verification = await verify(store, engine.connect({}), 1, await store.head())
    print("good" if verification.good else verification, flush=True)
    await checkpoints.close()
    clients.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("blocks", [1, 3, 6])
def test_a_process_that_is_killed_leaves_nothing_out_and_counts_nothing_twice(tmp_path, postgres_url, blocks):
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}

    def start(holder):
        command = [sys.executable, "-c", _KILLED, str(tmp_path), postgres_url, holder]
        return subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True)

    with start("one") as first:
        for _ in range(blocks):
            assert first.stdout.readline() == "block\n"
        first.send_signal(signal.SIGKILL)
    with start("two") as second:
        lines = second.stdout.read().split("\n")
    assert lines[-2] == "good"


def test_commits_are_written_in_their_generation_alone(world):
    async def main():
        migrate(world.client, 2)
        [commit] = await world.store.read_all(0, 1)
        await Tables(world.clients, NOW).write(2, Range(0, 1), [replace(commit, position=1)], NOW())
        assert world.counts() == [0] * len(TABLES)
        assert world.client.command("SELECT count() FROM facts_2") == 1

    asyncio.run(main())


def test_what_no_row_can_hold_is_told_as_unreadable_and_nothing_of_it_is_written(world):
    async def main():
        commit = a_commit(given().when(admit(token=a_token(price_micros=1 << 63))).events)
        with pytest.raises(UnreadableCommit, match="facts cannot hold"):
            await Tables(world.clients, NOW).write(1, Range(0, 1), [commit], NOW())
        assert world.counts() == [0] * len(TABLES)

    asyncio.run(main())


def test_tables_that_are_gone_are_filled_again_and_nothing_is_said_to_be_known_meanwhile(world):
    async def main():
        await drain(world.projector())
        queries = Queries(world.checkpoints, world.clients, Clock(MINTED + 2 * DAY))
        then, report = MINTED + 2 * DAY - HOUR, Report(since=MINTED - DAY, until=MINTED + 9 * DAY)
        world.checkpoints._heads[:] = [(then, await world.store.head())]
        before = await queries.report(report)
        drop(world.client, 1)
        assert await make_tables(world.checkpoints, world.clients, "one") != []
        assert (await queries.report(report)).known_through.position == 0
        with pytest.raises(TablesUnavailable, match="lost"):
            await queries.report(report, then)
        await drain(world.projector())
        assert (await world.verified()).good
        assert (await queries.report(report)).rows == (await queries.report(report, then)).rows == before.rows
        assert await make_tables(world.checkpoints, world.clients, "one") == []
        assert (await world.checkpoints.known()).position == before.known_through.position

    asyncio.run(main())


def test_a_process_that_does_not_project_cannot_fill_tables_that_are_gone(world):
    async def main():
        await world.projector(holder="other").step()
        await world.checkpoints.lease("other", 60_000)
        drop(world.client, 1)
        with pytest.raises(LeaseLost, match="stop it first"):
            await make_tables(world.checkpoints, world.clients, "one")
        assert not is_made(world.client, 1)

    asyncio.run(main())
