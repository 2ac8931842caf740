"""
Not waiting for a store that does not answer: a deadline per call, and a breaker with hysteresis around all of them.

It opens when nothing was answered for a while, several calls in a row; it closes when several probes in a row were
answered, at the earliest after a pause that doubles as long as it opens again soon. A slow store does not open it: what
is answered late is an answer.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import date
from typing import Any, TypeVar

from msgspec import Struct

from domain.vocabulary import DataSet
from ledger.store import Append, Commit, EventStore, LedgerUnavailable, Outcome, StreamId

T = TypeVar("T")

LATE_MAX = 1
"""Calls that may be on their way after their deadline; meanwhile nothing is asked, so that only one caller waited."""
EACH_S = 0.000_2
"""Added to the deadline for each append of a call: eight times what one takes on an idle machine (24 µs)."""
_GRACE_S = 0.001
_LEAST_S = 0.004
"""What has less time left is not asked: a call that will hardly be answered in time is worse than none."""


class NotAsked(LedgerUnavailable):
    """The store does not answer at the moment, so it was not asked: nothing of it can have happened."""


class BreakerRules(Struct, frozen=True, kw_only=True):
    """When to stop asking and when to ask again. Durations in seconds."""

    failures: int = 3
    """So many calls in a row were not answered,"""
    silence_s: float = 0.25
    """and it is so long since the first of them: it opens."""
    probes: int = 3
    """So many probes in a row were answered,"""
    pause_s: float = 1.0
    """and it was open for so long: it closes."""
    pause_max_s: float = 30.0
    calm_s: float = 10.0
    """If it opens again sooner than this, the pause is twice as long."""
    probe_every_s: float = 0.25


class Breaker:
    """Closed: ask. Open: do not. *clock* is monotonic, in seconds."""

    def __init__(self, rules: BreakerRules, clock: Callable[[], float]) -> None:
        self.rules = rules
        self.is_open = False
        self.opened = 0
        self.clock = clock
        self._failures = 0
        self._failing_since = 0.0
        self._changed_at = float("-inf")
        self._pause_s = rules.pause_s
        self._probes = 0

    def answered(self) -> None:
        """A call was answered, in time or late."""
        self._failures = 0

    def failed(self) -> None:
        """A call was not answered."""
        if self.is_open:
            return
        now, rules = self.clock(), self.rules
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if self._failures >= rules.failures and now - self._failing_since >= rules.silence_s:
            is_soon = now - self._changed_at < rules.calm_s
            self._pause_s = min(2 * self._pause_s, rules.pause_max_s) if is_soon else rules.pause_s
            self.is_open, self._changed_at, self._probes = True, now, 0
            self.opened += 1

    def probed(self, *, is_answered: bool) -> None:
        """A probe of the open breaker was answered, or was not."""
        self._probes = self._probes + 1 if is_answered else 0
        if self.is_open and self._probes >= self.rules.probes and self.clock() - self._changed_at >= self._pause_s:
            self.is_open, self._changed_at = False, self.clock()
            self.answered()


class Guard:
    """
    Calls with a deadline, through a breaker. What is not answered in time goes on without its caller.

    *left_s* tells how long the caller can wait at all, for several calls together.
    """

    def __init__(self, breaker: Breaker, deadline_s: float, left_s: Callable[[], float] = lambda: float("inf")) -> None:
        self.breaker = breaker
        self._deadline_s = deadline_s
        self._left_s = left_s
        self.missed_at = float("-inf")
        """When a call was not answered in time for the last time, by the breaker's clock."""
        self.asked_at = float("-inf")
        """When somebody called for the last time, by the breaker's clock."""
        self._late: set[asyncio.Task[Any]] = set()
        self._probe: asyncio.Task[object] | None = None

    async def call(self, ask: Callable[..., Coroutine[Any, Any, T]], *arguments: object, parts: int = 0) -> T:
        """
        Return what *ask* answers; it may take longer where it has many *parts*.

        Raises:
            NotAsked: the breaker is open, too much is on its way already, or no time is left.
            LedgerUnavailable: no answer in time, or none at all; it may have happened, or may happen yet.
        """
        self.asked_at = self.breaker.clock()
        if self.breaker.is_open or len(self._late) >= LATE_MAX:
            self.breaker.failed()  # what is on its way for too long is as good as unanswered
            raise NotAsked("the store does not answer at the moment")
        left_s = self._left_s()
        if left_s < _LEAST_S:
            raise NotAsked("no time is left to ask the store")
        task = asyncio.ensure_future(ask(*arguments))
        deadline_s = min(self._deadline_s + parts * EACH_S, left_s)
        try:
            await _done(task, deadline_s)
            if not task.done():  # this process may have slept over the answer that is there
                await _done(task, _GRACE_S)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            self.missed_at = self.breaker.clock()
            self._late.add(task)
            task.add_done_callback(self._came_late)
            self.breaker.failed()
            raise LedgerUnavailable(f"no answer within {deadline_s * 1_000:.0f} ms")
        return self._answer(task)

    async def probe(self, ask: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Ask whether the store answers again; what is not answered in time is waited for no longer."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.ensure_future(ask())
        task = self._probe
        await asyncio.wait({task}, timeout=self._deadline_s)
        self.breaker.probed(is_answered=task.done() and not task.cancelled() and task.exception() is None)

    def _answer(self, task: "asyncio.Task[T]") -> T:
        try:
            answer = task.result()
        except LedgerUnavailable:
            self.breaker.failed()
            raise
        except BaseException:
            self.breaker.answered()
            raise
        self.breaker.answered()
        return answer

    def _came_late(self, task: "asyncio.Task[Any]") -> None:
        self._late.discard(task)
        if not task.cancelled() and task.exception() is None:
            self.breaker.answered()


async def _done(task: "asyncio.Task[Any]", within_s: float) -> None:
    """Return when *task* is done or its time is up; `asyncio.wait` does that, too, in twice the time."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    task.add_done_callback(wake)
    timer = loop.call_later(within_s, wake)
    try:
        await waiter
    finally:
        timer.cancel()
        task.remove_done_callback(wake)


class GuardedStore:
    """An `EventStore` whose appends and reads of streams have a deadline and a breaker; the rest is passed on."""

    def __init__(self, store: EventStore, guard: Guard) -> None:
        self._store = store
        self._guard = guard

    async def append(self, appends: Sequence[Append], recorded_at: int) -> list[Outcome]:
        return await self._guard.call(self._store.append, appends, recorded_at, parts=len(appends))

    async def read_streams(self, streams: Sequence[StreamId], limit: int) -> dict[StreamId, list[Commit]]:
        return await self._guard.call(self._store.read_streams, streams, limit, parts=len(streams))

    async def read_all(self, after: int, limit: int) -> list[Commit]:
        return await self._store.read_all(after, limit)

    async def head(self) -> int:
        return await self._store.head()

    async def before_last(self, commits: int) -> int:
        return await self._store.before_last(commits)

    async def prepare_days(self, first: date, last: date, data_set: DataSet) -> None:
        await self._store.prepare_days(first, last, data_set)

    async def close(self) -> None:
        await self._store.close()
