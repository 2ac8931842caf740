"""Gates that only spend: what tests of budgets share. Each imitates the loop of a batch over a store in memory."""

import asyncio
import random
from importlib.resources import files
from itertools import count
from uuid import UUID

from gatekit import NOW

from commands.account_days import AccountDays
from commands.barred import BarredLeases
from commands.budget import Budget
from commands.budget_leases import Leases
from commands.budget_memory import MemoryBudgets
from commands.budget_purse import LeaseRules
from commands.budget_upkeep import Upkeep, check_budgets
from commands.campaigns import Campaigns
from commands.funding import Funds
from commands.ladder import Ladder
from commands.ledger_tails import MemoryTails
from commands.registry import Registry
from domain.campaign import ChangeCampaign, OpenCampaign
from domain.events import CorrectionKind, Cut, Funding, ImpressionDeduped, ImpressionReconciled, Uniqueness, Versions
from domain.funding import committed_micros
from domain.ids import day_of, digest_of, mint
from domain.pack import parse_pack
from domain.standing import Terms, standing_for
from domain.token import Token
from domain.vocabulary import Authority, BillingEvent, CountingMethod, DataSet, Evidence, Format, Rung, Surface
from ledger.memory import MemoryStore
from ledger.store import Append, Appended, LedgerUnavailable

PACKS = {rule.name for rule in parse_pack((files("domain") / "packs" / "base-1.toml").read_text(), "base-1").view_rule}
BERLIN = AccountDays("Europe/Berlin")
TODAY = BERLIN.day(NOW)
PRICE = 100
MONTH = 30 * 86_400_000
VERSIONS = Versions(pack="base-1", lists="plain 1")

_numbers = count(1)


class Funded(ImpressionDeduped, frozen=True, kw_only=True, omit_defaults=True, tag="ImpressionDeduped"):
    """A decision that says what stood behind its money."""

    funding: Funding


def an_id(at=NOW):
    return mint(at, 7, next(_numbers))


def a_cause():
    return UUID(int=(1 << 97) + next(_numbers))


def an_opening(**changes):
    fields = {
        "cause": a_cause(),
        "digest": "d",
        "decided_at": NOW,
        "advertiser": "advertiser-1",
        "account": "account-1",
        "currency": "EUR",
        "time_zone": "Europe/Berlin",
        "billing_event": BillingEvent.IMPRESSION,
        "viewability_pack": "mrc",
        "flight_start": NOW - MONTH,
        "flight_end": NOW + MONTH,
        "budget_micros": 10 * PRICE,
    }
    return OpenCampaign(**{**fields, **changes})


def a_change(seen_version=1, **changes):
    content = digest_of(seen_version, changes)
    return ChangeCampaign(
        **{"cause": a_cause(), "digest": content, "decided_at": NOW, "seen_version": seen_version, **changes}
    )


def a_token(campaign="c-1", price=PRICE, at=NOW, **changes):
    fields = {
        "impression": an_id(at),
        "ad": "ad-1",
        "creative": "creative-1",
        "campaign": campaign,
        "advertiser": "advertiser-1",
        "placement": "placement-1",
        "publisher": "publisher-1",
        "surface": Surface.FEED,
        "format": Format.DISPLAY,
        "region": "eu",
        "epoch": 1,
        "currency": "EUR",
        "price_micros": price,
        "flight_start": NOW - MONTH,
        "flight_end": NOW + MONTH,
        "billing_event": BillingEvent.IMPRESSION,
        "viewability_pack": "mrc",
    }
    return Token(**{**fields, **changes})


def cut_of(token, event_at=NOW):
    return Cut(
        event_at=event_at,
        campaign=token.campaign,
        advertiser=token.advertiser,
        creative=token.creative,
        placement=token.placement,
        publisher=token.publisher,
        surface=token.surface,
        format=token.format,
        region=token.region,
        currency=token.currency,
        billing_event=token.billing_event,
        counting_method=CountingMethod.ON_SCREEN,
        evidence=Evidence.ON_SCREEN_AT,
    )


def a_decision(token, reasons, funding, event_at=NOW):
    terms = Terms(token.price_micros, token.billing_event, token.viewability_pack)
    after = standing_for(reasons[0] if reasons else None, terms, {})
    return Funded(
        cause=a_cause(),
        digest="d",
        uniqueness=Uniqueness.UNIQUE,
        verdict=after.verdict,
        reason=after.reason,
        cut=cut_of(token, event_at),
        after=after,
        decided_at=event_at,
        funding=funding,
    )


def a_correction_of(event, reason):
    terms = Terms(committed_micros(event.after), BillingEvent.IMPRESSION, "mrc")
    return ImpressionReconciled(
        cause=a_cause(),
        digest="d",
        kind=CorrectionKind.VERDICT,
        authority=Authority.REVIEW,
        asked=reason,
        observed_at=NOW,
        versions=VERSIONS,
        cut=event.cut,
        before=event.after,
        after=standing_for(reason, terms, {}),
        decided_at=NOW,
    )


def appending(event, impression=None, expected=0):
    return Append(
        stream=impression or an_id(), expected=expected, cause=event.cause, digest=event.digest, events=(event,)
    )


class World:
    """One ledger, one budget store, one clock, and what can go wrong with each; *dice* decides, none: nothing does."""

    def __init__(self, dice=None, fault_share=0.0, ledger=None, budgets=None):
        self.dice = dice or random.Random(0)
        self.fault_share = fault_share
        self.ms = NOW
        self.ledger = ledger or FaultyLedger(self)
        self.budgets = budgets or FaultyBudgets(self)
        self.tails = MemoryTails(self.ledger)
        self.campaigns = Campaigns(self.ledger, packs=PACKS, clock=lambda: self.ms)
        self.registry = Registry(self.ledger, self.tails, campaigns_max=1_000, clock=self.monotonic)
        self.upkeep = Upkeep(self.ledger, self.tails, self.budgets, self.registry)
        self.names = count(1)

    def monotonic(self):
        return self.ms / 1_000

    def pass_by(self, ms):
        self.ms += ms

    async def open(self, campaign="c-1", **changes):
        day = day_of(self.ms)
        await self.ledger.prepare_days(day, day, DataSet.LIVE)
        return (await self.campaigns.handle(campaign, an_opening(**changes))).campaign

    def fails(self):
        return self.dice.random() < self.fault_share

    async def check(self, **options):
        registry = Registry(self.ledger, self.tails, campaigns_max=1_000, clock=self.monotonic)
        return await check_budgets(self.ledger, self.budgets, registry, **options)

    async def booked(self, campaign="c-1", day=0):
        return (await self.budgets.state()).spent.get((campaign, day), 0)

    async def bound(self, campaign="c-1"):
        [found] = await self.budgets.bounds([campaign])
        return found


class FaultyLedger(MemoryStore):
    """Fails before or after what it is asked; after means that it happened all the same."""

    def __init__(self, world):
        super().__init__()
        self.world = world

    async def append(self, appends, recorded_at):
        if self.world.fails():
            raise LedgerUnavailable("before")
        outcomes = await super().append(appends, recorded_at)
        if self.world.fails():
            raise LedgerUnavailable("after")
        return outcomes


class FaultyBudgets(MemoryBudgets):
    """As the ledger above; *is_down* it does not answer at all."""

    def __init__(self, world):
        super().__init__(lambda: world.ms)
        self.world = world
        self.is_down = False
        self.asked = 0

    async def exchange(self, asked):
        self.asked += 1
        self._maybe_fail("before")
        granted = await super().exchange(asked)
        self._maybe_fail("after")
        return granted

    async def bury(self, holder, spent, through):
        self._maybe_fail("before")
        done = await super().bury(holder, spent, through)
        self._maybe_fail("after")
        return done

    async def book(self, after, through, spent):
        self._maybe_fail("before")
        done = await super().book(after, through, spent)
        self._maybe_fail("after")
        return done

    def _maybe_fail(self, when):
        if self.is_down or self.world.fails():
            raise LedgerUnavailable(when)


class SpendingGate:
    """Decides batches of tokens as the gate does, with nothing but registry and budget; its leases can be lost."""

    def __init__(self, world, rules=None, budgets=None, registry=None, ladder=None):
        self.world = world
        ladder = ladder or Ladder(world.monotonic)
        self.registry = registry or Registry(
            world.ledger,
            world.tails,
            campaigns_max=1_000,
            clock=world.monotonic,
            is_barred=lambda: ladder.is_without(Rung.STALE_REGISTRY),
        )
        self.leases = Leases(
            BarredLeases(budgets or world.budgets, lambda: ladder.is_without(Rung.STALE_BUDGET)),
            rules or LeaseRules(),
            campaign=self.registry.look,
            head=world.ledger.head,
            name=lambda: f"gate{next(world.names)}",
            clock=world.monotonic,
        )
        self.budget = Budget(self.leases)
        self.funds = Funds(self.registry, self.budget)

    async def decide(self, tokens, reasons=(), event_at=NOW):
        """Return the decisions of one batch; raises `LedgerUnavailable` if nobody knows whether they are durable."""
        with_reasons = reasons if reasons and isinstance(reasons[0], tuple) else [reasons] * len(tokens)
        asks = [(token, event_at, found) for token, found in zip(tokens, with_reasons, strict=True)]
        await self.funds.ready(asks, within_s=5.0)
        events, grants = [], []
        for sold, _, found in asks:
            funded = self.funds.fund(sold, event_at, found)
            event = a_decision(sold, funded.reasons, funded.funding, event_at)
            if funded.grant is not None:
                self.funds.keep(funded.grant, committed_micros(event.after))
            events.append(event)
            grants.append(funded.grant)
        appends = [appending(event, token.impression) for event, token in zip(events, tokens, strict=True)]
        outcomes = await self.world.ledger.append(appends, NOW)
        for grant, outcome in zip(grants, outcomes, strict=True):
            if grant is not None:
                self.funds.settle([grant], is_appended=isinstance(outcome, Appended))
        return events

    async def batch(self, renders, campaign="c-1", **changes):
        return await self.decide([a_token(campaign, **changes) for _ in range(renders)])


def reasons_of(events):
    return [event.reason for event in events]


def paid(events):
    return sum(committed_micros(event.after) for event in events)


def run_world(test, **world):
    """Run *test* on a `World`, made with *world*."""

    async def main():
        made = World(**world)
        await test(made)

    asyncio.run(main())


async def settled(world, gate, seconds=2):
    """Let the gate's background work take that many turns."""
    for _ in range(seconds):
        world.pass_by(1_000)
        await gate.budget.tick()
