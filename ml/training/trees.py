"""Gradient-boosted trees by scikit-learn, on targets that may lie between the classes."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from ml.features.schema import RISING
from ml.models.artifact import Trees
from ml.models.export import of_sklearn
from ml.training.threads import one_thread

Floats = NDArray[np.float64]


class TreeRules(Struct, frozen=True, kw_only=True):
    """
    How trees are grown; see scikit-learn's `HistGradientBoostingClassifier`.

    `features_share`: of the features, what each split may choose from, drawn anew.
    """

    trees: int = 100
    leaves_max: int = 15
    depth_max: int = 4
    learning_rate: float = 0.08
    rows_per_leaf_min: int = 200
    l2: float = 10.0
    features_share: float = 0.3


class OneClass(ValueError):
    """All that is known is of one class: there is nothing to learn."""


def grow(rows: Floats, target: Floats, weight: Floats, rules: TreeRules, seed: int) -> Trees:
    """
    Return trees fitted to *rows* (n, features), which are invalid with the chances *target*.

    How often a row takes part, and as what, is drawn by its weight and target: right in the mean, and four times as
    fast as weights, for which scikit-learn sorts every feature once per bin. More of what is `RISING` never makes a row
    look more human. One thread; the same arguments give the same trees.

    Raises:
        OneClass: no row is likely of one of the classes.
    """
    dice = np.random.default_rng(seed)
    drawn = np.repeat(np.arange(len(rows)), np.floor(weight + dice.random(len(rows))).astype(np.int64))
    is_invalid = dice.random(len(drawn)) < target[drawn]
    if not is_invalid.any() or is_invalid.all():
        raise OneClass("what is known of impressions is all of one kind")
    model = HistGradientBoostingClassifier(
        max_iter=rules.trees,
        max_leaf_nodes=rules.leaves_max,
        max_depth=rules.depth_max,
        learning_rate=rules.learning_rate,
        min_samples_leaf=rules.rows_per_leaf_min,
        l2_regularization=rules.l2,
        max_features=rules.features_share,
        monotonic_cst=np.isin(np.arange(rows.shape[1]), RISING).astype(np.int8),
        early_stopping=False,
        random_state=seed,
    )
    picked = rows[drawn]
    picked[:, np.isnan(picked).all(axis=0)] = 0.0  # scikit-learn finds no bins in a column of which nothing is known
    with one_thread():
        return of_sklearn(model.fit(picked, is_invalid))
