"""Requests that shelter at the same time share one write: whoever's turn it is takes along what has come meanwhile."""

import asyncio
from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from commands.shelter_store import Key, Room, Sheltered, ShelterStore
from ledger.store import LedgerUnavailable

BATCH_MAX = 512
"""A write takes no further request once it has so many events."""
WAIT_MAX_S = 0.5
"""While the oldest request has waited longer than this, no other is let in."""


class _Waiting(Struct):
    events: Sequence[Sheltered]
    since: float
    refused: set[Key] | None = None
    failed: str = ""


class SharedWrites:
    """Keeps events in *store*, one write at a time, in order of arrival. Belongs to one event loop."""

    def __init__(self, store: ShelterStore, room: Room) -> None:
        self._store = store
        self._room = room
        self._queue: deque[_Waiting] = deque()
        self._turn: asyncio.Lock = asyncio.Lock()

    async def keep(self, events: Sequence[Sheltered]) -> set[Key]:
        """
        Keep *events* once they are durable; return the keys of those for which there is no room.

        Raises:
            LedgerUnavailable: the store does not answer, or not fast enough; they may have been kept.
        """
        clock = asyncio.get_running_loop().time
        if self._turn.locked() and self._queue and clock() - self._queue[0].since > WAIT_MAX_S:
            raise LedgerUnavailable("others have waited for the shelter's store for too long")
        own = _Waiting(events, clock())
        self._queue.append(own)
        async with self._turn:
            while own.refused is None and not own.failed:
                await self._write()
        if own.refused is None:
            raise LedgerUnavailable(own.failed)
        return own.refused

    async def _write(self) -> None:
        """Write what waits, up to a full batch; every request of it knows what became of it."""
        together, size = [], 0
        for waiting in self._queue:
            together.append(waiting)
            size += len(waiting.events)
            if size >= BATCH_MAX:
                break
        try:
            refused = await self._store.keep([event for one in together for event in one.events], self._room)
        except BaseException as error:
            for one in together:
                one.failed = str(error) or type(error).__name__
            if not isinstance(error, LedgerUnavailable):
                raise
        else:
            for one in together:
                one.refused = refused
        finally:
            for _ in together:
                self._queue.popleft()
