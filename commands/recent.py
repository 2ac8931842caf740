"""What the gate remembers between batches: it may route and recognise, the ledger has the final word."""

from typing import TypeAlias

from msgspec import Struct

from domain.ids import CauseId, ImpressionId
from domain.reasons import Reason, Verdict
from domain.screen import Observation

Slot: TypeAlias = tuple[str, str, str]
"""Placement, person as the client names it, creative. Lives in memory alone and is never logged."""


class FirstAnswer(Struct, frozen=True, gc=False):
    """How the first render of an impression was answered."""

    event_id: CauseId
    digest: str
    verdict: Verdict
    reason: Reason | None


class RecentAnswers:
    """First answers of the last *limit* impressions, the oldest forgotten first. Forgetting costs one read."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._answers: dict[ImpressionId, FirstAnswer] = {}

    def get(self, impression: ImpressionId) -> FirstAnswer | None:
        return self._answers.get(impression)

    def remember(self, impression: ImpressionId, answer: FirstAnswer) -> None:
        self._answers[impression] = answer
        if len(self._answers) > self._limit:
            del self._answers[next(iter(self._answers))]


class RecentSlots:
    """
    Which impression was last shown to whom in which slot: exact keys in bounded memory, no false double fire ever.

    Only impressions that are durable and in gross are remembered, because the original of a double fire must be both.
    """

    def __init__(self, limit: int, window_ms: int) -> None:
        self._limit = limit
        self._window_ms = window_ms
        self._shown: dict[Slot, tuple[ImpressionId, int]] = {}

    def original_of(self, seen: Observation) -> ImpressionId | None:
        """Return the impression that *seen* fires again under another id, if it does."""
        slot = slot_of(seen)
        shown = None if slot is None else self._shown.get(slot)
        if shown is None or shown[0] == seen.token.impression or abs(seen.event_at - shown[1]) > self._window_ms:
            return None
        return shown[0]

    def remember(self, seen: Observation) -> None:
        slot = slot_of(seen)
        if slot is None:
            return
        self._shown.pop(slot, None)
        self._shown[slot] = (seen.token.impression, seen.event_at)
        if len(self._shown) > self._limit:
            del self._shown[next(iter(self._shown))]


def slot_of(seen: Observation) -> Slot | None:
    """Return the slot that *seen* was shown in; None where nothing names the person."""
    person = seen.render.user or seen.render.device
    return (seen.token.placement, person, seen.token.creative) if person else None
