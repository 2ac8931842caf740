"""
The compiled part of vectors: what was read goes to its columns, is rounded, has its status, and is packed.

Where each column comes from is passed along: numba's cache notices changes of this file only, not of the schema.
"""

from typing import Any

import numba
import numpy as np

from ml.compiled import kernel

_ROWS, _BYTES, _INTS = numba.float64[:, ::1], numba.uint8[:, ::1], numba.int64[::1]
_SIGNATURE = numba.void(_ROWS, _INTS, _INTS, _ROWS, _BYTES, _INTS, _INTS, numba.uint8[::1], _ROWS, _BYTES)
_COLD, _MISSING = 1, 3
"""As in `ml.features.matrix`."""


@kernel(numba.void(_ROWS, numba.float32[::1], _INTS))
def squeeze(values: Any, known: Any, ends: Any) -> None:
    """Fill *known* with what is not NaN of *values*, row by row, and *ends* with where each row ends in it."""
    end = 0
    for row in range(len(values)):
        for column in range(values.shape[1]):
            known[end] = values[row, column]
            end += not np.isnan(values[row, column])
        ends[row] = end


@kernel(_SIGNATURE)
def fill(
    read: Any,
    plus: Any,
    minus: Any,
    counted: Any,
    counted_status: Any,
    counted_from: Any,
    counted_to: Any,
    status_of: Any,
    values: Any,
    status: Any,
) -> None:
    """
    Fill *values* and *status* (rows, features): column `c` is column `plus[c]` of *read* less column `minus[c]`.

    Below zero there is none: without `plus` the feature is not known. Columns *counted_from* of *counted* go to
    *counted_to* with `status_of` their own; what is cold is not known.
    """
    for row in range(len(values)):
        for column in range(len(plus)):
            value = np.nan
            if plus[column] >= 0:
                value = read[row, plus[column]]
                if minus[column] >= 0:
                    value -= read[row, minus[column]]
            values[row, column] = np.float32(value)
            status[row, column] = _MISSING if np.isnan(value) else 0
        for at in range(len(counted_to)):
            known = status_of[counted_status[row, counted_from[at]]]
            value = counted[row, counted_from[at]]
            values[row, counted_to[at]] = np.nan if known == _COLD else np.float32(value)
            status[row, counted_to[at]] = known
