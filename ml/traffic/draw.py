"""Cheap seeded draws: the generator makes a dozen per event, and one `random.choices` costs as much as half of them."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate
from math import log
from random import Random
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Span(NamedTuple):
    """A parameter that is drawn, from *low* to *high*; all alike likely, or all orders of magnitude if *by_size*."""

    low: float
    high: float
    by_size: bool = False

    def draw(self, rng: Random) -> float:
        if self.by_size:
            return float(self.low * (self.high / self.low) ** rng.random())
        return self.low + (self.high - self.low) * rng.random()

    def whole(self, rng: Random) -> int:
        return int(self.draw(rng))

    @property
    def mean(self) -> float:
        if self.by_size:
            return (self.high - self.low) / log(self.high / self.low)
        return (self.low + self.high) / 2


class Weighted(Generic[T]):
    """Values with weights."""

    def __init__(self, pairs: Iterable[tuple[T, float]]) -> None:
        kept = [(value, weight) for value, weight in pairs if weight > 0]
        if not kept:
            raise ValueError("nothing to draw from")
        self.values = [value for value, _ in kept]
        self._bounds = list(accumulate(weight for _, weight in kept))
        self.total = self._bounds[-1]

    def draw(self, rng: Random) -> T:
        # rounding can put the drawn number on the last bound
        at = bisect_right(self._bounds, rng.random() * self.total)
        return self.values[min(at, len(self.values) - 1)]


def weighted(weights: Mapping[T, float]) -> Weighted[T]:
    return Weighted(weights.items())


def pick(values: list[T] | tuple[T, ...], rng: Random) -> T:
    return values[int(rng.random() * len(values))]
