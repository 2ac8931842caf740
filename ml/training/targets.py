"""
The chance of being invalid of every row, labelled or not: what trees and calibrations are fitted to.

A row's labels say so much, by how far they are trusted; the rest of it is as likely invalid as rows like it without
labels, of its age, are (`ml/labels/pu.py`). So an immature row is no firm negative: it counts as one only as far as
labels would have come by now. Source of the weights: Elkan and Noto 2008, section 3, with the chance of a label by age.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.vocabulary import LabelSource
from ml.datasets.split import Places
from ml.labels.arrival import ArrivalCurve, fit_curves
from ml.labels.pu import ARRIVED_MIN, coverage, matured_count, posterior, prior_of
from ml.labels.sources import Sight
from ml.models import kernel
from ml.training.table import Table, Told
from ml.training.trees import OneClass, TreeRules, grow

Floats = NDArray[np.float64]

FOLDS = 2
LABELS_MIN = 20
"""Fewer labels of one sight, on rows that train, say nothing about what has none."""
_FIRST_LOOK = TreeRules(trees=60, leaves_max=15, depth_max=5, learning_rate=0.12, rows_per_leaf_min=60)

Curves = Mapping[LabelSource, ArrivalCurve]


class Targets(NamedTuple):
    """By row: the chance of being invalid; and what it rests on."""

    chance: Floats
    curves: Curves
    shares: dict[LabelSource, float]
    """Of what each source can see, what it will have labelled in the end."""


def targets(table: Table, train: Places, seed: int) -> Targets:
    """
    Return the chance of every row of *table*, estimated from its rows *train* alone, and never from a row's own fold.

    Raises:
        OneClass: labels say only one thing, or nothing.
    """
    curves = fit_curves(_delays(table))
    silent, shares = np.ones(len(table.age_ms)), dict[LabelSource, float]()
    for sight in Sight:
        labels = table.told.of(sight)
        if np.isin(labels.row, train).sum() >= LABELS_MIN:
            seen = _seen(table, labels, curves, train, seed)
            silent *= 1.0 - seen.chance
            shares |= seen.shares
    if not shares:
        raise OneClass(f"no kind of source has labelled {LABELS_MIN} of the rows to train on as invalid")
    chance = table.invalid + (1.0 - table.invalid - table.human) * (1.0 - silent)
    return Targets(chance, curves, shares)


class _Seen(NamedTuple):
    chance: Floats
    shares: dict[LabelSource, float]


def _seen(table: Table, labels: Told, curves: Curves, train: Places, seed: int) -> _Seen:
    """Return what sources of one sight, whose *labels* say invalid, make likely, but for what the labels say."""
    matured = {
        source: matured_count(table.age_ms[labels.row[of]], curves[source]) for source, of in _by_source(labels.source)
    }
    silent = np.ones(len(table.age_ms))
    np.multiply.at(silent, labels.row, 1.0 - labels.trust)
    has_label = np.bincount(labels.row, minlength=len(silent)) > 0
    stands_for = has_label / np.maximum(_told_share(table.age_ms, matured, curves), ARRIVED_MIN)
    score = _chance_of_label(table.features, train, stands_for, seed)
    prior = prior_of(score, stands_for[train], 1.0 - silent[train], score[train])
    covered = coverage(matured, float(prior.sum()))
    unlabelled = posterior(prior, covered.told_by(table.age_ms, curves))
    return _Seen(np.where(has_label, prior, unlabelled), covered.shares)


def _delays(table: Table) -> dict[LabelSource, tuple[Floats, Floats]]:
    told = table.told
    limits = table.age_ms[told.row]
    return {source: (told.delay_ms[of], limits[of]) for source, of in _by_source(told.source)}


def _told_share(age_ms: Floats, matured: Mapping[LabelSource, float], curves: Curves) -> Floats:
    """Return the share of all labels that will ever come that has come by each age."""
    total = sum(matured.values())
    come = np.zeros_like(age_ms)
    for source, count in sorted(matured.items()):
        come += count / total * curves[source].arrived_by(age_ms)
    return come


def _chance_of_label(rows: Floats, train: Places, stands_for: Floats, seed: int) -> Floats:
    """
    Return the chance of ever being labelled invalid; each labelled row *stands_for* so many.

    Each row of *train* is scored by the model of the other fold, all others by the mean of both.
    """
    folds = np.random.default_rng(seed).integers(0, FOLDS, len(train))
    target, weight = np.minimum(stands_for, 1.0), np.maximum(stands_for, 1.0)
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
