"""
Gates, one budget, and faults before and after every call, from a seed.

Whatever is lost, repeated, late, killed or cut off: leased money never passes the limit, a gate without its store bills
no more than the store has on record for it, and in the end every micro that is booked stands in the ledger.
"""

import asyncio
import random

import msgspec
import pytest
from budgetkit import PRICE, Funded, SpendingGate, World, a_change, a_correction_of, a_token, appending
from gatekit import NOW

from domain.events import ImpressionReconciled
from domain.funding import committed_micros
from domain.reasons import Reason
from domain.vocabulary import Rung
from ledger.store import LedgerUnavailable

pytestmark = pytest.mark.slow

SEEDS = 200
SOAK_SEEDS = 5_000
CAMPAIGNS = ("c-1", "c-2", "unheard-of")
FAULTS = 0.08
SHARES = {
    "batch": 40,
    "tick": 25,
    "time": 12,
    "die": 2,
    "cut": 4,
    "bury": 5,
    "book": 5,
    "correct": 8,
    "raise_budget": 1,
    "close": 1,
}
_DECODER = msgspec.json.Decoder(list[int | Funded | ImpressionReconciled])


class Link:
    """One gate's way to the budget store; it can be cut."""

    def __init__(self, world):
        self.world = world
        self.is_cut = False

    def __getattr__(self, name):
        async def call(*arguments):
            if self.is_cut:
                raise LedgerUnavailable("cut off")
            return await getattr(self.world.budgets, name)(*arguments)

        return call


class Story:
    """What happened, as the ledger alone tells it."""

    def __init__(self, dice):
        self.dice = dice
        self.world = World(dice, FAULTS)
        self.gates = []
        self.shown = []
        self.was_cut_off_for_good = False

    def a_gate(self):
        link = Link(self.world)
        gate = SpendingGate(self.world, budgets=link)
        gate.link = link
        return gate

    async def begin(self):
        share, self.world.fault_share = self.world.fault_share, 0.0
        for name in CAMPAIGNS[:2]:
            daily = self.dice.choice([None, 40 * PRICE])
            await self.world.open(name, budget_micros=self.dice.randint(30, 120) * PRICE, daily_budget_micros=daily)
        self.world.fault_share = share
        self.gates = [self.a_gate() for _ in range(self.dice.randint(1, 4))]

    async def step(self):
        [name] = self.dice.choices(list(SHARES), SHARES.values())
        await getattr(self, name)(self.dice.choice(self.gates))

    async def tick(self, gate):
        await tolerant(gate.registry.follow())
        await gate.budget.tick()

    async def time(self, _):
        self.world.pass_by(self.dice.choice([10, 300, 1_000, 2_500, 6_000, 12_000]))

    async def die(self, gate):
        self.was_cut_off_for_good |= gate.link.is_cut or not await self.is_known(gate)
        self.gates[self.gates.index(gate)] = self.a_gate()

    async def cut(self, gate):
        gate.link.is_cut = not gate.link.is_cut

    async def bury(self, _):
        await tolerant(self.world.upkeep.bury())

    async def book(self, _):
        await tolerant(self.world.upkeep.book_corrections())

    async def close(self, gate):
        if await gate.budget.close():
            self.gates[self.gates.index(gate)] = self.a_gate()

    async def is_known(self, gate):
        holders = (await self.world.budgets.state()).holders
        return any(holder.name == gate.leases.holder and not holder.is_void for holder in holders)

    async def batch(self, gate):
        name = self.dice.choice(CAMPAIGNS)
        tokens = [a_token(name, price=self.dice.choice([PRICE, 30])) for _ in range(self.dice.randint(1, 12))]
        if self.shown and self.dice.random() < 0.2:
            tokens.append(self.dice.choice(self.shown))
        await tolerant(gate.decide(tokens))
        self.shown += tokens
        report = gate.leases._report
        for account, purse in gate.leases.purses.items():
            assert min(purse.left, purse.out, purse.over) >= 0
            if purse.over and await self.is_known(gate):
                on_record = self.world.budgets._held.get((*account, gate.leases.holder))
                unanswered = report.over.get(account, 0) if report else 0
                assert purse.over - unanswered <= (on_record.stale if on_record else 0)

    async def correct(self, _):
        if self.shown:
            token = self.dice.choice(self.shown)
            events = await self.events_of(token.impression)
            if len(events) == 1 and committed_micros(events[0].after):
                correction = a_correction_of(events[0], Reason.AGENT_DECLARED_BOT)
                await tolerant(self.world.ledger.append([appending(correction, token.impression, expected=1)], NOW))

    async def raise_budget(self, _):
        campaign = await self.world.campaigns.read(self.dice.choice(CAMPAIGNS[:2]))
        change = a_change(campaign.version, budget_micros=campaign.budget_micros + 20 * PRICE)
        await tolerant(self.world.campaigns.handle(campaign.id, change))

    async def events_of(self, impression):
        commits = (await self.world.ledger.read_streams([impression], 10)).get(impression, [])
        return [event for commit in commits for event in _DECODER.decode(commit.data)[1:]]

    async def leased(self, name):
        """What stands in the ledger for *name* that a lease paid for."""
        leased = 0
        for token in {token.impression: token for token in self.shown if token.campaign == name}.values():
            events = await self.events_of(token.impression)
            if events and events[0].funding.rung is Rung.FULL:
                leased += committed_micros(events[-1].after)
        return leased

    async def end(self):
        """Everything heals; whoever is gone is buried."""
        self.world.fault_share = 0.0
        for gate in self.gates:
            gate.link.is_cut = False
        for _ in range(30):
            self.world.pass_by(1_000)
            for gate in self.gates:
                await gate.registry.follow()
                await gate.funds.ready([])
                await gate.budget.tick()
            await self.world.upkeep.bury()
        await self.world.upkeep.book_corrections()


async def tolerant(call):
    try:
        return await call
    except LedgerUnavailable:
        return None


def simulate(seed):
    async def main():
        dice = random.Random(seed)
        story = Story(dice)
        await story.begin()
        for _ in range(120):
            await story.step()
        await story.end()

        for name in CAMPAIGNS[:2]:
            leased = await story.leased(name)
            campaign = await story.world.campaigns.read(name)
            assert leased <= campaign.budget_micros
            [bound] = await story.world.budgets.bounds([name]) or [None]
            assert bound is None or bound.held_micros == 0
        checked = await story.world.check(mend=True)
        assert checked.differences == [] or story.was_cut_off_for_good
        assert (await story.world.check()).differences == []

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_fault_makes_a_budget_wrong(seed):
    simulate(seed)


@pytest.mark.soak
def test_thousands_of_histories_keep_their_budgets():
    for seed in range(SEEDS, SOAK_SEEDS):
        simulate(seed)
