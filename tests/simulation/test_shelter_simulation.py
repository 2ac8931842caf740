"""
A region that comes and goes, clients that send to it and to its shelter, and faults on every way, from a seed.

Whatever is lost, repeated or forwarded twice: each impression has one stream, at home; what was answered is kept in
exactly one place or has moved (I1); nothing is billed twice (I2); and what only the shelter received keeps its time.
"""

import asyncio
import random
from datetime import date
from uuid import UUID

import pytest
from gatekit import NOW
from shelterkit import HOUR, Pair, ShelterGate, an_order, signer
from test_gate_simulation import FAULT_SHARE, FaultyHolding, FaultyStore, states_of

from commands.items import Status
from commands.shelter_forward import Forwarder
from commands.shelter_memory import MemoryShelter
from commands.shelter_store import Room, State
from domain.events import ImpressionRendered
from domain.impression import Decided
from domain.reasons import Reason, Verdict
from domain.vocabulary import BillingEvent, Rung
from ledger.store import LedgerUnavailable, read_everything

pytestmark = pytest.mark.slow

SEEDS = 150
SOAK_SEEDS = 5_000
MINUTE = 60_000


class FaultyShelter(MemoryShelter):
    """Fails before or after a write: a gate that is killed looks the same."""

    def __init__(self, dice):
        super().__init__()
        self.dice, self.calm = dice, False
        self.first_kept = {}

    def _maybe_fail(self, when):
        if not self.calm and self.dice.random() < FAULT_SHARE:
            raise LedgerUnavailable(f"fault {when}")

    async def keep(self, events, room):
        self._maybe_fail("before keeping")
        refused = await super().keep(events, room)
        for event in events:
            if event.key not in refused:
                self.first_kept.setdefault(event.event_id, event.received_at)
        self._maybe_fail("after keeping")
        return refused

    async def settle(self, settled, now):
        self._maybe_fail("before settling")
        await super().settle(settled, now)
        self._maybe_fail("after settling")

    async def arrived(self, keys, now):
        await super().arrived(keys, now)
        self._maybe_fail("after arriving")


class World:
    """The home, two gates of the cell that shelters it, and what clients were told."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.shelter = FaultyShelter(self.dice)
        self.pair = Pair(seed, shelter_store=self.shelter, room=Room(self.dice.choice([3, 10, 10_000]), 1 << 30))
        self.home, self.wires = self.pair.home, self.pair.wires
        self.store = FaultyStore(self.dice)
        self.home.store = self.store
        self.home.holding_store = FaultyHolding(self.store)
        self.home.shelter_store = FaultyShelter(self.dice)
        self.home.restart()
        other = ShelterGate(self.pair.cells, "us-1", whom=self.pair.whom, shelter_store=self.shelter)
        other.room = self.pair.away.room
        other.restart(name="us-other")
        self.shelters = [self.pair.away, other]
        self.now = NOW
        self.is_down = False
        self.answers = {}
        self.sent_home = set()

    async def open(self):
        self.calm(True)
        for gate in (self.home, *self.shelters):
            await gate.open(date(2026, 9, 20), date(2026, 9, 23))
        self.calm(False)

    def calm(self, is_calm):
        for store in (self.store, self.shelter, self.home.shelter_store):
            store.calm = is_calm

    def pass_by(self, most):
        self.now += self.dice.randint(0, most)
        for gate in (self.home, *self.shelters):
            gate.now = self.now

    async def send(self, gate, events):
        """Send *events*; return those that must be sent again."""
        if gate is self.home:
            self.sent_home.update(UUID(event["event_id"]) for _, event in events)
        try:
            answers = await gate.send(*(event for _, event in events))
        except LedgerUnavailable:
            return events
        again = []
        for (at, event), answer in zip(events, answers, strict=True):
            if answer.status is Status.DEFERRED or answer.reason is Reason.REGION_MISDIRECTED:
                again.append((at, event))
                continue
            self.answers.setdefault(at, []).append((gate is self.home, answer))
        return again

    async def forward(self):
        carrier = self.wires
        self.wires.faults = [self.dice.choice([None, None, "lost", "answer lost", "wrong page"]) for _ in range(9)]
        runs = [Forwarder(self.shelter, carrier, lambda: self.now).run() for _ in range(self.dice.randint(1, 2))]
        for outcome in await asyncio.gather(*map(carried, runs)):
            assert outcome is None or outcome.settled >= 0


async def carried(run):
    try:
        return await run
    except LedgerUnavailable:
        return None


def history(dice, clients):
    """Events of some impressions of the region, some of them views, some forged or not to be read."""
    events = []
    for _ in range(dice.randint(2, 8)):
        token = clients.token(billing_event=dice.choice(list(BillingEvent)))
        for _ in range(dice.randint(1, 3)):
            event = clients.render(token) if dice.random() < 0.75 else clients.view(token)
            if dice.random() < 0.1:
                event["width"] = -1
            events.append(event)
        if dice.random() < 0.15:
            events.append({**clients.render(token), "token": events[-1]["token"][:-4] + "zzzz"})
    dice.shuffle(events)
    return list(enumerate(events))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_an_outage_through_any_faults_leaves_one_stream_an_impression_at_home(seed):
    simulate(seed)


@pytest.mark.soak
def test_thousands_of_outages_leave_one_stream_an_impression_at_home():
    for seed in range(SEEDS, SOAK_SEEDS):
        simulate(seed)


def simulate(seed):
    async def main():
        world = World(seed)
        await world.open()
        events = history(world.dice, world.pair.clients)
        await live(world, events)
        await settle(world)
        await check(world, dict(events))

    asyncio.run(main())


async def live(world, events):
    """Send everything until it is answered, some of it again, while the home comes and goes and orders with it."""
    dice, number = world.dice, 0
    waiting = [one for one in events for _ in range(dice.randint(1, 2))]
    while waiting:
        world.pass_by(2 * MINUTE)
        if dice.random() < 0.25:
            world.is_down = not world.is_down
            world.wires.down = {"eu-1"} if world.is_down else set()
            number += 1
            if world.is_down:
                terms = {"issued_at": world.now, "valid_from": world.now, "valid_until": world.now + HOUR}
                order = an_order(order_id=UUID(int=number), **terms)
                await world.shelters[0].book.take(signer("ops").sign(order), world.now)
        for gate in world.shelters:
            await gate.book.refresh(world.now)
        if dice.random() < 0.1:
            dice.choice(world.shelters).restart(name=f"us-{dice.getrandbits(40):x}")
        if dice.random() < 0.1:
            world.home.restart(recent_max=dice.choice([0, 1_000]), name=f"eu-{dice.getrandbits(40):x}")
        if dice.random() < 0.4:
            await world.forward()
        batch = [waiting.pop() for _ in range(min(len(waiting), dice.randint(1, 5)))]
        wants_home = dice.random() < 0.5
        gate = world.home if wants_home and not world.is_down else dice.choice(world.shelters)
        waiting = [*(await world.send(gate, batch)), *waiting]
        dice.shuffle(waiting)


async def settle(world):
    """The home is back for good: everything is forwarded, and what waited for its render is applied."""
    world.calm(True)
    world.wires.down, world.wires.faults = set(), []
    for _ in range(50):
        world.pass_by(20 * MINUTE)
        await Forwarder(world.shelter, world.wires, lambda: world.now).run()
        if not await world.shelter.homes():
            break
    home = world.home
    for event_id, _, body in await home.holding.due_views(1_000, world.now):
        await home.send(body)
        await home.holding.unpark([event_id])


async def check(world, events):
    assert await world.shelter.homes() == [], "nothing waits for ever"
    assert {entry.state for entry in world.shelter.entries.values()} <= {State.MOVED}
    moved, arrived = (set(gate.shelter_store.entries) for gate in (world.shelters[0], world.home))
    assert moved <= arrived, "what has left one cell's books stands in the other's"
    states, counts = await states_of(world.store)
    for gate in world.shelters:
        own, _ = await states_of(gate.store)
        assert not own, "only the home writes the stream"
    causes = [commit.cause async for commit in read_everything(world.store) if not isinstance(commit.stream, str)]
    assert len(causes) == len(set(causes))
    absorbed = {cause for state in states.values() for cause in state.absorbed}
    holdings = [gate.holding_store for gate in (world.home, *world.shelters)]
    quarantined = {entry.event_id for holding in holdings for entry in holding.entries.values()}
    parked = set(world.home.holding_store.views)
    for at, event in events.items():
        event_id = UUID(event["event_id"])
        told = world.answers[at]
        is_known = event_id in absorbed | quarantined | parked
        if event["token"].endswith("zzzz"):
            assert not is_known
            assert counts["refused"] or any(answer.status is Status.REFUSED for _, answer in told)
        else:
            assert is_known or (event.get("kind") == "view" and counts["unmoved"]), (event, told)
        for is_home, answer in told:
            if not is_home and answer.status is Status.DECIDED:
                assert (answer.verdict, answer.rung) == (Verdict.UNCERTAIN, Rung.SHELTERED)
    await check_streams(world, states, events)


async def check_streams(world, states, events):
    ids = {UUID(event["event_id"]) for event in events.values()}
    for impression, state in states.items():
        assert isinstance(state, Decided)
        assert 0 <= state.standing.billable_micros + state.standing.reserved_micros <= state.terms.price_micros
        for event in await world.home.events(impression):
            if not isinstance(event, ImpressionRendered):
                continue
            assert event.cause in ids
            if event.cause not in world.sent_home:
                assert event.received_at == world.shelter.first_kept[event.cause], "as received when it first was"
