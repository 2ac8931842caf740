"""
Clients, two gates and one ledger under faults before and after each write, from a seed.

Whatever is lost, repeated, reordered or restarted: every answer of an event is its first answer, everything answered
is kept (I1), nothing is billed twice (I2), and gross is the sum of its parts (I3).
"""

import asyncio
import random
from collections import Counter
from datetime import date
from uuid import UUID

import pytest
from gatekit import NOW, KitGate, Minter

from commands.holding_memory import MemoryHolding
from commands.items import Status
from domain.aggregates import AnswersCounted
from domain.impression import Decided, fold
from domain.reasons import ReasonClass
from domain.standing import Valid, in_gross
from domain.vocabulary import BillingEvent, OmidType, Surface
from ledger.codec import decode
from ledger.memory import MemoryStore
from ledger.store import LedgerUnavailable, read_everything

pytestmark = pytest.mark.slow

SEEDS = 200
SOAK_SEEDS = 10_000
FAULT_SHARE = 0.15


class FaultyStore(MemoryStore):
    """Fails before or after what it is asked; after means that it happened all the same."""

    def __init__(self, dice):
        super().__init__()
        self.dice = dice
        self.calm = False

    async def append(self, appends, recorded_at):
        self._maybe_fail("before")
        outcomes = await super().append(appends, recorded_at)
        self._maybe_fail("after")
        return outcomes

    async def read_streams(self, streams, limit):
        self._maybe_fail("reading")
        return await super().read_streams(streams, limit)

    def _maybe_fail(self, when):
        if not self.calm and self.dice.random() < FAULT_SHARE:
            raise LedgerUnavailable(f"fault {when}")


class FaultyHolding(MemoryHolding):
    async def quarantine(self, bodies, room):
        refused = await super().quarantine(bodies, room)
        self._store._maybe_fail("after quarantine")
        return refused

    async def park(self, views, room):
        self._store._maybe_fail("before parking")
        return await super().park(views, room)


def history(dice, clients):
    """Events of some impressions, in the order in which they first reach a gate."""
    events = []
    for _ in range(dice.randint(3, 12)):
        surface = dice.choice([Surface.FEED, Surface.AUDIENCE_NETWORK])
        token = clients.token(
            surface=surface,
            placement=f"placement-{dice.randint(1, 6)}",
            billing_event=dice.choice(list(BillingEvent)),
            price_micros=dice.randint(0, 5_000),
        )
        for _ in range(dice.randint(1, 3)):
            changes = {
                "user": f"user-{dice.randint(1, 3)}",
                "agent": dice.choice(["Mozilla/5.0", "Mozilla/5.0", "a bot", None]),
                "prefetched": dice.random() < 0.2,
                "omid_type": dice.choice([None, OmidType.LOADED, OmidType.BEGIN_TO_RENDER, OmidType.OTHER]),
            }
            if dice.random() < 0.3:
                changes["on_screen_at"] = None
            events.append(clients.render(token, **changes))
        if dice.random() < 0.7:
            events.append(clients.view(token, visible_ms=dice.choice([200, 999, 1_000, 4_000])))
        if dice.random() < 0.2:
            events.append({**events[-1], "width": 31})
        if dice.random() < 0.2:
            events.append({**events[-1], "event_id": str(clients.uuid()), "token": "v1.k1.forged.00"})
        if dice.random() < 0.2:
            events.append(b'{"broken": %d}' % len(events))
    dice.shuffle(events)
    return events


async def deliver(dice, gates, events):
    """Send events in batches until each is answered, some again; return all answers by event."""
    answers = {at: [] for at in range(len(events))}
    waiting = [(at, dice.randint(1, 2)) for at in range(len(events))]
    while waiting:
        gate = dice.choice(gates)
        if dice.random() < 0.1:
            gate.restart(recent_max=dice.choice([0, 2, 1_000]), name=f"eu-{dice.getrandbits(40):x}")
        batch = [waiting.pop() for _ in range(min(len(waiting), dice.randint(1, 9)))]
        try:
            outcome = await gate.send(*(events[at] for at, _ in batch))
        except LedgerUnavailable:
            waiting += batch
        else:
            for (at, again), answer in zip(batch, outcome, strict=True):
                answers[at].append(answer)
                if again > 1:
                    waiting.insert(dice.randint(0, len(waiting)), (at, again - 1))
    return answers


async def unpark(gate):
    for event_id, _, body in await gate.holding.due_views(1_000, NOW):
        [answer] = await gate.send(body)
        assert answer.status is not Status.PARKED
        await gate.holding.unpark([event_id])


async def states_of(store):
    """Fold every stream; also all causes that are absorbed, and what was only counted."""
    events, counts = {}, Counter()
    async for commit in read_everything(store):
        for event in decode(commit.data):
            if isinstance(event, AnswersCounted):
                counts["refused"] += sum(event.refused.values())
                counts["unmoved"] += event.unmoved
            else:
                events.setdefault(commit.stream, []).append(event)
    return {stream: fold(facts) for stream, facts in events.items()}, counts


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_history_delivered_through_any_faults_is_kept_and_billed_exactly_once(seed):
    simulate(seed)


@pytest.mark.soak
def test_thousands_of_histories_are_kept_and_billed_exactly_once():
    for seed in range(SEEDS, SOAK_SEEDS):
        simulate(seed)


def simulate(seed):
    async def main():
        dice = random.Random(seed)
        store = FaultyStore(dice)
        first = KitGate(store, FaultyHolding(store))
        second = KitGate(store, first.holding_store, first.day_keys)
        second.restart(name="eu-second")
        await first.open(date(2026, 9, 20), date(2026, 9, 22))
        await judge(seed, dice, [first, second], calm=lambda: setattr(store, "calm", True))

    asyncio.run(main())


async def judge(seed, dice, gates, calm):
    """Deliver a history to *gates*, which share what they hold, then without faults look at what stands there."""
    first, events = gates[0], history(dice, Minter(seed))
    answers = await deliver(dice, gates, events)
    calm()
    await unpark(first)
    states, counts = await states_of(first.store)

    ids = [event if isinstance(event, bytes) else event["event_id"] for event in events]
    same_id = [ids.count(one) for one in ids]
    for at, given in answers.items():
        decided = [answer for answer in given if answer.status is Status.DECIDED]
        assert all(answer == decided[0] for answer in decided), events[at]
        if same_id[at] == 1:
            assert {answer.status for answer in given} <= {given[0].status, Status.RECORDED}

    absorbed = {cause for state in states.values() for cause in state.absorbed}
    kept = {body.event_id for body in first.holding_store.bodies.values()}
    refused = unmoved = 0
    for at, given in answers.items():
        event_id = None if isinstance(events[at], bytes) else UUID(events[at]["event_id"])
        if given[0].status is Status.DECIDED:
            assert event_id in absorbed
        if given[0].status is Status.QUARANTINED and event_id is not None:
            assert event_id in kept
        refused += sum(answer.status is Status.REFUSED for answer in given)
        unmoved += sum(answer.status is Status.RECORDED and event_id not in absorbed for answer in given)
    assert counts["refused"] >= refused
    assert counts["unmoved"] >= unmoved
    assert len(first.holding_store.bodies) >= sum(isinstance(event, bytes) for event in events)

    gross = net = invalid = undecided = 0
    for state in states.values():
        assert isinstance(state, Decided)
        assert 0 <= state.standing.billable_micros + state.standing.reserved_micros <= state.terms.price_micros
        assert state.standing.billable_micros == 0 or isinstance(state.standing, Valid)
        gross += in_gross(state.standing)
        net += state.standing.reason_class is None
        invalid += state.standing.reason_class in {ReasonClass.GIVT, ReasonClass.SIVT}
        undecided += state.standing.reason_class is ReasonClass.UNDECIDED
    assert gross == net + invalid + undecided
    assert first.holding_store.views.keys().isdisjoint(absorbed)
