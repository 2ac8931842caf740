"""
What a decision takes on disk and on the wire, measured on the whole machine: PostgreSQL, ClickHouse, archive, HTTP.

    .venv/bin/python benchmarks/storage.py [--renders 220000] [--seed 1] > benchmarks/results/storage.json

Renders go through the real gate, which decides by rules and logs features; sizes are asked of the engines when
everything is projected and merges have ended. The archive is the ledger's commits in their order, in blocks, by zstd.
`batches` is the CPU of the same work in requests of 1 to 100 renders from many connections, each kind in turn.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
import zstandard
from msgspec.structs import replace
from projector import make_blocks

from domain.events import ImpressionScored
from ledger.codec import decode, encode
from ml.traffic.http1 import Connections, Origin
from service.embedded_postgres import PostgresServer
from service.keyfiles import load_or_make_keys
from service.load import bodies
from service.logs import set_up_logs
from service.reader import Desk
from service.settings import Settings
from service.stage import cpu_seconds, machine, on_free_ports, stage, watch_over
from service.wiring import open_store

BATCH, CONNECTIONS, BATCH_RENDERS = 100, 4, 20_000
BATCHES = ((1, 64), (10, 32), (100, 4))
"""Renders per request, and connections that send them."""
BLOCKS = (64 << 10, 1 << 20)
LEVELS = (3, 9)
SAMPLE = 40_000
PAGE = 1_000


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--renders", type=int, default=220_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    set_up_logs("storage", "no", quiet=True)
    with stage(on_free_ports(Settings(starter="no")), keep=False) as (settings, supervisor):
        measured = asyncio.run(_measure(settings, supervisor, asked))
    measured |= {
        "commit_with_30_features": _scored(),
        "date": datetime.now(UTC).date().isoformat(),
        "seed": asked.seed,
        "machine": machine(),
    }
    print(json.dumps(measured, indent=2))


async def _measure(settings, supervisor, asked):
    watch = asyncio.create_task(watch_over(supervisor))
    driver = Driver(settings, supervisor, random.Random(asked.seed))
    before = driver.resident_mb()
    with psycopg.connect(PostgresServer(settings.data_dir).url, autocommit=True) as connection:
        wal_before = _wal_bytes(connection)
    await driver.send(asked.renders, BATCH, CONNECTIONS)
    await driver.caught_up()
    after = driver.resident_mb()
    found = {
        "renders": asked.renders,
        "postgres": _postgres(settings, wal_before),
        "clickhouse": _clickhouse(settings, asked.renders),
        "commits": _archive(await driver.commits()),
        "wire": await driver.wire(),
        "resident_mb": {"before": before, "after": after},
        "batches": {str(size): await driver.cost(size, connections) for size, connections in BATCHES},
    }
    watch.cancel()
    return found


class Driver:
    """Sends renders to the gate and reads everybody's clocks."""

    def __init__(self, settings, supervisor, dice):
        self.settings, self.supervisor, self.dice = settings, supervisor, dice
        self.keys = load_or_make_keys(settings.data_dir)
        self.origin = Origin(settings.host, settings.gate_port)
        self.headers = {"content-type": "application/json", "authorization": f"Bearer {self.keys.operator}"}

    def load(self, renders, batch):
        return bodies(self.dice, self.keys, self.settings.region, renders=renders, batch=batch)

    async def send(self, renders, batch, connections):
        waiting = iter(self.load(renders, batch))
        async with Connections(self.origin, size=connections, timeout_s=10) as pool:

            async def sender():
                for body in waiting:
                    while (await pool.post("/v1/impressions", self.headers, body)).status != 200:
                        await asyncio.sleep(0.01)

            began = time.perf_counter()
            await asyncio.gather(*(sender() for _ in range(connections)))
            return time.perf_counter() - began

    async def caught_up(self):
        store = open_store(self.settings)
        async with Desk(self.settings) as desk:
            await desk.caught_up(store)
        await store.close()

    async def cost(self, batch, connections):
        before = cpu_seconds(self.supervisor)
        seconds = await self.send(BATCH_RENDERS, batch, connections)
        await self.caught_up()
        after = cpu_seconds(self.supervisor)
        used = {name: round((after[name] - before[name]) / BATCH_RENDERS * 1e6, 1) for name in after}
        return {"connections": connections, "renders_per_s": round(BATCH_RENDERS / seconds), "cpu_us": used}

    async def commits(self):
        store, after, found = open_store(self.settings), 0, []
        while len(found) < SAMPLE and (page := await store.read_all(after, PAGE)):
            found += [commit.data for commit in page]
            after = page[-1].position
        await store.close()
        return found

    async def wire(self):
        """Bytes per render of whole HTTP messages, headers included, without TLS, TCP and IP."""
        return {str(batch): await self._message_bytes(batch) for batch in (1, 10, 100)}

    async def _message_bytes(self, batch):
        (body,) = self.load(batch, batch)
        head = f"POST /v1/impressions HTTP/1.1\r\nhost: {self.origin.host}:{self.origin.port}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        reader, writer = await asyncio.open_connection(*self.origin)
        writer.write(request)
        answer_head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in answer_head.decode().lower().splitlines() if ": " in line)
        answer = await reader.readexactly(int(lines["content-length"]))
        writer.close()
        await writer.wait_closed()
        return {
            "request": round(len(request) / batch),
            "request_zstd_3": round(len(zstandard.compress(body, 3)) / batch),
            "answer": round((len(answer_head) + len(answer)) / batch),
        }

    def resident_mb(self):
        return {
            child.name: round(sum(_own_mb(process) for process in _tree(child.pid)), 1)
            for child in self.supervisor.states()
            if child.pid
        }


def _tree(pid):
    process = psutil.Process(pid)
    return (process, *process.children(recursive=True))


def _own_mb(process):
    """Memory of its own and its share of what is shared; for PostgreSQL's many processes."""
    try:
        return process.memory_full_info().pss / 1e6
    except psutil.Error:
        return 0.0


def _wal_bytes(connection):
    """Of everything that the server writes: commits, checkpoints of the projection, keys."""
    return connection.execute("select pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()[0]


def _postgres(settings, wal_before):
    with psycopg.connect(PostgresServer(settings.data_dir).url, autocommit=True) as connection:
        wal = _wal_bytes(connection) - wal_before
        connection.execute("vacuum analyze impression_commits")
        commits, data = connection.execute("select count(*), avg(length(data)) from impression_commits").fetchone()
        heap, indexes, toast = connection.execute(
            """
            select sum(pg_relation_size(oid)), sum(pg_indexes_size(oid)),
                   sum(coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0))
            from pg_class where relkind = 'r' and oid in (select inhrelid from pg_inherits
                where inhparent = 'impression_commits'::regclass)
            """
        ).fetchone()
    parts = {"heap": heap, "indexes": indexes, "toast": toast, "in_all": heap + indexes + toast}
    return {
        "commits": commits,
        "data_bytes_per_commit": round(float(data)),
        "bytes_per_commit": {name: round(float(size) / commits, 1) for name, size in parts.items()},
        "wal_bytes_per_commit": round(float(wal) / commits),
    }


def _clickhouse(settings, renders):
    desk = Desk(settings)
    client = desk.tables()
    while client.query("SELECT count() FROM system.merges").result_rows[0][0]:
        time.sleep(0.2)
    found = client.query(
        "SELECT table, sum(rows), sum(bytes_on_disk), sum(data_uncompressed_bytes), count() "
        "FROM system.parts WHERE active GROUP BY table ORDER BY table"
    ).result_rows
    client.close()
    tables = {
        table.rpartition("_")[0]: {
            "rows": rows,
            "parts": parts,
            "bytes_per_row": round(size / rows, 1),
            "bytes_per_impression": round(size / renders, 1),
            "uncompressed_bytes_per_row": round(raw / rows, 1),
        }
        for table, rows, size, raw, parts in found
    }
    return {
        "tables": tables,
        "bytes_per_impression": round(sum(size for _, _, size, _, _ in found) / renders, 1),
    }


def _archive(commits):
    return {
        "sample": len(commits),
        "bytes": _mean_bytes(commits),
        "bytes_without_features": _mean_bytes([_without_features(data) for data in commits]),
        **_compressed(commits),
    }


def _mean_bytes(commits):
    return round(sum(map(len, commits)) / len(commits))


def _without_features(data):
    events = [
        replace(event, features=b"", feature_status="", versions=replace(event.versions, features=""))
        if isinstance(event, ImpressionScored)
        else event
        for event in decode(data)
    ]
    return encode(events)


def _compressed(commits):
    """Bytes per commit in blocks of so many KiB, and the CPU of it in µs per commit."""
    found = {}
    for level in LEVELS:
        for size in BLOCKS:
            blocks = _blocks(commits, size)
            before = time.process_time()
            packed = sum(len(zstandard.compress(block, level)) for block in blocks)
            used = time.process_time() - before
            found[f"zstd_{level}_in_{size >> 10}_kib"] = {
                "bytes": round(packed / len(commits), 1),
                "cpu_us": round(used / len(commits) * 1e6, 2),
            }
    return found


def _blocks(commits, size):
    blocks, block, filled = [], [], 0
    for commit in commits:
        block.append(commit)
        filled += len(commit)
        if filled >= size:
            blocks.append(b"\n".join(block))
            block, filled = [], 0
    return [*blocks, b"\n".join(block)] if block else blocks


def _scored():
    """Return the sizes of the projector benchmark's commits, which carry a model's 30 features and its versions."""
    return _archive([commit.data for block in make_blocks(5_000, 4) for commit in block])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
