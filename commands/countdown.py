"""How long the batch that is being decided may still wait for others, all waits of it together."""

import asyncio
from collections.abc import Callable
from typing import Any

from ledger import breaker

ANSWER_WITHIN_S = 0.035
"""
What waiting and deciding may take of the 50 ms that an answer has; the spool and the network have the rest.

A gate with time to spare keeps to it. One that is busy does not: cutting its batches' time short makes it busier, for
what is spooled costs more than what is appended.
"""
SMALL_MAX = 64
"""Renders that need no more than that."""
EACH_S = 2 * breaker.EACH_S
"""Added for each render beyond those, and for each of a busy gate: it may be read and appended."""
BUSY_SHARE = 0.5
"""A gate that uses so much of a core is busy."""
_NEW_SHARE = 0.25
"""How much the last moment counts, of a quarter of a second."""


class Busyness:
    """
    Whether this process is busy, by how much of a core it uses.

    *clock* is monotonic, *cpu_clock* counts its CPU time; both in seconds.
    """

    def __init__(self, clock: Callable[[], float], cpu_clock: Callable[[], float]) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._at, self._used = clock(), cpu_clock()
        self.share = 0.0

    def tick(self) -> None:
        """Look again; called every quarter of a second."""
        at, used = self._clock(), self._cpu_clock()
        if at > self._at:
            self.share += _NEW_SHARE * ((used - self._used) / (at - self._at) - self.share)
            self._at, self._used = at, used

    def is_busy(self) -> bool:
        return self.share >= BUSY_SHARE


class Countdown:
    """
    Runs while one batch is decided, else there is no end to time.

    *clock* is monotonic, in seconds; *is_busy* tells whether patience is cheaper than spooling.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        within_s: float = ANSWER_WITHIN_S,
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clock = clock
        self._within_s = within_s
        self._is_busy = is_busy
        self._since = self._ends_at = float("inf")

    def waited(self, seconds: float) -> None:
        """Say before a batch begins how long its oldest render has waited."""
        self._since = self._clock() - seconds

    def begin(self, renders: int) -> None:
        now = self._clock()
        if self._is_busy():
            self._ends_at = now + self._within_s + renders * EACH_S
        else:
            self._ends_at = min(self._since, now) + self._within_s + max(0, renders - SMALL_MAX) * EACH_S

    def end(self) -> None:
        self._since = self._ends_at = float("inf")

    def left_s(self) -> float:
        """Return how many seconds are left, 0 when time is up, and infinite where nothing is counted down."""
        return max(0.0, self._ends_at - self._clock())


async def finishes(task: "asyncio.Task[Any]", within_s: float) -> bool:
    """
    Wait for *task*, but no longer than *within_s*; tell whether it is done.

    If it is not, it goes on without its caller; its error, should it end in one, is nobody's.
    """
    if not task.done():
        await asyncio.wait({task}, timeout=within_s)
    if not task.done():
        task.add_done_callback(_let_go)
    return task.done()


def _let_go(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()
