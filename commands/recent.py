"""
What the gate remembers between batches: it may route and recognise, the ledger has the final word.

Ordered dicts, because finding the oldest entry of a plain one walks over all that were deleted before it. Keyed by the
ids' numbers, because a `UUID` is hashed in Python.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeAlias

from msgspec import Struct

from commands.items import Ready, Slot
from domain.ids import CauseId, ImpressionId
from domain.reasons import Reason, Verdict

Shown: TypeAlias = tuple[ImpressionId, int]
"""An impression and when it happened, epoch ms."""
PER_SLOT_MAX = 8
"""Impressions remembered per slot: events of one slot may arrive out of order."""


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
        self._answers: OrderedDict[int, FirstAnswer] = OrderedDict()

    def get(self, impression: ImpressionId) -> FirstAnswer | None:
        return self._answers.get(impression.int)

    def remember(self, impression: ImpressionId, answer: FirstAnswer) -> None:
        self._answers[impression.int] = answer
        if len(self._answers) > self._limit:
            self._answers.popitem(last=False)


class RecentSlots:
    """
    Which impression was last shown to whom in which slot: exact keys in bounded memory, no false double fire ever.

    Only impressions that are durable and in gross are remembered, because the original of a double fire must be both.
    """

    def __init__(self, limit: int, window_ms: int) -> None:
        self._limit = limit
        self._window_ms = window_ms
        self._shown: OrderedDict[Slot, tuple[Shown, ...]] = OrderedDict()
        self._batch: dict[Slot, list[Shown]] = {}

    def begin_batch(self) -> None:
        """From here on everything is remembered until the next batch begins, however much it is."""
        self._batch.clear()

    def original_of(self, item: Ready) -> ImpressionId | None:
        """Return the impression that *item* fires again under another id, if it does."""
        if item.slot is None:
            return None
        here = self.near(item, self._batch.get(item.slot, ()))
        return here or self.near(item, self._shown.get(item.slot, ()))

    def near(self, item: Ready, shown: Iterable[Shown]) -> ImpressionId | None:
        """Return the other impression among *shown* that is within the window of *item*, if there is one."""
        for impression, event_at in shown:
            if abs(item.claim.event_at - event_at) <= self._window_ms and impression != item.impression:
                return impression
        return None

    def remember(self, item: Ready) -> None:
        if item.slot is None:
            return
        this = shown(item)
        self._batch.setdefault(item.slot, []).append(this)
        before = self._shown.get(item.slot)
        if before is None:
            self._shown[item.slot] = (this,)
        else:
            self._shown[item.slot] = (*before[1 - PER_SLOT_MAX :], this)
            self._shown.move_to_end(item.slot)
        if len(self._shown) > self._limit:
            self._shown.popitem(last=False)


def shown(item: Ready) -> Shown:
    return item.impression, item.claim.event_at
