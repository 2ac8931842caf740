"""Decisions side by side, as monitors read them: from the ledger, or from what a model was trained on."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml.features.matrix import COLD, FRESH, MISSING, STATUS_LETTERS, Vectors
from ml.features.schema import Group, columns_of

STATES = len(STATUS_LETTERS)
CLEAR, RISKY, UNSCORED = "clear", "risky", ""
"""Words of `ImpressionScored.band`; the one between is grey."""
_TOGETHER = tuple(np.array(columns_of(group)) for group in (Group.SHARED, Group.ASYNC))

Floats = NDArray[np.float64]
Codes = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Texts = NDArray[np.str_]


class Rows(NamedTuple):
    """
    *n* decisions over *f* features.

    `values` (n, f) with NaN where nothing is known, `status` (n, f) as `ml.features.matrix` has it. `risk` is NaN and
    `band` `UNSCORED` where no model took part. `invalid_by_rules`: a rule of class givt decided. `grey`: the risk
    alone left it undecided. `full`: everything was at hand that is there at all.
    """

    surface: Texts
    sdk: Texts
    values: Floats
    status: Codes
    risk: Floats
    band: Texts
    invalid_by_rules: Flags
    grey: Flags
    full: Flags

    def take(self, places: NDArray[np.int64] | Flags) -> "Rows":
        """Return the rows at *places*, or those that are true in it."""
        return Rows(
            surface=self.surface[places],
            sdk=self.sdk[places],
            values=self.values[places],
            status=self.status[places],
            risk=self.risk[places],
            band=self.band[places],
            invalid_by_rules=self.invalid_by_rules[places],
            grey=self.grey[places],
            full=self.full[places],
        )


def plain_rows(surface: Texts, values: Floats, status: Codes | None = None) -> Rows:
    """Return rows of which no more is known than their features; without *status* NaN is missing, all else fresh."""
    n = len(surface)
    return Rows(
        surface=surface,
        sdk=np.full(n, ""),
        values=values,
        status=np.where(np.isnan(values), MISSING, FRESH).astype(np.uint8) if status is None else status,
        risk=np.full(n, np.nan),
        band=np.full(n, UNSCORED),
        invalid_by_rules=np.zeros(n, np.bool_),
        grey=np.zeros(n, np.bool_),
        full=np.ones(n, np.bool_),
    )


def rows_of(surface: Texts, vectors: Vectors) -> Rows:
    """
    Return rows of *vectors* of the schema, of which no more is known.

    Where several workers share the counters of devices and networks, or nobody computes history, all of these are
    missing, which a mask of its own is for: such cells say nothing of traffic, and stand as not watched.
    """
    status = vectors.status.copy()
    for columns in _TOGETHER:
        without = (status[:, columns] == MISSING).all(axis=1)
        status[np.ix_(without, columns)] = COLD
    return plain_rows(surface, vectors.values, status)
