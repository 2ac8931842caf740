"""Where sheltered renders lie until they are forwarded, what is remembered of them afterwards, and the orders."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, TypeAlias
from uuid import UUID

from msgspec import Struct

from domain.ids import ImpressionId
from domain.shelter import Signed

DAY_MS = 86_400_000
RECORD_KEPT_MS = 30 * DAY_MS
"""For so long after its body is gone, an entry still says that it was here and what became of it."""
ORDERS_MAX = 1_000
DROP_MAX = 10_000
"""One call of `drop_expired` deletes at most so many bodies, and as many entries."""

Key: TypeAlias = tuple[str, ImpressionId, UUID]
"""Home cell, impression, event id: what an event is kept once by."""


class State(StrEnum):
    WAITING = "waiting"
    """Kept here, sealed, until its home takes it."""
    MOVED = "moved"
    """Its home has answered for it; the body is gone here."""
    EXPIRED = "expired"
    """Its time was up first; the body is gone for good."""
    ARRIVED = "arrived"
    """Came to this cell out of another's shelter; there was never a body here."""


class Sheltered(Struct, frozen=True, kw_only=True):
    """One event for the cell `home` in a sealed box. Times are epoch ms; `number` is its place in order of arrival."""

    home: str
    region: str
    impression: ImpressionId
    event_id: UUID
    received_at: int
    expires_at: int
    sealed: bytes
    number: int = 0
    tries: int = 0

    @property
    def key(self) -> Key:
        return self.home, self.impression, self.event_id


class Room(Struct, frozen=True):
    """How much may wait at once: events, and bytes of their boxes."""

    events_max: int
    bytes_max: int


class Settled(Struct, frozen=True):
    """`outcome` is what the home said of the event *key*, in a word or two."""

    key: Key
    outcome: str


class Counts(Struct, frozen=True, kw_only=True):
    """Distinct events by state, and the bytes of what waits."""

    waiting: int = 0
    expired: int = 0
    moved: int = 0
    arrived: int = 0
    bytes_waiting: int = 0

    @property
    def kept(self) -> int:
        """Return how many were ever taken in here, of those still remembered."""
        return self.waiting + self.expired + self.moved


class Dropped(Struct, frozen=True):
    bodies: int = 0
    entries: int = 0

    @property
    def is_all(self) -> bool:
        return max(self.bodies, self.entries) < DROP_MAX


class Waiting(Struct, frozen=True, kw_only=True):
    """What waits for one home cell: how many events, since when the oldest."""

    home: str
    region: str
    events: int
    oldest_at: int


class KeptOrder(Struct, frozen=True):
    """An order as it came; `revoked_at` (epoch ms) is None while nobody has taken it back."""

    order_id: UUID
    signed: Signed
    valid_until: int
    revoked_at: int | None = None


class ShelterStore(Protocol):
    """Everything is durable when a call returns. Calls raise `LedgerUnavailable` if the store does not answer."""

    async def keep(self, events: Sequence[Sheltered], room: Room) -> set[Key]:
        """
        Keep *events*, in order, each once however often it comes; return the keys of those for which there is no room.

        An event that is here already in whatever state stays as it is and needs no room.
        """

    async def homes(self) -> list[str]:
        """Return the home cells that something waits for, in order of name; quick, however much waits."""

    async def due(self, home: str, now: int, limit: int, bytes_max: int) -> list[Sheltered]:
        """Return what waits for *home* and is due by *now*, in order, up to both limits; one event at least."""

    async def settle(self, settled: Sequence[Settled], now: int) -> None:
        """Delete the bodies of events that their home has answered for, and remember what it said."""

    async def defer(self, keys: Sequence[Key], until: int) -> None:
        """Try these again, not before *until*; nothing else waits for them."""

    async def arrived(self, keys: Sequence[Key], now: int) -> None:
        """Remember that these came out of another cell's shelter and are taken in here."""

    async def waiting(self, now: int) -> list[Waiting]:
        """Return what waits, by home cell in order of name."""

    async def count(self, now: int) -> Counts: ...

    async def drop_expired(self, now: int) -> Dropped:
        """Delete bodies that expired by *now*, and entries whose body is gone for `RECORD_KEPT_MS`; see `DROP_MAX`."""

    async def keep_order(self, order: KeptOrder) -> KeptOrder:
        """Keep *order*; return it as it is kept: one that was revoked stays so."""

    async def revoke(self, order_id: UUID, now: int) -> KeptOrder | None:
        """Take an order back; return it as it is kept, None if there is none of that id."""

    async def orders(self, since: int) -> list[KeptOrder]:
        """Return the latest `ORDERS_MAX` orders that were to end after *since*, or were revoked after it."""
