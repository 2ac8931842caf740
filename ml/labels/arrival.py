"""
How long labels take: a curve per source, and the chance that a label that will come has come by a certain age.

At a cut-off only labels with delays up to the age of their impression have been seen (right truncation), so plain
averages are too short. Fitted is a Weibull distribution to delays given that each is below its limit, with a weak prior
around what the list of sources expects: with few labels, or only young ones, the prior speaks. Source of the
likelihood: Kalbfleisch and Lawless, Inference based on retrospective ascertainment, JASA 84 (1989).
"""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy.optimize import minimize

from domain.vocabulary import LabelSource
from ml.labels.sources import LESSONS

Floats = NDArray[np.float64]

DELAYS_MAX = 5_000
"""Most delays of one source that a fit looks at; of more, evenly spaced ones."""
_SCALE_SPREAD = 1.0
_SHAPE_SPREAD = 0.5
_SOONEST_MS = 1.0
_EXPONENT_MAX = 700.0


class ArrivalCurve(Struct, frozen=True):
    """A Weibull distribution of delays in ms, and from how many labels it comes."""

    scale_ms: float
    shape: float
    labels: int = 0

    def arrived_by(self, age_ms: Floats) -> Floats:
        """Return the chance that a label that will come has come by each age."""
        ages = np.maximum(age_ms, _SOONEST_MS)
        return -np.expm1(-np.exp(np.minimum(self.shape * np.log(ages / self.scale_ms), _EXPONENT_MAX)))


def expected_curve(source: LabelSource) -> ArrivalCurve:
    """Return what the list of sources expects: nine of ten labels between its two delays."""
    soon, late = LESSONS[source].delay_ms
    # 5 % before `soon`, 95 % before `late`
    spread = np.log(-np.log(0.05)) - np.log(-np.log(0.95))
    shape = spread / np.log(late / soon)
    return ArrivalCurve(scale_ms=float(late / (-np.log(0.05)) ** (1 / shape)), shape=float(shape))


def fit_curve(source: LabelSource, delay_ms: Floats, limit_ms: Floats) -> ArrivalCurve:
    """
    Return the curve of *source* given the delays of its labels, each seen because it is at most its limit.

    The limit of a label is the age of its impression at the cut-off. The order of the labels does not matter.
    """
    prior = expected_curve(source)
    if len(delay_ms) == 0:
        return prior
    delays, limits = _evenly(np.maximum(delay_ms, _SOONEST_MS), np.maximum(limit_ms, _SOONEST_MS))
    start = np.log([prior.scale_ms, prior.shape])
    found = minimize(_unlikelihood, start, args=(np.log(delays), np.log(limits), start), method="Nelder-Mead")
    scale_ms, shape = np.exp(found.x).tolist()
    return ArrivalCurve(scale_ms, shape, len(delay_ms))


def fit_curves(delays: Mapping[LabelSource, tuple[Floats, Floats]]) -> dict[LabelSource, ArrivalCurve]:
    """Return a curve for every source, from its delays and limits where there are any."""
    nothing = np.zeros(0)
    return {source: fit_curve(source, *delays.get(source, (nothing, nothing))) for source in LESSONS}


def _unlikelihood(guess: Floats, log_delay: Floats, log_limit: Floats, prior: Floats) -> float:
    """Negative log posterior of (log scale, log shape)."""
    shape = np.exp(guess[1])
    z = shape * (log_delay - guess[0])
    log_density = guess[1] - guess[0] + z - (log_delay - guess[0]) - np.exp(np.minimum(z, _EXPONENT_MAX))
    seen = -np.expm1(-np.exp(np.minimum(shape * (log_limit - guess[0]), _EXPONENT_MAX)))
    away = (guess - prior) / (_SCALE_SPREAD, _SHAPE_SPREAD)
    return float(-np.sum(log_density - np.log(np.maximum(seen, 1e-300))) + 0.5 * np.sum(away**2))


def _evenly(delays: Floats, limits: Floats) -> tuple[Floats, Floats]:
    order = np.lexsort((limits, delays))
    if len(order) > DELAYS_MAX:
        order = order[np.linspace(0, len(order) - 1, DELAYS_MAX).astype(np.int64)]
    return delays[order], limits[order]
