"""
How long after its append a commit is visible in every table, at a steady rate, as JSON.

    .venv/bin/python benchmarks/freshness.py [--rate 10000] [--seconds 8]
"""

import argparse
import asyncio
import gc
import json
import logging
import resource
import shutil
import tempfile
import time
from pathlib import Path

import structlog
from projector import make_blocks
from prometheus_client import CollectorRegistry

from ledger.store import Commit
from projections.checkpoints import MemoryCheckpoints
from projections.engine import WRITING, Clients, Engine
from projections.projector import Metrics, Ports, Projector
from projections.schema import migrate
from projections.tables import Tables
from service.clock import now_ms


class Growing:
    """A ledger that shows its commits at a steady rate."""

    def __init__(self, commits: list[Commit], rate: int) -> None:
        self.commits = commits
        self.rate = rate
        self.started = time.monotonic()

    def appended_at(self, position: int) -> float:
        return self.started + position / self.rate

    async def read_all(self, after: int, limit: int) -> list[Commit]:
        there = int((time.monotonic() - self.started) * self.rate)
        return self.commits[after : min(after + limit, there)]


class Visible:
    """Notes when each block became visible."""

    def __init__(self, tables: Tables, ledger: Growing) -> None:
        self.tables = tables
        self.ledger = ledger
        self.waits: list[float] = []
        self.blocks = 0
        self.all_there = asyncio.Event()

    async def write(self, generation, block, commits, began_at):
        rows = await self.tables.write(generation, block, commits, began_at)
        now = time.monotonic()
        self.waits += [now - self.ledger.appended_at(commit.position) for commit in commits]
        self.blocks += 1
        if len(self.waits) == len(self.ledger.commits):
            self.all_there.set()
        return rows


async def run(engine: Engine, commits: list[Commit], rate: int) -> dict[str, float]:
    clients = Clients(engine, WRITING, 1)
    await clients.run(lambda client: migrate(client, 1))
    ledger = Growing(commits, rate)
    visible = Visible(Tables(clients, now_ms), ledger)
    now = lambda: time.time_ns() // 1_000_000  # noqa: E731
    ports = Ports(store=ledger, checkpoints=MemoryCheckpoints(now), sink=visible, now=now)
    stop = asyncio.Event()
    before = cpu_s()
    ledger.started = time.monotonic()
    running = asyncio.create_task(Projector(ports, "bench", Metrics(CollectorRegistry())).run(stop))
    await visible.all_there.wait()
    used = cpu_s() - before
    stop.set()
    await running
    clients.close()
    waits = sorted(visible.waits)
    return {
        "rate": rate,
        "commits": len(commits),
        "blocks": visible.blocks,
        "visible_p50_ms": round(waits[len(waits) // 2] * 1e3),
        "visible_p99_ms": round(waits[len(waits) * 99 // 100] * 1e3),
        "visible_max_ms": round(waits[-1] * 1e3),
        "cpu_us_per_commit": round(used / len(commits) * 1e6, 1),
    }


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=8)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    [commits] = make_blocks(asked.rate * asked.seconds, 1)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    folder = Path(tempfile.mkdtemp(prefix="freshness-"))
    engine = Engine(f"chdb://{folder}")
    try:
        print(json.dumps(asyncio.run(run(engine, commits, asked.rate))))
    finally:
        engine.close()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
