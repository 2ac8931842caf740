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
    """By row: probability of being invalid, how much it counts, and whether the verdict rests on something else."""

    risk: Floats
    weight: Floats
    settled: NDArray[np.bool_]


def band_of(costs: Costs, sample: Sample, open_share_max: float) -> Band:
    """
    Return the band under which at most *open_share_max* of *sample* stays open.

    A risky row counts as open, too: alone, the model drops nothing.
    """
    grey_from = costs.undecided / costs.billed_invalid
    risky_from = 1.0 - costs.undecided / costs.dropped_human
    if grey_from > risky_from:  # leaving it open never pays
        grey_from = risky_from = costs.dropped_human / (costs.billed_invalid + costs.dropped_human)
    grey_from = max(grey_from, _bound(sample, open_share_max))
    return Band(grey_from=grey_from, risky_from=max(risky_from, grey_from))


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
    Return the least border over which at most *share_max* of all rows lie unsettled; of other rows, too, in 19 of 20
    cases.
    """
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
