"""
Floods of repeats of one impression, recorded in bounded space.

The first repeats stand in the stream one by one. Later ones are counted with the batch that answers them, which is
durable before the answer; here it is kept in mind how many, so that the stream gets one event for many of them: when
all its repeats reach 16, 32, 64 and so on, or none came for a while. What a crash forgets here still stands counted.
"""

from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

from msgspec import Struct

from domain.ids import CauseId, ImpressionId
from domain.reasons import Reason

FLOODS_MAX = 65_536
"""Impressions that flood at a time; of more it is only counted how many renders were answered."""
_FIRST_MARK = 16


class Lot(Struct):
    """Repeats of one impression and kind that its stream does not have yet; `total` with those that it has."""

    impression: ImpressionId
    reason: Reason
    cause: CauseId
    renders: int
    total: int
    last_at: int


class Floods:
    """
    Repeats that are counted and not written yet, of at most `FLOODS_MAX` impressions. Times are epoch ms.

    *new_id* names what is written.
    """

    def __init__(self, idle_ms: int, new_id: Callable[[], UUID] = uuid4) -> None:
        self._idle_ms = idle_ms
        self._new_id = new_id
        self._lots: dict[tuple[int, Reason], Lot] = {}
        self._due: list[Lot] = []

    def note(self, impression: UUID, reason: Reason, stored: int, now: int) -> None:
        """Note one repeat beyond the *stored* ones of the impression's stream."""
        key = (impression.int, reason)
        lot = self._lots.get(key)
        if lot is None:
            if len(self._lots) + len(self._due) >= FLOODS_MAX:
                return
            lot = self._lots[key] = Lot(impression, reason, self._new_id(), 0, stored, now)
        lot.renders += 1
        lot.total += 1
        lot.last_at = now
        if lot.total >= _FIRST_MARK and lot.total & (lot.total - 1) == 0:
            self._due.append(lot)
            self._lots[key] = Lot(impression, reason, self._new_id(), 0, lot.total, now)

    def due(self, now: int, limit: int) -> Iterator[Lot]:
        """
        Yield up to *limit* lots to be written; each comes again, unchanged, until it is `written`.

        Whoever floods on gets a new lot meanwhile, so that writing one twice is recognised by its cause.
        """
        for key in [key for key, lot in self._lots.items() if now - lot.last_at >= self._idle_ms]:
            lot = self._lots.pop(key)
            if lot.renders:
                self._due.append(lot)
        yield from self._due[:limit]

    def written(self, lot: Lot) -> None:
        self._due.remove(lot)
