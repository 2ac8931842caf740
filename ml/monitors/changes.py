"""When something changed within a window, once it is sure that it did."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from scipy import stats

END_MIN = 3
"""So many slices at least lie on either side of a change."""
SURE = 1e-3

Floats = NDArray[np.float64]


def changed_at(values: Floats) -> int | None:
    """
    Return the place in *values*, one of each slice, from which on their mean is another; None if none shows.

    It is the split with the largest difference for its sizes, the likeliest one of a single step in normal noise; its
    t-test is taken as often as there are splits (Bonferroni).
    """
    places = np.arange(END_MIN, len(values) - END_MIN + 1)
    if not len(places) or np.ptp(values) == 0:
        return None
    before = values.cumsum()[places - 1] / places
    after = (values.sum() - before * places) / (len(values) - places)
    weight = places * (len(values) - places) / len(values)
    best = int(places[(weight * (before - after) ** 2).argmax()])
    found = stats.ttest_ind(values[:best], values[best:], equal_var=False)
    return best if found.pvalue * len(places) <= SURE else None


def told(at: int | None, times: Sequence[int]) -> str:
    """Return in words when it was; *times* (epoch ms) are those of the slices."""
    if at is None:
        return ""
    moment = datetime.fromtimestamp(times[at] / 1_000, UTC)
    return f"since about {moment:%Y-%m-%d %H:%M} UTC"
