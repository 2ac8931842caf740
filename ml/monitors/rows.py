"""Decisions side by side, as monitors read them: from the ledger, or from what a model was trained on."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

STATES = "fcs-t+"
"""Letters of `ImpressionScored.feature_status`: fresh, cold, stale, missing, timeout, at least; codes are places."""
FRESH, COLD, STALE, MISSING, TIMEOUT, AT_LEAST = range(len(STATES))
UNSCORED, CLEAR, RISKY_BAND = 255, 0, 2

Floats = NDArray[np.float64]
Codes = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Texts = NDArray[np.str_]


class Rows(NamedTuple):
    """
    *n* decisions over *f* features.

    `values` (n, f) with NaN where nothing is known, `status` (n, f) codes of `STATES`. `risk` is NaN and `band`
    `UNSCORED` where no model took part. `invalid_by_rules`: a rule of class givt held. `grey`: the risk alone left it
    undecided. `full`: everything was at hand.
    """

    surface: Texts
    sdk: Texts
    values: Floats
    status: Codes
    risk: Floats
    band: Codes
    invalid_by_rules: Flags
    grey: Flags
    full: Flags

    def take(self, places: NDArray[np.int64] | Flags) -> "Rows":
        return Rows(*(column[places] for column in self))


def plain_rows(surface: Texts, values: Floats, status: Codes | None = None) -> Rows:
    """Return rows of which no more is known than their features; without *status* NaN is missing, all else fresh."""
    n = len(surface)
    return Rows(
        surface=surface,
        sdk=np.full(n, ""),
        values=values,
        status=np.where(np.isnan(values), MISSING, FRESH).astype(np.uint8) if status is None else status,
        risk=np.full(n, np.nan),
        band=np.full(n, UNSCORED, np.uint8),
        invalid_by_rules=np.zeros(n, np.bool_),
        grey=np.zeros(n, np.bool_),
        full=np.ones(n, np.bool_),
    )
