"""
What a model has to beat: the rules that decide without one, a rate, and a logistic regression on the same features.

Each gives a score per row, higher for what is more likely invalid. Only the regression's is a probability.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from domain.rates import RateLimits
from ml.evaluation.metrics import Floats
from ml.evaluation.scored import Outcome
from ml.features.schema import PLACE
from ml.training.threads import one_thread

Matrix: TypeAlias = NDArray[np.float64]

RULES, RATE, LOGISTIC, WITHOUT_COUNTERS = "rules", "rate", "logistic", "without_counters"
"""Names of the baselines; the last is a model trained as the one evaluated, on all features but the counters'."""
_SCORE_OF = {Outcome.BILLED: 0.0, Outcome.UNDECIDED: 0.5, Outcome.DROPPED: 1.0}
_ROUNDS_MAX = 500
_CLIPPED_AT = 8.0


def rules(outcomes: NDArray[np.str_]) -> Floats:
    """Return how much rules without any model have against each row, by its outcome under them."""
    scores = np.zeros(len(outcomes))
    for outcome, score in _SCORE_OF.items():
        scores[outcomes == outcome.value] = score
    return scores


def rate(values: Matrix, unusual: RateLimits) -> Floats:
    """Return the largest of each row's rates, in multiples of what hardly a person reaches; 0 where none is known."""
    shares = [
        values[:, PLACE[name]] / limit
        for name, limit in (
            ("person_10s", unusual.per_10s),
            ("person_min", unusual.per_min),
            ("person_hour", unusual.per_hour),
        )
    ]
    largest: Floats = np.max(np.nan_to_num(shares, nan=0.0), axis=0)
    return largest


class Logistic(NamedTuple):
    """
    A fitted logistic regression. It reads of each feature a signed logarithm, standardised, and whether it is known.

    A straight line through ms and counts that span six orders would be a straw man.
    """

    mean: Floats
    spread: Floats
    slopes: Floats
    intercept: float

    def score(self, values: Matrix) -> Floats:
        """Return the probability of being invalid of each of *values* (n, features)."""
        margins = _readings(values, self.mean, self.spread) @ self.slopes + self.intercept
        odds: Floats = 1.0 / (1.0 + np.exp(-margins))
        return odds


def logistic(values: Matrix, target: Floats, weight: Floats) -> Logistic:
    """
    Fit one to *values* (n, features), of which *target* in [0, 1] is the chance of being invalid.

    Raises:
        ValueError: the rows are all of one kind.
    """
    mean, spread = _standard(_logs(values))
    readings = _readings(values, mean, spread)
    kinds = np.repeat([1, 0], len(target))
    weights = np.concatenate([weight * target, weight * (1 - target)])
    counted = weights > 0
    with one_thread():
        fitted = LogisticRegression(max_iter=_ROUNDS_MAX).fit(
            np.concatenate([readings, readings])[counted], kinds[counted], weights[counted]
        )
    return Logistic(mean, spread, fitted.coef_[0], float(fitted.intercept_[0]))


def _standard(logs: Matrix) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of what is known of each column; 0 and 1 where that says nothing."""
    columns = [column[~np.isnan(column)] for column in logs.T]
    mean = np.array([known.mean() if len(known) else 0.0 for known in columns])
    spread = np.array([known.std() if len(known) else 0.0 for known in columns])
    return mean, np.where(spread > 0, spread, 1.0)


def _readings(values: Matrix, mean: Floats, spread: Floats) -> Matrix:
    """Return (n, 2 * features): what is unknown is as the mean, and said to be unknown."""
    standard = np.clip((_logs(values) - mean) / spread, -_CLIPPED_AT, _CLIPPED_AT)
    return np.concatenate([np.nan_to_num(standard, nan=0.0), np.isnan(values)], axis=1)


def _logs(values: Matrix) -> Matrix:
    logs: Matrix = np.sign(values) * np.log1p(np.abs(values))
    return logs
