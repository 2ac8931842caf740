"""Models as arrays: the same word as scikit-learn's, bit for bit; and nothing damaged is ever walked."""

import os
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from modelkit import BAND, PLATT, an_artifact, rows, trees
from msgspec.structs import replace
from sklearn.ensemble import HistGradientBoostingClassifier

from domain.signals import Family
from ml.features import kernel as filling
from ml.features.matrix import COLD, MISSING, TIMEOUT
from ml.features.schema import PLACE, SCHEMA, Group, columns_of
from ml.models import kernel
from ml.models.artifact import (
    Band,
    Calibration,
    CorruptArtifact,
    SchemaMismatch,
    Stage,
    dump,
    load,
    model_id,
)
from ml.models.export import NotExportable, of_sklearn
from ml.models.masks import FULL, MASK_NAMES, MASKS, mask_of, masks_of
from ml.models.scorer import CLEAR, GREY, RISKY, Scorer

WIDTH = len(SCHEMA)
EXTREME = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 5e-324, -5e-324, 1.7976931348623157e308, -1.7976931348623157e308]


def fitted(seed=0, n=600, classes=2, **parameters):
    """A classifier of rows with gaps; its matrix."""
    dice = np.random.default_rng(seed)
    x = dice.normal(size=(n, 6))
    x[dice.random(x.shape) < 0.25] = np.nan
    x[:, 5] = np.where(np.isnan(x[:, 5]), np.nan, 1.0)
    truth = np.nan_to_num(x[:, 0] * x[:, 1]) + np.isnan(x[:, 2]) - np.isnan(x[:, 5]) + x[:, 3] ** 2 / 4
    y = np.digitize(np.nan_to_num(truth), range(classes - 1))
    given = {"max_iter": 12, "max_leaf_nodes": 15, "min_samples_leaf": 5, "early_stopping": False, **parameters}
    return HistGradientBoostingClassifier(random_state=seed, **given).fit(x, y), x


MODEL, X = fitted()
FOREST = kernel.forest(of_sklearn(MODEL))


def same(left, right):
    return left.tobytes() == right.tobytes()


@pytest.mark.parametrize("n", [0, 1, kernel.FEW, kernel.FEW + 1, kernel.BLOCK, kernel.BLOCK + 1, 600])
def test_any_number_of_rows_has_the_margins_that_scikit_learn_gives(n):
    expected = MODEL.decision_function(X[:n]) if n else np.empty(0)
    assert same(kernel.margins(FOREST, X[:n]), expected)


@pytest.mark.parametrize("parameters", [{"max_depth": 1}, {"max_leaf_nodes": 31, "max_depth": 8}, {"max_iter": 1}])
@pytest.mark.parametrize("seed", range(3))
def test_all_shapes_of_trees_have_the_margins_that_scikit_learn_gives(seed, parameters):
    model, x = fitted(seed, **parameters)
    assert same(kernel.margins(kernel.forest(of_sklearn(model)), x), model.decision_function(x))


@for_all(st.lists(st.lists(st.sampled_from(EXTREME) | st.floats(), min_size=6, max_size=6), min_size=1, max_size=12))
@settings(max_examples=60)
def test_no_row_is_too_extreme_to_have_the_margin_that_scikit_learn_gives(given):
    x = np.array(given)
    assert same(kernel.margins(FOREST, x), MODEL.decision_function(x))


def test_values_right_at_the_thresholds_go_where_scikit_learn_sends_them():
    thresholds = np.concatenate([one[0].nodes["num_threshold"] for one in MODEL._predictors])
    for values in (thresholds, np.nextafter(thresholds, np.inf), np.nextafter(thresholds, -np.inf)):
        x = np.tile(values[:, None], 6)
        assert same(kernel.margins(FOREST, x), MODEL.decision_function(x))


def test_scoring_draws_in_no_library_of_models_and_compiles_nothing_at_a_request():
    code = """
import sys
from counterskit import RATE_RULES
from gatekit import NOW
from modelkit import an_artifact, rows
from ml.features import kernel as filling
from ml.models import kernel
from ml.models.artifact import dump, load
from ml.models.scorer import Scorer
import service.scoring
assert not {"sklearn", "scipy.stats", "polars", "river", "treelite", "pandas", "joblib"} & sys.modules.keys()
scorer = Scorer(load(dump(an_artifact())))
scorer.score(rows(1)), scorer.score(rows(99))
functions = [*vars(filling).values(), *vars(kernel).values()]
kernels = [one for one in functions if type(one).__name__ == "CPUDispatcher" and not one._can_compile]
assert len(kernels) == 4 and all(len(one.signatures) == 1 for one in kernels)
"""
    path = os.pathsep.join([".", "tests", *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 0


def test_the_kernel_that_fills_vectors_knows_the_same_statuses():
    assert (filling._COLD, filling._MISSING) == (COLD, MISSING)


def test_more_than_two_classes_are_not_exported():
    with pytest.raises(NotExportable):
        of_sklearn(fitted(classes=3)[0])


def test_splits_by_category_are_not_exported():
    dice = np.random.default_rng(1)
    x = dice.integers(0, 5, (200, 2)).astype(float)
    model = HistGradientBoostingClassifier(max_iter=2, categorical_features=[0, 1]).fit(x, x[:, 0] % 2)
    with pytest.raises(NotExportable):
        of_sklearn(model)


# Artifacts


def test_a_model_has_the_same_bytes_and_name_whenever_it_is_written():
    data = dump(an_artifact())
    assert data == dump(an_artifact()) == dump(load(data))
    assert model_id(data) == model_id(dump(an_artifact()))
    assert model_id(data).startswith("s2-")
    assert model_id(data) != model_id(dump(an_artifact(trees(("area_px", 2.0, False, 2.0, -2.0)))))


def test_the_order_of_masks_changes_no_byte():
    there, back = an_artifact(masks=tuple(MASKS)), an_artifact(masks=tuple(reversed(MASKS)))
    assert dump(there) == dump(back)


def test_what_was_written_is_read_again():
    written = an_artifact(
        of_sklearn(MODEL), calibrations={FULL: Calibration("isotonic", np.arange(3.0), np.arange(3) / 3)}
    )
    read = load(dump(written), model_id(dump(written)))
    assert same(kernel.margins(kernel.forest(read.trees), X), MODEL.decision_function(X))
    assert read.bands == written.bands
    assert same(read.calibrations[FULL].y, written.calibrations[FULL].y)


def test_another_hash_is_refused():
    data, other = dump(an_artifact()), dump(an_artifact(stage=Stage.S3))
    load(data, model_id(data))
    for expected in (model_id(other), "", "s2-", model_id(data)[:12]):
        with pytest.raises(CorruptArtifact, match="hash"):
            load(data, expected)


def test_a_model_of_other_features_is_refused():
    with pytest.raises(SchemaMismatch, match="features-00000000"):
        load(dump(an_artifact(schema_id="features-00000000")))


def test_another_format_is_refused():
    with pytest.raises(CorruptArtifact, match="format 2"):
        load(dump(an_artifact(format=2)))


def test_a_model_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr("ml.models.artifact.BYTES_MAX", 100)
    with pytest.raises(CorruptArtifact, match="100 bytes"):
        load(dump(an_artifact()))


STUMP = trees(("area_px", 1.0, False, 2.0, -2.0))


def changed(name, at, value):
    array = getattr(STUMP, name).copy()
    array[at] = value
    return replace(STUMP, **{name: array})


def a_chain(steps):
    """One tree that is nothing but a long way down."""
    n = 2 * steps + 1
    left = np.array([at + 2 if at % 2 == 0 and at < n - 1 else -1 for at in range(n)], np.int32)
    return replace(
        STUMP,
        starts=np.array([0, n], np.int32),
        feature=np.zeros(n, np.int16),
        threshold=np.zeros(n),
        left=left,
        right=np.where(left >= 0, left - 1, -1).astype(np.int32),
        missing_left=np.zeros(n, np.uint8),
        value=np.zeros(n),
    )


DAMAGED = {
    "no trees": replace(STUMP, starts=np.array([0], np.int32)),
    "begins late": changed("starts", 0, 1),
    "ends early": changed("starts", 1, 2),
    "an empty tree": replace(STUMP, starts=np.array([0, 3, 3], np.int32)),
    "one array is short": replace(STUMP, value=STUMP.value[:-1]),
    "the child is itself": changed("left", 0, 0),
    "the child is beyond the end": changed("right", 0, 3),
    "the child is before the start": changed("right", 0, -2),
    "one child": changed("right", 0, -1),
    "a child of both sides, and one of none": changed("right", 0, 1),
    "a feature beyond the last": changed("feature", 0, WIDTH),
    "a feature before the first": changed("feature", 0, -1),
    "a third direction": changed("missing_left", 0, 2),
    "no threshold": changed("threshold", 0, np.nan),
    "no value": changed("value", 1, np.inf),
    "no baseline": replace(STUMP, baseline=np.nan),
    "endless depth": a_chain(65),
    "children in the next tree": replace(
        trees(("area_px", 1.0, False, 0.0, 0.0), ("area_px", 1.0, False, 0.0, 0.0)),
        right=np.array([4, -1, -1, 5, -1, -1], np.int32),
    ),
}


@pytest.mark.parametrize("grown", DAMAGED.values(), ids=DAMAGED)
def test_damaged_trees_are_refused(grown):
    with pytest.raises(CorruptArtifact):
        load(dump(an_artifact(grown)))


def test_a_tree_may_be_as_deep_as_the_limit():
    assert kernel.forest(load(dump(an_artifact(a_chain(64)))).trees).steps.tolist() == [64]


UNFIT = {
    "not for full": an_artifact(masks=("no_async",)),
    "an unknown mask": an_artifact(masks=(FULL, "no_sense")),
    "no band": an_artifact(masks=(FULL,), calibrations={"no_async": PLATT}),
    "upside down": an_artifact(bands={FULL: Band(0.5, 0.4)}),
    "band of nothing": an_artifact(bands={FULL: Band(np.nan, 0.4)}),
    "falls": an_artifact(calibrations={FULL: Calibration("platt", np.array([-1.0, 0.0]), np.array([]))}),
    "endless": an_artifact(calibrations={FULL: Calibration("platt", np.array([np.inf, 0.0]), np.array([]))}),
    "half a line": an_artifact(calibrations={FULL: Calibration("platt", np.array([1.0]), np.array([]))}),
    "knots fall": an_artifact(calibrations={FULL: Calibration("isotonic", np.arange(2.0), np.array([1.0, 0.0]))}),
    "knots turn back": an_artifact(calibrations={FULL: Calibration("isotonic", np.zeros(2), np.zeros(2))}),
    "too steep": an_artifact(calibrations={FULL: Calibration("isotonic", np.array([0, 2e-313]), np.arange(2.0))}),
    "knots without end": an_artifact(calibrations={FULL: Calibration("isotonic", np.arange(2.0), np.zeros(1))}),
    "no knots": an_artifact(calibrations={FULL: Calibration("isotonic", np.zeros(0), np.zeros(0))}),
    "above 1": an_artifact(calibrations={FULL: Calibration("isotonic", np.zeros(1), np.array([1.5]))}),
}


@pytest.mark.parametrize("artifact", UNFIT.values(), ids=UNFIT)
def test_what_cannot_be_calibrated_is_refused(artifact):
    with pytest.raises(CorruptArtifact):
        load(dump(artifact))


@for_all(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(data):
    with pytest.raises(CorruptArtifact):
        load(data)


@for_all(data=st.data())
@settings(max_examples=150)
def test_a_changed_byte_is_refused_or_walked_within_bounds(data):
    written = bytearray(dump(an_artifact(of_sklearn(MODEL))))
    written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = load(bytes(written))
    except (CorruptArtifact, SchemaMismatch):
        return
    assert np.isfinite(kernel.margins(kernel.forest(read.trees), np.full((3, WIDTH), np.nan))).all()


def test_a_model_without_its_arrays_is_refused():
    plain = msgspec.msgpack.decode(dump(an_artifact()))
    del plain["trees"]
    with pytest.raises(CorruptArtifact):
        load(msgspec.msgpack.encode(plain))
    with pytest.raises(CorruptArtifact):
        load(msgspec.msgpack.encode({**plain, "trees": {"starts": "text"}}))


# Masks


def test_there_are_twelve_masks_each_named_by_its_parts_in_order():
    assert len(MASKS) == 12
    for name, groups in MASKS.items():
        assert name.split("+") == sorted(name.split("+"))
        assert mask_of(groups) == name


def test_a_mask_leaves_out_what_is_asked_and_as_little_else_as_can_be():
    assert mask_of([]) == FULL
    assert mask_of([Group.COUNTERS]) == "partial_counters"
    assert mask_of([Group.SHARED, Group.GEOMETRY]) == "no_shared+partial_client"
    with pytest.raises(ValueError, match="agent"):
        mask_of([Group.AGENT])


def status_with(code, *names):
    status = np.zeros((1, WIDTH), np.uint8)
    for name in names:
        status[0, columns_of(name) if isinstance(name, Group) else PLACE[name]] = code
    return status


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (status_with(0), FULL),
        (status_with(MISSING, Group.ASYNC), "no_async"),
        (status_with(MISSING, "visible_ms"), "partial_client"),
        (status_with(COLD, "person_hour"), "partial_counters"),
        (status_with(TIMEOUT, Group.COUNTERS, Group.SHARED), "partial_counters"),
        (status_with(MISSING, Group.COUNTERS), FULL),
        (status_with(COLD, "person_gap_ms", "person_gap_variation"), FULL),
        (status_with(MISSING, Group.SHARED), "no_shared"),
        (status_with(COLD, "network_hour"), "no_shared"),
        (status_with(MISSING, "device_hour", "device_min"), FULL),
        (status_with(MISSING, Group.SHARED, Group.ASYNC, Group.GEOMETRY), "no_async+no_shared+partial_client"),
    ],
)
def test_the_mask_of_a_row_follows_from_the_status_of_its_features(status, name):
    assert MASK_NAMES[masks_of(status)[0]] == name


# Scoring


def odds(margin):
    return 1 / (1 + np.exp(-margin))


def test_a_row_has_the_band_of_its_probability():
    scorer = Scorer(an_artifact(bands=dict.fromkeys(MASKS, Band(odds(0.0), odds(2.0)))))
    assert scorer.score(rows(area_px=1)).band.tolist() == [RISKY]
    assert scorer.score(rows(area_px=2)).band.tolist() == [CLEAR]
    even = Scorer(an_artifact(trees(("area_px", 1.0, False, 0.0, 0.0)), bands={FULL: Band(0.5, 0.6)}))
    assert even.score(rows()).band.tolist() == [GREY]
    assert even.score(rows()).risk.tolist() == [0.5]


def test_a_row_is_calibrated_by_its_mask_whatever_rows_stand_beside_it():
    shifted = Calibration("platt", np.array([1.0, -3.0]), np.array([]))
    scorer = Scorer(an_artifact(calibrations={"no_async": shifted}))
    mixed = rows(4)
    mixed.status[1::2, columns_of(Group.ASYNC)] = MISSING
    assert scorer.score(mixed).risk.tolist() == [odds(2.0), odds(-1.0)] * 2


def test_what_a_mask_leaves_out_is_not_scored_even_where_it_is_known():
    scorer = Scorer(an_artifact(trees(("visible_ratio", 0.5, True, 3.0, -3.0))))
    known = rows(visible_ratio=1.0)
    assert scorer.score(known).risk.tolist() == [odds(-3.0)]
    known.status[0, PLACE["visible_ms"]] = MISSING
    assert scorer.score(known).risk.tolist() == [odds(3.0)]


def test_groups_that_are_masked_widen_the_mask_of_each_row():
    scorer = Scorer(an_artifact(trees(("person_min", 5.0, True, -1.0, 1.0))))
    busy = rows(2, person_min=9)
    busy.status[1, columns_of(Group.ASYNC)] = MISSING
    scores = scorer.score(busy, {Group.COUNTERS})
    assert [MASK_NAMES[mask] for mask in scores.mask] == ["partial_counters", "no_async+partial_counters"]
    assert scores.risk.tolist() == [odds(-1.0)] * 2


def test_what_a_model_was_not_calibrated_for_goes_by_the_narrowest_that_leaves_out_as_much():
    other = Calibration("platt", np.array([1.0, 5.0]), np.array([]))
    scorer = Scorer(an_artifact(masks=(FULL, "no_async+no_shared"), calibrations={"no_async+no_shared": other}))
    lone, both = rows(), rows()
    lone.status[0, columns_of(Group.SHARED)] = MISSING
    both.status[0, columns_of(Group.GEOMETRY)] = MISSING
    assert scorer.score(lone).risk.tolist() == [odds(7.0)]
    assert scorer.score(both).risk.tolist() == [odds(2.0)]


def test_a_family_is_corroborated_by_what_is_known_from_elsewhere():
    by_rate = ("person_min", 5.0, False, -1.0, 3.0)
    by_agent = ("agent_class", 0.5, False, -1.0, 3.0)
    alone, both = Scorer(an_artifact(trees(by_rate))), Scorer(an_artifact(trees(by_rate, by_agent)))
    busy = rows(person_min=9, agent_class=1)
    assert alone.masked_risk(busy, 0, Family.RATE) == (odds(3.0), RISKY), "NaN goes right: still risky"
    left = Scorer(an_artifact(trees(("person_min", 5.0, True, -1.0, 3.0))))
    assert left.masked_risk(busy, 0, Family.RATE) == (odds(-1.0), CLEAR)
    assert both.masked_risk(busy, 0, Family.AGENT)[1] is RISKY


def test_a_family_that_is_a_whole_group_is_masked_as_if_the_group_were_missing():
    other = Calibration("platt", np.array([1.0, 5.0]), np.array([]))
    scorer = Scorer(an_artifact(trees(("skew_ms", 5.0, False, 1.0, 1.0)), calibrations={"partial_client": other}))
    assert scorer.masked_risk(rows(), 0, Family.GEOMETRY)[0] == odds(6.0)
    assert scorer.masked_risk(rows(), 0, Family.AGENT)[0] == odds(1.0)


def test_no_rows_have_no_scores():
    assert Scorer(an_artifact()).score(rows(0)).risk.shape == (0,)


def test_isotonic_calibrations_go_straight_between_their_knots():
    given = Calibration("isotonic", np.array([-1.0, 1.0]), np.array([0.2, 0.6]))
    assert given(np.array([-9.0, -1.0, 0.0, 9.0])).tolist() == [0.2, 0.2, 0.4, 0.6]


def test_a_band_may_have_nothing_risky():
    assert load(dump(an_artifact(bands={FULL: Band(0.5, np.inf)}))).bands[FULL] != BAND
