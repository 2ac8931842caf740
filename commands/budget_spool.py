"""
Money of what a spool decided: booked by looking it up in the ledger, exactly once, whoever drains the spool and when.

Nobody is asked for money while the spool decides. What it decides names the spool in `funding.lease`. The spool becomes
a holder of the budget store that is never heard of again: it is buried, which books what the ledger has under its name.
Called up once more after its burial, it is looked up again from where the last look ended (B4), so that calling it
before and after each draining misses nothing and books nothing twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from commands.budget_store import BOUNDS_MAX, BudgetStore, Exchange, Void
from commands.budget_upkeep import Upkeep
from ledger.store import LedgerUnavailable

LABEL = "spool-"
_TTL_MS = 1_000
_MARGIN_S = 0.1
_ROUNDS_MAX = 8


class SpoolMoney:
    """Books what spools decided. *head* tells the ledger's last position, *wait* waits for some seconds."""

    def __init__(
        self,
        budgets: BudgetStore,
        upkeep: Upkeep,
        head: Callable[[], Awaitable[int]],
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._budgets = budgets
        self._upkeep = upkeep
        self._head = head
        self._wait = wait

    async def call_up(self, label: str) -> None:
        """
        Have the ledger be looked up for *label*, from here on or from where the last look ended.

        Always the same number, so that a holder that is still to be buried stays as it is.

        Raises:
            LedgerUnavailable: it must be tried again.
        """
        after = await self._head()
        asked = Exchange(holder=label, seq=1, reported=0, after=after, ttl_ms=_TTL_MS, lines=())
        try:
            await self._budgets.exchange(asked)
        except Void:
            return

    async def book(self, label: str) -> None:
        """Book what the ledger has under *label*; raises `LedgerUnavailable`."""
        await self.call_up(label)
        await self._wait(_TTL_MS / 1_000 + _MARGIN_S)
        await self._upkeep.bury()

    async def over(self, campaigns: Sequence[str]) -> dict[str, int]:
        """
        Return by how many micros *campaigns* have spent more than their budgets; raises as above.

        What gates hold is not spent: it goes back, or is the bound on overshoot that is told of all leases. What
        corrections gave back counts as soon as it is in the ledger, for they are booked only once all gates reported.
        """
        for _ in range(_ROUNDS_MAX):
            corrected = await self._budgets.corrected()
            found = await self._over_as_booked(campaigns)
            if not any(micros > 0 for micros in found.values()):
                return found
            if (await self._budgets.corrected()).through == corrected.through:
                unbooked = await self._upkeep.unbooked(corrected.through)
                return {campaign: micros + unbooked.get(campaign, 0) for campaign, micros in found.items()}
        raise LedgerUnavailable("corrections were booked all the time")

    async def _over_as_booked(self, campaigns: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for at in range(0, len(campaigns), BOUNDS_MAX):
            for bound in await self._budgets.bounds(campaigns[at : at + BOUNDS_MAX]):
                if bound.limit_micros is not None:
                    found[bound.campaign] = bound.spent_micros - bound.limit_micros
        return found
