"""Many appends over one call: each is numbered, its answer comes when it comes, and only so many wait at a time."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from ledger.eventstoredb_client import RPC_ERRORS, Answer, CallFailed, Failure, answer, failed, number, serial_of
from ledger.eventstoredb_connection import Connection


class Round:
    """Requests that are sent together; `answers` has one place per request, None until it is answered."""

    def __init__(self, requests: Sequence[Any], deadline_s: float) -> None:
        self.requests = requests
        self.answers: list[Answer | None] = [None] * len(requests)
        self.deadline_s = deadline_s
        self.left = len(requests)
        self.is_over = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note(self, at: int, found: Answer) -> None:
        self.answers[at] = found
        self.left -= 1
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: CallFailed) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Flight:
    """One call of many appends. It ends with the first failure, and with it everything that was not answered."""

    def __init__(self, connection: Connection, window: int) -> None:
        self._connection = connection
        self._window = window
        self._queue: deque[Round] = deque()
        self._waiting: dict[int, tuple[Round, int]] = {}
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._serial = 0
        self._retired = False
        self.failure: CallFailed | None = None
        self._task = asyncio.create_task(self._fly())

    async def send(self, round_: Round) -> None:
        """
        Send the requests of *round_* and wait for their answers.

        Raises:
            CallFailed: the call ended; places in `answers` that are None are not known.
        """
        if self.failure is not None:
            raise self.failure
        self._queue.append(round_)
        self._more.set()
        try:
            await round_.done
        finally:
            round_.is_over = True
            if round_.left:
                self._forget(round_)

    def retire(self) -> None:
        """End as soon as nobody waits: the call may be stuck, and what was asked of it may have been answered."""
        self._retired = True
        self._end_if_idle()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _fly(self) -> None:
        failure = CallFailed(Failure.AWAY, "the call was given up")
        try:
            async with AsyncExitStack() as stack:
                node = await stack.enter_async_context(self._connection.use())
                call = node.append_many()
                stack.callback(call.cancel)
                writer = asyncio.create_task(self._write(call))
                stack.callback(writer.cancel)
                await self._read(call)
        except CallFailed as error:
            failure = error
        finally:
            self._end(failure)

    async def _write(self, call: Any) -> None:
        """A failing write is told of by the reader, which learns why."""
        try:
            while True:
                while not self._queue:
                    self._more.clear()
                    await self._more.wait()
                round_ = self._queue[0]
                await self._write_round(call, round_)
                if self._queue and self._queue[0] is round_:
                    self._queue.popleft()
        except (*RPC_ERRORS, asyncio.InvalidStateError):
            return

    async def _write_round(self, call: Any, round_: Round) -> None:
        for at, request in enumerate(round_.requests):
            while len(self._waiting) >= self._window and not round_.is_over:
                self._room.clear()
                await self._room.wait()
            if round_.is_over:
                return
            self._serial += 1
            self._waiting[self._serial] = (round_, at)
            number(request, self._serial, round_.deadline_s)
            await call.write(request)

    async def _read(self, call: Any) -> None:
        try:
            async for response in call:
                if (place := self._waiting.pop(serial_of(response), None)) is not None:
                    place[0].note(place[1], answer(response))
                    self._room.set()
        except RPC_ERRORS as error:
            raise failed(error) from None
        raise CallFailed(Failure.AWAY, "the server ended the call")

    def _forget(self, round_: Round) -> None:
        for serial in [serial for serial, (one, _) in self._waiting.items() if one is round_]:
            del self._waiting[serial]
        if round_ in self._queue:
            self._queue.remove(round_)
        self._room.set()
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._retired and not self._waiting and not self._queue:
            self._task.cancel()

    def _end(self, failure: CallFailed) -> None:
        self.failure = failure
        for round_ in {round_ for round_, _ in self._waiting.values()} | set(self._queue):
            round_.fail(failure)
        self._waiting.clear()
        self._queue.clear()
        self._room.set()


class Appender:
    """Sends appends over one flight at a time; begins another where one failed or did not answer in time."""

    def __init__(self, connection: Connection, window: int, deadline_s: float) -> None:
        self._connection = connection
        self._window = window
        self._deadline_s = deadline_s
        self._flight: Flight | None = None
        self._old: set[Flight] = set()

    async def send(self, requests: Sequence[Any]) -> tuple[list[Answer | None], CallFailed | None]:
        """Return what came of each of *requests*, None where nothing came, and why nothing did."""
        if self._flight is None or self._flight.failure is not None:
            self._old = {flight for flight in self._old if flight.failure is None}
            self._flight = Flight(self._connection, self._window)
        flight, round_ = self._flight, Round(requests, self._deadline_s)
        try:
            await flight.send(round_)
        except CallFailed as error:
            return round_.answers, error
        except asyncio.CancelledError:
            if self._flight is flight:
                self.renew()
            raise
        return round_.answers, None

    def renew(self) -> None:
        """Begin another flight at the next send; this one ends when nobody waits for it."""
        if (flight := self._flight) is not None:
            self._flight = None
            self._old.add(flight)
            flight.retire()

    async def send_apart(self, requests: Sequence[Any]) -> tuple[list[Answer | None], CallFailed | None]:
        """As `send`, on a call of their own: nothing but *requests* can have ended it."""
        flight, round_ = Flight(self._connection, self._window), Round(requests, self._deadline_s)
        try:
            await flight.send(round_)
        except CallFailed as error:
            return round_.answers, error
        finally:
            await flight.close()
        return round_.answers, None

    async def close(self) -> None:
        for flight in [*self._old, *([] if self._flight is None else [self._flight])]:
            await flight.close()
        self._flight = None
