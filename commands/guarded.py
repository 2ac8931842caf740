"""Day keys, quarantine and parked views behind a deadline and a breaker, as far as answers wait for them."""

from collections.abc import Sequence
from uuid import UUID

from commands.keyring import DayKeyStore
from commands.quarantine import Held, HoldingStore, ParkedView, Parking, QuarantinedBody, Room
from ledger.breaker import Guard


class GuardedDayKeys:
    """A `DayKeyStore`."""

    def __init__(self, store: DayKeyStore, guard: Guard) -> None:
        self._store = store
        self._guard = guard

    async def load_or_keep(self, day: int, wrapped: bytes, destroy_at: int) -> tuple[bytes, int] | None:
        return await self._guard.call(self._store.load_or_keep, day, wrapped, destroy_at)

    async def destroy_due(self, now: int) -> int:
        return await self._store.destroy_due(now)


class GuardedHolding:
    """A `HoldingStore`."""

    def __init__(self, store: HoldingStore, guard: Guard) -> None:
        self._store = store
        self._guard = guard

    async def quarantine(self, bodies: Sequence[QuarantinedBody], room: Room) -> set[str]:
        return await self._guard.call(self._store.quarantine, bodies, room)

    async def park(self, views: Sequence[ParkedView], room: Room) -> list[Parking]:
        return await self._guard.call(self._store.park, views, room)

    async def due_views(self, limit: int) -> list[ParkedView]:
        return await self._store.due_views(limit)

    async def unpark(self, event_ids: Sequence[UUID]) -> None:
        await self._store.unpark(event_ids)

    async def count(self, now: int) -> Held:
        return await self._store.count(now)

    async def drop_expired(self, now: int, parked_before: int) -> int:
        return await self._store.drop_expired(now, parked_before)
