"""What a decision saw is made again from the ledger, bit for bit, whatever was retried, repeated or mixed."""

import asyncio
import random
from datetime import date

import numpy as np
import pytest
from counterskit import RATE_RULES
from gatekit import NOW, Minter
from ladderkit import LadderGate

from commands.recall import recall
from domain.ids import mint
from ledger.memory import MemoryStore
from ledger.postgres import PostgresStore
from ledger.store import read_everything
from ml.counters.tables import Capacities
from ml.features.matrix import COLD, TIMEOUT
from ml.features.replayed import Replay, logged
from ml.features.schema import PLACE, SHARED_TABLES
from service.activity import CountedActivity

SMALL = Capacities(*[2_048] * 8)
SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000
MIDNIGHT = NOW // DAY * DAY + DAY


def counting(since=NOW - 3 * DAY, more=SHARED_TABLES):
    return CountedActivity(RATE_RULES, since, SMALL, more)


class History:
    """Batches of events of a few people who meet in few slots: repeats, double fires, prefetches, bots, views."""

    def __init__(self, seed, now=NOW):
        self.dice = random.Random(seed)
        self.clients = Minter(seed, now)
        self.tokens = []
        self.now = now

    def batches(self, count):
        for _ in range(count):
            events = [event for _ in range(self.dice.randrange(1, 24)) for event in self._events()]
            self.dice.shuffle(events)
            yield events

    def _events(self):
        dice = self.dice
        if self.tokens and dice.random() < 0.15:
            return [self._render(dice.choice(self.tokens))]
        at = self.now - dice.randrange(1, 400) * SECOND
        token = self.clients.token(
            impression=mint(at, 7, dice.getrandbits(62)),
            placement=f"placement-{dice.randrange(3)}",
            creative=f"creative-{dice.randrange(3)}",
        )
        self.tokens.append(token)
        deed = dice.random()
        if deed < 0.1:
            return [self._render(token, prefetched=True, on_screen_at=None), self._render(token)]
        if deed < 0.2:
            event = self._render(token)
            return [event, event, self._render(token)]
        if deed < 0.25:
            return [self._render(token, on_screen_at=None), self._render(token)]
        if deed < 0.3:
            return [self._render(token), self.clients.view(token)]
        return [self._render(token)]

    def _render(self, token, **changes):
        dice, at = self.dice, int(token.impression.int >> 80) + 700
        who = dice.randrange(8)
        said = {
            "client_at": at,
            "on_screen_at": at,
            "user": f"user-{who}" if who else None,
            "stack_depth": dice.choice([1, 1, 9]),
        }
        said |= {
            "device": f"device-{who // 2}" if who != 1 else None,
            "agent": dice.choice(["Mozilla/5.0"] * 9 + ["a bot"]),
        }
        if dice.random() < 0.5:
            said |= {"visible_ratio": dice.random(), "visible_ms": dice.randrange(9_000)}
        return self.clients.render(token, **said | changes)


async def replayed(store, capacities=SMALL):
    commits = [commit async for commit in read_everything(store)]
    replay, found = Replay(capacities), []
    for at in range(0, len(commits), 7):
        for some in replay.take(commits[at : at + 7]):
            found += zip(some.rows, some.vectors.values, some.vectors.status, strict=True)
    return found


def differing(found):
    """Which features of which rows are not those that were logged."""
    differs, logs = [], 0
    for row, values, status in found:
        was = logged(row.scored)
        if was is None or not row.is_exact:
            continue
        logs += 1
        same = (was.values[0].view(np.uint64) == values.view(np.uint64)) & (was.status[0] == status)
        differs += [(row.position, [*PLACE][column]) for column in np.flatnonzero(~same).tolist()]
    return logs, differs


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def on_store(request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""

    def run(test):
        async def main():
            store = PostgresStore(url) if url else MemoryStore()
            try:
                await test(store)
            finally:
                await store.close()

        asyncio.run(main())

    return run


async def a_gate(store, activity=None, **kept):
    gate = LadderGate(store, counters=activity or counting(), **kept)
    await gate.open(date(2026, 9, 10), date(2026, 9, 24))
    return gate


@pytest.mark.parametrize("seed", range(6))
def test_what_is_replayed_is_what_was_logged_bit_for_bit(seed, on_store):
    async def test(store):
        gate, history = await a_gate(store), History(seed)
        for events in history.batches(20):
            await gate.send(*events)
            if history.dice.random() < 0.2:
                await gate.send(*events)
        found = await replayed(store)
        logs, differs = differing(found)
        assert differs == []
        assert logs == len(found) > 150
        counts = [values[PLACE["person_hour"]] for _, values, _ in found]
        assert np.nanmax(counts) > 20
        assert len({row.decision.verdict for row, _, _ in found if hasattr(row.decision, "verdict")}) >= 3

    on_store(test)


def test_after_a_restart_what_was_cold_is_taken_from_the_log():
    async def test(store):
        gate, history = await a_gate(store), History(7)
        batches = list(history.batches(16))
        for events in batches[:8]:
            await gate.send(*events)
        again = await a_gate(store, counting(since=NOW), day_keys=gate.day_keys)
        await recall(store, 20, [again.ingest.recall, again.counters.recall])
        for events in batches[8:]:
            await again.send(*events)
        found = await replayed(store)
        assert differing(found)[1] == []
        assert COLD in {int(status[PLACE["person_hour"]]) for _, _, status in found}

    asyncio.run(test(MemoryStore()))


def test_what_counters_did_not_say_is_taken_from_the_log():
    async def test(store):
        gate, history = await a_gate(store), History(8)
        for number, events in enumerate(history.batches(12)):
            if number == 4:
                gate.ladder.drill("partial_counters", 10)
            if number == 8:
                gate.clock.pass_by(10)
            await gate.send(*events)
        found = await replayed(store)
        assert differing(found)[1] == []
        assert TIMEOUT in {int(status[PLACE["person_hour"]]) for _, _, status in found}

    asyncio.run(test(MemoryStore()))


def test_what_several_workers_do_not_count_is_taken_from_the_log():
    async def test(store):
        gate, history = await a_gate(store, counting(more=())), History(9)
        for events in history.batches(8):
            await gate.send(*events)
        found = await replayed(store)
        assert differing(found)[1] == []
        assert all(np.isnan(values[PLACE["network_hour"]]) for _, values, _ in found)

    asyncio.run(test(MemoryStore()))


def test_right_after_midnight_the_names_of_the_day_before_take_part_and_the_rows_say_so():
    async def test(store):
        gate = await a_gate(store)
        for now in (MIDNIGHT - 60 * SECOND, MIDNIGHT + 400 * SECOND, MIDNIGHT + 2 * HOUR):
            gate.now = now
            for events in History(now, now).batches(5):
                await gate.send(*events)
        found = await replayed(store)
        assert differing(found)[1] == []
        exact = [row.is_exact for row, _, _ in found]
        assert True in exact
        assert False in exact

    asyncio.run(test(MemoryStore()))


def test_what_is_shed_has_a_vector_all_the_same():
    async def test(store):
        gate, history = await a_gate(store), History(10)
        gate.ladder.drill("shed", 10)
        for events in history.batches(8):
            await gate.send(*events)
        found = await replayed(store)
        assert differing(found)[1] == []
        unlogged = [values for row, values, _ in found if logged(row.scored) is None]
        assert len(unlogged) > 20
        assert not np.isnan([values[PLACE["serve_to_render_ms"]] for values in unlogged]).any()

    asyncio.run(test(MemoryStore()))
