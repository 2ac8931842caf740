"""
Missing-group dropout: rows are repeated without groups of features, so that the model learns to do without them.

Left out is what a rung leaves out, and the features of one family of signals, whose absence the second signal of a
reason of class sivt asks for (semantics 11 of the design).
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from domain.signals import Family
from ml.features.later import LATER_SCHEMA
from ml.features.schema import columns_of, columns_of_family
from ml.models.masks import FULL, MASKS

Matrix = NDArray[np.float64]


@cache
def _holes(width: int) -> NDArray[np.bool_]:
    """Return what is left out, (kinds, *width*): a row for each mask and for each family that has features."""
    columns = [{at for group in groups for at in columns_of(group)} for name, groups in MASKS.items() if name != FULL]
    schema = LATER_SCHEMA[:width]
    columns += [set(of_family) for family in Family if (of_family := columns_of_family(family, schema))]
    holes = np.zeros((len(columns), width), np.bool_)
    for kind, left_out in enumerate(columns):
        holes[kind, sorted(left_out)] = True
    return holes


def with_holes(rows: Matrix, rng: np.random.Generator) -> Matrix:
    """Return *rows* (n, features, and those of later), each without one group, mask or family drawn at random."""
    holes = _holes(rows.shape[1])
    return np.where(holes[rng.integers(0, len(holes), len(rows))], np.nan, rows)


def without(rows: Matrix, mask: str) -> Matrix:
    """Return *rows* (n, features and more) without what *mask* leaves out."""
    columns = [at for group in MASKS[mask] for at in columns_of(group)]
    masked = rows.copy()
    masked[:, columns] = np.nan
    return masked
