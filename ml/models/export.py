"""From scikit-learn's histogram gradient boosting to plain arrays; scikit-learn itself is not needed for it."""

from typing import Any

import numpy as np

from ml.models.artifact import Trees


class NotExportable(ValueError):
    """The model has what the arrays cannot say: several classes, or splits by category."""


def of_sklearn(model: Any) -> Trees:
    """
    Return the trees of *model*, a fitted `HistGradientBoostingClassifier` of two classes.

    `kernel.margins` of them is its `decision_function`, bit for bit. Source: scikit-learn 1.9,
    `ensemble/_hist_gradient_boosting`: `_predictor.pyx` and `_raw_predict`.

    Raises:
        NotExportable: it has more classes, or features that are categories.
    """
    iterations = model._predictors  # noqa: SLF001 (there is no other way to them)
    if any(len(of_classes) != 1 for of_classes in iterations) or not iterations:
        raise NotExportable("it has not exactly two classes")
    trees = [of_classes[0].nodes for of_classes in iterations]
    if any(nodes["is_categorical"].any() for nodes in trees):
        raise NotExportable("it splits by categories")
    starts = np.cumsum([0, *map(len, trees)], dtype=np.int32)
    nodes, first = np.concatenate(trees), np.repeat(starts[:-1], np.diff(starts))
    is_leaf = nodes["is_leaf"].astype(bool)
    return Trees(
        starts=starts,
        feature=np.where(is_leaf, 0, nodes["feature_idx"]).astype(np.int16),
        threshold=np.where(is_leaf, 0.0, nodes["num_threshold"]),
        left=np.where(is_leaf, -1, nodes["left"] + first).astype(np.int32),
        right=np.where(is_leaf, -1, nodes["right"] + first).astype(np.int32),
        missing_left=np.where(is_leaf, 0, nodes["missing_go_to_left"]).astype(np.uint8),
        value=np.where(is_leaf, nodes["value"], 0.0),
        baseline=float(model._baseline_prediction.ravel()[0]),  # noqa: SLF001
    )
