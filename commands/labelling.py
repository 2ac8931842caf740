"""
Feedback becomes labels: reads the streams, decides, appends `ImpressionLabelled`, and writes down what became of it.

Safe to run twice, at once, out of order, or after a crash between any two steps: a label's cause follows from its
feedback and stands in a stream once, and what is written down afterwards says no more than the ledger does.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TypeAlias
from uuid import UUID

from msgspec import Struct

from commands.feedback_store import OPENED_MAX, FeedbackState, FeedbackStore, Kept, Move
from commands.messages import Messages, apply_feedback
from commands.streams import length_of, state_of
from domain.decide import AttachLabel, CommandRefused, decide
from domain.feedback import SOURCES, label_id, says
from domain.ids import ImpressionId
from domain.impression import ImpossibleTransition, Impression, Unseen, fold
from domain.render import millis
from ledger.codec import UnreadableCommit
from ledger.store import READ_MAX, Append, Appended, Commit, EventStore, LedgerUnavailable, Outcome, StreamId

STREAMS_MAX = 64
"""Streams in one read and one append: an append holds up the decisions behind it."""
CONFLICTS_MAX = 8
PARKED_MIN_MS, PARKED_MAX_MS = 2_000, 3_600_000
ORPHAN_EVERY_MS = 86_400_000
FAILING_MIN_MS, FAILING_MAX_MS = 180_000, 86_400_000
_PARKED_SHARE = 8
_DOUBLINGS_MAX = 10
_ERROR_MAX = 500

Touched: TypeAlias = Callable[[Sequence[ImpressionId], int], Awaitable[None]]
"""Hears, before it counts as done, which impressions got a label, and when (epoch ms); may hear so more than once."""


class CannotBeApplied(Exception):
    """A piece of feedback, alone in its message, cannot be applied; the text says why."""


class Labelled(Struct):
    """What became of feedback. `failing` is what could not be applied, and why; its neighbours are unharmed."""

    applied: int = 0
    parked: int = 0
    orphaned: int = 0
    refused: int = 0
    failing: dict[UUID, str] = {}


class Labeller:
    """Applies feedback. `clock` gives epoch ms. Belongs to one event loop; calls may overlap."""

    def __init__(
        self, *, ledger: EventStore, feedback: FeedbackStore, touched: Touched, clock: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._feedback = feedback
        self._touched = touched
        self._clock = clock

    async def apply(self, ids: Sequence[UUID]) -> Labelled:
        """
        Apply those of feedback *ids* that are not settled yet.

        Raises:
            LedgerUnavailable: it must be tried again; what was done stays.
        """
        done = Labelled()
        for start in range(0, len(ids), OPENED_MAX):
            todo: dict[ImpressionId, list[Kept]] = {}
            for kept in await self._feedback.unsettled(ids[start : start + OPENED_MAX]):
                if kept.feedback.impression_id is not None:
                    todo.setdefault(kept.feedback.impression_id, []).append(kept)
            impressions = list(todo)
            for first in range(0, len(impressions), STREAMS_MAX):
                chunk = _Chunk({one: todo[one] for one in impressions[first : first + STREAMS_MAX]}, self._clock())
                await self._apply(chunk)
                chunk.add_to(done)
        return done

    async def _apply(self, chunk: "_Chunk") -> None:
        """Append one label per stream and round: an append carries one cause."""
        while chunk.streams:
            if unread := chunk.unread():
                chunk.learn(await self._ledger.read_streams(unread, READ_MAX))
            appends = list(chunk.appends())
            outcomes = await self._ledger.append(appends, chunk.now) if appends else []
            for append, outcome in zip(appends, outcomes, strict=True):
                chunk.absorb(append, outcome)
        if chunk.labelled:
            await self._touched(sorted(chunk.labelled), chunk.now)
        await self._feedback.move(list(chunk.moves.values()), chunk.now)


class FeedbackActor:
    """
    What a worker does with a message. *note* hears what became of it.

    What fails gets a message of its own: so it dies alone, and its letter says whose fault it was.
    """

    def __init__(self, labeller: Labeller, messages: Messages, note: Callable[[Labelled], None]) -> None:
        self._labeller = labeller
        self._messages = messages
        self._note = note

    async def __call__(self, ids: Sequence[UUID]) -> None:
        """
        Apply feedback *ids*.

        Raises:
            CannotBeApplied: the only one cannot be.
            LedgerUnavailable: it is due again by itself.
            BrokerUnavailable: the same.
        """
        done = await self._labeller.apply(ids)
        self._note(done)
        if done.failing and len(ids) == 1:
            raise CannotBeApplied(f"feedback {ids[0]}: {done.failing[ids[0]]}")
        for id_ in done.failing:
            await self._messages.send(apply_feedback([id_]))


class _Stream(Struct):
    """An impression's stream as far as it is known, and the feedback that it is still to take."""

    todo: list[Kept]
    state: Impression | None = None
    version: int = 0
    conflicts: int = 0


class _Chunk:
    """Feedback about some impressions on its way, and what became of it so far, as of *now*."""

    def __init__(self, todo: Mapping[ImpressionId, list[Kept]], now: int) -> None:
        self.streams = {impression: _Stream(list(kept)) for impression, kept in todo.items()}
        self.now = now
        self.moves: dict[UUID, Move] = {}
        self.labelled: set[ImpressionId] = set()
        self._failing: dict[UUID, str] = {}

    def unread(self) -> list[ImpressionId]:
        return [impression for impression, stream in self.streams.items() if stream.state is None]

    def learn(self, found: Mapping[StreamId, list[Commit]]) -> None:
        """Take in what was read; what is not there or cannot be read is put aside."""
        for impression in self.unread():
            stream = self.streams[impression]
            try:
                stream.state = state_of(found.get(impression, ()))
            except (UnreadableCommit, ImpossibleTransition) as error:
                self._put_aside(impression, f"{type(error).__name__}: {error}"[:_ERROR_MAX])
                continue
            if isinstance(stream.state, Unseen):
                self._put_aside(impression)
                continue
            stream.version = length_of(found[impression])

    def appends(self) -> Iterator[Append]:
        """Yield the next append of each stream; streams that have nothing more to take are done."""
        for impression, stream in list(self.streams.items()):
            append = self._next(impression, stream)
            if append is None:
                del self.streams[impression]
            else:
                yield append

    def absorb(self, append: Append, outcome: Outcome) -> None:
        """
        Take in what the ledger said.

        Raises:
            LedgerUnavailable: the stream kept changing.
        """
        assert not isinstance(append.stream, str)
        stream = self.streams[append.stream]
        if isinstance(outcome, Appended):
            stream.state = fold(append.events, stream.state)  # type: ignore[arg-type]
            stream.version += len(append.events)
            stream.conflicts = 0
            self._settle(append.stream, stream.todo.pop(0), FeedbackState.APPLIED)
            return
        stream.state, stream.conflicts = None, stream.conflicts + 1
        if stream.conflicts > CONFLICTS_MAX:
            raise LedgerUnavailable("a stream kept changing")

    def add_to(self, done: Labelled) -> None:
        states = [move.state for move in self.moves.values()]
        done.applied += states.count(FeedbackState.APPLIED)
        done.parked += states.count(FeedbackState.PARKED)
        done.orphaned += states.count(FeedbackState.ORPHANED)
        done.refused += states.count(FeedbackState.REFUSED)
        done.failing.update(self._failing)

    def _next(self, impression: ImpressionId, stream: _Stream) -> Append | None:
        assert stream.state is not None
        while stream.todo:
            command = _command(stream.todo[0], impression)
            try:
                events = decide(stream.state, command)
            except CommandRefused:
                self._settle(impression, stream.todo.pop(0), FeedbackState.REFUSED)
                continue
            if events:
                return Append(
                    stream=impression,
                    expected=stream.version,
                    cause=command.cause,
                    digest=command.digest,
                    events=events,
                )
            self._settle(impression, stream.todo.pop(0), FeedbackState.APPLIED)
        return None

    def _settle(self, impression: ImpressionId, kept: Kept, state: FeedbackState) -> None:
        self.moves[kept.feedback.id] = Move(kept.feedback.id, state)
        if state is FeedbackState.APPLIED:
            self.labelled.add(impression)

    def _put_aside(self, impression: ImpressionId, error: str = "") -> None:
        for kept in self.streams.pop(impression).todo:
            if error:
                self._failing[kept.feedback.id] = error
            self.moves[kept.feedback.id] = _failed(kept, error, self.now) if error else _parked(kept, self.now)


def _command(kept: Kept, impression: ImpressionId) -> AttachLabel:
    feedback = kept.feedback
    return AttachLabel(
        cause=label_id(feedback.id, impression),
        digest=kept.digest,
        source=feedback.type,
        label=says(feedback),
        weight=SOURCES[feedback.type].weight,
        observed_at=millis(feedback.observed_at),
        received_at=kept.received_at,
    )


def _parked(kept: Kept, now: int) -> Move:
    """Look again after an eighth of the time that it has waited, until no render is to be expected any more."""
    assert kept.orphan_at is not None
    if now >= kept.orphan_at:
        return Move(kept.feedback.id, FeedbackState.ORPHANED, now + ORPHAN_EVERY_MS)
    pause = max(PARKED_MIN_MS, min((now - kept.received_at) // _PARKED_SHARE, PARKED_MAX_MS))
    return Move(kept.feedback.id, FeedbackState.PARKED, min(now + pause, kept.orphan_at))


def _failed(kept: Kept, error: str, now: int) -> Move:
    pause = min(FAILING_MIN_MS << min(kept.tries, _DOUBLINGS_MAX), FAILING_MAX_MS)
    return Move(kept.feedback.id, FeedbackState.WAITING, now + pause, error)
