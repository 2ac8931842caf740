"""
Registry and budgets together, as the decision of a batch needs them.

A batch's round goes: `await ready(asks)`; per render, in batch order, `fund` with all other reasons that hold, then
`keep` with what its decision commits; after the append `settle`. Whatever was not settled when the next round begins
has an unknown outcome, and the ledger is asked for it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeAlias

from msgspec import Struct

from commands.account_days import Calendars
from commands.budget import Budget
from commands.budget_purse import Grant
from commands.budget_store import Account
from commands.countdown import finishes
from commands.registry import Registry
from domain.campaign import Campaign
from domain.flight import Sold, judge_flight
from domain.funding import Funding
from domain.reasons import CLASS_OF, Reason, ReasonClass
from domain.screen import in_order
from domain.vocabulary import Rung
from ledger.store import LedgerUnavailable

READY_WITHIN_S = 0.025
"""How long a batch waits for campaigns and leases together; then it goes on without."""
UNHURRIED_S = 5.0
"""The same where nobody counts down."""
_TAKES_NOTHING_ANYHOW = frozenset({ReasonClass.REQUEST, ReasonClass.NOT_COUNTED, ReasonClass.POLICY})


Ask: TypeAlias = tuple[Sold, int, tuple[Reason, ...]]
"""One render: what was sold, when it happened (epoch ms), and the screen's reasons, in order of precedence."""


class Funded(Struct, frozen=True, gc=False):
    """
    All reasons that hold, in order of precedence, what stood behind the money, and what is set aside, if anything.

    `funding.rung` says how far registry and budget were degraded.
    """

    reasons: tuple[Reason, ...]
    funding: Funding
    grant: Grant | None = None


class Funds:
    """Judges flights and sets money aside. Belongs to the one task that decides batches."""

    def __init__(self, registry: Registry, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._budget = budget
        self._look = registry.look
        self._day = Calendars().day
        self._is_stale = True
        self._open: list[Grant] = []
        self._loading: asyncio.Task[None] | None = None
        self._time = clock

    async def ready(self, asks: Sequence[Ask], within_s: float = UNHURRIED_S) -> None:
        """
        Load campaigns and lease money for *asks*, a round's renders.

        Never raises for a store that is down, and waits no longer than *within_s*, all in all.
        """
        ends_at = self._time() + within_s
        self._budget.doubt(self._open)
        self._open = []
        self._is_stale = self._registry.is_stale
        needs: dict[Account, int] = {}
        unknown = self._add_needs(needs, asks)
        if unknown and (missing := self._registry.missing({sold.campaign for sold, _, _ in unknown})):
            await self._load(missing, within_s)
            self._is_stale = self._registry.is_stale
            self._add_needs(needs, unknown)
        await self._budget.ensure(needs, max(0.0, ends_at - self._time()))

    def fund(self, sold: Sold, event_at: int, reasons: tuple[Reason, ...]) -> Funded:
        """
        Add to *reasons* what registry and budget say of a render, and set its price aside where it takes money.

        A flight in *reasons* is the token's, and gives way to the registry's where that is fresh.
        """
        campaign = self._look(sold.campaign)
        reasons = self._flight(sold, event_at, reasons, campaign)
        rung = Rung.STALE_REGISTRY if self._is_stale else Rung.FULL
        version = 0 if campaign is None else campaign.version
        if not _takes(reasons):
            return self._unpaid(sold, event_at, reasons, campaign, Funding(registry_version=version, rung=rung))
        if campaign is None or campaign.currency != sold.currency:
            grant = self._budget.note((sold.campaign, 0), sold.price_micros, rung)
        else:
            account = campaign.id, self._day(campaign.time_zone, event_at)
            grant = self._budget.reserve(account, sold.price_micros, version, rung)
        self._open.append(grant)
        if grant.reason is not None:
            reasons = in_order({*reasons, grant.reason})
        return Funded(reasons, grant.funding, grant)

    def unleased(self, sold: Sold, event_at: int, reasons: tuple[Reason, ...], lease: str) -> Funded:
        """
        Add to *reasons* what the registry says of a render, and ask nobody for money.

        *lease* names those who see to it that what is decided so is booked.
        """
        campaign = self._look(sold.campaign)
        is_stale = self._registry.is_stale
        reasons = self._flight(sold, event_at, reasons, campaign, is_stale)
        version = 0 if campaign is None or campaign.currency != sold.currency else campaign.version
        rung = Rung.STALE_REGISTRY if is_stale else Rung.FULL
        return Funded(reasons, Funding(registry_version=version, lease=lease, rung=rung))

    def keep(self, grant: Grant, micros: int) -> None:
        """Of what was set aside keep what the decision commits: billable and reserved after it, less than before it."""
        self._budget.keep(grant, micros)

    def settle(self, grants: Iterable[Grant], *, is_appended: bool) -> None:
        """Say of *grants* that their decisions are durable, or that they came to nothing."""
        self._budget.settle(grants, is_appended=is_appended)

    async def _load(self, campaigns: Sequence[str], within_s: float) -> None:
        """Load what can be loaded in time; what is not at hand is not known: uncertain, and decided again later."""
        if self._loading is not None and not self._loading.done():
            return
        self._loading = asyncio.create_task(self._registry.load(campaigns))
        if await finishes(self._loading, within_s):
            with suppress(LedgerUnavailable):
                self._loading.result()

    def _add_needs(self, needs: dict[Account, int], asks: Iterable[Ask]) -> list[Ask]:
        """Add what renders of known campaigns take to *needs*; return the others."""
        unknown: list[Ask] = []
        look, flight, day = self._look, self._flight, self._day
        for ask in asks:
            sold, event_at, reasons = ask
            campaign = look(sold.campaign)
            if campaign is None:
                unknown.append(ask)
            elif _takes(flight(sold, event_at, reasons, campaign)):
                account = campaign.id, day(campaign.time_zone, event_at)
                needs[account] = needs.get(account, 0) + sold.price_micros
        return unknown

    def _flight(
        self,
        sold: Sold,
        event_at: int,
        reasons: tuple[Reason, ...],
        campaign: Campaign | None,
        is_stale: bool | None = None,  # noqa: FBT001 (called per render)
    ) -> tuple[Reason, ...]:
        judged = judge_flight(campaign, sold, event_at, self._is_stale if is_stale is None else is_stale)
        if not judged and (not reasons or Reason.OUTSIDE_FLIGHT not in reasons):
            return reasons
        return in_order({*(reason for reason in reasons if reason is not Reason.OUTSIDE_FLIGHT), *judged})

    def _unpaid(
        self,
        sold: Sold,
        event_at: int,
        reasons: tuple[Reason, ...],
        campaign: Campaign | None,
        funding: Funding,
    ) -> Funded:
        """Invalid traffic takes no money, but where there is none it is out of gross like everything else."""
        if campaign is None or CLASS_OF[reasons[0]] in _TAKES_NOTHING_ANYHOW:
            return Funded(reasons, funding)
        if self._budget.is_exhausted((campaign.id, self._day(campaign.time_zone, event_at)), sold.price_micros):
            reasons = in_order({*reasons, Reason.BUDGET_EXHAUSTED})
        return Funded(reasons, funding)


def _takes(reasons: tuple[Reason, ...]) -> bool:
    """Tell whether an impression that is decided so takes money: it is valid, or uncertain."""
    return not reasons or CLASS_OF[reasons[0]] is ReasonClass.UNDECIDED
