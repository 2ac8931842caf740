"""
From commits to what they say of persons and publishers: pure, so that nothing depends on when it is taken in.

Persons stand as numbers, made of the day's pseudonym: where its key is destroyed, no person leads to a number.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from msgspec import Struct

from domain.events import ImpressionEvent, ImpressionLabelled
from domain.feedback import SOURCES
from domain.ids import ImpressionId
from domain.placement_events import Stage
from domain.vocabulary import Label
from ledger.following import Page, Seen
from ledger.store import Commit
from ml.datasets.history import HourTally, PublisherLog, Rendered
from ml.features.decided import DecidedRender, decided_renders
from ml.labels.sources import LESSONS

NUMBER_BYTES = 8


class PersonRender(NamedTuple):
    """A render that began and was decided, of *person*; times in epoch ms."""

    person: int
    recorded_at: int
    position: int
    event_at: int
    impression: ImpressionId


class PersonLabel(NamedTuple):
    """A label that teaches, of an impression of *person*, trusted by *trust* in [0, 1]."""

    person: int
    arrived_at: int
    impression: ImpressionId
    label: Label
    trust: float


class Facts(Struct, frozen=True, kw_only=True):
    """What a page of the ledger adds to what is known."""

    renders: Sequence[PersonRender] = ()
    labels: Sequence[PersonLabel] = ()
    hours: Sequence[HourTally] = ()


def person_of(rendered: Rendered) -> int | None:
    """Return the number of whoever *rendered* is of: the user, else the device, else the network; None for nobody."""
    pseudonym = rendered.user or rendered.device or rendered.network
    if not pseudonym:
        return None
    return int.from_bytes(blake2b(pseudonym.encode(), digest_size=NUMBER_BYTES).digest(), "big", signed=True)


def last_decided(events: Iterable[ImpressionEvent]) -> DecidedRender | None:
    """Return the last render that *events* decide."""
    last = None
    for last in decided_renders(events):  # noqa: B007 (the last is wanted)
        pass
    return last


def trust_in(event: ImpressionEvent) -> float | None:
    """Return how far *event* is trusted as a lesson of what was in front of the ad; None if it is no such lesson."""
    if not isinstance(event, ImpressionLabelled) or Stage.S3 not in LESSONS[event.source].stages:
        return None
    known = SOURCES[event.source]
    return min(max(event.weight, 0.0), known.weight) if event.label in known.says else None


def is_labelled(one: Seen) -> bool:
    """Tell whether the commit has a label that teaches."""
    return any(trust_in(event) is not None for event in one.events or ())


def facts_of(page: Page, people: Mapping[ImpressionId, int]) -> Facts:
    """Return what *page* adds; *people* has the person of each labelled impression, of those that are of one."""
    renders: list[PersonRender] = []
    labels: list[PersonLabel] = []
    publishers = PublisherLog()
    for plain in page.plain:
        renders += _renders(plain.commit, plain.render)
        publishers.rendered(plain.render, plain.commit.recorded_at)
    for one in page.seen:
        events = one.events or ()
        for decided in decided_renders(events):
            renders += _renders(one.commit, decided.rendered)
        if one.impression in people:
            labels += _labels(one, people[one.impression])
        publishers.count(events, one.commit.recorded_at)
    return Facts(renders=renders, labels=labels, hours=list(publishers.tallies()))


def _renders(commit: Commit, rendered: Rendered) -> tuple[PersonRender, ...]:
    person = person_of(rendered) if rendered.begun else None
    if person is None:
        return ()
    assert not isinstance(commit.stream, str)
    return (PersonRender(person, commit.recorded_at, commit.position, rendered.event_at, commit.stream),)


def _labels(one: Seen, person: int) -> Iterable[PersonLabel]:
    for event in one.events or ():
        trust = trust_in(event)
        if trust is not None:
            assert isinstance(event, ImpressionLabelled)
            arrived_at = max(event.received_at, one.commit.recorded_at)
            yield PersonLabel(person, arrived_at, one.impression, event.label, trust)
