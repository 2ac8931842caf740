"""Figures about a score: equal to scikit-learn's and scipy's where they have them, right by hand where they do not."""

import math

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from ml.evaluation.bootstrap import ENTITIES_MIN, Entities, Estimate, estimates
from ml.evaluation.measures import ratio
from ml.evaluation.metrics import (
    Ranked,
    ece,
    ece_by_mass,
    equal_mass,
    equal_width,
    pr_auc,
    recall_at_fpr,
    reliability,
    roc_auc,
    threshold_at_fpr,
)

pytestmark = pytest.mark.slow

WORLDS = 100

scored_rows = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.one_of(st.sampled_from((0.0, 0.1, 0.5, 1.0)), st.floats(0, 1, width=32)),
        st.sampled_from((0.0, 0.3, 1.0, 2.5)),
    ),
    min_size=1,
    max_size=60,
).filter(lambda rows: {y for y, _, weight in rows if weight} == {0, 1})


def of(*numbers):
    return np.array(numbers, np.float64)


def ones(n):
    return np.ones(n)


def columns(rows):
    return tuple(np.array(rows, np.float64).T)


def mean_of(values):
    return lambda drawing: [float(np.average(values, weights=drawing.weight))]


def a_world(rng, entities=60, spread=1.5):
    """Entities of one to nine rows, which have their chance of being invalid, and their scores, in common."""
    sizes = rng.integers(1, 10, entities)
    entity = np.repeat(np.arange(entities), sizes)
    level = rng.normal(0, spread, entities)
    y = (rng.random(len(entity)) < 1 / (1 + np.exp(-level[entity]))).astype(np.float64)
    return y, entity


@for_all(scored_rows)
def test_the_area_under_precision_and_recall_is_scikit_learns_average_precision(rows):
    y, p, weight = columns(rows)
    assert pr_auc(y, p, weight) == pytest.approx(average_precision_score(y, p, sample_weight=weight))


@for_all(scored_rows)
def test_the_area_under_the_roc_curve_is_scikit_learns(rows):
    y, p, weight = columns(rows)
    assert roc_auc(y, p, weight) == pytest.approx(roc_auc_score(y, p, sample_weight=weight))


@for_all(scored_rows, st.sampled_from((0.0, 0.001, 0.01, 0.3, 1.0)))
def test_recall_is_the_highest_of_scikit_learns_roc_curve_within_the_allowed_false_positives(rows, fpr_max):
    y, p, weight = columns(rows)
    false_positives, recalls, _ = roc_curve(y, p, sample_weight=weight, drop_intermediate=False)
    expected = recalls[false_positives <= fpr_max].max()
    assert recall_at_fpr(y, p, weight, fpr_max) == pytest.approx(expected)


@for_all(scored_rows, st.sampled_from((0.0, 0.01, 0.3)))
def test_at_the_threshold_for_a_rate_no_more_false_positives_stand_than_it_allows(rows, fpr_max):
    y, p, weight = columns(rows)
    over = p >= threshold_at_fpr(y, p, weight, fpr_max)
    valid = weight * (1 - y)
    assert valid @ over <= fpr_max * valid.sum() + 1e-9
    assert recall_at_fpr(y, p, weight, fpr_max) == pytest.approx((weight * y) @ over / (weight @ y))


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_the_reliability_curve_is_scikit_learns(strategy):
    rng = np.random.default_rng(11)
    p = rng.random(3_000) ** 3
    y = (rng.random(3_000) < p).astype(np.float64)
    share_there, score_there = calibration_curve(y, p, n_bins=10, strategy=strategy)
    bins = equal_width(p, 10) if strategy == "uniform" else equal_mass(p, ones(3_000), 10)
    score, shares, _ = reliability(y, p, ones(3_000), bins)
    assert score == pytest.approx(score_there, abs=2e-3)
    assert shares == pytest.approx(share_there, abs=2e-2 if strategy == "quantile" else 1e-12)


def test_weights_count_rows_so_that_a_row_of_weight_three_is_three_rows():
    y, p, weight = of(1, 0, 1, 0, 0), of(0.9, 0.8, 0.3, 0.3, 0.1), of(1, 3, 2, 1, 2)
    times = weight.astype(int)
    again = np.repeat(y, times), np.repeat(p, times), ones(times.sum())
    for figure in (pr_auc, roc_auc, ece, ece_by_mass):
        assert figure(y, p, weight) == pytest.approx(figure(*again))


def test_a_score_that_says_the_same_of_all_rows_has_their_share_as_area_and_finds_none_within_one_in_a_hundred():
    y, p = of(1, 0, 0, 0), of(0.4, 0.4, 0.4, 0.4)
    assert pr_auc(y, p, ones(4)) == 0.25
    assert roc_auc(y, p, ones(4)) == 0.5
    assert recall_at_fpr(y, p, ones(4), 0.01) == 0.0
    assert threshold_at_fpr(y, p, ones(4), 0.01) == math.inf


def test_recall_stops_before_the_false_positive_that_would_be_too_many():
    y = of(1, 1, 0, 1, 0, *[0] * 98)
    p = of(0.9, 0.8, 0.7, 0.6, 0.5, *[0.1] * 98)
    assert recall_at_fpr(y, p, ones(103), 0.001) == pytest.approx(2 / 3)
    assert recall_at_fpr(y, p, ones(103), 0.01) == pytest.approx(1.0)


def test_the_calibration_error_is_the_mean_distance_of_score_and_share():
    y, p = of(0, 0, 0, 1, 1, 1, 1, 0), of(*[0.10] * 4, *[0.90] * 4)
    assert ece(y, p, ones(8)) == pytest.approx(0.15)
    assert ece_by_mass(y, p, ones(8)) == pytest.approx(0.15)
    assert ece(y, p, of(1, 1, 1, 1, 0, 0, 0, 0)) == pytest.approx(0.15)


def test_bins_of_equal_weight_see_what_bins_of_equal_width_hide_in_one():
    """Half the rows foretell 6 % and have none, half foretell none and have 6 %: on average all is well."""
    y = of(*[0] * 500, *[1] * 30, *[0] * 470)
    p = of(*[0.06] * 500, *[0.0] * 500)
    assert ece(y, p, ones(1_000)) == pytest.approx(0.0)
    assert ece_by_mass(y, p, ones(1_000)) == pytest.approx(0.06)


def test_a_score_of_one_is_in_the_last_bin():
    assert equal_width(of(0.0, 0.0999, 0.1, 1.0), 10).tolist() == [0, 0, 1, 9]


def test_what_cannot_be_measured_is_no_number():
    nothing, two = of(), of(0.2, 0.4)
    for figure in (pr_auc, roc_auc, ece, ece_by_mass):
        assert math.isnan(figure(nothing, nothing, nothing))
    assert math.isnan(pr_auc(of(0, 0), two, ones(2)))
    assert math.isnan(recall_at_fpr(of(0, 0), two, ones(2), 0.01))
    assert math.isnan(recall_at_fpr(of(1, 1), two, ones(2), 0.01))
    assert math.isnan(threshold_at_fpr(of(1, 1), two, ones(2), 0.01))


@for_all(scored_rows)
def test_figures_of_ranks_are_the_same_in_any_order_of_the_rows(rows):
    y, p, weight = columns(rows)
    back = slice(None, None, -1)
    assert pr_auc(y, p, weight) == pytest.approx(pr_auc(y[back], p[back], weight[back]))
    hits, alarms = Ranked(y, p).tallies(weight)
    assert (np.diff(hits) >= 0).all()
    assert (np.diff(alarms) >= 0).all()


def test_without_clusters_the_interval_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(3).gamma(2.0, size=400)
    (ours,) = estimates(mean_of(values), Entities(np.arange(400), ones(400)), seed=1, rounds=2_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=2_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    y, entity = a_world(np.random.default_rng(5))

    def interval(seed):
        return estimates(mean_of(y), Entities(entity, ones(len(y))), seed=seed)

    assert interval(7) == interval(7)
    assert interval(7) != interval(8)


def test_intervals_over_entities_hold_what_they_promise_where_those_over_rows_are_too_narrow():
    held = {"entities": 0, "rows": 0}
    for world in range(WORLDS):
        y, entity = a_world(np.random.default_rng(1_000 + world))
        for how, names in (("entities", entity), ("rows", np.arange(len(y)))):
            (found,) = estimates(mean_of(y), Entities(names, ones(len(y))), seed=world)
            held[how] += found.low <= 0.5 <= found.high
    assert held["entities"] >= 0.95 * WORLDS - 3 * (0.95 * 0.05 * WORLDS) ** 0.5
    assert held["rows"] < 0.85 * WORLDS


def test_a_difference_measured_on_the_same_drawings_is_surer_than_its_two_sides():
    y, entity = a_world(np.random.default_rng(9), entities=200)
    rng = np.random.default_rng(10)
    better, worse = y + rng.normal(0, 0.8, len(y)), y + rng.normal(0, 1.0, len(y))

    def measure(drawing):
        one, other = pr_auc(y, better, drawing.weight), pr_auc(y, worse, drawing.weight)
        return [one, other, one - other]

    one, other, difference = estimates(measure, Entities(entity, ones(len(y))), seed=1)
    assert difference.value == pytest.approx(one.value - other.value)
    assert difference.high - difference.low < (one.high - one.low) + (other.high - other.low)


def test_of_few_entities_there_is_a_value_and_no_interval():
    y = of(*[1, 0] * (ENTITIES_MIN - 1))
    few = Entities(np.repeat(np.arange(ENTITIES_MIN - 1), 2), ones(len(y)))
    assert estimates(mean_of(y), few, seed=1) == [Estimate(0.5)]


@settings(max_examples=20)
@for_all(st.integers(1, 40), st.integers(0, 1_000))
def test_as_many_entities_are_drawn_as_there_are_each_with_all_its_rows(entities, seed):
    named = np.repeat(np.arange(entities), 3)
    drawing = Entities(named, ones(len(named))).drawn(np.random.default_rng(seed))
    assert drawing.weight.tolist() == np.repeat(drawing.counts, 3).tolist()
    assert drawing.counts.sum() == entities


@settings(max_examples=20)
@for_all(scored_rows, st.integers(0, 1_000))
def test_sums_per_entity_make_the_same_ratio_as_its_rows_do_in_any_drawing(rows, seed):
    y, p, weight = columns(rows)
    entities = Entities(np.arange(len(y)) // 3, weight)
    drawing = entities.drawn(np.random.default_rng(seed))
    total = drawing.weight.sum()
    expected = float(drawing.weight @ p) / total if total > 0 else math.nan
    assert ratio(entities, p, ones(len(p)))(drawing) == [pytest.approx(expected, nan_ok=True)]
