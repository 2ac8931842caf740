"""
The ledger in segments beside the one with a stream per impression and the one on PostgreSQL, same work, one run; JSON.

CPU of this process per commit says what an append costs a gate; CPU of PostgreSQL what it costs index or ledger;
EventStoreDB's own side is the double of the tests and says nothing. Bytes of the index are those of its tables.

    .venv/bin/python benchmarks/segments.py [--seed 1] [--commits 12000] > benchmarks/results/segments.json
"""

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from uuid import UUID

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import psutil  # noqa: E402
import psycopg  # noqa: E402
import structlog  # noqa: E402
import uvloop  # noqa: E402
from eventstoredb import DAY, NOON, Work, a_double  # noqa: E402

from domain.vocabulary import DataSet  # noqa: E402
from ledger.eventstoredb import EventStoreDbStore  # noqa: E402
from ledger.postgres import PostgresStore  # noqa: E402
from ledger.segments import open_segments  # noqa: E402
from ledger.segments_codec import proposals  # noqa: E402
from ledger.store import Append, Appended  # noqa: E402
from service.embedded_postgres import PostgresServer  # noqa: E402
from service.migrate import migrate_postgres  # noqa: E402
from service.serving import calm_collector  # noqa: E402

BATCHES, TRIES = (100, 512), 3
LAYOUTS = ("streams", "segments", "postgres")
TABLES = ("segment_impressions", "segment_batches")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commits", type=int, default=12_000)
    asked = parser.parse_args()
    calm_collector()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    work = Work(random.Random(asked.seed), asked.commits)
    appends = [append for batch in work.batches(3) for append in batch]
    found = {
        "seed": asked.seed,
        "commits": asked.commits,
        "bytes_per_commit": work.bytes_per_commit,
        "segment_bytes_per_commit": round(sum(len(part.data) for part in proposals(appends, NOON)) / len(appends), 1),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("esdbclient", "grpcio", "psycopg", "uvloop")},
    }
    with tempfile.TemporaryDirectory() as folder, a_double() as url:
        server = PostgresServer(Path(folder))
        server.start()
        try:
            found |= measure(Bench(work, url, server.url))
            found["index_bytes"] = index_bytes(server.url)
        finally:
            server.stop()
    print(json.dumps(found, indent=2))


def measure(bench: "Bench") -> dict[str, object]:
    migrate_postgres(bench.database_url)
    found: dict[str, object] = {}
    for batch in BATCHES:
        found[f"batch_{batch}"] = {}
        for layout in LAYOUTS:
            tries = [uvloop.run(bench.appends(layout, batch)) for _ in range(TRIES)]
            found[f"batch_{batch}"][layout] = min(tries, key=lambda one: one["cpu_us"])
    found["others_cpu_us"] = {layout: uvloop.run(bench.others(layout)) for layout in LAYOUTS}
    return found


class Bench:
    def __init__(self, work: Work, url: str, database_url: str) -> None:
        self._work, self._url, self.database_url = work, url, database_url

    async def store(self, layout: str):
        store = {
            "streams": lambda: EventStoreDbStore(self._url.replace("?", "/streams?"), deadline_s=60),
            "segments": lambda: open_segments(
                self._url.replace("?", "/segments?") + "&layout=segments", self.database_url, deadline_s=60
            ),
            "postgres": lambda: PostgresStore(self.database_url, deadline_s=60),
        }[layout]()
        await store.prepare_days(DAY, DAY, DataSet.LIVE)
        return store

    def batches(self, size: int) -> list[list[Append]]:
        appends = [append for batch in self._work.batches(3) for append in batch]
        return [appends[at : at + size] for at in range(0, len(appends), size)]

    async def appends(self, layout: str, size: int) -> dict[str, float]:
        store = await self.store(layout)
        batches = self.batches(size)
        await store.append(batches.pop(), NOON)
        with measured(sum(map(len, batches))) as spent:
            for batch in batches:
                assert await store.append(batch, NOON) == [Appended()] * len(batch)
        await store.close()
        return spent

    async def others(self, layout: str) -> dict[str, float]:
        """Everything but a first append, in µs of CPU per commit or stream, by a store that knows nothing yet."""
        store = await self.store(layout)
        batches = self.batches(100)[:60]
        after = await store.head()
        for batch in batches:
            await store.append(batch, NOON)
        commits = sum(map(len, batches))
        found = {}
        with measured(commits) as spent:
            seen = 0
            while seen < commits:
                page = await store.read_all(after, 1_000)
                seen, after = seen + len(page), page[-1].position
        found["read_all"] = spent["cpu_us"]
        for name, streams in (
            ("read_streams_of_one_call", [append.stream for append in batches[3]]),
            ("read_streams_apart", [batch[at % len(batch)].stream for at, batch in enumerate(batches[5:55])]),
        ):
            await store.close()
            store = await self.store(layout)
            await store.read_all(after, 1)
            with measured(len(streams)) as spent:
                assert len(await store.read_streams(streams, 100)) == len(streams)
            found[name] = spent["cpu_us"]
        await store.close()
        store = await self.store(layout)
        with measured(100) as spent:
            await store.append(batches[1], NOON)
        found["append_again"] = spent["cpu_us"]
        later = [
            Append(stream=one.stream, expected=3, cause=UUID(int=one.cause.int ^ 1), digest="d", events=one.events[:1])
            for one in batches[2]
        ]
        with measured(100) as spent:
            assert await store.append(later, NOON) == [Appended()] * 100
        found["append_later"] = spent["cpu_us"]
        await store.close()
        return found


def index_bytes(url: str) -> dict[str, float]:
    """Bytes per commit of the index's tables, and of the ledger on PostgreSQL beside them, in this run."""
    with psycopg.connect(url, autocommit=True) as connection:
        found: dict[str, float] = {}
        for table in (*TABLES, "impression_commits"):
            rows = "segment_impressions" if table in TABLES else table
            [(commits,)] = connection.execute(f"select count(*) from {rows}").fetchall()
            tree = f"(select relid from pg_partition_tree('{table}') union select '{table}'::regclass) t"
            for kind in ("table", "indexes"):
                [(size,)] = connection.execute(f"select sum(pg_{kind}_size(relid)) from {tree}").fetchall()
                found[f"{table}.{kind}"] = round(int(size) / commits, 1)
            found[f"{table}.commits"] = commits
        found["whole"] = round(sum(found[f"{table}.{kind}"] for table in TABLES for kind in ("table", "indexes")), 1)
        return found


@contextmanager
def measured(commits: int):
    """Yield what is spent per commit: CPU of this process and of PostgreSQL, and wall time."""
    spent: dict[str, float] = {}
    cpu, postgres, wall = time.process_time(), postgres_cpu_s(), time.perf_counter()
    yield spent
    spent["cpu_us"] = round((time.process_time() - cpu) / commits * 1e6, 1)
    spent["per_s"] = round(commits / (time.perf_counter() - wall))
    spent["postgres_cpu_us"] = round((postgres_cpu_s() - postgres) / commits * 1e6, 1)


def postgres_cpu_s() -> float:
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name().startswith("postgres"):
                used = process.cpu_times()
                total += used.user + used.system
        except psutil.Error:
            continue
    return total


if __name__ == "__main__":
    main()
