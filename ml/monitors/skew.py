"""
Training-serving skew: the features that a decision logged, and the same row as a replay of the ledger computes it.

Rows are compared cell by cell, to the bit. A cell is not comparable where either side did not see the whole window
(cold) or where the decision had to do without (stale, timeout): neither is a mistake of the code. A row counts as equal
if all its comparable cells are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from ml.features.matrix import COLD, STALE, TIMEOUT
from ml.monitors.checks import TERMS, Check, Measured, Terms
from ml.monitors.proportions import INDEPENDENT, over_limit_p_value
from ml.monitors.rows import Codes, Floats

UNEQUAL_MAX = 0.001
"""Source: the design's section 11, at least 99.9 % of rows equal."""


class Side(NamedTuple):
    """Features of *n* decisions, (n, f), with NaN for unknown, and their status codes."""

    values: Floats
    status: Codes


class FeatureSkew(Struct, frozen=True, kw_only=True):
    """How one feature differs; `first_at` (epoch ms) is the first decision where it does, `apart_max` the farthest."""

    name: str
    compared: int
    unequal: int
    first_at: int | None = None
    apart_max: float = 0.0
    sdks: tuple[str, ...] = ()
    """SDK versions of those decisions, if they are few."""


class Skew(Struct, frozen=True, kw_only=True):
    """`cells_compared` of `cells`; features that differ come first."""

    rows: int
    unequal: int
    cells: int
    cells_compared: int
    features: tuple[FeatureSkew, ...]

    @property
    def equal_share(self) -> float:
        return 1 - self.unequal / self.rows if self.rows else 1.0


_SDKS_MAX = 5


def compare(
    logged: Side, replayed: Side, names: Sequence[str], decided_at: NDArray[np.int64], sdk: NDArray[np.str_]
) -> Skew:
    """Compare both sides, row by row; *decided_at* is epoch ms."""
    comparable = _can_tell(logged.status) & _can_tell(replayed.status)
    same = (logged.values == replayed.values) | (np.isnan(logged.values) & np.isnan(replayed.values))
    apart = comparable & ~same
    features = [
        _feature(
            name, (comparable[:, at], apart[:, at]), (logged.values[:, at], replayed.values[:, at]), (decided_at, sdk)
        )
        for at, name in enumerate(names)
    ]
    return Skew(
        rows=len(apart),
        unequal=int(apart.any(axis=1).sum()),
        cells=apart.size,
        cells_compared=int(comparable.sum()),
        features=tuple(sorted(features, key=lambda one: -one.unequal)),
    )


def merged(one: Skew, other: Skew) -> Skew:
    """Return the comparison of both sets of rows, over the same features."""
    others = {feature.name: feature for feature in other.features}
    features = [_merged(feature, others[feature.name]) for feature in one.features]
    return Skew(
        rows=one.rows + other.rows,
        unequal=one.unequal + other.unequal,
        cells=one.cells + other.cells,
        cells_compared=one.cells_compared + other.cells_compared,
        features=tuple(sorted(features, key=lambda feature: -feature.unequal)),
    )


def measured(skew: Skew, terms: Terms = TERMS[Check.SKEW]) -> list[Measured]:
    """Return the share of unequal rows as the one series of the check."""
    seen = Measured(check=Check.SKEW, trials=skew.rows, value=1 - skew.equal_share, says=told(skew))
    if skew.rows < terms.trials_min:
        return [replace(seen, untested=f"fewer than {terms.trials_min} to look at")]
    p_value = over_limit_p_value(skew.unequal, skew.rows, UNEQUAL_MAX, INDEPENDENT)
    return [replace(seen, expected=UNEQUAL_MAX, excess=seen.value - UNEQUAL_MAX, p_value=p_value)]


def told(skew: Skew) -> str:
    """Return which features differ, how often and how much; nothing if none does."""
    return "; ".join(
        f"{one.name} in {one.unequal:,} of {one.compared:,}, by up to {one.apart_max:g}"
        for one in skew.features[:_SDKS_MAX]
        if one.unequal
    )


def _merged(one: FeatureSkew, other: FeatureSkew) -> FeatureSkew:
    firsts = [at for at in (one.first_at, other.first_at) if at is not None]
    sdks = sorted({*one.sdks, *other.sdks})
    is_told = all(part.sdks or not part.unequal for part in (one, other)) and len(sdks) <= _SDKS_MAX
    return FeatureSkew(
        name=one.name,
        compared=one.compared + other.compared,
        unequal=one.unequal + other.unequal,
        first_at=min(firsts, default=None),
        apart_max=max(one.apart_max, other.apart_max),
        sdks=tuple(sdks) if is_told else (),
    )


def _can_tell(status: Codes) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = (status != COLD) & (status != STALE) & (status != TIMEOUT)
    return known


def _feature(
    name: str,
    found: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    values: tuple[Floats, Floats],
    rows: tuple[NDArray[np.int64], NDArray[np.str_]],
) -> FeatureSkew:
    (comparable, apart), (logged, replayed), (decided_at, sdk) = found, values, rows
    compared, unequal = int(comparable.sum()), int(apart.sum())
    if not unequal:
        return FeatureSkew(name=name, compared=compared, unequal=0)
    both = np.abs(logged[apart] - replayed[apart])
    sdks = np.unique(sdk[apart]).tolist()
    return FeatureSkew(
        name=name,
        compared=compared,
        unequal=unequal,
        first_at=int(decided_at[apart].min()),
        apart_max=float(np.nanmax(both)) if not np.isnan(both).all() else float("inf"),
        sdks=tuple(sdks) if len(sdks) <= _SDKS_MAX else (),
    )
