"""Answers that touched no impression's stream, counted: one event a batch, in a stream of this process's own."""

from collections.abc import Callable
from uuid import UUID

from commands.turns import Batch
from domain.aggregates import AnswersCounted, Repeats
from ledger.store import Append, Conflict, Outcome


class Counting:
    """Belongs to one task; *name* tells this process's stream apart, *new_id* names what no client's event causes."""

    def __init__(self, name: str, new_id: Callable[[], UUID]) -> None:
        self._stream = f"rejects-{name}"
        self._version = 0
        self._new_id = new_id

    def append_of(self, batch: Batch) -> Append | None:
        """Return what counts all that *batch* has to count, and take it from there; None where that is nothing."""
        if not batch.uncounted:
            return None
        event = AnswersCounted(
            cause=self._new_id(),
            digest="",
            refused=batch.refused,
            unmoved=batch.unmoved,
            repeats=tuple([Repeats(*key, renders) for key, renders in batch.repeats.items()]),
            counted_at=batch.now,
        )
        batch.refused, batch.unmoved = {}, 0
        batch.repeats.clear()
        return Append(
            stream=self._stream,
            expected=self._version,
            cause=event.cause,
            digest=event.digest,
            events=(event,),
        )

    def absorb(self, batch: Batch, append: Append, outcome: Outcome) -> None:
        """Learn what became of *append*; where another wrote to the stream, *batch* has its counts back."""
        if not isinstance(outcome, Conflict):
            self._version += 1
            return
        self._version = outcome.current
        for event in append.events:
            assert isinstance(event, AnswersCounted)
            batch.unmoved += event.unmoved
            for repeats in event.repeats:
                batch.repeats[repeats.impression, repeats.reason] += repeats.renders
            for reason, count in event.refused.items():
                batch.refused[reason] = batch.refused.get(reason, 0) + count
