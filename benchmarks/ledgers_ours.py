"""One writer on one of the project's adapters; `ledgers.py` starts it."""

import functools
import sys
from datetime import date
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop
from ledgers_writer import WARM, Asked, Watch, asked, planned

from domain.vocabulary import DataSet
from ledger.codec import decode
from ledger.eventstoredb import EventStoreDbStore
from ledger.memory import MemoryStore
from ledger.postgres import PostgresStore
from ledger.store import Append, Appended, EventStore

NOON, DAY = 1_790_000_000_000, date(2026, 9, 21)
DEADLINE_S = 60.0


async def write(ask: Asked) -> None:
    store = opened(ask)
    await store.prepare_days(DAY, DAY, DataSet.LIVE)
    batches = appends(ask)
    warm, measured = batches[: WARM[ask.batch]], batches[WARM[ask.batch] :]
    for batch in warm:
        await store.append(batch, NOON)
    watch, outcomes = Watch(), []
    for batch in measured:
        outcomes.append(await store.append(batch, NOON))
        watch.lap()
    watch.tell()
    assert all(outcome == Appended() for answered in outcomes for outcome in answered)
    await store.close()


def opened(ask: Asked) -> EventStore:
    match ask.adapter:
        case "memory":
            return MemoryStore()
        case "postgres":
            return PostgresStore(ask.address, deadline_s=DEADLINE_S)
        case "eventstoredb":
            return EventStoreDbStore(ask.address, deadline_s=DEADLINE_S)
    raise SystemExit(f"no adapter is called {ask.adapter}")


def appends(ask: Asked) -> list[list[Append]]:
    events = functools.cache(decode)  # commits share bodies
    return [
        [
            Append(
                stream=UUID(int=one.stream),
                expected=0,
                cause=UUID(int=one.cause),
                digest=f"{one.cause:032x}",
                events=events(one.data),
            )
            for one in batch
        ]
        for batch in planned(ask)
    ]


if __name__ == "__main__":
    uvloop.run(write(asked()))
