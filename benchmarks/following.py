"""
CPU of following the ledger per commit, for what is looked at again: the scheduler's and PostgreSQL's, as JSON.

    .venv/bin/python benchmarks/following.py [--commits 20000] [--rounds 5]
"""

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from projector import START, make_blocks
from prometheus_client import CollectorRegistry
from psycopg.sql import SQL
from segments import postgres_cpu_s

from domain.ids import day_of
from domain.vocabulary import DataSet
from ledger.codec import decode_impression
from ledger.plain import plain_render
from ledger.postgres import PostgresStore
from ledger.postgres_connection import PostgresConnection
from ledger.store import Append, Commit
from service.embedded_postgres import PostgresServer
from service.following import PAGE, PAGES_MAX, Following
from service.logs import set_up_logs
from service.migrate import migrate_postgres
from service.serving import calm_collector
from service.settings import Settings
from service.stage import machine

BATCH = 500
_BEGIN_AGAIN = [
    SQL("truncate person_renders, person_labels, publisher_hours, reevaluations"),
    SQL("update ledger_followers set position = 0, at = 0"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    commits = [commit for block in make_blocks(BATCH, asked.commits // BATCH) for commit in block]
    set_up_logs("bench", "auto", quiet=True)
    calm_collector()
    with TemporaryDirectory() as folder:
        server = PostgresServer(Path(folder))
        server.start()
        try:
            migrate_postgres(server.url)
            figures = asyncio.run(_follow(server.url, commits, asked.rounds))
        finally:
            server.stop()
    plain = sum(plain_render(commit) is not None for commit in commits) / len(commits)
    asked_of = {"commits": len(commits), "rounds": asked.rounds, "plain_share": round(plain, 4), "seed": 1}
    print(json.dumps({**asked_of, **figures, "page": PAGE, "machine": machine()}, indent=2))


async def _follow(url: str, commits: list[Commit], rounds: int) -> dict[str, dict[str, float]]:
    """Return medians and least of *rounds*, in µs of CPU per commit."""
    store, connection = PostgresStore(url), PostgresConnection(url, 5.0)
    day = day_of(START)
    await store.prepare_days(day, day_of(START + 86_400_000), DataSet.LIVE)
    for start in range(0, len(commits), BATCH):
        await store.append([_append(commit) for commit in commits[start : start + BATCH]], START)
    found: dict[str, list[float]] = {"scheduler": [], "postgres": []}
    for _ in range(rounds):
        await connection.execute_all(_BEGIN_AGAIN)
        following = Following(Settings(), store, connection, CollectorRegistry())
        before, postgres = time.process_time(), postgres_cpu_s()
        for _ in range(0, len(commits), PAGE * PAGES_MAX):
            await following.follow()
        found["scheduler"].append((time.process_time() - before) / len(commits) * 1e6)
        found["postgres"].append((postgres_cpu_s() - postgres) / len(commits) * 1e6)
    await store.close()
    await connection.close()
    return {
        f"{name}_us": {"median": round(statistics.median(tries), 2), "least": round(min(tries), 2)}
        for name, tries in found.items()
    }


def _append(commit: Commit) -> Append:
    events = decode_impression(commit.data)
    return Append(stream=commit.stream, expected=0, cause=commit.cause, digest=commit.digest, events=events)


if __name__ == "__main__":
    main()
