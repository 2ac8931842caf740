"""Who is asked: the leader as far as it is known, found again when it does not answer or leads no more."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing, asynccontextmanager
from itertools import count
from typing import Any, TypeVar

from ledger.eventstoredb_address import Address
from ledger.eventstoredb_client import RPC_ERRORS, CallFailed, Failure, Node, event_of, failed
from ledger.eventstoredb_layout import Written
from ledger.store import LedgerError, LedgerUnavailable

T = TypeVar("T")

_PAUSES_S = (0.005, 0.02, 0.05, 0.1, 0.2)
_GOSSIP_S = 1.0
_LASTING = frozenset({Failure.BAD_POSITION, Failure.DELETED, Failure.REFUSED})
"""Failures that asking again does not mend."""


class StreamGone(LedgerError):
    """An operator put a tombstone on a stream that the adapter keeps for itself."""


class _Held:
    """A node and how many calls use it: closed when it was left and none does."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.users = 0
        self.left = False


class Connection:
    """The connection of one event loop to the leader of a cluster, or to the one server that there is."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._held: _Held | None = None
        self._hint: str | None = None
        self._lock = asyncio.Lock()
        self._idle: list[Node] = []
        self._turn = 0

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Node]:
        """
        Yield the node to ask.

        Raises:
            CallFailed: no leader was found. Raised inside, it makes the next use look for another node.
        """
        async with self._lock:
            while self._idle:
                await self._idle.pop().close()
            if self._held is None:
                self._held = _Held(await self._find())
            held = self._held
        held.users += 1
        try:
            yield held.node
        except CallFailed as error:
            if error.failure not in _LASTING:
                self._leave(held, error.leader)
            raise
        except asyncio.CancelledError:
            # Somebody waited for too long: the node may have vanished without a word.
            self._leave(held, None)
            raise
        finally:
            held.users -= 1
            if held.left and held.users == 0:
                await held.node.close()

    async def close(self) -> None:
        held, self._held = self._held, None
        for node in [*self._idle, *([] if held is None else [held.node])]:
            await node.close()
        self._idle.clear()

    def leave(self) -> None:
        """Look for another node at the next use."""
        if self._held is not None:
            self._leave(self._held, None)

    async def _find(self) -> Node:
        hint, self._hint = self._hint, None
        if hint is not None:
            return Node(self._address, hint)
        if not self._address.discovers:
            return Node(self._address, self._address.targets[0])
        last = CallFailed(Failure.AWAY, "no node was asked")
        targets = self._address.targets
        for _ in targets:
            # Whoever was asked last and did not answer before the deadline, is not the first to be asked again.
            target = targets[self._turn % len(targets)]
            self._turn += 1
            node = Node(self._address, target)
            try:
                leader = await node.leader(_GOSSIP_S)
            except CallFailed as error:
                last = error
            else:
                if leader is not None:
                    return Node(self._address, leader)
                last = CallFailed(Failure.NOT_LEADER, "nobody leads")
            finally:
                await node.close()
        raise last

    def _leave(self, held: _Held, leader: str | None) -> None:
        """It is closed by its last user; without one it is closed by the next who comes."""
        held.left = True
        if self._held is held:
            self._held, self._hint = None, leader
            if held.users == 0:
                self._idle.append(held.node)


async def within(deadline_s: float, ask: Callable[[], Awaitable[T]], *, patient: bool = False) -> T:
    """
    Return what *ask* does, asked again while it fails in ways that pass.

    A *patient* one may take longer than *deadline_s* as long as it raises no `TimeoutError` itself.

    Raises:
        LedgerUnavailable: it did not succeed in *deadline_s*, or the server refused.
        StreamGone: there is a tombstone.
        CallFailed: the position does not exist.
    """
    last: CallFailed | None = None
    clock = asyncio.get_running_loop().time
    until = clock() + deadline_s
    try:
        async with asyncio.timeout(None if patient else deadline_s):
            for attempt in count():
                try:
                    return await ask()
                except CallFailed as error:
                    last = _passing(error)
                if clock() > until:
                    break
                await asyncio.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
    except TimeoutError as error:
        said = "EventStoreDB did not answer in time" if last is None else str(last)
        raise LedgerUnavailable(said) from (last or error)
    raise LedgerUnavailable(str(last)) from last


async def each(asks: Iterable[Coroutine[Any, Any, T]], at_once: int) -> list[T]:
    """Return what each of *asks* does, *at_once* of them at a time; the first that fails ends the others."""
    room = asyncio.Semaphore(at_once)

    async def one(ask: Coroutine[Any, Any, T]) -> T:
        async with room:
            return await ask

    waiting = list(asks)
    if len(waiting) == 1:
        return [await waiting[0]]
    tasks = [asyncio.create_task(one(ask)) for ask in waiting]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for ask in waiting:
            ask.close()


def _passing(error: CallFailed) -> CallFailed:
    """Return *error* if it may pass, else raise what it means."""
    match error.failure:
        case Failure.REFUSED:
            raise LedgerUnavailable(str(error)) from error
        case Failure.DELETED:
            raise StreamGone(str(error)) from error
        case Failure.BAD_POSITION:
            raise error
        case _:
            return error


async def responses(node: Node, request: Any) -> AsyncGenerator[Any, None]:
    """
    Yield what *node* answers to a read.

    Raises:
        CallFailed: it broke off.
    """
    call = node.read(request)
    try:
        async for response in call:
            yield response
    except RPC_ERRORS as error:
        raise failed(error) from None
    finally:
        call.cancel()


async def events(node: Node, request: Any) -> AsyncGenerator[Written, None]:
    """Yield the events that *node* answers to a read; none if there is no such stream."""
    async with aclosing(responses(node, request)) as found:
        async for response in found:
            if (event := event_of(response)) is not None:
                yield event
