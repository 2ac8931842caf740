"""
What is measured of a score: pure functions over arrays of equal length.

`y` is 1.0 where the row is invalid traffic, `p` the score, `weight` how often the row stands (0 and more). Where a
figure has nothing to be measured on it is NaN, never 0. Figures of ranks (`pr_auc`, `recall_at_fpr`) take any real
numbers as scores, those of calibration probabilities.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]
ECE_BINS = 15
"""As in Guo et al., On Calibration of Modern Neural Networks (2017)."""


class Ranked:
    """
    Rows by falling score. Sorted once, so that a figure under other weights costs one pass.

    Rows of one score stand or fall together: no order among them is made up.
    """

    def __init__(self, y: Floats, p: Floats) -> None:
        self._order = np.argsort(-p, kind="stable")
        self._y = y[self._order]
        falls = np.flatnonzero(np.diff(p[self._order])) if len(p) else np.zeros(0, np.int64)
        self._ends = np.append(falls, len(p) - 1) if len(p) else falls
        self.scores = p[self._order][self._ends]
        """The distinct scores, falling: the thresholds that `tallies` speaks of."""

    def tallies(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return how much invalid and how much valid weight stands at or over each of `scores`."""
        w = weight[self._order]
        invalid = w * self._y
        return np.cumsum(invalid)[self._ends], np.cumsum(w - invalid)[self._ends]


def average_precision(hits: Floats, alarms: Floats) -> float:
    """Return the area under the precision-recall curve, as a step function: no interpolation flatters it."""
    if not len(hits) or hits[-1] <= 0:
        return np.nan
    taken = hits + alarms
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    return float(np.diff(hits, prepend=0.0) @ precision / hits[-1])


def recall_within(hits: Floats, alarms: Floats, fpr_max: float) -> float:
    """Return the largest recall at a threshold that takes at most *fpr_max* of the valid weight."""
    if not len(hits) or hits[-1] <= 0 or alarms[-1] <= 0:
        return np.nan
    within = alarms <= fpr_max * alarms[-1]
    return float(hits[within].max(initial=0.0) / hits[-1])


def pr_auc(y: Floats, p: Floats, weight: Floats) -> float:
    return average_precision(*Ranked(y, p).tallies(weight))


def recall_at_fpr(y: Floats, p: Floats, weight: Floats, fpr_max: float) -> float:
    return recall_within(*Ranked(y, p).tallies(weight), fpr_max)


def roc_auc(y: Floats, p: Floats, weight: Floats) -> float:
    """Return the chance that an invalid row scores over a valid one; equal scores count half."""
    return area_under(*Ranked(y, p).tallies(weight))


def area_under(hits: Floats, alarms: Floats) -> float:
    """Return the area under the ROC curve of `Ranked.tallies`."""
    if not len(hits) or hits[-1] <= 0 or alarms[-1] <= 0:
        return np.nan
    steps = np.diff(alarms, prepend=0.0)
    heights = hits - np.diff(hits, prepend=0.0) / 2
    return float(steps @ heights / (hits[-1] * alarms[-1]))


def threshold_at_fpr(y: Floats, p: Floats, weight: Floats, fpr_max: float) -> float:
    """Return the lowest score at and over which at most *fpr_max* of the valid weight stands; infinite if none is."""
    ranked = Ranked(y, p)
    _, alarms = ranked.tallies(weight)
    if not len(alarms) or alarms[-1] <= 0:
        return np.nan
    within = ranked.scores[alarms <= fpr_max * alarms[-1]]
    return float(within[-1]) if len(within) else np.inf


def ece(y: Floats, p: Floats, weight: Floats, bins: int = ECE_BINS) -> float:
    """Return the expected calibration error: mean distance of score and share, over *bins* of equal width."""
    return _calibration_error(y, p, weight, equal_width(p, bins), bins)


def ece_by_mass(y: Floats, p: Floats, weight: Floats, bins: int = ECE_BINS) -> float:
    """
    Return the same over bins of equal weight.

    Where nearly all scores are small, equal widths put nearly all rows in one bin; these do not.
    """
    return _calibration_error(y, p, weight, equal_mass(p, weight, bins), bins)


def equal_width(p: Floats, bins: int) -> Places:
    """Return the bin of each row: [0, 1/n), ..., [1 - 1/n, 1]."""
    return np.minimum((p * bins).astype(np.int64), bins - 1)


def equal_mass(p: Floats, weight: Floats, bins: int) -> Places:
    """Return the bin of each row; rows of one score share a bin, so that bins can be uneven or empty."""
    total = weight.sum()
    if total <= 0:
        return np.zeros(len(p), np.int64)
    scores, places = np.unique(p, return_inverse=True)
    mass = np.bincount(places, weight, len(scores))
    middle = (np.cumsum(mass) - mass / 2) / total
    found: Places = np.minimum((middle * bins).astype(np.int64), bins - 1)[places]
    return found


def reliability(y: Floats, p: Floats, weight: Floats, bins: Places) -> tuple[Floats, Floats, Floats]:
    """Return mean score, share of invalid and weight of every bin that has any."""
    most = int(bins.max(initial=-1)) + 1
    mass, foretold, found = (np.bincount(bins, of, most).astype(np.float64) for of in (weight, weight * p, weight * y))
    kept = mass > 0
    return foretold[kept] / mass[kept], found[kept] / mass[kept], mass[kept]


def _calibration_error(y: Floats, p: Floats, weight: Floats, places: Places, bins: int) -> float:
    total = float(weight.sum())
    if total <= 0:
        return np.nan
    return float(np.abs(np.bincount(places, weight * (p - y), bins)).sum() / total)
