"""Day keys, quarantine and parked views in memory: the reference model, for tests and simulation."""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from msgspec.structs import replace

from commands.quarantine import DROPPED_MAX, RECORD_KEPT_MS, Held, ParkedView, Parking, QuarantinedBody, Room
from commands.quarantine_entries import REUSED, Entry, EntryState, as_of
from ledger.store import EventStore


class MemoryDayKeys:
    """A `DayKeyStore`."""

    def __init__(self) -> None:
        self._keys: dict[int, tuple[bytes | None, int]] = {}

    async def load_or_keep(self, day: int, wrapped: bytes, destroy_at: int) -> tuple[bytes, int] | None:
        kept, kept_until = self._keys.setdefault(day, (wrapped, destroy_at))
        return None if kept is None else (kept, kept_until)

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
        self.entries: dict[str, Entry] = {}
        """Longer there than their bodies."""
        self.views: dict[UUID, ParkedView] = {}
        self._size = 0
        self._last: ParkedView | None = None

    async def quarantine(self, bodies: Sequence[QuarantinedBody], room: Room) -> set[str]:
        refused: set[str] = set()
        for body in bodies:
            known = self.entries.get(body.name)
            if body.name not in self.bodies and not self._fits(body, room):
                refused.add(body.name)
                continue
            if known is None or as_of(known, body.received_at).state is EntryState.EXPIRED:
                self._drop(body.name)
                self.bodies[body.name] = body
                self._size += len(body.sealed)
                self.entries[body.name] = _entry(body)
            if known is not None:
                again = {"times": known.times + body.times, "last_at": max(known.last_at, body.received_at)}
                kept = replace(self.entries[body.name], received_at=known.received_at, **again)
                self.entries[body.name] = kept
        return refused

    async def park(self, views: Sequence[ParkedView], room: Room) -> list[Parking]:
        return [self._park(view, room) for view in views]

    async def due_views(self, limit: int) -> list[ParkedView]:
        rendered = await self._store.read_streams([view.impression for view in self.views.values()], 1)
        due = [view for view in self.views.values() if view.impression in rendered]
        start = due.index(self._last) + 1 if self._last in due else 0
        found = due[start : start + limit]
        self._last = found[-1] if len(found) == limit else None
        return found

    async def unpark(self, event_ids: Sequence[UUID]) -> None:
        for event_id in event_ids:
            self.views.pop(event_id, None)

    async def count(self, now: int) -> Held:
        entries = [as_of(entry, now) for entry in self.entries.values()]
        states = Counter(entry.state for entry in entries if entry.code != REUSED)
        return Held(
            waiting=states[EntryState.WAITING],
            expired=states[EntryState.EXPIRED],
            parked=len(self.views),
            moved=states[EntryState.REPLAYED] + states[EntryState.SUPERSEDED],
            reused=sum(entry.code == REUSED for entry in entries),
        )

    async def drop_expired(self, now: int, parked_before: int) -> int:
        bodies = [name for name in self.bodies if self.entries[name].expires_at <= now][:DROPPED_MAX]
        views = [event_id for event_id, view in self.views.items() if view.received_at < parked_before][:DROPPED_MAX]
        for name in bodies:
            self._drop(name)
            self.entries[name] = as_of(self.entries[name], now)
        old = [name for name, entry in self.entries.items() if _is_over(entry, now) and name not in self.bodies]
        for name in old[:DROPPED_MAX]:
            del self.entries[name]
        await self.unpark(views)
        return len(bodies) + len(views) + len(old[:DROPPED_MAX])

    def _drop(self, name: str) -> None:
        body = self.bodies.pop(name, None)
        self._size -= 0 if body is None else len(body.sealed)

    def _fits(self, body: QuarantinedBody, room: Room) -> bool:
        return len(self.bodies) < room.bodies and self._size + len(body.sealed) <= room.body_bytes

    def _park(self, view: ParkedView, room: Room) -> Parking:
        known = self.views.get(view.event_id)
        if known is not None:
            return Parking.KEPT if known.digest == view.digest else Parking.REUSED
        others = sum(one.impression == view.impression for one in self.views.values())
        if others >= room.impression_views or len(self.views) >= room.views:
            return Parking.FULL
        self.views[view.event_id] = view
        return Parking.KEPT


def _is_over(entry: Entry, now: int) -> bool:
    return entry.expires_at + RECORD_KEPT_MS <= now


def _entry(body: QuarantinedBody) -> Entry:
    return Entry(
        name=body.name,
        event_id=body.event_id,
        code=body.code,
        detail=body.detail,
        path=body.path,
        sdk=body.sdk,
        size=body.size,
        times=body.times,
        received_at=body.received_at,
        last_at=body.received_at,
        expires_at=body.expires_at,
        key_day=body.key_day,
        state=EntryState.WAITING,
    )
