"""Small models: random trees, and a scorer whose word is known beforehand."""

import numpy as np

from domain.placement_events import Stage
from ml.features.matrix import FRESH, Vectors
from ml.features.schema import PLACE, SCHEMA
from ml.models.artifact import Band, Calibration, ModelArtifact, ModelFacts, Trees
from ml.models.masks import MASKS
from ml.models.scorer import Scorer

FACTS = ModelFacts(seed=1, snapshot="none", ledger_range=(0, 0), trained_until=0, rows=0, positives=0)
PLATT = Calibration("platt", np.array([1.0, 0.0]), np.array([]))
BAND = Band(0.4, 0.8)


def trees(*stumps, baseline=0.0):
    """One tree per stump: (feature, threshold, NaN goes left, value to the left, to the right)."""
    flat = lambda at: [x for stump in stumps for x in at(stump)]  # noqa: E731
    first = [3 * n for n in range(len(stumps))]
    return Trees(
        starts=np.array([*first, 3 * len(stumps)], np.int32),
        feature=np.array(flat(lambda s: (PLACE.get(s[0], s[0]), 0, 0)), np.int16),
        threshold=np.array(flat(lambda s: (s[1], 0.0, 0.0))),
        left=np.array([x for at in first for x in (at + 1, -1, -1)], np.int32),
        right=np.array([x for at in first for x in (at + 2, -1, -1)], np.int32),
        missing_left=np.array(flat(lambda s: (int(s[2]), 0, 0)), np.uint8),
        value=np.array(flat(lambda s: (0.0, s[3], s[4]))),
        baseline=baseline,
    )


def an_artifact(grown=None, *, masks=tuple(MASKS), calibrations=None, bands=None, **changes):
    """A model of *grown* trees that says its margin as it is, for all masks."""
    fields = {
        "stage": Stage.S2,
        "trees": trees(("area_px", 1.0, False, 2.0, -2.0)) if grown is None else grown,
        "calibrations": dict.fromkeys(masks, PLATT) | (calibrations or {}),
        "bands": dict.fromkeys(masks, BAND) | (bands or {}),
        "card": FACTS,
    }
    return ModelArtifact(**{**fields, **changes})


def a_mixed_model(name="s2-mixed"):
    """Finds some of a history risky, some grey, some clear; by what every group knows."""
    stumps = [
        ("person_min", 4.0, True, -0.8, 1.2),
        ("person_hour", 9.0, True, -0.8, 1.2),
        ("stack_depth", 5.0, True, -0.4, 0.9),
        ("serve_to_render_ms", 699.0, True, 0.0, 0.3),
        ("visible_ms", 4_000.0, True, -0.3, 0.8),
        ("network_hour", 40.0, True, -0.2, 0.4),
        ("device_users_hour", 1.0, True, -0.2, 0.6),
        ("agent_class", 0.5, True, -0.3, 1.5),
    ]
    return Scorer(an_artifact(trees(*stumps)), name)


def rows(n=1, status=FRESH, **values):
    """*n* rows of zeros, but for *values* by name of the feature; all of one *status*."""
    found = Vectors(np.zeros((n, len(SCHEMA))), np.full((n, len(SCHEMA)), status, np.uint8))
    for name, value in values.items():
        found.values[:, PLACE[name]] = value
    return found
