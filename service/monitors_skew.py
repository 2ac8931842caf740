"""The inspection of training-serving skew: the ledger's tail, replayed through the code that fills data sets."""

import asyncio
from collections.abc import AsyncIterator, Callable

from ledger.store import Commit, EventStore
from ml.monitors.checks import SKEW_CHECKS
from ml.monitors.replaying import Comparison, Span, unsettled
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
        after = await self._store.before_last(self._sample)
        spans: list[Span] = []
        async for commits in self._pages(after, head):
            spans = await asyncio.to_thread(unsettled, commits, spans)
        comparison: Comparison | None = None
        async for commits in self._pages(after, head):
            if comparison is None:
                comparison = Comparison(commits[0].recorded_at if after else 0, spans)
            await asyncio.to_thread(comparison.take, commits)
        known = KnownThrough(head, began)
        if comparison is None:
            return Seen(known_through=known, lag_s=0.0, measured=[], says="the ledger is empty")
        self.last = comparison.skew
        return Seen(known_through=known, lag_s=0.0, measured=measured(self.last), says=_says(comparison))

    async def _pages(self, after: int, head: int) -> AsyncIterator[list[Commit]]:
        while after < head and (commits := await self._store.read_all(after, PAGE_MAX)):
            yield [commit for commit in commits if commit.position <= head]
            after = commits[-1].position


def _says(comparison: Comparison) -> str:
    skew = comparison.skew
    late = f"; {comparison.left_out:,} left out, for the ledger answered late then" if comparison.left_out else ""
    if not skew.rows:
        return f"no decision to replay has logged its features{late}"
    share = skew.cells_compared / skew.cells
    replayed = f"{skew.rows:,} decisions replayed, {share:.0%} of their features comparable"
    return f"{replayed}, {skew.equal_share:.2%} equal{late}"
