"""
What a model is told about impressions that it looks at again, and what it says.

Nothing is told that was not there at one moment, up to which everything is: so a row is what a data set has of the
impression as of that moment.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from domain.events import ImpressionRendered
from domain.ids import ImpressionId
from ledger.following import Followed, Seen
from ml.context.facts import last_decided, person_of
from ml.context.store import RENDERS_KEPT_MS, Asked, Known, LaterStore
from ml.datasets.history import HOUR_MS, first_hour, history_of
from ml.features.later import UNKNOWN_PUBLISHER, Context
from ml.features.publishers import History


class Subject(NamedTuple):
    """The render of an impression that was decided last, and where it stands in the ledger."""

    rendered: ImpressionRendered
    recorded_at: int
    position: int


class Contexts(Struct, frozen=True):
    """*at* (epoch ms) is up to when everything is known; impressions with later events are *early*."""

    at: int
    of: Mapping[ImpressionId, Context]
    early: frozenset[ImpressionId]


class Surroundings:
    """Builds contexts from *store*; remembers publishers' history for an hour. Belongs to one event loop."""

    def __init__(self, store: LaterStore) -> None:
        self._store = store
        self._history: History | None = None

    async def of(self, streams: Mapping[ImpressionId, Sequence[Seen]], now: int) -> Contexts:
        """
        Return the contexts of those of *streams* that were decided.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        followed = await self._store.followed()
        at = min(followed.at, now)
        early = frozenset(one for one, stream in streams.items() if not _is_covered(stream, followed))
        subjects: dict[ImpressionId, Subject] = {}
        for impression, stream in streams.items():
            subject = None if impression in early else subject_of(stream)
            if subject is not None:
                subjects[impression] = subject
        asked = {one: _asked(one, subject) for one, subject in subjects.items()}
        wanted = [one for one in asked.values() if one is not None]
        known = dict(zip([one.impression for one in wanted], await self._store.known(wanted, at), strict=True))
        history = await self._history_at(at)
        contexts = {one: _context(subject, known.get(one), history, at) for one, subject in subjects.items()}
        return Contexts(at, contexts, early)

    async def _history_at(self, at: int) -> History:
        if self._history is None or self._history.computed_at + HOUR_MS <= at:
            self._history = history_of(await self._store.tallies(first_hour(at)), at)
        return self._history


def subject_of(stream: Sequence[Seen]) -> Subject | None:
    """Return what *stream* is about; None if no render of it was decided."""
    for one in reversed(stream):
        decided = last_decided(one.events or ())
        if decided is not None:
            return Subject(decided.rendered, one.commit.recorded_at, one.commit.position)
    return None


def _is_covered(stream: Sequence[Seen], followed: Followed) -> bool:
    return all(one.commit.position <= followed.position for one in stream)


def _asked(impression: ImpressionId, subject: Subject) -> Asked | None:
    person = person_of(subject.rendered)
    return None if person is None else Asked(person, subject.recorded_at, subject.position, impression)


def _context(subject: Subject, known: Known | None, history: History, at: int) -> Context:
    publisher = history.publishers.get(subject.rendered.publisher, UNKNOWN_PUBLISHER)
    context = Context(at=at, publisher=publisher)
    if known is None:
        return context
    context = replace(context, others_invalid=known.others_invalid, others_human=known.others_human)
    if not subject.rendered.begun or subject.recorded_at + RENDERS_KEPT_MS <= at:
        return context
    gap_ms = np.nan if known.next_event_at is None else float(known.next_event_at - subject.rendered.event_at)
    return replace(context, next_gap_ms=gap_ms, next_hour=float(known.next_hour))
