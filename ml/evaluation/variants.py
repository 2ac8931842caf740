"""
Models trained as the one that is evaluated, but for something: without a group of features, or without counters.

Training and calibration rows, targets and tree rules are those of `ml/training`; what is left out is not there at all.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml.datasets.snapshot import Snapshot
from ml.datasets.split import split
from ml.evaluation.metrics import Floats
from ml.features.schema import Group, columns_of
from ml.models import kernel
from ml.models.artifact import Calibration, Stage
from ml.models.export import of_sklearn
from ml.training import calibration
from ml.training.dropout import with_holes
from ml.training.params import Params
from ml.training.table import read_table
from ml.training.targets import targets
from ml.training.trees import TreeRules, grow

Columns = NDArray[np.int64]

COUNTED = (Group.COUNTERS, Group.SHARED)
_HOLED_WEIGHT = 0.5


class Lesson(NamedTuple):
    """What a stage learns from: features and chance of being invalid of rows that train, and of rows that calibrate."""

    rows: Floats
    chance: Floats
    calibrate_rows: Floats
    calibrate_chance: Floats


class Variant(NamedTuple):
    """A model that reads `columns` alone."""

    columns: Columns
    forest: kernel.Forest
    calibration: Calibration

    def score(self, values: Floats) -> Floats:
        """Return the probability of being invalid of each of *values* (n, features)."""
        return self.calibration(kernel.margins(self.forest, values[:, self.columns]))


def lesson(snapshot: Snapshot, params: Params, seed: int) -> Lesson:
    """
    Return what a model of *params* and *seed* would learn from in *snapshot*.

    Raises:
        OneClass: labels say too little to learn from.
    """
    table = read_table(snapshot, Stage.S2)
    parts = split(table.decided_at, table.entities, params.split, seed)
    chance = targets(table, parts.train, seed).chance
    return Lesson(
        table.features[parts.train], chance[parts.train], table.features[parts.calibrate], chance[parts.calibrate]
    )


def without(taught: Lesson, groups: Iterable[Group], rules: TreeRules, seed: int) -> Variant:
    """Return the model that *rules* and *seed* make of *taught* without *groups*."""
    columns = _kept(taught.rows, {column for group in groups for column in columns_of(group)})
    rows = np.concatenate([taught.rows, with_holes(taught.rows, np.random.default_rng(seed))])[:, columns]
    weight = np.repeat([1.0, _HOLED_WEIGHT], len(taught.rows))
    forest = kernel.forest(of_sklearn(grow(rows, np.tile(taught.chance, 2), weight, rules, seed)))
    margins = kernel.margins(forest, taught.calibrate_rows[:, columns])
    sample = calibration.Sample(margins, taught.calibrate_chance, np.ones(len(margins)))
    return Variant(columns, forest, calibration.calibrate(sample))


def _kept(rows: Floats, left_out: Collection[int]) -> Columns:
    """Return the columns that are not *left_out* and not wholly unknown."""
    known = np.flatnonzero((~np.isnan(rows)).any(axis=0))
    return known[~np.isin(known, list(left_out))]
