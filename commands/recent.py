"""
What the gate remembers between batches: it may route and recognise, the ledger has the final word.

Hundreds of thousands of entries are larger than any cache, so each keeps as little alive as it can, and as little that
the garbage collector has to walk over.
"""

from collections.abc import Hashable, Iterable
from typing import Generic, TypeAlias, TypeVar

from msgspec import Struct

from commands.items import Ready, Slot
from domain.ids import ImpressionId
from domain.impression import Impression, fold
from domain.reasons import Reason, Verdict
from domain.vocabulary import Rung
from ledger.codec import decode_impression
from ledger.store import Append

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Shown: TypeAlias = tuple[int, int]
"""The number of an impression's id and when it happened, epoch ms."""
_Flat: TypeAlias = tuple[int, ...]
"""What `Shown` says of several impressions, one after the other."""
PER_SLOT_MAX = 8
"""Impressions remembered per slot: events of one slot may arrive out of order."""


class Recent(Generic[K, V]):
    """
    The last entries put in, between half of *limit* and *limit* of them.

    Two dicts take turns, and the one that is over is taken apart a little at every turn: finding the oldest entry of
    one dict walks over all that were deleted before it, and dropping a whole one would stop the world.
    """

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._over: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """Return what was last put in under *key*, if it is remembered."""
        value = self._young.get(key)
        return self._old.get(key) if value is None else value

    def put(self, key: K, value: V) -> None:
        if not self._half:
            return
        if len(self._young) >= self._half:
            self._over, self._old, self._young = self._old, self._young, {}
        self._young[key] = value
        if self._over:  # two go where one comes, so none is left by the next turn
            self._over.popitem()
            if self._over:
                self._over.popitem()


class FirstAnswer(Struct, frozen=True, gc=False):
    """
    How the first render of an impression was answered; `rung` is `spooled` if that was without the ledger.

    `event_id` is the number of its UUID. `is_stored`: the ledger has it by now.
    """

    event_id: int
    digest: str
    verdict: Verdict
    reason: Reason | None
    rung: Rung | None = None
    is_stored: bool = True


class RecentAnswers:
    """First answers of recent impressions. Forgetting costs one read."""

    def __init__(self, limit: int) -> None:
        self._answers = Recent[int, FirstAnswer](limit)

    def get(self, impression: ImpressionId) -> FirstAnswer | None:
        return self._answers.get(impression.int)

    def remember(self, impression: ImpressionId, answer: FirstAnswer) -> None:
        self._answers.put(impression.int, answer)


class _Stream(Struct, frozen=True, gc=False):
    """*data* was appended to a stream that stood at *state*; since then it has *version* events."""

    state: Impression
    data: bytes
    version: int


class RecentStreams:
    """
    How the last streams stand that this process wrote to, as far as it knows: good enough to try, for what is appended
    on a state that is over is refused.

    What was appended is kept as it was written down: of a stream, one object instead of fifty.
    """

    def __init__(self, limit: int) -> None:
        self._streams = Recent[int, _Stream](limit)

    def get(self, impression: ImpressionId) -> tuple[Impression, int] | None:
        """Return state and number of events of the stream of *impression*, if it is remembered."""
        known = self._streams.get(impression.int)
        if known is None:
            return None
        return fold(decode_impression(known.data), known.state), known.version

    def remember(self, append: Append, state: Impression) -> None:
        """*append*, whose `data` is at hand, was appended to a stream that stood at *state*."""
        assert not isinstance(append.stream, str)
        version = append.expected + len(append.events)
        self._streams.put(append.stream.int, _Stream(state, append.data, version))


class RecentSlots:
    """
    Which impression was last shown to whom in which slot: exact keys in bounded memory, no false double fire ever.

    Only impressions that are durable and in gross are remembered, because the original of a double fire must be both.
    """

    def __init__(self, limit: int, window_ms: int) -> None:
        self._window_ms = window_ms
        self._shown = Recent[Slot, _Flat](limit)
        self._batch: dict[Slot, _Flat] = {}

    def begin_batch(self) -> None:
        """From here on everything is remembered until the next batch begins, however much it is."""
        self._batch.clear()

    def original_of(self, item: Ready) -> ImpressionId | None:
        """Return the impression that *item* fires again under another id, if it does."""
        for slot in item.slots:
            for known in (self._batch.get(slot), self._shown.get(slot)):
                if known is not None and (here := self.near(item, _pairs(known))) is not None:
                    return here
        return None

    def originals_of(self, item: Ready) -> list[ImpressionId]:
        """Return all impressions of earlier batches that *item* may fire again under another id."""
        others = {one for slot in item.slots for one in _pairs(self._shown.get(slot) or ())}
        return [found for one in sorted(others) if (found := self.near(item, [one])) is not None]

    def near(self, item: Ready, shown: Iterable[Shown]) -> ImpressionId | None:
        """Return the other impression among *shown* that is within the window of *item*, if there is one."""
        for impression, event_at in shown:
            if abs(item.claim.event_at - event_at) <= self._window_ms and impression != item.impression.int:
                return ImpressionId(int=impression)
        return None

    def remember(self, item: Ready) -> None:
        this = shown(item)
        for slot in item.slots:
            self._batch[slot] = _with(self._batch.get(slot), this)
            self.recall(slot, this)

    def recall(self, slot: Slot, this: Shown) -> None:
        """Remember what the ledger has."""
        self._shown.put(slot, _with(self._shown.get(slot), this, PER_SLOT_MAX))


def _with(known: _Flat | None, this: Shown, limit: int | None = None) -> _Flat:
    """Return *known* and *this*, the last *limit* of them."""
    if known is None:
        return this
    return (*known, *this) if limit is None else (*known[2 - 2 * limit :], *this)


def _pairs(flat: _Flat) -> Iterable[Shown]:
    return zip(flat[::2], flat[1::2], strict=True)


def shown(item: Ready) -> Shown:
    return item.impression.int, item.claim.event_at
