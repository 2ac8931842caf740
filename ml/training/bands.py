"""
Where a probability is grey and where risky: by what mistakes cost, and by how many may stay undecided.

With probability p of being invalid, billing costs p * billed_invalid, dropping (1 - p) * dropped_human, and leaving it
open the same for all. Whatever is cheapest is done. Where that leaves too many open, the border to the grey band is
moved up until it does not: the bound, not the cost of an open one, then sets its price.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from ml.models.artifact import Band

Floats = NDArray[np.float64]

BLOCKS, BLOCK_ROWS_MIN = 5, 4_000
_ONE_SIDED = 1.645
"""Standard deviations that 19 of 20 samples stay within, on one side."""


class Costs(Struct, frozen=True, kw_only=True):
    """
    What a decision costs, as multiples of the impression's own price, so that no currencies mix.

    An invalid impression that was billed is refunded, disputed and remembered; a human one that was dropped is revenue
    that publisher and house lose, and nobody notices; an open one is billed later, if at all.
    """

    billed_invalid: float = 2.0
    dropped_human: float = 4.0
    undecided: float = 0.2


class Sample(NamedTuple):
    """By row, in order of time: probability of being invalid, weight, and whether rules decide it, with it or alone."""

    risk: Floats
    weight: Floats
    settled: NDArray[np.bool_]

    def take(self, places: NDArray[np.intp]) -> "Sample":
        return Sample(self.risk[places], self.weight[places], self.settled[places])


def cheapest(costs: Costs) -> Band:
    """Return the band under which each probability leads to what costs least."""
    grey_from = costs.undecided / costs.billed_invalid
    risky_from = 1.0 - costs.undecided / costs.dropped_human
    if grey_from > risky_from:  # leaving it open never pays
        grey_from = risky_from = costs.dropped_human / (costs.billed_invalid + costs.dropped_human)
    return Band(grey_from=grey_from, risky_from=risky_from)


def band_of(costs: Costs, sample: Sample, open_share_max: float) -> Band:
    """
    Return the band under which at most *open_share_max* of *sample* stays open.

    A risky row counts as open, too, unless it is settled: alone, the model drops nothing.
    """
    best = cheapest(costs)
    grey_from = max(best.grey_from, _bound(sample, open_share_max))
    return Band(grey_from=grey_from, risky_from=max(best.risky_from, grey_from))


def open_share(band: Band, sample: Sample) -> float:
    """Return the share of *sample* that stays open under *band*, if nothing but the model speaks against it."""
    total = float(sample.weight.sum())
    is_open = (sample.risk >= band.grey_from) & ~sample.settled
    return float(sample.weight[is_open].sum()) / total if total else 0.0


def expected_cost(band: Band, costs: Costs, sample: Sample, target: Floats) -> float:
    """Return the mean cost of a row under *band*, in prices, where *target* is the chance that it is invalid."""
    total = float(sample.weight.sum())
    is_open = sample.risk >= band.grey_from
    each = np.where(is_open, costs.undecided, target * costs.billed_invalid)
    return float(sample.weight @ each) / total if total else 0.0


def _bound(sample: Sample, share_max: float) -> float:
    """
    Return the least border over which at most *share_max* of all rows lie undecided, in each of up to BLOCKS parts by
    time; of other rows, too, in 19 of 20 cases.

    Invalid traffic comes in waves, so what holds on the whole does not hold in the next hour.
    """
    blocks = min(max(len(sample.risk) // BLOCK_ROWS_MIN, 1), BLOCKS)
    parts = np.array_split(np.arange(len(sample.risk)), blocks)
    return max(_bound_of(sample.take(part), share_max) for part in parts)


def _bound_of(sample: Sample, share_max: float) -> float:
    total = float(sample.weight.sum())
    slack = _ONE_SIDED * sqrt(share_max * (1.0 - share_max) / max(total, 1.0))
    room = max(share_max - slack, 0.0) * total
    candidates = ~sample.settled
    risk, weight = sample.risk[candidates], sample.weight[candidates]
    order = np.argsort(-risk, kind="stable")
    over = np.flatnonzero(np.cumsum(weight[order]) > room)
    if len(over) == 0:
        return 0.0
    return float(np.nextafter(risk[order][over[0]], np.inf))
