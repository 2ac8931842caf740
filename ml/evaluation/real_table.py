"""The table of real input: how well scores that read no agent tell sessions of declared bots from the others."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from msgspec import Struct
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold, cross_val_predict

from ml.evaluation.measures import score_measures
from ml.evaluation.metrics import Floats
from ml.evaluation.real import Log, by_session
from ml.evaluation.scored import COLUMNS, MODEL, Cell
from ml.evaluation.tables import Against, Asked, Row, against_baselines, measured
from ml.features.matrix import Vectors
from ml.training.threads import one_thread

FITTED = "fitted_to_the_log"
"""
Not a baseline but a bound: trees trained on this log's own weak labels, each address scored by trees that never saw it.
"""
_FOLDS = 5
_TREES = 100


class RealCut(Struct, frozen=True, kw_only=True):
    """Figures about some of the sessions; `model` and `baselines` are ranked against the weak label."""

    model: Row
    baselines: list[Against]


class RealTable(Struct, frozen=True, kw_only=True):
    """What an access log said. Its figures are about a weak label, and about nothing but rhythm and network."""

    requests: int
    unread_lines: int
    addresses: int
    sessions: int
    declared: int
    neither: int
    """Sessions of libraries and of those without an agent: no declared bots, and hardly readers."""
    cuts: list[RealCut]


def real_table(log: Log, scores: Mapping[str, Floats], seen: Vectors, asked: Asked) -> RealTable:
    """Return the table over *log*, whose requests have *scores* by name, the model's among them, and *seen*."""
    everyone = np.ones(log.sessions, np.bool_)
    of_sessions = {name: by_session(score, log.session, log.sessions) for name, score in scores.items()}
    bound = fitted_to(log, seen, asked.seed)
    if bound is not None:
        of_sessions[FITTED] = bound
    on_images = {
        name: by_session(score[log.image], log.session[log.image], log.sessions) for name, score in scores.items()
    }
    has_images = np.bincount(log.session, log.image, log.sessions) > 0
    return RealTable(
        requests=len(log.claims),
        unread_lines=log.unread_lines,
        addresses=len(np.unique(log.address)),
        sessions=log.sessions,
        declared=int(log.declared.sum()),
        neither=int((~log.declared & ~log.browser).sum()),
        cuts=[
            _cut("all sessions", log, of_sessions, everyone, asked),
            _cut("declared bots and browsers", log, of_sessions, log.declared | log.browser, asked),
            _cut("sessions with images, by their images", log, on_images, has_images, asked),
        ],
    )


def fitted_to(log: Log, seen: Vectors, seed: int) -> Floats | None:
    """Return `FITTED` of each session; None where there are too few addresses of either kind."""
    if min(len(np.unique(log.address[log.declared])), len(np.unique(log.address[~log.declared]))) < 2 * _FOLDS:
        return None
    columns = [
        by_session(np.nan_to_num(column), log.session, log.sessions)
        for column in seen.values.T
        if np.ptp(np.nan_to_num(column)) > 0
    ]
    folds = GroupKFold(_FOLDS, shuffle=True, random_state=seed)
    trees = HistGradientBoostingClassifier(max_iter=_TREES, random_state=seed)
    with one_thread():
        chances = cross_val_predict(
            trees, np.stack(columns, axis=1), log.declared, groups=log.address, cv=folds, method="predict_proba"
        )
    fitted: Floats = chances[:, 1]
    return fitted


def _cut(name: str, log: Log, scores: Mapping[str, Floats], kept: NDArray[np.bool_], asked: Asked) -> RealCut:
    cell = Cell.of(_frame(log, scores, kept))
    model = measured(name, cell, score_measures(cell, MODEL, is_probability=False), asked)
    return RealCut(model=model, baselines=against_baselines(cell, asked))


def _frame(log: Log, scores: Mapping[str, Floats], kept: NDArray[np.bool_]) -> pl.DataFrame:
    nothing = {
        "world": "",
        "family": "",
        "held_out": False,
        "surface": "pixel",
        "format": "display",
        "mask": "",
        "settled": False,
    }
    nothing |= {"currency": "", "price_micros": 0, "outcome": "", "outcome_by_rules": ""}
    known = {
        "y": log.declared.astype(np.float64),
        "weight": np.ones(log.sessions),
        "entity": log.address.astype(np.uint64),
    }
    frame = pl.DataFrame({**known, **scores}).filter(pl.Series(kept))
    return frame.with_columns(pl.lit(value).cast(COLUMNS[name]).alias(name) for name, value in nothing.items())
