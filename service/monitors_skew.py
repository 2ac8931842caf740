"""The inspection of training-serving skew: the ledger's tail, replayed through the code that fills data sets."""

import asyncio
from collections.abc import Callable

from ledger.store import EventStore
from ml.monitors.checks import SKEW_CHECKS
from ml.monitors.replaying import Comparison
from ml.monitors.sampling import PAGE_MAX
from ml.monitors.skew import Skew, measured
from projections.queries import KnownThrough
from service.monitoring import Seen


class SkewInspection:
    """
    Replays the last *sample* commits. *now* tells the time in epoch ms.

    Only features whose windows lie within them are compared; all, if they are the whole ledger.
    """

    name = "skew"
    checks = SKEW_CHECKS

    def __init__(self, store: EventStore, now: Callable[[], int], *, every_s: int, sample: int) -> None:
        self._store = store
        self._now = now
        self.every_s = every_s
        self._sample = sample
        self.last: Skew | None = None

    async def measure(self) -> Seen:
        """See `Inspection.measure`."""
        began, head = self._now(), await self._store.head()
        through = after = await self._store.before_last(self._sample)
        comparison: Comparison | None = None
        while through < head and (commits := await self._store.read_all(through, PAGE_MAX)):
            comparison = comparison or Comparison(commits[0].recorded_at if after else 0)
            await asyncio.to_thread(comparison.take, commits)
            through = commits[-1].position
        known = KnownThrough(through, began)
        if comparison is None:
            return Seen(known_through=known, lag_s=0.0, measured=[], says="the ledger is empty")
        self.last = comparison.skew
        return Seen(known_through=known, lag_s=0.0, measured=measured(self.last), says=_says(self.last))


def _says(skew: Skew) -> str:
    if not skew.rows:
        return "no decision logged its features"
    share = skew.cells_compared / skew.cells
    return f"{skew.rows:,} decisions replayed, {share:.0%} of their features comparable, {skew.equal_share:.2%} equal"
