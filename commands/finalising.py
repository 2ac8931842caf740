"""
Before a period is closed everything that counts in it is looked at again: a run notes its impressions, span by span.

A run is kept with how far it is: whoever starts the same one goes on where it stopped. Two at once do no harm.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from commands.reevaluations import Reevaluations
from domain.ids import ImpressionId, digest_of
from domain.reevaluation import Why

PAGE = 5_000
WAITING_MAX = 50_000
"""While so many are not done no more are noted: the table is a queue, not a copy of the period."""
SPAN_MIN_MS, SPAN_FIRST_MS, SPAN_MAX_MS = 1_000, 60_000, 86_400_000


class Run(Struct, frozen=True, kw_only=True):
    """
    Impressions that count, with event times from *since* to before *until* (epoch ms), of one campaign or of all.

    *position* is up to where of the ledger they were selected, *expected* how many they were then; *noted* are done.
    From *next_at* to before *next_until* those behind *next_after* are next.
    """

    name: str
    since: int
    until: int
    campaign: str
    position: int
    expected: int
    noted: int = 0
    next_at: int
    next_until: int
    next_after: ImpressionId | None = None
    started_at: int
    finished_at: int | None = None


class Runs(Protocol):
    """Everything is durable when a call returns. Calls raise `LedgerUnavailable` if the store does not answer."""

    async def find(self, name: str) -> Run | None: ...

    async def begin(self, run: Run, *, again: bool = False) -> Run:
        """Keep *run*, unless one of its name is there; return it. *again*: one that is finished starts anew."""

    async def step(self, before: Run, after: Run, impressions: Sequence[ImpressionId], now: int) -> bool:
        """Note *impressions* for `Why.FINALISE` and move from *before* to *after* at once; False if it is not there."""


class CountedImpressions(Protocol):
    async def page(self, run: Run, limit: int) -> list[ImpressionId]:
        """Return up to *limit* impressions that are next in *run*, in an order of its own that does not change."""


class Progress(StrEnum):
    MOVED = "moved"
    WAITING = "waiting"
    """Enough is due; workers have to catch up."""
    FINISHED = "finished"


class Finaliser:
    """`clock` gives epoch ms. Calls raise `LedgerUnavailable`, and what *counted* raises; they are safe to repeat."""

    def __init__(
        self, *, runs: Runs, noted: Reevaluations, counted: CountedImpressions, clock: Callable[[], int]
    ) -> None:
        self._runs = runs
        self._noted = noted
        self._counted = counted
        self._clock = clock

    async def step(self, run: Run) -> tuple[Run, Progress]:
        """Note a page of *run*, if there is room; return where it is then."""
        if run.finished_at is not None:
            return run, Progress.FINISHED
        if await self._noted.waiting(Why.FINALISE) >= WAITING_MAX:
            return run, Progress.WAITING
        found = await self._counted.page(run, PAGE)
        after = self._after(run, found)
        if not await self._runs.step(run, after, found, self._clock()):
            after = await self._runs.find(run.name) or run
        return after, Progress.MOVED if after.finished_at is None else Progress.FINISHED

    def _after(self, run: Run, found: Sequence[ImpressionId]) -> Run:
        """Spans are made so wide that a page is about what one holds."""
        noted, width = run.noted + len(found), run.next_until - run.next_at
        if len(found) == PAGE:
            return replace(run, noted=noted, next_after=found[-1])
        if run.next_after is not None:
            width = max(width // 2, SPAN_MIN_MS)
        elif len(found) < PAGE // 4:
            width = min(width * 2, SPAN_MAX_MS)
        at = run.next_until
        return replace(
            run,
            noted=noted,
            next_at=at,
            next_until=min(at + width, run.until),
            next_after=None,
            finished_at=self._clock() if at >= run.until else None,
        )


def a_run(since: int, until: int, campaign: str, *, position: int, expected: int, now: int) -> Run:  # noqa: PLR0913
    """Return a run that is about to begin. The same period and campaign give the same name."""
    return Run(
        name=run_name(since, until, campaign),
        since=since,
        until=until,
        campaign=campaign,
        position=position,
        expected=expected,
        next_at=since,
        next_until=min(since + SPAN_FIRST_MS, until),
        started_at=now,
    )


def run_name(since: int, until: int, campaign: str) -> str:
    return digest_of("finalise", since, until, campaign)


class MemoryRuns:
    """`Runs` in memory, for tests and simulation; notes in *noted*."""

    def __init__(self, noted: Reevaluations) -> None:
        self.kept: dict[str, Run] = {}
        self._noted = noted

    async def find(self, name: str) -> Run | None:
        return self.kept.get(name)

    async def begin(self, run: Run, *, again: bool = False) -> Run:
        known = self.kept.get(run.name)
        if known is None or (again and known.finished_at is not None):
            self.kept[run.name] = run
        return self.kept[run.name]

    async def step(self, before: Run, after: Run, impressions: Sequence[ImpressionId], now: int) -> bool:
        if self.kept.get(before.name) != before:
            return False
        self.kept[before.name] = after
        await self._noted.note(impressions, Why.FINALISE, now, now)
        return True
