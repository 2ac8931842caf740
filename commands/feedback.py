"""Feedback comes in: read, checked, recognised, and durable before it is answered. Nothing is decided here."""

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from commands.faults import told
from commands.feedback_store import Fate, FeedbackState, FeedbackStore, Kept, Placed, Room
from domain import feedback as rules
from domain.feedback import Feedback, FeedbackRefusal, orphan_at

HELD_MAX = 10_000
IMPRESSION_MAX = 64
"""Feedback of one impression: each is an event in its stream."""
_AT_ONCE = 50
HELD_NOTE = "kept; the impressions that it speaks of get their labels once there are bulk corrections"

_FEEDBACK = msgspec.json.Decoder(Feedback)


class FeedbackStatus(StrEnum):
    ACCEPTED = "accepted"
    """It is on disk, and becomes a label of its impression, when that has rendered."""
    HELD = "held"
    """It is on disk, and waits for bulk corrections: it speaks of many impressions."""
    REFUSED = "refused"
    MALFORMED = "malformed"
    """It cannot be read. Nothing is kept of it: whoever sent it knows what it says."""
    DEFERRED = "deferred"
    """There is no room for it. Nothing of it was taken: send it again."""


class FeedbackAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the caller is told about one piece of feedback; without an id it cannot be read."""

    id: UUID | None = None
    status: FeedbackStatus
    reason: FeedbackRefusal | None = None
    errors: tuple[str, ...] = ()
    note: str = ""


class FeedbackInbox:
    """
    Takes feedback for one cell. `clock` gives epoch ms.

    At most *pending_max* wait or are parked at once.
    """

    def __init__(
        self,
        store: FeedbackStore,
        *,
        token_age_max_ms: int,
        clock_ahead_max_ms: int,
        pending_max: int,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._clock_ahead_max_ms = clock_ahead_max_ms
        self._token_age_max_ms = token_age_max_ms
        self._room = Room(pending_max, HELD_MAX, IMPRESSION_MAX)
        self._clock = clock

    async def take(self, raws: Sequence[bytes | Raw], sent_by: str) -> list[FeedbackAnswer]:
        """
        Take the feedback in *raws*, sent with the key *sent_by*; return one answer each, in order.

        Raises:
            LedgerUnavailable: nothing may be answered; the same feedback may be sent again.
        """
        now, read = self._clock(), list[Kept | FeedbackAnswer]()
        for start in range(0, len(raws), _AT_ONCE):
            read += [self._read(raw, sent_by, now) for raw in raws[start : start + _AT_ONCE]]
            await asyncio.sleep(0)  # decisions go on between
        first: dict[UUID, Kept] = {}
        for one in read:
            if isinstance(one, Kept):
                first.setdefault(one.feedback.id, one)
        placed = await self._store.keep(list(first.values()), self._room) if first else []
        by_id = dict(zip(first, placed, strict=True))
        return [one if isinstance(one, FeedbackAnswer) else _answer(one, by_id[one.feedback.id]) for one in read]

    def _read(self, raw: bytes | Raw, sent_by: str, now: int) -> Kept | FeedbackAnswer:
        try:
            feedback = _FEEDBACK.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return FeedbackAnswer(status=FeedbackStatus.MALFORMED, errors=(told(error),))
        if flaw := rules.flaw_of(feedback, now, self._clock_ahead_max_ms):
            return FeedbackAnswer(id=feedback.id, status=FeedbackStatus.REFUSED, reason=flaw)
        impression = feedback.impression_id
        return Kept(
            feedback=feedback,
            digest=rules.digest(feedback),
            sent_by=sent_by,
            received_at=now,
            orphan_at=None if impression is None else orphan_at(impression, now, self._token_age_max_ms),
            state=FeedbackState.HELD if impression is None else FeedbackState.WAITING,
            due_at=None if impression is None else now,
        )


def _answer(one: Kept, placed: Placed) -> FeedbackAnswer:
    """Return what is said of *one*, or of another content that came under its id in the same request."""
    id_ = one.feedback.id
    match placed.fate:
        case Fate.CROWDED:
            return _refused(id_, FeedbackRefusal.TOO_MANY_FOR_IMPRESSION)
        case Fate.FULL:
            return FeedbackAnswer(id=id_, status=FeedbackStatus.DEFERRED)
        case Fate.KEPT | Fate.KNOWN | Fate.REUSED if placed.digest != one.digest:
            return _refused(id_, FeedbackRefusal.FEEDBACK_ID_REUSED)
        case Fate.KEPT | Fate.KNOWN | Fate.REUSED if one.state is FeedbackState.HELD:
            return FeedbackAnswer(id=id_, status=FeedbackStatus.HELD, note=HELD_NOTE)
        case Fate.KEPT | Fate.KNOWN | Fate.REUSED:
            return FeedbackAnswer(id=id_, status=FeedbackStatus.ACCEPTED)


def _refused(id_: UUID, reason: FeedbackRefusal) -> FeedbackAnswer:
    return FeedbackAnswer(id=id_, status=FeedbackStatus.REFUSED, reason=reason)
