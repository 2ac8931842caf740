"""What gates hold of a campaign's budget at this moment, for the bound on overshoot that pacing shows."""

from collections.abc import Callable, Mapping

from commands.budget_postgres import PostgresBudgets
from commands.campaigns import Campaigns
from ledger.postgres_connection import PostgresConnection
from ledger.store import EventStore

_DEADLINE_S = 5.0


class Leased:
    """Asks the budget store at *database_url*; the currency stands in the campaign's stream. *now* gives epoch ms."""

    def __init__(self, database_url: str, store: EventStore, now: Callable[[], int]) -> None:
        self._connection = PostgresConnection(database_url, _DEADLINE_S)
        self._budgets = PostgresBudgets(self._connection)
        self._campaigns = Campaigns(store, packs=set(), clock=now)

    async def __call__(self, campaign: str) -> Mapping[str, int]:
        """
        Return currency -> micros that are leased, or may be spent beyond leases while the store cannot be reached.

        Raises:
            LedgerUnavailable: the store does not answer.
        """
        bounds = await self._budgets.bounds([campaign])
        held = sum(bound.held_micros + bound.stale_micros for bound in bounds)
        opened = await self._campaigns.read(campaign) if held else None
        return {} if opened is None else {opened.currency: held}

    async def close(self) -> None:
        await self._connection.close()
