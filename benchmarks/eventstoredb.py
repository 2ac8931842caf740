"""
CPU of the adapter for EventStoreDB, all threads of this process, per commit; JSON.

The other side is the double of the tests, as a process of its own: its speed is no server's, so wall time says little,
and CPU of this process says what one append costs a gate. `ledgers.py` does the same work on the adapters beside it.

    .venv/bin/python benchmarks/eventstoredb.py [--seed 1] [--commits 6000]
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from uuid import UUID

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import uvloop  # noqa: E402
from projector import a_commit  # noqa: E402

from domain.ids import mint  # noqa: E402
from domain.vocabulary import DataSet  # noqa: E402
from ledger.codec import decode  # noqa: E402
from ledger.eventstoredb import EventStoreDbStore  # noqa: E402
from ledger.store import Append, Appended  # noqa: E402
from service.serving import calm_collector  # noqa: E402

NOON, DAY = 1_790_000_000_000, date(2026, 9, 21)
BATCH, TRIES = 512, 3
WINDOWS = (1, 16, 64, 256, 1_024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commits", type=int, default=6_000)
    asked = parser.parse_args()
    calm_collector()
    work = Work(random.Random(asked.seed), asked.commits)
    found = {
        "seed": asked.seed,
        "commits": asked.commits,
        "batch": BATCH,
        "bytes_per_commit": work.bytes_per_commit,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("esdbclient", "grpcio", "protobuf", "uvloop")},
    }
    with a_double() as url:
        found["append_cpu_us"] = {
            f"events_{events}": {str(window): work.appends(url, events, window) for window in WINDOWS}
            for events in (3, 1)
        }
        tries = [work.others(url) for _ in range(TRIES)]
        found["others_cpu_us"] = {name: min(one[name] for one in tries) for name in tries[0]}
    print(json.dumps(found, indent=2))


@contextmanager
def a_double():
    command = [sys.executable, "-m", "tests.esdb_double", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split()[3].rstrip(",")
        finally:
            process.terminate()


class Work:
    """Ordinary commits of three events and some 2 kB, under ids and causes of their own at each use."""

    def __init__(self, dice: random.Random, commits: int) -> None:
        self._dice = dice
        made = [a_commit(dice, n) for n in range(commits)]
        self._events = [decode(commit.data) for commit in made]
        self.bytes_per_commit = round(statistics.mean(len(commit.data) for commit in made))

    def batches(self, events: int) -> list[list[Append]]:
        appends = [
            Append(
                stream=mint(NOON, self._dice.randrange(4_096), self._dice.getrandbits(62)),
                expected=0,
                cause=UUID(int=self._dice.getrandbits(128)),
                digest="d" * 32,
                events=these[:events],
            )
            for these in self._events
        ]
        return [appends[at : at + BATCH] for at in range(0, len(appends), BATCH)]

    def appends(self, url: str, events: int, window: int) -> float:
        """Least CPU of some tries, in µs per commit."""
        return min(uvloop.run(self._append(url, events, window)) for _ in range(TRIES if window > 1 else 1))

    async def _append(self, url: str, events: int, window: int) -> float:
        store = await prepared(EventStoreDbStore(url, deadline_s=60, window=window))
        batches = self.batches(events)
        await store.append(batches.pop(), NOON)
        with measured(sum(map(len, batches))) as spent:
            for batch in batches:
                assert await store.append(batch, NOON) == [Appended()] * len(batch)
        await store.close()
        return spent["cpu_us"]

    def others(self, url: str) -> dict[str, float]:
        """Everything but a first append, in µs of CPU per commit or stream."""

        async def run() -> dict[str, float]:
            store = await prepared(EventStoreDbStore(url, deadline_s=60))
            batches = self.batches(3)[:4]
            for batch in batches:
                await store.append(batch, NOON)
            after = await store.head()
            fresh = self.batches(3)[:4]
            for batch in fresh:
                await store.append(batch, NOON)
            found = {}
            with measured(len(fresh) * BATCH) as spent:
                assert len(await store.read_all(after, len(fresh) * BATCH)) == len(fresh) * BATCH
            found["read_all"] = spent["cpu_us"]
            with measured(BATCH) as spent:
                assert len(await store.read_streams([append.stream for append in batches[0]], 100)) == BATCH
            found["read_streams"] = spent["cpu_us"]
            with measured(BATCH) as spent:
                await store.append(batches[1], NOON)
            found["append_again"] = spent["cpu_us"]
            for name, appended in (("append_later", fresh[0]), ("append_later_unknown", batches[2])):
                later = [
                    Append(
                        stream=one.stream,
                        expected=3,
                        cause=UUID(int=one.cause.int ^ 1),
                        digest="d",
                        events=one.events[:1],
                    )
                    for one in appended
                ]
                if name.endswith("unknown"):
                    await store.close()
                    store = await prepared(EventStoreDbStore(url, deadline_s=60))
                with measured(BATCH) as spent:
                    assert await store.append(later, NOON) == [Appended()] * BATCH
                found[name] = spent["cpu_us"]
            await store.close()
            return found

        return uvloop.run(run())


async def prepared(store):
    await store.prepare_days(DAY, DAY, DataSet.LIVE)
    return store


@contextmanager
def measured(commits: int):
    spent: dict[str, float] = {}
    cpu, wall = time.process_time(), time.perf_counter()
    yield spent
    spent["cpu_us"] = round((time.process_time() - cpu) / commits * 1e6, 1)
    spent["per_s"] = round(commits / (time.perf_counter() - wall))


if __name__ == "__main__":
    main()
