"""Skew between what decisions logged and what a replay computes: which feature, from when on, by how much."""

import numpy as np
import pytest

from ml.features.matrix import COLD, FRESH, MISSING, STALE, TIMEOUT
from ml.monitors.checks import Check, judge
from ml.monitors.skew import Side, compare, measured

NAMES = ("person_min", "visible_ms", "network_hour")
PERSON, VISIBLE, NETWORK = range(3)
N = 2_000


@pytest.fixture
def logged():
    chance = np.random.default_rng(1)
    values = chance.poisson(5, (N, 3)).astype(np.float64)
    values[chance.random((N, 3)) < 0.1] = np.nan
    return Side(values, np.where(np.isnan(values), MISSING, FRESH).astype(np.uint8))


def skew(logged, replayed):
    sdk = np.where(np.arange(N) % 2, "ios/1", "android/1")
    return compare(logged, replayed, NAMES, np.arange(N) * 1_000, sdk)


def changed(side, column, change, rows=slice(None)):
    values = side.values.copy()
    values[rows, column] = change(values[rows, column])
    return Side(values, side.status)


def found(result):
    return [(one.check, one.says) for one in judge(measured(result)) if one.found]


def test_equal_rows_are_no_skew(logged):
    result = skew(logged, logged)
    assert (result.equal_share, result.unequal, found(result)) == (1.0, 0, [])


def test_one_row_in_a_thousand_may_differ(logged):
    """Retries that met in one batch, a counter that forgot: not the code's fault."""
    result = skew(changed(logged, PERSON, lambda one: one + 1, slice(0, 1)), logged)
    assert result.unequal <= 1
    assert found(result) == []


def test_a_window_that_is_off_by_one_bucket_is_found_with_its_feature_time_and_size(logged):
    off = changed(logged, PERSON, lambda one: one + 1, slice(1_500, None))
    result = skew(off, logged)
    [(check, says)] = found(result)
    assert check is Check.SKEW
    assert says.startswith("person_min in ")
    first = result.features[0]
    assert (first.name, first.first_at, first.apart_max) == ("person_min", 1_500_000, 1.0)
    assert first.sdks == ("android/1", "ios/1")
    assert result.features[1].unequal == 0


def test_a_unit_that_changed_in_one_sdk_is_found_with_that_sdk(logged):
    seconds = changed(logged, VISIBLE, lambda one: one / 1_000, np.arange(N) % 2 == 1)
    result = skew(seconds, logged)
    assert (result.features[0].name, result.features[0].sdks) == ("visible_ms", ("ios/1",))
    assert len(found(result)) == 1


def test_a_null_that_was_logged_as_zero_is_found(logged):
    zero = changed(logged, NETWORK, np.nan_to_num)
    result = skew(Side(zero.values, np.full((N, 3), FRESH, np.uint8)), logged)
    assert found(result)[0][1].startswith("network_hour in ")
    assert result.features[0].apart_max == float("inf")


@pytest.mark.parametrize("status", [COLD, STALE, TIMEOUT])
@pytest.mark.parametrize("side", ["logged", "replayed"])
def test_what_could_not_be_known_on_either_side_is_not_compared(logged, status, side):
    letters = logged.status.copy()
    letters[:, PERSON] = status
    other = Side(changed(logged, PERSON, lambda one: one + 1).values, letters)
    result = skew(other, logged) if side == "logged" else skew(logged, other)
    assert result.unequal == 0
    assert result.cells_compared == 2 * N
    assert next(one for one in result.features if one.name == "person_min").compared == 0


def test_too_few_rows_are_not_judged(logged):
    [one] = measured(
        compare(*[Side(logged.values[:10], logged.status[:10])] * 2, NAMES, np.arange(10), np.full(10, ""))
    )
    assert (one.p_value, one.untested) == (None, "fewer than 500 to look at")


def test_no_rows_are_equal():
    nothing = Side(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    assert compare(nothing, nothing, NAMES, np.zeros(0, np.int64), np.zeros(0, np.str_)).equal_share == 1.0
