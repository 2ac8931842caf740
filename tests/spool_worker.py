"""
A gate of its own process over PostgreSQL, for tests that kill it: `write` answers renders without a ledger and prints
each answered event, `drain` adopts what the dead left and brings it in. `drain` prints `drained` when it is done.
"""

import asyncio
import sys
from datetime import date
from pathlib import Path

import structlog
from gatekit import Minter
from spoolkit import SpoolGate

from commands.gate_postgres import PostgresDayKeys, PostgresHolding
from domain.vocabulary import DataSet
from ledger.breaker import NotAsked
from ledger.postgres import PostgresStore
from ledger.postgres_connection import PostgresConnection

BATCH = 20


class AsleepStore(PostgresStore):
    """Nobody asks it."""

    async def append(self, appends, recorded_at):
        raise NotAsked("asleep")

    async def read_streams(self, streams, limit):
        raise NotAsked("asleep")


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(work, url, root, seed):
    store = (AsleepStore if work == "write" else PostgresStore)(url)
    database = PostgresConnection(url, 10.0)
    gate = SpoolGate(Path(root), store, PostgresHolding(database), PostgresDayKeys(database), quarantine_store=object())
    await gate.warm()
    if work == "write":
        clients = Minter(seed)
        while True:
            events = [clients.render() for _ in range(BATCH)]
            await gate.send(*events)
            for event in events:
                say(f"{gate.token_of(event).impression} {event['event_id']}")
    await store.prepare_days(date(2026, 9, 20), date(2026, 9, 22), DataSet.LIVE)
    gate.backlog.adopt()
    say("begun")
    await gate.backlog.work()
    say("drained")


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
