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

from ml.evaluation.metrics import Floats

ROUNDS = 200
"""Enough for limits at 2.5 and 97.5 %: their own scatter is then below a tenth of the interval."""
ENTITIES_MIN = 8
"""Of fewer entities no interval is given: it would be too narrow, and look sure."""
_LIMITS = (2.5, 97.5)
_MEASURED_MIN = 0.9

Measure: TypeAlias = Callable[[Floats], Sequence[float]]
"""From the rows' weights to figures, always as many and in the same order."""


class Estimate(Struct, frozen=True):
    """A figure with its 95 % interval. None: there was nothing to measure, or too little to say how sure it is."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Entities:
    """Which rows belong together; *named* has each row's entity, anything that `numpy.unique` tells apart."""

    def __init__(self, named: NDArray[np.generic]) -> None:
        names, self._places = np.unique(named, return_inverse=True)
        self.count = len(names)

    def drawn(self, rng: np.random.Generator) -> Floats:
        """Return how often each row stands in one drawing, with replacement, of as many entities as there are."""
        drawn = np.bincount(rng.integers(0, self.count, self.count), minlength=self.count)
        return drawn[self._places].astype(np.float64)


def estimates(
    measure: Measure, weight: Floats, entities: Entities, *, seed: int, rounds: int = ROUNDS
) -> list[Estimate]:
    """
    Return what *measure* says of *weight*, each figure with its interval.

    All figures are measured on the same drawings, so an interval of a difference is that of paired figures.
    """
    values = np.asarray(measure(weight), np.float64)
    if entities.count < ENTITIES_MIN or rounds < 1:
        return [Estimate(_known(value)) for value in values]
    rng = np.random.default_rng(seed)
    drawn = np.array([measure(weight * entities.drawn(rng)) for _ in range(rounds)], np.float64)
    return [_estimate(value, drawn[:, at]) for at, value in enumerate(values)]


def _estimate(value: float, drawn: Floats) -> Estimate:
    measured = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(measured) < _MEASURED_MIN * len(drawn):
        return Estimate(_known(value))
    low, high = np.percentile(measured, _LIMITS)
    return Estimate(float(value), float(low), float(high))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
