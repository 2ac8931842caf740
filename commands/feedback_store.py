"""
Where feedback is kept from before it is answered until it is a label, and what became of it.

The table is the outbox, too: whatever is not settled has a `due_at`, at which somebody looks at it again, also when a
message, a worker or the whole broker was lost.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from domain.feedback import Feedback
from domain.ids import ImpressionId

LISTED_MAX = 1_000
OPENED_MAX = 1_000
FORGOTTEN_MAX = 10_000
"""One call of `forget` deletes at most so many of either kind."""
SETTLED_KEPT_MS = 7 * 86_400_000
"""For so long what is settled is still told; after it a repeat is recognised by the ledger alone."""
ORPHAN_KEPT_MS = 30 * 86_400_000
"""For so long an orphan's impression is looked for."""


class FeedbackState(StrEnum):
    WAITING = "waiting"
    """On its way to its impression."""
    PARKED = "parked"
    """No render of the impression has arrived."""
    ORPHANED = "orphaned"
    """None will any more; should one come all the same, it still becomes a label."""
    APPLIED = "applied"
    """It is a label in the ledger."""
    REFUSED = "refused"
    """The ledger has its id with another content, from before this table remembers."""
    HELD = "held"
    """It speaks of many impressions by what they have in common, and waits for bulk corrections."""


OPEN = (FeedbackState.WAITING, FeedbackState.PARKED, FeedbackState.ORPHANED)
SETTLED = (FeedbackState.APPLIED, FeedbackState.REFUSED)


class Kept(Struct, frozen=True, kw_only=True):
    """
    One piece of feedback and how it stands. Times are epoch ms; `sent_by` names the key that it came with.

    `error` says why the last try failed, and `tries` how many in a row did. `orphan_at` is None where it is held.
    """

    feedback: Feedback
    digest: str
    sent_by: str
    received_at: int
    orphan_at: int | None
    state: FeedbackState
    due_at: int | None
    tries: int = 0
    error: str = ""
    settled_at: int | None = None


class Room(Struct, frozen=True):
    """How much is taken: waiting and parked in all, held in all, and of one impression (of those remembered)."""

    pending_max: int
    held_max: int
    impression_max: int


class Fate(StrEnum):
    KEPT = "kept"
    KNOWN = "known"
    """It was here before, with the same content."""
    REUSED = "reused"
    """Its id was here before, with another content."""
    CROWDED = "crowded"
    """Its impression has as much as one may have."""
    FULL = "full"
    """There is no room."""


class Placed(Struct, frozen=True):
    """What became of one that was to be kept. `digest` is of what is kept under its id; empty if nothing is."""

    fate: Fate
    digest: str = ""


class Move(Struct, frozen=True):
    """Feedback *id* comes to stand in `state`, to be looked at again at `due_at` (None: never), for `error` if any."""

    id: UUID
    state: FeedbackState
    due_at: int | None = None
    error: str = ""


class FeedbackBooks(Struct, frozen=True, kw_only=True):
    """
    What was ever accepted, and where it is. `applied`, `refused`, `orphaned` count what is forgotten, too.

    `oldest_at` is when the first of what waits was received, `failing` how much of it failed at its last try.
    """

    accepted: int = 0
    waiting: int = 0
    parked: int = 0
    orphaned: int = 0
    applied: int = 0
    refused: int = 0
    held: int = 0
    failing: int = 0
    oldest_at: int | None = None

    @property
    def unaccounted(self) -> int:
        """Return what was accepted and is nowhere (or is twice, if negative): 0, always."""
        return self.accepted - sum(int(getattr(self, state.value)) for state in FeedbackState)


class Wanted(Struct, frozen=True, kw_only=True):
    """
    Which to list, the newest first. Empty `states` mean all; `after` is the last one seen: when received, and its id.

    Raises:
        ValueError: `limit` is not in 1 to LISTED_MAX.
    """

    states: tuple[FeedbackState, ...] = ()
    impression: ImpressionId | None = None
    failing: bool = False
    after: tuple[int, UUID] | None = None
    limit: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= LISTED_MAX:
            raise ValueError(f"limit {self.limit} is not in 1 to {LISTED_MAX}")


class FeedbackStore(Protocol):
    """Everything is durable when a call returns. Calls raise `LedgerUnavailable` if the store does not answer."""

    async def keep(self, items: Sequence[Kept], room: Room) -> list[Placed]:
        """
        Keep each of *items*, unless its id is known or there is no room; say which, in order.

        Their ids differ; they came together, under one key.
        """

    async def claim(self, now: int, again_at: int, limit: int) -> list[UUID]:
        """
        Return what is due at *now*, the longest due first, and make it due *again_at*.

        Of two callers at once each gets its own.
        """

    async def unsettled(self, ids: Sequence[UUID]) -> list[Kept]:
        """Return those of *ids*, at most OPENED_MAX, that may still become a label."""

    async def move(self, moves: Sequence[Move], now: int) -> int:
        """Make *moves*, whose ids differ, of what is not settled; say of how many. What is settled stays as it is."""

    async def find(self, id_: UUID) -> Kept | None: ...

    async def entries(self, wanted: Wanted) -> list[Kept]: ...

    async def books(self) -> FeedbackBooks:
        """Return the books as they were kept with every change; quick, however much there is."""

    async def count(self) -> dict[FeedbackState, int]:
        """Count what is remembered, one by one: what the books are checked against. Slow where there is much."""

    async def forget(self, now: int) -> int:
        """Delete what was settled `SETTLED_KEPT_MS` before *now*, and orphans after `ORPHAN_KEPT_MS`; say how many."""
