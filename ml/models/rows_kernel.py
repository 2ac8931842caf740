"""
The compiled work on rows around the walk through the trees: masks before it, calibration and bands after it.

Curves of calibration stand one after the other in two arrays of knots, `x` and `y`, a logistic one as its (a, b) in
`x`. What columns and words mean is passed along: numba's cache notices changes of this file only.
"""

from typing import Any

import numba
import numpy as np

from ml.compiled import kernel

_EXPONENT_MAX = 700.0
_COLD, _MISSING, _TIMEOUT = 1, 3, 4
"""As in `ml.features.matrix`."""
_INTS, _BYTES = numba.int64[::1], numba.uint8[:, ::1]
_FLOATS, _ROWS = numba.float64[::1], numba.float64[:, ::1]


@kernel(numba.void(_BYTES, _INTS, _INTS, _INTS, _INTS, _INTS))
def number_masks(status: Any, watched: Any, history: Any, measured: Any, numbers: Any, masks: Any) -> None:
    """
    Fill *masks* with the number of each row's mask, by *numbers* of the bits that say what it leaves out.

    *watched* are the columns of the last hour of person, device and network; *history* and *measured* those of which
    all must be known.
    """
    for row in range(len(status)):
        person, device, network = status[row, watched[0]], status[row, watched[1]], status[row, watched[2]]
        bits = 0
        for column in history:
            if status[row, column] == _MISSING:
                bits |= 1
        for column in measured:
            if status[row, column] == _MISSING:
                bits |= 4
        if person in (_COLD, _TIMEOUT):
            bits |= 8
        elif device in (_COLD, _TIMEOUT) or network in (_COLD, _TIMEOUT) or (device == _MISSING == network):
            bits |= 2
        masks[row] = numbers[bits]


@kernel(numba.void(_ROWS, _INTS, numba.boolean[:, ::1], _ROWS))
def leave_out(values: Any, masks: Any, columns: Any, kept: Any) -> None:
    """Fill *kept* with *values*, NaN in those *columns* that the mask of each row leaves out."""
    for row in range(len(values)):
        for column in range(values.shape[1]):
            kept[row, column] = np.nan if columns[masks[row], column] else values[row, column]


@kernel(numba.void(_INTS, numba.boolean[::1], _FLOATS, _FLOATS, _ROWS, _FLOATS, _INTS, _FLOATS, numba.uint8[::1]))
def judge(
    starts: Any, logistic: Any, x: Any, y: Any, limits: Any, margins: Any, which: Any, risk: Any, band: Any
) -> None:
    """
    Fill *risk* and *band* of each of *margins* by the curve that *which* names.

    Its knots are those from *starts* of it to the next. From *limits*, grey and risky, on a band is one higher.
    """
    for i in range(len(margins)):
        curve, margin = which[i], margins[i]
        first, last = starts[curve], starts[curve + 1] - 1
        if logistic[curve]:
            odds = min(max(x[first] * margin + x[first + 1], -_EXPONENT_MAX), _EXPONENT_MAX)
            p = 1.0 / (1.0 + np.exp(-odds))
        elif margin <= x[first]:
            p = y[first]
        elif margin >= x[last]:
            p = y[last]
        else:
            low, high = first, last
            while high - low > 1:
                middle = (low + high) >> 1
                if x[middle] <= margin:
                    low = middle
                else:
                    high = middle
            p = (y[low + 1] - y[low]) / (x[low + 1] - x[low]) * (margin - x[low]) + y[low]
        risk[i] = p
        band[i] = (p >= limits[curve, 0]) + (p >= limits[curve, 1])
