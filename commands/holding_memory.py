"""Day keys, quarantine and parked views in memory: the reference model, for tests and simulation."""

from collections.abc import Sequence
from uuid import UUID

from commands.quarantine import ParkedView, QuarantinedBody
from ledger.store import EventStore


class MemoryDayKeys:
    """A `DayKeyStore`."""

    def __init__(self) -> None:
        self._keys: dict[int, tuple[bytes | None, int]] = {}

    async def load_or_keep(self, day: int, wrapped: bytes, destroy_at: int) -> bytes | None:
        return self._keys.setdefault(day, (wrapped, destroy_at))[0]

    async def destroy_due(self, now: int) -> int:
        due = [day for day, (wrapped, at) in self._keys.items() if wrapped is not None and at <= now]
        for day in due:
            self._keys[day] = (None, self._keys[day][1])
        return len(due)


class MemoryHolding:
    """A `HoldingStore`."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.bodies: dict[str, QuarantinedBody] = {}
        self.views: dict[UUID, ParkedView] = {}

    async def quarantine(self, bodies: Sequence[QuarantinedBody]) -> None:
        for body in bodies:
            self.bodies.setdefault(body.name, body)

    async def park(self, views: Sequence[ParkedView]) -> set[UUID]:
        return {view.event_id for view in views if self.views.setdefault(view.event_id, view).digest != view.digest}

    async def due_views(self, limit: int) -> list[ParkedView]:
        rendered = await self._store.read_streams([view.impression for view in self.views.values()], 1)
        return [view for view in self.views.values() if view.impression in rendered][:limit]

    async def unpark(self, event_ids: Sequence[UUID]) -> None:
        for event_id in event_ids:
            self.views.pop(event_id, None)

    async def count(self) -> tuple[int, int]:
        return len(self.bodies), len(self.views)

    async def drop_expired(self, now: int, parked_before: int) -> int:
        bodies = [name for name, body in self.bodies.items() if body.expires_at <= now]
        views = [event_id for event_id, view in self.views.items() if view.received_at < parked_before]
        for name in bodies:
            del self.bodies[name]
        await self.unpark(views)
        return len(bodies) + len(views)
