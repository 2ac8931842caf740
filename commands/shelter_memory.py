"""The shelter's store in memory: the reference model, for tests and simulation."""

from collections import Counter
from collections.abc import Iterable, Sequence
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from commands.shelter_store import (
    DROP_MAX,
    ORDERS_MAX,
    RECORD_KEPT_MS,
    Counts,
    Dropped,
    KeptOrder,
    Key,
    Room,
    Settled,
    Sheltered,
    State,
    Waiting,
)


class Entry(Struct):
    """`event` is None once its body is gone; `gone_at` (epoch ms) says when."""

    state: State
    event: Sheltered | None = None
    next_at: int = 0
    outcome: str = ""
    gone_at: int | None = None


class MemoryShelter:
    """A `ShelterStore`."""

    def __init__(self) -> None:
        self.entries: dict[Key, Entry] = {}
        self._orders: dict[UUID, KeptOrder] = {}
        self._numbered = 0

    async def keep(self, events: Sequence[Sheltered], room: Room) -> set[Key]:
        waiting = [entry.event for entry in self.entries.values() if entry.event is not None]
        number, size = len(waiting), sum(len(event.sealed) for event in waiting)
        refused = set()
        for event in events:
            if event.key in self.entries:
                continue
            number, size = number + 1, size + len(event.sealed)
            if number > room.events_max or size > room.bytes_max:
                refused.add(event.key)
                continue
            self._numbered += 1
            self.entries[event.key] = Entry(State.WAITING, replace(event, number=self._numbered))
        return refused

    async def homes(self) -> list[str]:
        return sorted({entry.event.home for entry in self.entries.values() if entry.event is not None})

    async def due(self, home: str, now: int, limit: int, bytes_max: int) -> list[Sheltered]:
        page: list[Sheltered] = []
        size = 0
        for event, entry in self._waiting(now):
            if event.home != home or entry.next_at > now:
                continue
            size += len(event.sealed)
            if page and (size > bytes_max or len(page) == limit):
                break
            page.append(event)
        return page

    async def settle(self, settled: Sequence[Settled], now: int) -> None:
        for one in settled:
            entry = self.entries.get(one.key)
            if entry is not None and entry.state in {State.WAITING, State.EXPIRED}:
                self.entries[one.key] = Entry(State.MOVED, outcome=one.outcome, gone_at=now)

    async def defer(self, keys: Sequence[Key], until: int) -> None:
        for key in keys:
            entry = self.entries.get(key)
            if entry is not None and entry.event is not None:
                entry.event, entry.next_at = replace(entry.event, tries=entry.event.tries + 1), until

    async def arrived(self, keys: Sequence[Key], now: int) -> None:
        for key in keys:
            self.entries.setdefault(key, Entry(State.ARRIVED, gone_at=now))

    async def waiting(self, now: int) -> list[Waiting]:
        found: dict[str, list[Sheltered]] = {}
        for event, _ in self._waiting(now):
            found.setdefault(event.home, []).append(event)
        return [
            Waiting(
                home=home,
                region=events[0].region,
                events=len(events),
                oldest_at=min(event.received_at for event in events),
            )
            for home, events in sorted(found.items())
        ]

    async def count(self, now: int) -> Counts:
        waiting = [event for event, _ in self._waiting(now)]
        states = Counter(entry.state for entry in self.entries.values())
        return Counts(
            waiting=len(waiting),
            expired=states[State.EXPIRED] + states[State.WAITING] - len(waiting),
            moved=states[State.MOVED],
            arrived=states[State.ARRIVED],
            bytes_waiting=sum(len(event.sealed) for event in waiting),
        )

    async def drop_expired(self, now: int) -> Dropped:
        bodies = [
            key for key, entry in self.entries.items() if entry.event is not None and entry.event.expires_at <= now
        ]
        old = [
            key
            for key, entry in self.entries.items()
            if entry.gone_at is not None and entry.gone_at + RECORD_KEPT_MS <= now
        ]
        for key in bodies[:DROP_MAX]:
            self.entries[key] = Entry(State.EXPIRED, gone_at=now)
        for key in old[:DROP_MAX]:
            del self.entries[key]
        return Dropped(len(bodies[:DROP_MAX]), len(old[:DROP_MAX]))

    async def keep_order(self, order: KeptOrder) -> KeptOrder:
        return self._orders.setdefault(order.order_id, order)

    async def revoke(self, order_id: UUID, now: int) -> KeptOrder | None:
        order = self._orders.get(order_id)
        if order is not None and order.revoked_at is None:
            order = self._orders[order_id] = replace(order, revoked_at=now)
        return order

    async def orders(self, since: int) -> list[KeptOrder]:
        found = [order for order in self._orders.values() if max(order.valid_until, order.revoked_at or 0) > since]
        return sorted(found, key=lambda one: (one.valid_until, one.order_id))[-ORDERS_MAX:]

    def _waiting(self, now: int) -> Iterable[tuple[Sheltered, Entry]]:
        found = [
            (entry.event, entry)
            for entry in self.entries.values()
            if entry.event is not None and entry.event.expires_at > now
        ]
        return sorted(found, key=lambda pair: pair[0].number)
