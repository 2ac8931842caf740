"""Latencies by size: quantiles of any number of measurements in constant space."""

from collections import deque
from math import log2

_STEPS_PER_DOUBLING = 16
_BUCKETS = 27 * _STEPS_PER_DOUBLING
"""From 1 µs to two minutes; what is longer counts as the longest."""


class Histogram:
    """Counts durations in buckets that are 4 % wide, so a quantile is right to 2 %."""

    def __init__(self) -> None:
        self.counts = [0] * _BUCKETS
        self.total = 0

    def add(self, us: float) -> None:
        self.counts[min(int(log2(us) * _STEPS_PER_DOUBLING), _BUCKETS - 1) if us > 1 else 0] += 1
        self.total += 1

    def quantile_ms(self, share: float) -> float:
        """Return the duration that *share* of all stay within; 0 if there are none."""
        below = 0
        for bucket, counted in enumerate(self.counts):
            below += counted
            if below and below >= share * self.total:
                return _middle_us(bucket) / 1e3
        return 0.0

    def take(self, other: "Histogram") -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class SlidingHistogram:
    """The durations of the last *seconds*, one histogram for each; `all` has every one since the start."""

    def __init__(self, seconds: int) -> None:
        self.all = Histogram()
        self._by_second: deque[tuple[int, Histogram]] = deque(maxlen=seconds)
        self._seconds = seconds

    def add(self, now_s: float, us: float) -> None:
        self.all.add(us)
        second = int(now_s)
        if not self._by_second or self._by_second[-1][0] < second:
            self._by_second.append((second, Histogram()))
        self._by_second[-1][1].add(us)

    def recent(self, now_s: float) -> Histogram:
        """Return the histogram of the window that ends at *now_s*."""
        window = Histogram()
        for second, histogram in self._by_second:
            if second > now_s - self._seconds:
                window.take(histogram)
        return window


def _middle_us(bucket: int) -> float:
    return float(2 ** ((bucket + 0.5) / _STEPS_PER_DOUBLING))
