"""
Are these counts of the same kind as those? Homogeneity of binned counts, told apart from scatter.

Rows of one person come together, so counts scatter more than draws do. How much more is measured between the slices of
a window (Pearson's dispersion over its freedom), as `proportions` does it for shares; the test is Rao and Scott's
F-corrected one (1987). What counts as much is the population stability index, of which what chance alone adds is taken
off (its mean is (bins - 1) x (1/n + 1/m) where nothing differs).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

EXPECTED_MIN = 5.0
"""Bins in which fewer are to be expected on either side are put together."""

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class Shift(NamedTuple):
    """`psi` without what chance adds; `p_value` of homogeneity; `bin` is the one that grew or shrank most."""

    psi: float
    p_value: float
    dispersion: float
    bin: int


class Scatter(NamedTuple):
    """How many times more counts scatter than draws, at least 1, measured from *freedom* differences."""

    factor: float
    freedom: int


DRAWS = Scatter(1.0, 0)


def scatter_of(slices: Counts) -> Scatter:
    """Measure how *slices* (t, bins) scatter around their sum's shares; nothing to measure: `DRAWS`."""
    slices = slices[slices.sum(axis=1) > 0]
    whole = slices.sum(axis=0)
    kept = whole > 0
    freedom = (len(slices) - 1) * (int(kept.sum()) - 1)
    if freedom <= 0:
        return DRAWS
    expected = slices.sum(axis=1, keepdims=True) * (whole[kept] / whole.sum())
    return Scatter(max(1.0, float(((slices[:, kept] - expected) ** 2 / expected).sum() / freedom)), freedom)


def shift(now: Counts, then: Counts, scatter: Scatter) -> Shift:
    """Compare the counts *now* with those of *then* (bins); both must have some."""
    psi = index(now, then)
    of_chance = (int(((now + then) > 0).sum()) - 1) * scatter.factor * (1 / now.sum() + 1 / then.sum())
    change = now / now.sum() - then / then.sum()
    return Shift(
        max(0.0, float(psi - of_chance)), homogeneity(now, then, scatter), scatter.factor, int(np.abs(change).argmax())
    )


def index(now: Counts, then: Counts) -> float:
    """Return the population stability index; half a row is added to each bin, so that an empty one is no infinity."""
    used = (now + then) > 0
    p, q = ((counts[used] + 0.5) / (counts.sum() + used.sum() / 2) for counts in (now, then))
    return float(((p - q) * np.log(p / q)).sum())


def homogeneity(now: Counts, then: Counts, scatter: Scatter) -> float:
    """Return the chance of counts so unlike, if both were drawn alike and scatter so."""
    together = _merged(now, then)
    sums = together.sum(axis=0)
    freedom = len(sums) - 1
    if freedom < 1:
        return 1.0
    expected = together.sum(axis=1, keepdims=True) * (sums / sums.sum())
    pearson = float(((together - expected) ** 2 / expected).sum()) / scatter.factor
    if scatter.freedom:
        return float(stats.f.sf(pearson / freedom, freedom, scatter.freedom))
    return float(stats.chi2.sf(pearson, freedom))


def distance(now: Counts, then: Counts) -> float:
    """Return Kolmogorov and Smirnov's distance between the ordered bins *now* and *then*."""
    return float(np.abs(now.cumsum() / now.sum() - then.cumsum() / then.sum()).max())


def distance_p_value(distance_: float, sizes: Sequence[float], factor: float) -> float:
    """Return the chance of such a distance if nothing differed; sizes count as much less as counts scatter more."""
    n, m = (size / factor for size in sizes)
    # The limit distribution: at hundreds of rows as good as the exact one, which takes 0.4 s at 50,000.
    return float(stats.kstwobign.sf(distance_ * np.sqrt(n * m / (n + m))))


def _merged(now: Counts, then: Counts) -> Floats:
    """Put the two side by side, (2, bins), with all bins in which little is to be expected as one."""
    both = np.stack([now, then]).astype(np.float64)
    small_side = min(now.sum(), then.sum()) / both.sum()
    few = both.sum(axis=0) * small_side < EXPECTED_MIN
    rest = both[:, few].sum(axis=1, keepdims=True)
    merged = np.hstack([both[:, ~few], rest])
    return merged[:, merged.sum(axis=0) > 0]
