"""
What is known of publishers at a moment: repeats, invisible ads and clicks of the last day, from the ledger.

Fed with decisions in order of the ledger; what it says of a moment rests on nothing that was recorded later.
"""

from collections.abc import Mapping
from math import sqrt
from typing import NamedTuple

import numpy as np

from domain.events import ImpressionDeduped, ImpressionEvent, ImpressionRendered, ImpressionViewed, Uniqueness
from domain.vocabulary import Surface
from ml.features.matrix import NO_HISTORY, History, PublisherHistory

HOUR_MS = 3_600_000
HOURS = 24
PUBLISHERS_MAX = 200_000
"""Publishers that are remembered; those beyond are unknown until others have had no traffic for a day."""
RENDERS_MIN = 50
"""Fewer say nothing about a publisher."""


class _Counts:
    """One publisher's hour: repeats, what was measured, and by surface renders and clicks."""

    __slots__ = ("clicks", "invisible", "measured", "renders", "repeats")

    def __init__(self) -> None:
        self.repeats = self.measured = self.invisible = 0
        self.renders: dict[Surface, int] = {}
        self.clicks: dict[Surface, int] = {}


class _Sums(NamedTuple):
    repeats: int
    measured: int
    invisible: int
    renders: Mapping[Surface, int]
    clicks: Mapping[Surface, int]


class PublisherLog:
    """Counts of each publisher by the hour in which they were recorded, for a day."""

    def __init__(self, every_ms: int = HOUR_MS) -> None:
        self._every_ms = every_ms
        self._hours: dict[int, dict[str, _Counts]] = {}
        self._next_ms: int | None = None
        self._history = NO_HISTORY

    def at(self, recorded_at: int) -> History:
        """Return what is known before anything of *recorded_at* (epoch ms); computed anew when it is time."""
        if self._next_ms is None:
            self._next_ms = recorded_at + self._every_ms
        elif recorded_at >= self._next_ms:
            self._history = self._compute(recorded_at)
            self._next_ms = recorded_at + self._every_ms
        return self._history

    def count(self, events: tuple[ImpressionEvent, ...], recorded_at: int) -> None:
        """Count what *events*, which are one commit of an impression, say of its publisher."""
        for event in events:
            match event:
                case ImpressionRendered():
                    self._rendered(event, recorded_at)
                case ImpressionDeduped(uniqueness=Uniqueness.DUPLICATE):
                    counts = self._of(event.cut.publisher, recorded_at)
                    if counts is not None:
                        counts.repeats += event.renders
                case ImpressionViewed(clicked=True):
                    self._clicked(event.cut.publisher, event.cut.surface, recorded_at)
                case _:
                    pass

    def _rendered(self, event: ImpressionRendered, recorded_at: int) -> None:
        counts = self._of(event.publisher, recorded_at)
        if counts is None:
            return
        counts.renders[event.surface] = counts.renders.get(event.surface, 0) + 1
        if event.visible_ratio is not None:
            counts.measured += 1
            counts.invisible += event.visible_ratio == 0
        if event.clicked:
            self._clicked(event.publisher, event.surface, recorded_at)

    def _clicked(self, publisher: str, surface: Surface, recorded_at: int) -> None:
        counts = self._of(publisher, recorded_at)
        if counts is not None:
            counts.clicks[surface] = counts.clicks.get(surface, 0) + 1

    def _of(self, publisher: str, recorded_at: int) -> _Counts | None:
        hour = self._hours.setdefault(recorded_at // HOUR_MS, {})
        counts = hour.get(publisher)
        if counts is None and len(hour) < PUBLISHERS_MAX:
            counts = hour[publisher] = _Counts()
        return counts

    def _compute(self, now: int) -> History:
        oldest = now // HOUR_MS - HOURS
        self._hours = {hour: counts for hour, counts in self._hours.items() if hour > oldest}
        of_publisher: dict[str, list[_Counts]] = {}
        for hour in sorted(self._hours):
            for publisher, counts in self._hours[hour].items():
                of_publisher.setdefault(publisher, []).append(counts)
        sums = {publisher: _sum(counts) for publisher, counts in sorted(of_publisher.items())}
        rates = _click_rates(sums)
        return History(now, {publisher: _said(one, rates) for publisher, one in sums.items()})


def _sum(counts: list[_Counts]) -> _Sums:
    renders: dict[Surface, int] = {}
    clicks: dict[Surface, int] = {}
    for one in counts:
        for total, hour in ((renders, one.renders), (clicks, one.clicks)):
            for surface, n in hour.items():
                total[surface] = total.get(surface, 0) + n
    repeats, measured, invisible = (
        sum(getattr(one, name) for one in counts) for name in ("repeats", "measured", "invisible")
    )
    return _Sums(repeats, measured, invisible, renders, clicks)


def _click_rates(sums: Mapping[str, _Sums]) -> dict[Surface, float]:
    rates = {}
    for surface in Surface:
        renders = sum(one.renders.get(surface, 0) for one in sums.values())
        clicks = sum(one.clicks.get(surface, 0) for one in sums.values())
        rates[surface] = min(clicks / renders, 1.0) if renders else 0.0
    return rates


def _said(sums: _Sums, rates: Mapping[Surface, float]) -> PublisherHistory:
    renders = sum(sums.renders.values())
    if renders < RENDERS_MIN:
        return PublisherHistory(np.nan, np.nan, np.nan)
    spread = sqrt(sum(n * rates[surface] * (1 - rates[surface]) for surface, n in sums.renders.items()))
    apart = sum(sums.clicks.values()) - sum(n * rates[surface] for surface, n in sums.renders.items())
    return PublisherHistory(
        duplicate_rate=sums.repeats / (renders + sums.repeats),
        invisible_share=sums.invisible / sums.measured if sums.measured >= RENDERS_MIN else np.nan,
        click_z=apart / spread if spread else 0.0,
    )
