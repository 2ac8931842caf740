"""
What is known of publishers at a moment: repeats, invisible ads and clicks of the last day, from the ledger.

Fed with decisions in order of the ledger; what it says of a moment rests on nothing that was recorded later.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import sqrt
from typing import NamedTuple, TypeAlias

import numpy as np
from msgspec import Struct

from domain.events import ImpressionDeduped, ImpressionEvent, ImpressionRendered, ImpressionViewed, Uniqueness
from domain.vocabulary import Surface
from ledger.plain import PlainRender
from ml.features.publishers import NO_HISTORY, History, PublisherHistory

HOUR_MS = 3_600_000
HOURS = 24
PUBLISHERS_MAX = 200_000
"""Publishers, by surface, that are remembered; those beyond are unknown until others have had no traffic for a day."""
RENDERS_MIN = 50
"""Fewer say nothing about a publisher."""

Rendered: TypeAlias = ImpressionRendered | PlainRender
"""A render, whole or as far as followers read it."""


class Tally(Struct):
    """What was counted of one publisher on one surface."""

    renders: int = 0
    clicks: int = 0
    repeats: int = 0
    measured: int = 0
    invisible: int = 0


class HourTally(NamedTuple):
    """*hour*, counted from 1970, in which it was recorded."""

    hour: int
    publisher: str
    surface: Surface
    tally: Tally


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
        self._hours: dict[int, dict[tuple[str, Surface], Tally]] = {}
        self._next_ms: int | None = None
        self._history = NO_HISTORY

    def at(self, recorded_at: int) -> History:
        """Return what is known before anything of *recorded_at* (epoch ms); computed anew when it is time."""
        if self._next_ms is None:
            self._next_ms = recorded_at + self._every_ms
        elif recorded_at >= self._next_ms:
            self._hours = {hour: tallies for hour, tallies in self._hours.items() if hour >= first_hour(recorded_at)}
            self._history = history_of(self.tallies(), recorded_at)
            self._next_ms = recorded_at + self._every_ms
        return self._history

    def count(self, events: Iterable[ImpressionEvent], recorded_at: int) -> None:
        """Count what *events*, which are one commit of an impression, say of its publisher."""
        for event in events:
            match event:
                case ImpressionRendered():
                    self.rendered(event, recorded_at)
                case ImpressionDeduped(uniqueness=Uniqueness.DUPLICATE):
                    tally = self._of(event.cut.publisher, event.cut.surface, recorded_at)
                    if tally is not None:
                        tally.repeats += event.renders
                case ImpressionViewed(clicked=True):
                    self._clicked(event.cut.publisher, event.cut.surface, recorded_at)
                case _:
                    pass

    def rendered(self, event: Rendered, recorded_at: int) -> None:
        """Count one render."""
        tally = self._of(event.publisher, event.surface, recorded_at)
        if tally is None:
            return
        tally.renders += 1
        if event.visible_ratio is not None:
            tally.measured += 1
            tally.invisible += event.visible_ratio == 0
        tally.clicks += event.clicked

    def tallies(self) -> Iterator[HourTally]:
        """Yield what was counted, by the hour."""
        for hour in sorted(self._hours):
            for (publisher, surface), tally in self._hours[hour].items():
                yield HourTally(hour, publisher, surface, tally)

    def _clicked(self, publisher: str, surface: Surface, recorded_at: int) -> None:
        tally = self._of(publisher, surface, recorded_at)
        if tally is not None:
            tally.clicks += 1

    def _of(self, publisher: str, surface: Surface, recorded_at: int) -> Tally | None:
        hour = self._hours.setdefault(recorded_at // HOUR_MS, {})
        tally = hour.get((publisher, surface))
        if tally is None and len(hour) < PUBLISHERS_MAX:
            tally = hour[publisher, surface] = Tally()
        return tally


def first_hour(at: int) -> int:
    """Return the first hour, counted from 1970, of what is known of publishers at *at* (epoch ms)."""
    return at // HOUR_MS - HOURS + 1


def history_of(tallies: Iterable[HourTally], now: int) -> History:
    """Return what *tallies*, those from `first_hour` on, say of publishers at *now* (epoch ms)."""
    of_publisher: dict[str, list[tuple[Surface, Tally]]] = {}
    for _, publisher, surface, tally in tallies:
        of_publisher.setdefault(publisher, []).append((surface, tally))
    sums = {publisher: _sum(counted) for publisher, counted in sorted(of_publisher.items())}
    rates = _click_rates(sums)
    return History(now, {publisher: _said(one, rates) for publisher, one in sums.items()})


def _sum(counted: list[tuple[Surface, Tally]]) -> _Sums:
    renders: dict[Surface, int] = {}
    clicks: dict[Surface, int] = {}
    for surface, tally in counted:
        renders[surface] = renders.get(surface, 0) + tally.renders
        clicks[surface] = clicks.get(surface, 0) + tally.clicks
    repeats, measured, invisible = (
        sum(getattr(tally, name) for _, tally in counted) for name in ("repeats", "measured", "invisible")
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
