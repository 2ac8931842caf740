"""How long the batch that is being decided may still wait for others, all waits of it together."""

import asyncio
from collections.abc import Callable
from typing import Any

from ledger import breaker

ANSWER_WITHIN_S = 0.040
"""
What deciding may take of the 50 ms that an answer has; queueing and the network have the rest.

Up to half of saturation batches are small, and keep to it. Large ones are those of a gate that is busy: cutting their
time short makes it busier, for what is spooled costs more than what is appended.
"""
EACH_S = 2 * breaker.EACH_S
"""Added for each render of a batch: it may be read and appended."""


class Countdown:
    """Runs while one batch is decided, else there is no end to time. *clock* is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float], within_s: float = ANSWER_WITHIN_S) -> None:
        self._clock = clock
        self._within_s = within_s
        self._ends_at = float("inf")

    def begin(self, renders: int) -> None:
        self._ends_at = self._clock() + self._within_s + renders * EACH_S

    def end(self) -> None:
        self._ends_at = float("inf")

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
