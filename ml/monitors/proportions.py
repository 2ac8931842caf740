"""
Is a share larger here than elsewhere, or is it chance? Tests of two shares, for many cells at once.

Events of one session are lost together, so counts scatter more than coins do. How much more is measured from minute to
minute (Pearson's dispersion), and counts weigh as much less.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

EXPECTED_MIN = 10.0
"""Below so many expected hits or misses on either side the exact test speaks, above the normal one."""
_HITS_EXPECTED_MIN = 2.0

Floats = NDArray[np.float64]
Counts = Sequence[int]


class Dispersion:
    """How many times more counts scatter than if each trial stood alone (at least 1), from *freedom* differences."""

    __slots__ = ("factor", "freedom")

    def __init__(self, factor: float, freedom: int) -> None:
        self.factor = max(1.0, factor)
        self.freedom = freedom


INDEPENDENT = Dispersion(1.0, 0)


def dispersion(cells: Sequence[tuple[Counts, Counts]]) -> Dispersion:
    """
    Measure how the shares of *cells* (hits and trials by minute) scatter around each cell's own share.

    Minutes are put together until hits are to be expected in them. Nothing to measure: `INDEPENDENT`.
    """
    squares, freedom = 0.0, 0
    for hits, trials in cells:
        share = sum(hits) / sum(trials) if sum(trials) else 0.0
        if 0 < share < 1:
            k, n = _put_together(hits, trials, _HITS_EXPECTED_MIN / share)
            squares += float(((k - n * share) ** 2 / (n * share * (1 - share))).sum())
            freedom += len(n) - 1
    return Dispersion(squares / freedom, freedom) if freedom else INDEPENDENT


def excess_p_values(cell: tuple[Counts, Counts], rest: tuple[Counts, Counts], scatter: Sequence[Dispersion]) -> Floats:
    """
    Return for each place the chance of a share in *cell* at least this far over that in *rest*, if both were the same.

    *cell* and *rest* are hits and trials, of which each has at least one. One-sided: a smaller share is near 1.
    """
    factor = np.array([one.factor for one in scatter])
    k1, n1, k0, n0 = (np.asarray(counts, np.float64) / factor for counts in (*cell, *rest))
    pooled = (k1 + k0) / (n1 + n0)
    spread = np.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n0))
    z = np.divide(k1 / n1 - k0 / n0, spread, out=np.zeros_like(spread), where=spread > 0)
    freedom = np.array([one.freedom for one in scatter], np.float64)
    # A measured scatter is itself uncertain: Student's test instead of the normal one.
    normal = np.where(factor > 1, stats.t.sf(z, np.maximum(freedom, 1)), stats.norm.sf(z))
    few = np.minimum.reduce([n1 * pooled, n0 * pooled, n1 * (1 - pooled), n0 * (1 - pooled)]) < EXPECTED_MIN
    return np.where(few, _exact(k1, n1, k0, n0), normal)


def over_limit_p_value(hits: int, trials: int, limit: float, scatter: Dispersion) -> float:
    """Return the chance of so many *hits* or more if their share were *limit*."""
    k, n = hits / scatter.factor, trials / scatter.factor
    if n * min(limit, 1 - limit) < EXPECTED_MIN:
        return float(stats.binom.sf(np.floor(k) - 1, np.ceil(n), limit))
    z = (k - n * limit) / np.sqrt(n * limit * (1 - limit))
    return float(stats.t.sf(z, max(1, scatter.freedom)) if scatter.factor > 1 else stats.norm.sf(z))


def false_discovery(p_values: Floats) -> Floats:
    """Return Benjamini and Hochberg's adjusted p-values; those up to q hold at most a share q of false ones."""
    return np.asarray(stats.false_discovery_control(p_values, method="bh")) if len(p_values) else p_values


def _put_together(hits: Counts, trials: Counts, trials_min: float) -> tuple[Floats, Floats]:
    """Sum minutes until each sum has *trials_min*; what is left at the end goes to the last."""
    sums = [[0, 0]]
    for k, n in zip(hits, trials, strict=True):
        if sums[-1][1] >= trials_min:
            sums.append([0, 0])
        sums[-1][0] += k
        sums[-1][1] += n
    if len(sums) > 1 and sums[-1][1] < trials_min:
        k, n = sums.pop()
        sums[-1][0] += k
        sums[-1][1] += n
    together = np.array(sums, np.float64)
    return together[:, 0], together[:, 1]


def _exact(k1: Floats, n1: Floats, k0: Floats, n0: Floats) -> Floats:
    """Fisher's exact test, one-sided. Hits are rounded down and trials up, so that weighing less finds less."""
    hits, trials, rest_hits, rest_trials = np.floor(k1), np.ceil(n1), np.ceil(k0), np.ceil(n0)
    return np.asarray(stats.hypergeom.sf(hits - 1, trials + rest_trials, hits + rest_hits, trials))
