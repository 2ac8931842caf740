"""Quantiles from buckets: close to the true ones, and of the window that is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.traffic.histogram import Histogram, SlidingHistogram


@given(st.lists(st.floats(2, 1e8), min_size=1, max_size=300), st.sampled_from([0.1, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_within_a_bucket_of_the_true_one(durations_us, share):
    histogram = Histogram()
    for duration_us in durations_us:
        histogram.add(duration_us)
    ordered = sorted(durations_us)
    rank = next(n for n in range(1, len(ordered) + 1) if n >= share * len(ordered))
    assert histogram.quantile_ms(share) * 1e3 == pytest.approx(ordered[rank - 1], rel=0.03)


def test_an_empty_histogram_has_no_latency():
    assert Histogram().quantile_ms(0.5) == 0


def test_what_is_out_of_range_is_counted_at_its_end():
    histogram = Histogram()
    for duration_us in (0, 0.5, 1e12):
        histogram.add(duration_us)
    assert histogram.total == 3
    assert histogram.quantile_ms(0.5) < 0.01
    assert histogram.quantile_ms(1.0) > 60_000


def test_the_window_forgets_and_the_whole_does_not():
    sliding = SlidingHistogram(10)
    sliding.add(100.2, 1_000)
    sliding.add(105.9, 9_000)
    assert sliding.recent(106.0).total == 2
    assert sliding.recent(111.0).total == 1
    assert sliding.recent(111.0).quantile_ms(0.5) == pytest.approx(9, rel=0.03)
    assert sliding.recent(200.0).total == 0
    assert sliding.all.total == 2
