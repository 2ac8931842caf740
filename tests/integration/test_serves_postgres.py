"""Reports of serves over PostgreSQL: gates that write the same minutes at once, and processes that begin anew."""

import asyncio
import random
from collections import Counter

import pytest
from builders import MINTED
from serveskit import MINUTE, a_count, a_report, recorded, serves_over, told

from commands.sequences import SequenceCounter, SequenceTracker
from domain.sequences import SequencesCounted
from domain.serves import MINUTE_MS, ServeRefusal
from domain.vocabulary import Surface
from ledger.codec import decode
from ledger.postgres import PostgresStore
from ledger.store import read_everything

pytestmark = pytest.mark.slow

GATES, REPORTS = 3, 120


def test_gates_that_are_told_of_the_same_minutes_count_each_report_once(postgres_url):
    async def main():
        chance = random.Random(7)
        sent = [
            a_report(
                a_count(served=1 + number),
                source=f"edge-{number % 2}",
                minute=MINUTE - number % 3 * MINUTE_MS,
                sequence=number,
            )
            for number in range(REPORTS)
        ]
        stores = [PostgresStore(postgres_url) for _ in range(GATES)]
        gates = [serves_over(store) for store in stores]

        async def tell(gate):
            """Each gate hears of every report, some of them together, in an order of its own."""
            mine = random.Random(chance.random()).sample(sent, len(sent))
            answers = []
            while mine:
                some, mine = mine[:7], mine[7:]
                answers += await told(gate, *some)
            return answers

        answers = [answer for some in await asyncio.gather(*map(tell, gates)) for answer in some]
        assert Counter(answer.status.value for answer in answers) == {"recorded": GATES * REPORTS}
        events = await recorded(stores[0])
        assert sorted(event.sequence for event in events) == list(range(REPORTS))
        assert sum(count.served for event in events for count in event.counts) == sum(range(1, REPORTS + 1))
        for store in stores:
            await store.close()

    asyncio.run(main())


def test_a_gate_that_begins_anew_knows_what_was_told(postgres_url):
    async def main():
        store = PostgresStore(postgres_url)
        first = await told(serves_over(store), a_report(), a_report(sequence=1))
        anew = serves_over(store)
        assert await told(anew, a_report(), a_report(sequence=1)) == first
        [answer] = await told(serves_over(store), a_report(a_count(served=99)))
        assert answer.reason is ServeRefusal.SEQUENCE_REUSED
        assert len(await recorded(store)) == 2
        await store.close()

    asyncio.run(main())


def test_numbers_that_are_missing_are_written_down(postgres_url):
    async def main():
        store, now = PostgresStore(postgres_url), [MINTED]
        counter = SequenceCounter(SequenceTracker(started_at=MINTED, idle_ms=1_000), store, "eu-1", lambda: now[0])
        for number in (1, 2, 4):
            counter.tracker.note([("s", number, Surface.FEED, "fb-1", number, MINTED)], now[0])
        for _ in range(3):
            now[0] += 1_000
            await counter.flush()
        events = [event async for commit in read_everything(store) for event in decode(commit.data)]
        assert all(isinstance(event, SequencesCounted) for event in events)
        counts = [count for event in events for count in event.counts]
        assert (sum(count.numbers for count in counts), sum(count.missing for count in counts)) == (4, 1)
        await store.close()

    asyncio.run(main())
