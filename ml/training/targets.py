"""
The chance of being invalid of every row, labelled or not: what trees and calibrations are fitted to.

A row's labels say so much, by how far they are trusted; the rest of it is as likely invalid as rows like it without
labels of its age are (`ml/labels/pu.py`). So an immature row is no firm negative: it counts as one only as far as
labels would have come by now. Source of the weights: Elkan and Noto 2008, section 3, with the chance of a label by age.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.vocabulary import LabelSource
from ml.datasets.split import Places
from ml.labels.arrival import ArrivalCurve, fit_curves
from ml.labels.pu import ARRIVED_MIN, Coverage, coverage, matured_count, posterior
from ml.models import kernel
from ml.training.table import Table
from ml.training.trees import TreeRules, grow

Floats = NDArray[np.float64]

FOLDS = 2
PRIOR_MAX = 0.999
_FIRST_LOOK = TreeRules(trees=60, leaves_max=15, depth_max=5, learning_rate=0.12, rows_per_leaf_min=60)


class Targets(NamedTuple):
    """By row: the chance of being invalid; and what it rests on."""

    chance: Floats
    curves: Mapping[LabelSource, ArrivalCurve]
    of_invalid: Coverage
    of_human: Coverage


def targets(table: Table, train: Places, seed: int) -> Targets:
    """
    Return the chance of every row of *table*, estimated from its rows *train* alone, and never from a row's own fold.

    Raises:
        OneClass: labels say only one thing, or nothing.
    """
    curves = fit_curves(_delays(table))
    matured = {kind: _matured(table, curves, is_invalid=kind) for kind in (True, False)}
    told_share = _told_share(table.age_ms, matured[True], curves)
    labelled = table.invalid / np.maximum(told_share, ARRIVED_MIN)
    score = _chance_of_label(table, train, labelled, seed)
    seen = float((labelled[train] * score[train]).sum() / labelled[train].sum())
    prior = np.minimum(score / seen, PRIOR_MAX)
    members = float(prior.sum())
    of_invalid = coverage(matured[True], members)
    of_human = coverage(matured[False], len(prior) - members)
    silent = posterior(prior, of_invalid.told_by(table.age_ms, curves), of_human.told_by(table.age_ms, curves))
    chance = table.invalid + (1.0 - table.invalid - table.human) * silent
    return Targets(chance, curves, of_invalid, of_human)


def _delays(table: Table) -> dict[LabelSource, tuple[Floats, Floats]]:
    told = table.told
    limits = table.age_ms[told.row]
    return {source: (told.delay_ms[of], limits[of]) for source, of in _by_source(told.source)}


def _matured(table: Table, curves: Mapping[LabelSource, ArrivalCurve], *, is_invalid: bool) -> dict[LabelSource, float]:
    """Return how many labels of one kind each source will have given in the end."""
    told = table.told
    of_kind = told.is_invalid == is_invalid
    return {
        source: matured_count(table.age_ms[told.row[of & of_kind]], curves[source])
        for source, of in _by_source(told.source)
        if (of & of_kind).any()
    }


def _told_share(
    age_ms: Floats, matured: Mapping[LabelSource, float], curves: Mapping[LabelSource, ArrivalCurve]
) -> Floats:
    """Return the share of all labels that will ever come that has come by each age."""
    total = sum(matured.values())
    come = np.zeros_like(age_ms)
    for source, count in sorted(matured.items()):
        come += count / total * curves[source].arrived_by(age_ms)
    return come


def _chance_of_label(table: Table, train: Places, labelled: Floats, seed: int) -> Floats:
    """
    Return the chance of ever being labelled invalid. *labelled* is how many rows each labelled one stands for.

    Each row of *train* is scored by the model of the other fold, all others by the mean of both.
    """
    folds = np.random.default_rng(seed).integers(0, FOLDS, len(train))
    rows = table.features
    target, weight = np.minimum(labelled, 1.0), np.maximum(labelled, 1.0)
    scores = np.zeros((FOLDS, len(rows)))
    for fold in range(FOLDS):
        own = train[folds != fold]
        trees = grow(rows[own], target[own], weight[own], _FIRST_LOOK, seed)
        scores[fold] = 1.0 / (1.0 + np.exp(-kernel.margins(kernel.forest(trees), rows)))
    score: Floats = scores.mean(axis=0)
    score[train] = scores[folds, train]
    return score


def _by_source(source: NDArray[np.object_]) -> list[tuple[LabelSource, NDArray[np.bool_]]]:
    return [(one, source == one) for one in sorted(set(source.tolist()))]
