"""
Models trained as the one that is evaluated, but for something: without a group of features, or without counters.

Training and calibration rows, targets and tree rules are those of `ml/training`; of what is left out nothing is known,
neither when they are trained nor when they score.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ml.datasets.split import split
from ml.evaluation.metrics import Floats
from ml.features.schema import Group, columns_of
from ml.models import kernel
from ml.models.artifact import Calibration
from ml.training import calibration
from ml.training.dropout import with_holes
from ml.training.params import Params
from ml.training.table import Table
from ml.training.targets import targets
from ml.training.trees import grow

COUNTED = (Group.COUNTERS, Group.SHARED)
_HOLED_WEIGHT = 0.5


class Lesson(NamedTuple):
    """What a stage learns from: features and chance of being invalid of rows that train, and of rows that calibrate."""

    rows: Floats
    chance: Floats
    calibrate_rows: Floats
    calibrate_chance: Floats


class Variant(NamedTuple):
    """A model that knows nothing of the columns `left_out`."""

    left_out: list[int]
    forest: kernel.Forest
    calibration: Calibration

    def score(self, values: Floats) -> Floats:
        """Return the probability of being invalid of each of *values* (n, features)."""
        return self.calibration(kernel.margins(self.forest, _without(values, self.left_out)))


def lesson(table: Table, params: Params, seed: int) -> Lesson:
    """
    Return what a model of *params* and *seed* would learn from in *table*.

    Raises:
        OneClass: labels say too little to learn from.
    """
    parts = split(table.decided_at, table.entities, params.split, seed)
    chance = targets(table, parts.train, seed).chance
    train, calibrate = parts.train, parts.calibrate
    return Lesson(table.features[train], chance[train], table.features[calibrate], chance[calibrate])


def without(taught: Lesson, groups: Iterable[Group], params: Params, seed: int) -> Variant:
    """Return the model that *params* and *seed* make of *taught* without *groups*."""
    left_out = [column for group in groups for column in columns_of(group)]
    rows = np.concatenate([taught.rows, with_holes(taught.rows, np.random.default_rng(seed))])
    weight = np.repeat([1.0, _HOLED_WEIGHT], len(taught.rows))
    trees = grow(_without(rows, left_out), np.tile(taught.chance, 2), weight, params.trees, seed)
    forest = kernel.forest(trees)
    margins = kernel.margins(forest, _without(taught.calibrate_rows, left_out))
    sample = calibration.Sample(margins, taught.calibrate_chance, np.ones(len(margins)))
    return Variant(left_out, forest, calibration.calibrate(sample))


def _without(values: Floats, left_out: list[int]) -> Floats:
    if not left_out:
        return values
    masked = values.copy()
    masked[:, left_out] = np.nan
    return masked
