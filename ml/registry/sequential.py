"""
Tests that may be looked at as often as one likes: their promise holds at all times together.

Source: I. Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by betting", Journal of the Royal
Statistical Society B 86 (2024): Theorem 2 (predictable plug-in empirical Bernstein confidence sequence) and section 4
(capital of one-sided bets; Ville's inequality). Observations are bounded; nothing else is assumed of their
distribution. The interval is about a mean that stays the same given the past; the bet only needs that, if nothing is
wrong, the mean given the past is never over the limit, so drifting traffic raises no false alarm.
"""

from math import inf, log, log1p, sqrt
from typing import NamedTuple

_BET_MAX = 0.75
_CAUTION_MAX = 0.5
"""The largest lambda of the confidence sequence; the paper recommends 1/2 or 3/4."""


class Interval(NamedTuple):
    lower: float
    upper: float


class _Moments:
    """Running mean and variance of values in [0, 1], begun with one made-up value at 1/2 as in the paper."""

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.5
        self.variance = 0.25
        self._sum = 0.5
        self._squares = 0.25

    def add(self, x: float) -> None:
        self.n += 1
        self._sum += x
        self.mean = self._sum / (self.n + 1)
        self._squares += (x - self.mean) ** 2
        self.variance = self._squares / (self.n + 1)


class MeanSequence:
    """
    A confidence sequence for the mean of values in [*low*, *high*].

    With probability 1 - *alpha* the mean is in `interval` at every moment of the experiment, all of them together.
    """

    def __init__(self, alpha: float, low: float = -1.0, high: float = 1.0) -> None:
        self._alpha, self._low, self._span = alpha, low, high - low
        self._moments = _Moments()
        self._plain_sum = 0.0
        self._weights = self._weighted = self._spent = 0.0
        self._best = Interval(0.0, 1.0)

    @property
    def n(self) -> int:
        return self._moments.n

    @property
    def mean(self) -> float:
        """The mean of what was observed, 0 before that."""
        return self._plain_sum / self.n if self.n else 0.0

    @property
    def interval(self) -> Interval:
        """Where the mean is. It never grows; empty (lower over upper) only where the mean has changed meanwhile."""
        return Interval(*[self._low + self._span * bound for bound in self._best])

    def add(self, value: float) -> None:
        """Observe *value*; raises `ValueError` if it is out of bounds."""
        x = (value - self._low) / self._span
        if not 0.0 <= x <= 1.0:
            raise ValueError(f"{value} is out of bounds")
        t, before = self.n + 1, self._moments.mean
        wanted = sqrt(2 * log(2 / self._alpha) / (self._moments.variance * t * log1p(t)))
        weight = min(wanted, _CAUTION_MAX)
        self._spent += (x - before) ** 2 * (-log1p(-weight) - weight)
        self._weights += weight
        self._weighted += weight * x
        self._moments.add(x)
        self._plain_sum += value
        centre, radius = self._weighted / self._weights, (log(2 / self._alpha) + self._spent) / self._weights
        self._best = Interval(max(self._best.lower, centre - radius), min(self._best.upper, centre + radius))


class HarmBet:
    """
    A bet that the mean of values in [-1, 1] is over *limit*; `is_won` at capital 1 / *alpha*.

    If the mean given the past never is, the bet is ever won with probability *alpha* at most.
    """

    def __init__(self, limit: float, alpha: float) -> None:
        self._limit = (limit + 1.0) / 2.0
        self._goal = log(1 / alpha)
        self._moments = _Moments()
        self._plain_sum = 0.0
        self.log_capital = 0.0
        self.log_capital_max = -inf

    @property
    def n(self) -> int:
        return self._moments.n

    @property
    def mean(self) -> float:
        return self._plain_sum / self.n if self.n else 0.0

    @property
    def is_won(self) -> bool:
        return self.log_capital_max >= self._goal

    def add(self, value: float) -> None:
        """Observe *value*; what is staked on it depends on earlier ones only."""
        x = (value + 1.0) / 2.0
        if not 0.0 <= x <= 1.0:
            raise ValueError(f"{value} is out of bounds")
        gap = self._moments.mean - self._limit
        stake = max(0.0, min(gap / (self._moments.variance + gap * gap), _BET_MAX / self._limit))
        self.log_capital += log1p(stake * (x - self._limit))
        self.log_capital_max = max(self.log_capital_max, self.log_capital)
        self._moments.add(x)
        self._plain_sum += value
