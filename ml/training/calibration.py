"""
From margins to probabilities, fitted on rows that trained nothing.

Isotonic where there is enough to learn a shape from, else Platt's two numbers. Flat pieces of the isotonic fit are put
together in their centres and joined by straight lines (centred isotonic regression, Oron and Flournoy 2017): two
margins then share a probability only at the ends, and the order of risks is that of the margins.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from ml.models.artifact import KNOTS_MAX, Calibration
from ml.training.threads import one_thread

Floats = NDArray[np.float64]

ISOTONIC_MIN = 300.0
"""Least that targets, and what they lack to 1, must add up to for an isotonic fit."""
PLATT_MIN = 1.0
_FLAT = 1e-12


class Sample(NamedTuple):
    """By row: margin, the chance of being invalid that is known of it, and how much the row counts."""

    margin: Floats
    target: Floats
    weight: Floats


def calibrate(sample: Sample) -> Calibration:
    """Return what turns margins into probabilities, so that the mean of both is the same wherever one looks."""
    invalid, human = float(sample.weight @ sample.target), float(sample.weight @ (1.0 - sample.target))
    if min(invalid, human) >= ISOTONIC_MIN:
        return _isotonic(sample)
    if min(invalid, human) >= PLATT_MIN:
        return _platt(sample)
    # nothing of one kind: the mean, with Laplace's two imagined rows
    share = (invalid + 1.0) / (invalid + human + 2.0)
    return Calibration("platt", np.array([1.0, float(np.log(share / (1.0 - share)) - _mean_margin(sample))]), _NO_KNOTS)


def expected_error(risk: Floats, target: Floats, weight: Floats, bins: int = 20) -> float:
    """
    Return the expected calibration error: the mean distance of what is said and what is so, over bins of equal size.

    Source: Naeini, Cooper and Hauskrecht, AAAI 2015, with bins of equal mass.
    """
    if len(risk) == 0:
        return 0.0
    order = np.argsort(risk, kind="stable")
    mass = np.cumsum(weight[order])
    of_bin = np.minimum((mass - weight[order] / 2) / mass[-1] * bins, bins - 1).astype(np.int64)
    apart = (risk - target)[order] * weight[order]
    return float(np.abs(np.bincount(of_bin, apart, bins)).sum() / mass[-1])


def _isotonic(sample: Sample) -> Calibration:
    model = IsotonicRegression(y_min=0.0, y_max=1.0).fit(sample.margin, sample.target, sample.weight)
    fitted = model.predict(sample.margin)
    order = np.lexsort((sample.margin, fitted))
    rises = np.flatnonzero(np.diff(fitted[order]) > _FLAT) + 1
    starts = np.concatenate([[0], rises])
    weight = np.add.reduceat(sample.weight[order], starts)
    x = np.add.reduceat((sample.margin * sample.weight)[order], starts) / weight
    y = fitted[order][starts]
    keep = np.concatenate([[True], np.diff(x) > 0])
    x, y = _at_most(x[keep], y[keep])
    return Calibration("isotonic", x, y)


def _platt(sample: Sample) -> Calibration:
    n = len(sample.margin)
    rows = np.concatenate([sample.margin, sample.margin])[:, None]
    kinds = np.repeat([1, 0], n)
    weights = np.concatenate([sample.weight * sample.target, sample.weight * (1.0 - sample.target)])
    with one_thread():
        fitted = LogisticRegression(C=1e3).fit(rows[weights > 0], kinds[weights > 0], weights[weights > 0])
    slope, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope <= 0.0:  # margins tell nothing here, and no risk may fall as they rise: all have the share that there is
        slope, shift = 0.0, float(np.log((sample.weight @ sample.target) / (sample.weight @ (1.0 - sample.target))))
    return Calibration("platt", np.array([slope, shift]), _NO_KNOTS)


def _at_most(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    if len(x) <= KNOTS_MAX:
        return x, y
    kept = np.linspace(0, len(x) - 1, KNOTS_MAX).astype(np.int64)
    return x[kept], y[kept]


def _mean_margin(sample: Sample) -> float:
    return float(np.average(sample.margin, weights=sample.weight)) if len(sample.margin) else 0.0


_NO_KNOTS = np.zeros(0)
