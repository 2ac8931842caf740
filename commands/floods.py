"""
Floods of repeats of one impression, recorded in bounded space.

The first repeats stand in the stream one by one. Later ones are counted with the batch that answers them, which is
durable before the answer; here it is kept in mind how many, so that the stream gets one event for many of them: when
all its repeats reach 16, 32, 64 and so on, when none came for a while and they have grown by an eighth, or when none
came for an hour. So whoever repeats without end, at whatever pace, fills no stream: a million take some hundred events.
What a crash forgets here still stands counted.
"""

from collections.abc import Callable
from uuid import UUID, uuid4

import structlog
from msgspec import Struct

from commands.streams import length_of, state_of
from domain.decide import CommandRefused, CountRepeats, decide
from domain.ids import CauseId, ImpressionId
from domain.impression import ImpossibleTransition
from domain.reasons import Reason
from ledger.codec import UnreadableCommit
from ledger.store import READ_MAX, Append, Commit, Conflict, EventStore

FLOODS_MAX = 65_536
"""Impressions that flood at a time; of more it is only counted how many renders were answered."""
OVER_MS = 3_600_000
"""A flood that rested for so long is over: what is left of it is written down, however little."""
LOTS_AT_ONCE = 64
_FIRST_MARK = 16
_GROWTH = 8

log = structlog.get_logger()


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
        self._resting: dict[tuple[int, Reason], Lot] = {}
        self._due: list[Lot] = []

    def note(self, impression: UUID, reason: Reason, stored: int, now: int) -> None:
        """Note one repeat beyond the *stored* ones of the impression's stream."""
        key = (impression.int, reason)
        lot = self._lots.get(key) or self._resting.pop(key, None)
        if lot is None:
            if len(self._lots) + len(self._resting) + len(self._due) >= FLOODS_MAX:
                if not self._resting:
                    return
                del self._resting[next(iter(self._resting))]
            lot = Lot(impression, reason, self._new_id(), 0, stored, now)
        self._lots[key] = lot
        lot.renders += 1
        lot.total += 1
        lot.last_at = now
        if lot.total >= _FIRST_MARK and lot.total & (lot.total - 1) == 0:
            self._due.append(lot)
            self._lots[key] = Lot(impression, reason, self._new_id(), 0, lot.total, now)

    def pause(self, now: int) -> None:
        """Have what came to a pause by *now* become due, or rest."""
        for key in [key for key, lot in self._lots.items() if now - lot.last_at >= self._idle_ms]:
            lot = self._lots.pop(key)
            if lot.renders * _GROWTH >= lot.total:
                self._due.append(lot)
            elif lot.renders:
                self._resting[key] = lot
        while self._resting and now - next(iter(self._resting.values())).last_at >= OVER_MS:
            self._due.append(self._resting.pop(next(iter(self._resting))))

    def due(self, limit: int) -> list[Lot]:
        """
        Return up to *limit* lots to be written, one per impression; each comes again, unchanged, until it is `written`.

        Whoever floods on gets a new lot meanwhile, so that writing one twice is recognised by its cause.
        """
        of_impressions: dict[int, Lot] = {}
        for lot in self._due:
            of_impressions.setdefault(lot.impression.int, lot)
            if len(of_impressions) == limit:
                break
        return list(of_impressions.values())

    def written(self, lot: Lot) -> None:
        self._due.remove(lot)


async def write_due(floods: Floods, store: EventStore, now: int) -> int:
    """
    Write down some of what is due of *floods*, one event for many repeats; return how many events.

    What cannot follow on its stream is dropped: it stands counted, and its neighbours are written.

    Raises:
        LedgerUnavailable: the rest is written next time.
    """
    lots = floods.due(LOTS_AT_ONCE)
    if not lots:
        return 0
    streams = await store.read_streams([lot.impression for lot in lots], READ_MAX)
    made: list[tuple[Lot, Append]] = []
    for lot in lots:
        append = _append_of(lot, streams.get(lot.impression, []), now)
        if append is None:
            floods.written(lot)
        else:
            made.append((lot, append))
    outcomes = await store.append([append for _, append in made], now) if made else []
    for (lot, _), outcome in zip(made, outcomes, strict=True):
        if not isinstance(outcome, Conflict):
            floods.written(lot)
    return len(made)


def _append_of(lot: Lot, commits: list[Commit], now: int) -> Append | None:
    """Return what *lot* adds to the stream of *commits*; None if that has it already, or cannot be gone on with."""
    try:
        events = decide(state_of(commits), CountRepeats(lot.cause, lot.reason, lot.renders, now))
    except (UnreadableCommit, ImpossibleTransition, CommandRefused) as error:
        log.error("repeats are not written down", impression=str(lot.impression), error=str(error))  # noqa: TRY400
        return None
    if not events:
        return None
    return Append(stream=lot.impression, expected=length_of(commits), cause=lot.cause, digest="", events=events)
