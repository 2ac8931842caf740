"""Masks, calibration and bands as they are compiled, beside the same in plain numpy."""

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import given as for_all
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ml.features.matrix import COLD, MISSING, TIMEOUT
from ml.features.schema import PLACE, SCHEMA, Group, columns_of
from ml.models.artifact import Calibration, curves, judged
from ml.models.masks import MASK_NAMES, MASKS, masks_of, without

WIDTH = len(SCHEMA)
STATUS = arrays(np.uint8, st.tuples(st.integers(0, 8), st.just(WIDTH)), elements=st.integers(0, 5))
MARGINS = arrays(np.float64, st.integers(0, 20), elements=st.floats(-50, 50))


@st.composite
def calibrations(draw):
    if draw(st.booleans()):
        return Calibration("platt", np.array(draw(st.tuples(st.floats(0, 3), st.floats(-3, 3)))), np.array([]))
    x = np.array(sorted(draw(st.sets(st.floats(-50, 50), min_size=1, max_size=12))))
    heights = st.lists(st.floats(0, 1), min_size=len(x), max_size=len(x))
    y = np.array(sorted(draw(heights)))
    with np.errstate(over="ignore"):
        assume(np.isfinite(np.diff(y) / np.diff(x)).all())  # steeper ones are not loaded
    return Calibration("isotonic", x, y)


def by_numpy(one, margins):
    if one.kind == "isotonic":
        return np.interp(margins, one.x, one.y)
    return 1 / (1 + np.exp(-np.clip(one.x[0] * margins + one.x[1], -700, 700)))


def mask_by_words(status):
    person, device, network = (status[PLACE[name]] for name in ("person_hour", "device_hour", "network_hour"))
    unknown = {COLD, TIMEOUT}
    parts = []
    if MISSING in status[list(columns_of(Group.ASYNC))]:
        parts.append("no_async")
    if person not in unknown and ({device, network} & unknown or device == network == MISSING):
        parts.append("no_shared")
    if MISSING in status[list(columns_of(Group.GEOMETRY))]:
        parts.append("partial_client")
    if person in unknown:
        parts.append("partial_counters")
    return "+".join(parts) or "full"


@for_all(STATUS)
def test_a_mask_names_what_is_left_out(status):
    assert [MASK_NAMES[mask] for mask in masks_of(status)] == [mask_by_words(row) for row in status]


@for_all(st.lists(st.sampled_from(range(len(MASK_NAMES))), max_size=8))
def test_what_a_mask_leaves_out_is_unknown_and_nothing_else(masks):
    values = np.arange(len(masks) * WIDTH, dtype=np.float64).reshape(-1, WIDTH)
    columns = np.zeros((len(MASK_NAMES), WIDTH), np.bool_)
    for mask, groups in enumerate(MASKS.values()):
        for group in groups:
            columns[mask, columns_of(group)] = True
    kept = without(values, np.array(masks, np.int64), columns)
    expected = np.where(columns[np.array(masks, np.int64)], np.nan, values)
    assert np.array_equal(kept, expected, equal_nan=True)


@for_all(calibrations(), MARGINS)
def test_a_calibration_says_what_numpy_says(one, margins):
    at_knots = np.concatenate([margins, one.x])
    said, expected = one(at_knots), by_numpy(one, at_knots)
    if one.kind == "isotonic":
        assert np.array_equal(said, expected)
    else:
        assert said == pytest.approx(expected, rel=1e-14)


@for_all(st.lists(calibrations(), min_size=1, max_size=4), MARGINS, st.data())
def test_each_row_goes_by_its_own_curve_and_limits(several, margins, data):
    which = np.array([data.draw(st.integers(0, len(several) - 1)) for _ in margins], np.int64)
    limits = np.array([sorted(data.draw(st.tuples(st.floats(0, 1), st.floats(0, 1)))) for _ in several])
    risk, band = judged(curves(several, limits), margins, which)
    assert risk.tolist() == [several[curve](margins[at : at + 1])[0] for at, curve in enumerate(which)]
    assert band.tolist() == [int((p >= limits[curve]).sum()) for p, curve in zip(risk, which, strict=True)]
