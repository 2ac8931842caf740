"""Do the list of campaigns and the budgets say what the ledger says? For the command line, also while gates run."""

import time

from msgspec import Struct

from commands.budget_postgres import PostgresBudgets
from commands.budget_upkeep import Checked, check_budgets
from commands.campaign_table import CampaignList
from commands.campaign_table_postgres import PostgresCampaignTable
from commands.registry import Registry
from ledger.postgres_connection import PostgresConnection
from service.campaigning import Authority
from service.settings import Settings
from service.wiring import database_url, ledger_url, open_store, open_tails

_DEADLINE_S = 60.0


class CampaignsChecked(Struct, frozen=True, kw_only=True):
    """
    Ids of campaigns that the list had otherwise than the ledger, and what budgets had otherwise.

    `budgets` is None where the word is the token's: then gates book nothing.
    """

    unlike: list[str]
    budgets: Checked | None

    @property
    def good(self) -> bool:
        budgets = self.budgets
        return not self.unlike and (budgets is None or not (budgets.differences or budgets.unreadable))


async def check_campaigns(settings: Settings, *, mend: bool) -> CampaignsChecked:
    """
    Compare, and with *mend* put right, what follows from the ledger; reads all of it once.

    Raises:
        LedgerUnavailable: a store did not answer.
    """
    store = open_store(settings)
    database = PostgresConnection(database_url(settings), _DEADLINE_S)
    tails = open_tails(store, ledger_url(settings))
    try:
        campaigns = CampaignList(store, tails, PostgresCampaignTable(database))
        registry = Registry(store, tails, campaigns_max=settings.campaigns_max, clock=time.monotonic)
        budgets = None
        if Authority(settings.campaigns) is Authority.REGISTRY:
            budgets = await check_budgets(store, PostgresBudgets(database), registry, mend=mend)
        return CampaignsChecked(unlike=await campaigns.check(mend=mend), budgets=budgets)
    finally:
        await tails.close()
        await store.close()
        await database.close()
