"""
How far a figure could be off: percentile bootstrap over entities.

Rows of one person, device or farm are alike, so it is entities that are drawn again, each with all its rows; drawing
rows would promise several times the precision there is. Source: Davison and Hinkley, Bootstrap Methods and their
Application (1997), 3.8.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from ml.evaluation.metrics import Floats, Places
from ml.training.threads import one_thread

ROUNDS = 200
"""Enough for limits at 2.5 and 97.5 %: their own scatter is then below a tenth of the interval."""
ENTITIES_MIN = 8
"""Of fewer entities no interval is given: it would be too narrow, and look sure."""
_LIMITS = (2.5, 97.5)
_MEASURED_MIN = 0.9


class Estimate(Struct, frozen=True):
    """A figure with its 95 % interval. None: there was nothing to measure, or too little to say how sure it is."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Entities:
    """Which rows, of which *weight*, belong together: those whose *named* `numpy.unique` does not tell apart."""

    def __init__(self, named: NDArray[np.generic], weight: Floats) -> None:
        names, self._places = np.unique(named, return_inverse=True)
        self.count = len(names)
        self.weight = weight

    def sums(self, of: Floats) -> Floats:
        """Return what each entity has of *of* (by row), weighted: of a drawing all have `drawing.counts @ sums`."""
        return np.bincount(self._places, self.weight * of, self.count).astype(np.float64)

    def sums_by_bin(self, of: Floats, places: Places, bins: int) -> Floats:
        """Return the same apart by bin, (entities, bins); *places* has each row's."""
        flat = np.bincount(self._places * bins + places, self.weight * of, self.count * bins)
        return flat.astype(np.float64).reshape(self.count, bins)

    def whole(self) -> "Drawing":
        """Return the drawing that has every entity once: the rows as they are."""
        return Drawing(np.ones(self.count), self._places, self.weight)

    def drawn(self, rng: np.random.Generator) -> "Drawing":
        """Return one drawing, with replacement, of as many entities as there are."""
        counts = np.bincount(rng.integers(0, self.count, self.count), minlength=self.count)
        return Drawing(counts.astype(np.float64), self._places, self.weight)


class Drawing:
    """How often each entity was drawn: `counts`."""

    def __init__(self, counts: Floats, places: Places, weight: Floats) -> None:
        self.counts = counts
        self._places = places
        self._own = weight
        self._weight: Floats | None = None

    @property
    def weight(self) -> Floats:
        """How often each row stands in it."""
        if self._weight is None:
            self._weight = self.counts[self._places] * self._own
        return self._weight


Measure: TypeAlias = Callable[[Drawing], Sequence[float]]
"""From a drawing to figures, always as many and in the same order."""


def estimates(measure: Measure, entities: Entities, *, seed: int, rounds: int = ROUNDS) -> list[Estimate]:
    """
    Return what *measure* says of *entities*, each figure with its interval.

    All figures are measured on the same drawings, so an interval of a difference is that of paired figures.
    """
    with one_thread():
        values = np.asarray(measure(entities.whole()), np.float64)
        if entities.count < ENTITIES_MIN or rounds < 1:
            return [Estimate(_known(value)) for value in values]
        rng = np.random.default_rng(seed)
        drawn = np.array([measure(entities.drawn(rng)) for _ in range(rounds)], np.float64)
    return [_estimate(value, drawn[:, at]) for at, value in enumerate(values)]


def _estimate(value: float, drawn: Floats) -> Estimate:
    measured = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(measured) < _MEASURED_MIN * len(drawn):
        return Estimate(_known(value))
    low, high = np.percentile(measured, _LIMITS)
    return Estimate(float(value), float(low), float(high))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
