"""
Clients, gates that spool, and one ledger that comes and goes, from a seed: faults before and after each write of the
ledger and of the disk, torn writes, gates killed at any moment, drains interrupted anywhere.

In the end everything that was answered is in the ledger, the quarantine or parked, once; nothing is billed twice; and
the answer to every event is the one that its stream has.
"""

import asyncio
import random
from contextlib import suppress
from datetime import date
from uuid import UUID

import pytest
from gatekit import Minter
from spoolkit import AbsentHolding, AbsentStore, FailingDisk, SpoolGate
from test_gate_simulation import history, states_of, unpark

from commands import spool_records
from commands.items import Status
from commands.spool_census import Spooled, take_spooled
from domain.impression import Decided
from domain.reasons import Reason, ReasonClass
from domain.standing import Uncertain, Valid, in_gross
from domain.vocabulary import Rung
from ledger.breaker import NotAsked
from ledger.spool_owners import damaged, folders
from ledger.store import LedgerUnavailable

pytestmark = pytest.mark.slow

SEEDS = 150
SOAK_SEEDS = 5_000
GATES = 2


class FlickeringStore(AbsentStore):
    """Fails by chance, sometimes for a while, before or after what it is asked, or is not asked at all."""

    def __init__(self, dice):
        super().__init__()
        self.dice = dice
        self.share = 0.15
        self.away_for = 0

    def fail(self, *modes):
        if self.away_for:
            self.away_for -= 1
            raise self.dice.choice([NotAsked, LedgerUnavailable])("away") if "before" in modes else NotAsked("away")
        if self.dice.random() >= self.share:
            return
        if self.dice.random() < 0.2:
            self.away_for = self.dice.randint(1, 12)
        if "after" in modes and modes != ("after",):
            raise LedgerUnavailable("fault")
        if "after" in modes:
            raise LedgerUnavailable("fault after")
        raise self.dice.choice([NotAsked, LedgerUnavailable])("fault before")


class FlickeringDisk(FailingDisk):
    """Fails by chance, and leaves torn writes."""

    def __init__(self, dice):
        super().__init__()
        self.dice = dice
        self.share = 0.1

    def write(self, file, data):
        self._cast(len(data))
        super().write(file, data)

    def sync(self, file):
        self._cast(0)
        super().sync(file)

    def cut(self, file, size):
        self._cast(0)
        super().cut(file, size)

    def _cast(self, size):
        failing = self.dice.random() < self.share
        self.fails = {self.dice.choice(["write", "sync", "cut"])} if failing else set()
        self.torn = self.dice.randint(0, size)


class World:
    """Gates that come and go on one ledger and one folder of spools."""

    def __init__(self, root, dice):
        self.root = root
        self.dice = dice
        self.store = FlickeringStore(dice)
        self.holding = AbsentHolding(self.store)
        self.disk = FlickeringDisk(dice)
        first = self._gate(None)
        self.day_keys = first.day_keys
        self.gates = [first] + [self._gate(self.day_keys) for _ in range(GATES - 1)]

    def _gate(self, day_keys):
        gate = SpoolGate(
            self.root,
            self.store,
            self.holding,
            day_keys,
            disk=self.disk,
            segment_max=self.dice.choice([1, 2_000, 90_000]),
        )
        gate.restart(self.dice.choice([0, 2, 1_000]), f"eu-{self.dice.getrandbits(40):x}")
        return gate

    async def kill_one(self):
        at = self.dice.randrange(len(self.gates))
        self.gates[at].die()
        self.gates[at] = self._gate(self.day_keys)
        await self.gates[at].warm()
        if self.dice.random() < 0.7:
            self.gates[at].backlog.adopt()

    async def drain_some(self):
        with suppress(LedgerUnavailable):
            await self.dice.choice(self.gates).backlog.work()

    async def settle(self):
        """The ledger and the disk are well again: drain all that is left."""
        self.store.share = self.store.away_for = self.disk.share = 0
        self.gates[0].backlog.adopt()
        for gate in self.gates:
            await gate.backlog.work()
        await unpark(self.gates[0])


async def deliver(world, events):
    """Send events in batches until each is answered, some again; return all answers by event."""
    dice = world.dice
    answers = {at: [] for at in range(len(events))}
    waiting = [(at, dice.randint(1, 2)) for at in range(len(events))]
    while waiting:
        if dice.random() < 0.1:
            await world.kill_one()
        if dice.random() < 0.2:
            await world.drain_some()
        batch = [waiting.pop() for _ in range(min(len(waiting), dice.randint(1, 9)))]
        try:
            outcome = await dice.choice(world.gates).send(*(events[at] for at, _ in batch))
        except LedgerUnavailable:
            waiting += batch
        else:
            for (at, again), answer in zip(batch, outcome, strict=True):
                answers[at].append(answer)
                if again > 1:
                    waiting.insert(dice.randint(0, len(waiting)), (at, again - 1))
    return answers


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_history_through_gates_that_spool_is_kept_and_billed_exactly_once(seed, tmp_path):
    simulate(seed, tmp_path)


@pytest.mark.parametrize("seed", range(40))
def test_a_history_whose_batches_take_several_frames_is_kept_and_billed_exactly_once(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(spool_records, "FRAME_MAX", 1_500)
    simulate(seed, tmp_path)


@pytest.mark.soak
def test_thousands_of_histories_through_gates_that_spool_are_kept_exactly_once(tmp_path):
    for seed in range(SEEDS, SOAK_SEEDS):
        simulate(seed, tmp_path / str(seed))


def simulate(seed, folder):
    async def main():
        dice = random.Random(seed)
        world = World(folder / "spool", dice)
        await world.gates[0].open(date(2026, 9, 20), date(2026, 9, 22))
        for gate in world.gates:
            await gate.warm()
        events = history(dice, Minter(seed))
        answers = await deliver(world, events)
        await world.settle()
        await check(world, events, answers)

    asyncio.run(main())


async def check(world, events, answers):
    states, _ = await states_of(world.store)
    absorbed = {cause for state in states.values() for cause in state.absorbed}
    held = world.holding
    kept = {body.event_id for body in held.bodies.values()}
    ids = [None if isinstance(event, bytes) else UUID(event["event_id"]) for event in events]
    for at, given in answers.items():
        statuses = {answer.status for answer in given}
        if Status.DECIDED in statuses:
            assert ids[at] in absorbed | kept, events[at]
        if Status.QUARANTINED in statuses and ids[at] is not None:
            assert ids[at] in kept
        if Status.PARKED in statuses and ids.count(ids[at]) == 1:
            first = await world.gates[0].send(events[at])
            assert ids[at] in held.views or first[0].status is Status.RECORDED
    assert len(held.bodies) >= sum(isinstance(event, bytes) for event in events)
    assert held.views.keys().isdisjoint(absorbed)

    gross = net = invalid = undecided = 0
    for state in states.values():
        assert isinstance(state, Decided)
        standing = state.standing
        assert 0 <= standing.billable_micros + standing.reserved_micros <= state.terms.price_micros
        assert standing.billable_micros == 0 or isinstance(standing, Valid)
        assert not (isinstance(standing, Uncertain) and standing.reason is Reason.DEGRADED)
        gross += in_gross(standing)
        net += standing.reason_class is None
        invalid += standing.reason_class in {ReasonClass.GIVT, ReasonClass.SIVT}
        undecided += standing.reason_class is ReasonClass.UNDECIDED
    assert gross == net + invalid + undecided

    assert await take_spooled(world.root, world.store) == Spooled()
    assert damaged(world.root) == []
    assert len(folders(world.root)) == len(world.gates)
    await check_answers(world, events, answers, ids)


async def check_answers(world, events, answers, ids):
    """From now on every gate answers from the stream; what was never spooled was answered so from the beginning."""
    for at, event in enumerate(events):
        if ids[at] is None or ids.count(ids[at]) > 1:
            continue
        finals = [(await gate.send(event))[0] for gate in world.gates]
        told = [(one.status, one.verdict, one.reason) for one in finals]
        assert len(set(told)) == 1, event
        was_spooled = any(one.rung is Rung.SPOOLED or one.reason is Reason.DEGRADED for one in answers[at])
        if not was_spooled and finals[0].status is Status.DECIDED:
            assert {(one.verdict, one.reason) for one in answers[at]} == {told[0][1:]}, event
