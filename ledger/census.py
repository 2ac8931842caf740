"""What stands in the ledger, counted by the event of a client that caused it: one side of I1."""

from uuid import UUID

from msgspec import Struct

from domain.aggregates import AnswersCounted
from domain.events import (
    CorrectionKind,
    ImpressionDeduped,
    ImpressionLabelled,
    ImpressionReconciled,
    ImpressionViewed,
)
from domain.reasons import Reason
from domain.vocabulary import LabelSource
from ledger.codec import decode
from ledger.store import Commit, EventStore, read_everything


class Census(Struct):
    """
    Distinct events in the ledger: `renders` with a decision, `views` that moved something, `labels` out of feedback.

    `refused`, `unmoved` and `repeats` count answers, not events: what is answered twice counts twice.
    """

    commits: int = 0
    through: int = 0
    renders: int = 0
    views: int = 0
    labels: int = 0
    refused: dict[Reason, int] = {}
    unmoved: int = 0
    repeats: int = 0


async def take_census(store: EventStore, after: int = 0) -> Census:
    """
    Count everything after position *after* up to the head as of now.

    Raises:
        LedgerUnavailable: the store did not answer.
        RuntimeError: a cause stands in the ledger twice: the store broke P2.
    """
    census = Census()
    seen: set[UUID] = set()
    async for commit in read_everything(store, after):
        _count(census, commit, seen)
    return census


def _count(census: Census, commit: Commit, seen: set[UUID]) -> None:
    census.commits += 1
    census.through = commit.position
    for event in decode(commit.data):
        match event:
            case AnswersCounted():
                census.unmoved += event.unmoved
                census.repeats += sum(repeats.renders for repeats in event.repeats)
                for reason, count in event.refused.items():
                    census.refused[reason] = census.refused.get(reason, 0) + count
            case ImpressionDeduped(counted=True):
                pass
            case ImpressionDeduped() | ImpressionReconciled(kind=CorrectionKind.EVIDENCE):
                _note(event.cause, seen)
                census.renders += 1
            case ImpressionViewed() | ImpressionLabelled(source=LabelSource.VIEW):
                _note(event.cause, seen)
                census.views += 1
            case ImpressionLabelled():
                _note(event.cause, seen)
                census.labels += 1
            case _:
                pass


def _note(cause: UUID, seen: set[UUID]) -> None:
    if cause in seen:
        raise RuntimeError(f"cause {cause} stands in the ledger twice")
    seen.add(cause)
