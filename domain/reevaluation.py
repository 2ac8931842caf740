"""
Which impressions are looked at again, why and when; and what a later word about one would change.

What is found is reported. Nothing here corrects anything, and nothing that is found is a label.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from domain.decide import CommandRefused, Reconcile, decide
from domain.events import (
    CorrectionKind,
    ImpressionDeduped,
    ImpressionEvent,
    ImpressionLabelled,
    ImpressionReconciled,
    ImpressionScored,
    Versions,
)
from domain.feedback import SOURCES
from domain.impression import Decided
from domain.reasons import Reason
from domain.standing import Standing, Uncertain
from domain.vocabulary import Authority, Label, Rung

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
_ABOUT_TRAFFIC = frozenset({Label.INVALID, Label.HUMAN})
_NOBODY = UUID(int=0)
"""The cause of a correction that is not made: no event has it."""


class Why(StrEnum):
    """Why an impression is looked at again; of several the first is told."""

    LABEL = "label"
    """A label came, about it or about another impression of the person."""
    DEADLINE = "deadline"
    """It is uncertain, and soon nothing will decide it any more."""
    UNCERTAIN = "uncertain"
    """It is uncertain, and what resolves it could have come."""
    SHED = "shed"
    """It was decided without a score."""
    SAMPLE = "sample"
    """It is of the random sample."""
    FINALISE = "finalise"
    """Its period is about to be closed."""
    UNREAD = "unread"
    """An event of it could not be read when it came."""


class LookTimes(Struct, frozen=True, kw_only=True):
    """
    How long after the decision it is looked at again, in ms; *deadline_ms*: how long before the deadline.

    The deadline is the pack's own for each reason of uncertainty (`resolve_within_ms`).
    """

    uncertain_ms: int = 5 * MINUTE_MS
    deadline_ms: int = 15 * MINUTE_MS
    shed_ms: int = HOUR_MS
    sample_ms: int = 7 * DAY_MS


class Look(Struct, frozen=True):
    """The impression is to be looked at again, at *due_at* (epoch ms)."""

    why: Why
    due_at: int


class Change(Struct, frozen=True):
    """
    Where the impression stands, and where it would stand.

    *allowed* is false where nothing leads there, or where somebody of more authority has spoken: then it would stay.
    """

    before: Standing
    after: Standing
    allowed: bool

    @property
    def micros(self) -> int:
        """Return what would be billed more, less if negative."""
        return self.after.billable_micros - self.before.billable_micros


def looks_of(events: Iterable[ImpressionEvent], times: LookTimes) -> tuple[Look, ...]:
    """Return the looks that *events*, which are one append to an impression's stream, give cause for."""
    found: list[Look] = []
    scored: ImpressionScored | None = None
    for event in events:
        match event:
            case ImpressionScored():
                scored = event
            case ImpressionDeduped() | ImpressionReconciled():
                if scored is not None:
                    found += _of_score(scored, event.decided_at, times)
                    scored = None
                if _becomes_uncertain(event):
                    assert isinstance(event.after, Uncertain)
                    found += _of_uncertain(event.after, event.decided_at, times)
            case _:
                pass
    return tuple(found)


def is_about_traffic(event: ImpressionEvent) -> bool:
    """Tell whether *event* is feedback about who was in front of the ad: it says something of the person, too."""
    return (
        isinstance(event, ImpressionLabelled)
        and event.label in _ABOUT_TRAFFIC
        and event.source in SOURCES
        and event.label in SOURCES[event.source].says
    )


def would_become(state: Decided, asked: Reason | None, at: int) -> Change:
    """Return what a correction to *asked* (None: valid) by a model would make of *state* at *at* (epoch ms)."""
    correction = Reconcile(
        correction=_NOBODY,
        digest="",
        kind=CorrectionKind.VERDICT,
        authority=Authority.MODEL,
        asked=asked,
        observed_at=at,
        versions=Versions(pack="", lists=""),
        decided_at=at,
    )
    try:
        [event] = decide(state, correction)
    except CommandRefused:
        return Change(state.standing, state.standing, allowed=False)
    assert isinstance(event, ImpressionReconciled)
    return Change(event.before, event.after, allowed=event.accepted)


def _of_score(scored: ImpressionScored, decided_at: int, times: LookTimes) -> Iterator[Look]:
    if Rung.SHED in (scored.rung, *scored.rungs):
        yield Look(Why.SHED, decided_at + times.shed_ms)
    if scored.propensity is not None:
        yield Look(Why.SAMPLE, decided_at + times.sample_ms)


def _becomes_uncertain(event: ImpressionDeduped | ImpressionReconciled) -> bool:
    before, after = event.before, event.after
    if not isinstance(after, Uncertain) or after.expired:
        return False
    return not isinstance(before, Uncertain) or (before.reason, before.resolve_by) != (after.reason, after.resolve_by)


def _of_uncertain(standing: Uncertain, decided_at: int, times: LookTimes) -> Iterator[Look]:
    """Two looks, or one where there is no time for two; the first is never later than the deadline."""
    first = decided_at + times.uncertain_ms
    if standing.resolve_by is None:
        yield Look(Why.UNCERTAIN, first)
        return
    yield Look(Why.UNCERTAIN, min(first, max(standing.resolve_by, decided_at)))
    if (last := standing.resolve_by - times.deadline_ms) > first:
        yield Look(Why.DEADLINE, last)
