"""How sure a share is."""

from math import sqrt
from typing import NamedTuple

Z_95 = 1.959963984540054


class Interval(NamedTuple):
    low: float
    high: float


def wilson(hits: int, of: int, z: float = Z_95) -> Interval | None:
    """
    Return Wilson's score interval of *hits* in *of* trials, by default of 95 %; None if there are no trials.

    Source: E. B. Wilson, JASA 22 (1927) 209-212. It takes trials to be independent of each other.
    """
    if of <= 0:
        return None
    share, spread = hits / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))
