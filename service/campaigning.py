"""Campaigns as one gate handles them: commands, the list, and, where they are the authority, registry and budgets."""

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Gauge

from commands.barred import BarredLeases
from commands.budget import Budget
from commands.budget_leases import Leases
from commands.budget_postgres import PostgresBudgets
from commands.budget_purse import LeaseRules
from commands.budget_spool import SpoolMoney
from commands.budget_store import Bound
from commands.budget_upkeep import Upkeep
from commands.campaign_table import CampaignList
from commands.campaign_table_postgres import PostgresCampaignTable
from commands.campaigns import Campaigns, Recorded
from commands.funding import Funds
from commands.ladder import Ladder
from commands.ledger_tails import LedgerTails
from commands.registry import Registry
from domain.campaign import Campaign, CampaignCommand
from domain.pack import Pack
from domain.vocabulary import Rung
from ledger.postgres_connection import PostgresConnection
from ledger.store import EventStore
from service.clock import now_ms

FOLLOW_EVERY_S = 0.5
UPKEEP_EVERY_S = 1.0
LIST_EVERY_S = 1.0
_DEADLINE_S = 5.0
_HOLDER_BYTES = 6

Work: TypeAlias = tuple[float, Callable[[], Awaitable[object]]]
"""Something to be done again so many seconds after it was done."""


class Authority(StrEnum):
    """Who has the word on a campaign's flight and money."""

    TOKEN = "token"  # noqa: S105 (no password)
    """Whoever mints a valid token has checked both."""
    REGISTRY = "registry"
    """The campaigns that are opened here, and their budgets."""


class Campaigning:
    """
    Everything about campaigns in one gate. `funds` judges flights and budgets; None where the token is the authority.

    Renders are judged by campaigns from *judged_by*, which may answer sooner that it cannot. Belongs to one event loop.
    """

    def __init__(  # noqa: PLR0913 (what it is built of)
        self,
        store: EventStore,
        *,
        tails: LedgerTails,
        database_url: str,
        pack: Pack,
        authority: Authority,
        campaigns_max: int,
        judged_by: EventStore | None = None,
        ladder: Ladder | None = None,
    ) -> None:
        ladder = ladder or Ladder(time.monotonic)
        self._tails = tails
        self._leases = PostgresConnection(database_url, _DEADLINE_S)
        self._tables = PostgresConnection(database_url, _DEADLINE_S)
        self._authority = authority
        self._campaigns = Campaigns(store, packs={rule.name for rule in pack.view_rule}, clock=now_ms)
        self._table = PostgresCampaignTable(self._tables)
        self._list = CampaignList(store, tails, self._table)
        self._registry = Registry(
            judged_by or store,
            tails,
            campaigns_max=campaigns_max,
            clock=time.monotonic,
            is_barred=partial(ladder.is_without, Rung.STALE_REGISTRY),
        )
        self._bounds = PostgresBudgets(self._tables)
        self._upkeep = Upkeep(store, tails, self._bounds, self._registry)
        self.spool_money = SpoolMoney(self._bounds, self._upkeep, store.head)
        self._budget = Budget(
            Leases(
                BarredLeases(PostgresBudgets(self._leases), partial(ladder.is_without, Rung.STALE_BUDGET)),
                LeaseRules(),
                campaign=self._registry.look,
                head=store.head,
                name=lambda: secrets.token_hex(_HOLDER_BYTES),
                clock=time.monotonic,
            )
        )
        self.funds = Funds(self._registry, self._budget) if authority is Authority.REGISTRY else None
        if self.funds is not None:
            ladder.watch(Rung.STALE_REGISTRY, lambda: self._registry.is_stale)
            ladder.watch(Rung.STALE_BUDGET, lambda: self._budget.is_behind)
        else:
            for rung in (Rung.STALE_REGISTRY, Rung.STALE_BUDGET):
                ladder.refuse(rung, "the token has the word on flight and budget (IMPLEDGER_CAMPAIGNS=token)")

    @property
    def is_ready(self) -> bool:
        """Whether renders can be judged: the registry, where it is the authority, was followed once."""
        return self.funds is None or self._registry.age_s < float("inf")

    async def handle(self, id_: str, command: CampaignCommand) -> Recorded:
        """
        Do *command* on the campaign *id_*; this gate's registry and the list know it when this returns.

        Raises:
            CampaignRefused, LedgerUnavailable: see `Campaigns.handle`.
        """
        recorded = await self._campaigns.handle(id_, command)
        await self._list.follow()
        if self.funds is not None:
            await self._registry.follow()
        return recorded

    async def read(self, id_: str) -> Campaign | None:
        """Return the campaign *id_* as the ledger has it; raises `LedgerUnavailable`."""
        return await self._campaigns.read(id_)

    async def page(self, after: str, limit: int, advertiser: str) -> list[Campaign]:
        """Return a page of the list; see `CampaignTable.page`."""
        return await self._table.page(after, limit, advertiser)

    async def bounds(self, ids: Sequence[str]) -> dict[str, Bound]:
        """Return how the budgets of *ids* stand, of those that gates have asked for; raises `LedgerUnavailable`."""
        return {bound.campaign: bound for bound in await self._bounds.bounds(ids)} if ids else {}

    def works(self) -> list[Work]:
        """Return what must be done again and again beside serving."""
        works: list[Work] = [(LIST_EVERY_S, self._list.follow)]
        if self.funds is None:
            return works
        return [
            *works,
            (FOLLOW_EVERY_S, self._registry.follow),
            (UPKEEP_EVERY_S, self._budget.run),
            (UPKEEP_EVERY_S, self._upkeep.bury),
            (UPKEEP_EVERY_S, self._upkeep.book_corrections),
        ]

    def measure(self, metrics: CollectorRegistry) -> None:
        """Show in *metrics* how old the registry's copy is, and whether budgets can be leased."""
        for name, says, value in (
            ("registry_age_seconds", "Age of the copy of campaigns that decides", lambda: self._registry.age_s),
            ("registry_campaigns", "Campaigns at hand", lambda: len(self._registry)),
            ("budget_store_behind", "1 while leases cannot be had", lambda: float(self._budget.is_behind)),
            ("budget_accounts", "Accounts with money at hand", lambda: self._budget.accounts),
        ):
            Gauge(f"impledger_{name}", says, registry=metrics).set_function(value)

    async def close(self) -> None:
        """Give leased money back, as far as the store answers, and let go of what is open."""
        if self.funds is not None:
            await self._budget.close()
        for opened in (self._tails, self._leases, self._tables):
            await opened.close()
