"""Micro-batches: requests meet while the commit before them is on its way; no timer."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from commands.items import Answer, Item


class Overloaded(Exception):
    """The oldest waiting render has waited too long; nothing of the request was taken."""


class _Waiting(Struct):
    items: Sequence[Item]
    since: float
    answers: list[Answer]
    done: "asyncio.Future[list[Answer]]"
    taken: int = 0


class Batcher:
    """
    Cuts what waits into batches of at most *batch_max* items, one at a time, in order of arrival.

    *waited* is told before each batch how long, in seconds, its oldest item has waited.
    """

    def __init__(
        self,
        decide: Callable[[Sequence[Item]], Awaitable[list[Answer]]],
        *,
        batch_max: int,
        wait_max_s: float,
        waited: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._decide = decide
        self._batch_max = batch_max
        self._wait_max_s = wait_max_s
        self._waited = waited
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._clock = asyncio.get_running_loop().time

    @property
    def oldest_s(self) -> float:
        """How long, in seconds, the oldest item has waited."""
        return self._clock() - self._queue[0].since if self._queue else 0.0

    def check_admission(self) -> None:
        """
        Refuse by age of the oldest waiting render, not by count.

        Raises:
            Overloaded: it has waited longer than `wait_max_s`.
        """
        if self.oldest_s > self._wait_max_s:
            raise Overloaded

    async def submit(self, items: Sequence[Item]) -> list[Answer]:
        """
        Return one answer per item, in order, once all are durable.

        Raises:
            LedgerUnavailable: the ledger did not take them; they may be sent again.
        """
        if not items:
            return []
        waiting = _Waiting(items, self._clock(), [], asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._wake.set()
        return await waiting.done

    async def run(self) -> None:
        """Decide until cancelled."""
        while True:
            while not self._queue:
                self._wake.clear()
                await self._wake.wait()
            self._waited(self.oldest_s)
            await self._flush(self._take())

    def _take(self) -> list[tuple[_Waiting, Sequence[Item]]]:
        """Take slices off the head of the queue, a request's in order, up to a full batch."""
        room, slices = self._batch_max, []
        while room and self._queue:
            waiting = self._queue[0]
            cut = waiting.items[waiting.taken : waiting.taken + room]
            waiting.taken += len(cut)
            room -= len(cut)
            slices.append((waiting, cut))
            if waiting.taken == len(waiting.items):
                self._queue.popleft()
        return slices

    async def _flush(self, slices: Sequence[tuple[_Waiting, Sequence[Item]]]) -> None:
        items = [item for _, cut in slices for item in cut]
        try:
            answers = await self._decide(items)
        except Exception as error:  # noqa: BLE001 (handed to every caller that waits for it)
            for waiting, _ in slices:
                self._fail(waiting, error)
            return
        at = 0
        for waiting, cut in slices:
            waiting.answers += answers[at : at + len(cut)]
            at += len(cut)
            if len(waiting.answers) == len(waiting.items) and not waiting.done.done():
                waiting.done.set_result(waiting.answers)

    def _fail(self, waiting: _Waiting, error: Exception) -> None:
        if self._queue and self._queue[0] is waiting:
            self._queue.popleft()
        if not waiting.done.done():
            waiting.done.set_exception(error)
