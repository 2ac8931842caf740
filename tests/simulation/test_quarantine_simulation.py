"""
Broken clients, two gates, operators in a hurry, and faults before and after each write, from a seed.

Clients send again what was not taken, mended or not; operators replay anything with any fix, again and again. In the
end every event id has been appended at most once, no impression is billed twice, and nothing that was kept is lost.
"""

import asyncio
import random
from contextlib import suppress
from datetime import date

import pytest
from gatekit import NOW, KitGate, Minter
from test_gate_simulation import FaultyHolding, FaultyStore, states_of

from commands.quarantine_entries import EntryState, QuarantineError, Wanted
from commands.quarantine_memory import MemoryQuarantine
from commands.quarantine_replay import Fix
from domain.vocabulary import BillingEvent
from ledger.store import LedgerUnavailable, read_everything

pytestmark = pytest.mark.slow

SEEDS = 150
SOAK_SEEDS = 5_000
FIXES = (
    Fix(suggested=True),
    Fix({"client_at": None}),
    Fix({"client_at": NOW - 2_000}),
    Fix({"client_at": NOW - 1_999, "width": 300}),
    Fix({"width": None}, suggested=True),
    Fix(),
)


class FaultyQuarantine(MemoryQuarantine):
    """Fails before or after a mark: a gate that is killed looks the same."""

    def __init__(self, holding, store):
        super().__init__(holding)
        self._store = store

    async def settle(self, name, settlement):
        self._store._maybe_fail("before the mark")
        settled = await super().settle(name, settlement)
        self._store._maybe_fail("after the mark")
        return settled


def history(dice, clients):
    """Events, some of which cannot be read; and what clients send of those once they are mended."""
    events = []
    for _ in range(dice.randint(2, 5)):
        token = clients.token(billing_event=dice.choice(list(BillingEvent)))
        for _ in range(dice.randint(1, 3)):
            event = clients.render(token) if dice.random() < 0.7 else clients.view(token)
            broken = {**event, "client_at": -5}
            if dice.random() < 0.4:
                broken["width"] = "300"
            if dice.random() < 0.2:
                broken["event_id"] = f"nonsense-{dice.getrandbits(40)}"
            events.append(dice.choice([event, broken, broken]))
            if dice.random() < 0.5:
                events.append({**event, "client_at": dice.choice([NOW - 2_000, NOW - 1_998])})
    dice.shuffle(events)
    return events


async def operate(dice, gates, waiting):
    """Clients and operators in any order, until every event was answered once; operators never come to an end."""
    while waiting:
        gate = dice.choice(gates)
        if dice.random() < 0.1:
            gate.restart(recent_max=dice.choice([0, 2, 1_000]), name=f"eu-{dice.getrandbits(40):x}")
        if dice.random() < 0.5:
            event = waiting.pop()
            try:
                await gate.send(event, *([event] if dice.random() < 0.2 else []))
            except LedgerUnavailable:
                waiting.insert(dice.randint(0, len(waiting)), event)
            continue
        entries = await gate.quarantine_store.entries(Wanted(now=NOW))
        chosen = [dice.choice(entries).name for _ in range(dice.randint(1, 3))] if entries else []
        replays = [dice.choice(gates).quarantine.replay(name, dice.choice(FIXES)) for name in chosen]
        for outcome in await asyncio.gather(*replays, return_exceptions=True):
            assert not isinstance(outcome, Exception) or isinstance(outcome, QuarantineError | LedgerUnavailable)


async def appended_causes(store):
    """Every cause of an append of an impression's stream, as often as it was appended."""
    return [commit.cause async for commit in read_everything(store) if not isinstance(commit.stream, str)]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_clients_and_operators_do_at_once_everything_counts_at_most_once(seed):
    simulate(seed)


@pytest.mark.soak
def test_thousands_of_such_days_count_everything_at_most_once():
    for seed in range(SEEDS, SOAK_SEEDS):
        simulate(seed)


def simulate(seed):
    async def main():
        dice = random.Random(seed)
        store = FaultyStore(dice)
        holding = FaultyHolding(store)
        gates = []
        for number in range(2):
            day_keys = gates[0].day_keys if gates else None
            gates.append(KitGate(store, holding, day_keys, quarantine_store=FaultyQuarantine(holding, store)))
            gates[-1].restart(name=f"eu-{number}")
        store.calm = True
        await gates[0].open(date(2026, 9, 20), date(2026, 9, 22))
        store.calm = False
        await operate(dice, gates, history(dice, Minter(seed)))
        store.calm = True
        for entry in await gates[0].quarantine_store.entries(Wanted(now=NOW, states=(EntryState.WAITING,))):
            with suppress(QuarantineError):
                await gates[0].quarantine.replay(entry.name, Fix(suggested=True))
        await check(gates[0], store, holding)

    asyncio.run(main())


async def check(gate, store, holding):
    causes = await appended_causes(store)
    assert len(causes) == len(set(causes))
    states, counts = await states_of(store)
    absorbed = [cause for state in states.values() for cause in state.absorbed]
    assert len(absorbed) == len(set(absorbed))
    for state in states.values():
        assert 0 <= state.standing.billable_micros + state.standing.reserved_micros <= state.terms.price_micros
    for entry in holding.entries.values():
        if entry.code == "event_id_reused":
            assert entry.state is EntryState.WAITING
            continue
        assert entry.state in {EntryState.REPLAYED, EntryState.SUPERSEDED}, entry
        known = entry.event_id in absorbed or entry.event_id in holding.views
        assert known or entry.event_id is None or counts["unmoved"], entry
