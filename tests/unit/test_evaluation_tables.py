"""Tables say for what is known, what is held out and each part of it how good a score is, and never mix the three."""

import numpy as np
import pytest
from evaluationkit import ASKED, COSTS, HELD_OUT, a_world, scored

from domain.rates import RateLimits
from domain.reasons import Reason
from ml.evaluation import baselines, metrics
from ml.evaluation.measures import outcome_measures
from ml.evaluation.scored import Cell, Outcome, check, outcome_of
from ml.evaluation.tables import (
    against_baselines,
    cut,
    families,
    held_out,
    known,
    row,
    table,
)
from ml.features.schema import PLACE, SCHEMA

UNUSUAL = RateLimits(per_10s=30, per_min=100, per_hour=1_000)


def value(row_, figure):
    return row_.figures[figure].value


def features(**columns):
    n = len(next(iter(columns.values())))
    values = np.full((n, len(SCHEMA)), np.nan)
    for name, column in columns.items():
        values[:, PLACE[name]] = column
    return values


def test_known_and_held_out_share_valid_traffic_and_no_invalid_row():
    world = a_world()
    ours, theirs = known(world), held_out(world)
    assert not set(ours["family"]) & set(HELD_OUT)
    assert set(theirs.filter(theirs["y"] == 1)["family"]) == {"residential_bot"}
    assert {"person", "office", "unit_change_sdk"} <= set(theirs["family"])


def test_a_score_that_misses_what_it_never_saw_is_good_in_one_table_and_bad_in_the_other():
    world = a_world()
    ours, theirs = (row("all", Cell.of(part(world)), ASKED) for part in (known, held_out))
    assert value(ours, "pr_auc") > 0.9
    assert value(theirs, "pr_auc") < 0.2


def test_a_row_says_the_figures_of_its_rows_with_intervals_around_them():
    cell = Cell.of(a_world())
    found = row("all", cell, ASKED)
    assert (found.rows, found.invalid) == (4_000, int(cell.y.sum()))
    assert value(found, "pr_auc") == metrics.pr_auc(cell.y, cell.scores["model"], cell.weight)
    p = cell.scores["model"]
    assert value(found, "ece") == pytest.approx(metrics.ece(cell.y, p, cell.weight))
    assert value(found, "ece_by_mass") == pytest.approx(metrics.ece_by_mass(cell.y, p, cell.weight))
    assert value(found, "calibration_ratio") == pytest.approx((cell.weight @ cell.y) / (cell.weight @ p))
    for name in ("pr_auc", "recall_low", "recall_high", "ece", "calibration_ratio", "uncertain_share"):
        one = found.figures[name]
        assert one.low < one.high
    assert found.figures["pr_auc"].low < value(found, "pr_auc") < found.figures["pr_auc"].high


def test_what_rules_settle_is_in_gross_and_not_among_what_they_leave_open():
    world = a_world()
    found = table("known", known(world), ASKED)
    settled = int(known(world)["settled"].sum())
    assert found.everything.rows - found.left_open.rows == settled > 0
    assert sum(one.rows for one in found.cuts["surface"]) == found.left_open.rows


def test_cuts_have_a_row_for_each_value_in_order_of_their_names():
    assert [one.name for one in cut(a_world(), "surface", ASKED)] == ["feed", "reels"]


def test_a_baseline_stands_beside_the_model_and_the_difference_is_that_of_both():
    cell = Cell.of(a_world())
    by_name = {one.baseline.name: one for one in against_baselines(cell, ASKED)}
    assert set(by_name) == {"rules", "logistic"}
    more = by_name["logistic"].more["pr_auc"]
    assert more.value == pytest.approx(
        metrics.pr_auc(cell.y, cell.scores["model"], cell.weight)
        - metrics.pr_auc(cell.y, cell.scores["logistic"], cell.weight)
    )
    assert more.low > 0
    assert "ece" in by_name["logistic"].baseline.figures
    assert "ece" not in by_name["rules"].baseline.figures


def test_each_family_says_how_much_of_it_stands_over_the_line_of_one_in_a_hundred_valid_rows():
    world = scored(
        model=[0.0001 * n for n in range(1_980)] + [0.98] * 20 + [0.995] * 20 + [0.05] * 20 + [0.9] * 19,
        y=[0.0] * 2_000 + [1.0] * 59,
        family=["person"] * 1_980 + ["office"] * 20 + ["cloud_bot"] * 20 + ["device_farm"] * 20 + ["hidden"] * 19,
        outcome=["billed"] * 2_000 + ["undecided"] * 20 + ["billed"] * 39,
    )
    found = {one.name: one for one in families(world, ASKED)}
    assert list(found) == ["cloud_bot", "device_farm", "office", "person"]
    assert value(found["cloud_bot"], "over_high") == 1.0
    assert value(found["cloud_bot"], "undecided") == 1.0
    assert value(found["device_farm"], "over_high") == 0.0
    assert value(found["office"], "over_high") == 1.0
    assert value(found["person"], "over_high") == 0.0


def test_errors_cost_prices_of_their_own_currency_and_no_two_currencies_are_added_up():
    cell = Cell.of(
        scored(
            y=[1.0, 0.0, 0.0, 0.0, 1.0],
            outcome=["billed", "dropped", "undecided", "billed", "dropped"],
            outcome_by_rules=["billed"] * 5,
            price_micros=[1_000, 2_000, 5_000, 9_000, 9_000],
            currency=["EUR", "EUR", "USD", "USD", "USD"],
        )
    )
    measures = outcome_measures(cell, COSTS)
    assert measures["cost_per_thousand_EUR"](cell.entities.whole()) == [1_000 * (2 * 1_000 + 4 * 2_000) / 2]
    assert measures["cost_per_thousand_USD"](cell.entities.whole()) == [pytest.approx(1_000 * (0.2 * 5_000) / 3)]
    assert measures["cost_by_rules_per_thousand_USD"](cell.entities.whole()) == [pytest.approx(1_000 * (2 * 9_000) / 3)]


def test_shares_of_errors_are_of_those_who_can_suffer_them():
    cell = Cell.of(scored(y=[1.0, 1.0, 0.0, 0.0, 0.0], outcome=["billed", "dropped", "dropped", "undecided", "billed"]))
    measures = outcome_measures(cell, COSTS)
    assert measures["invalid_billed"](cell.entities.whole()) == [0.5]
    assert measures["valid_dropped"](cell.entities.whole()) == [pytest.approx(1 / 3)]
    assert measures["valid_uncertain"](cell.entities.whole()) == [pytest.approx(1 / 3)]
    assert measures["uncertain_share"](cell.entities.whole()) == [0.2]


def test_a_weight_of_two_stands_for_two_rows_in_every_figure():
    twice = a_world(n=400)
    once = twice.vstack(twice)
    weighted = twice.with_columns(weight=2.0)
    one, other = (row("all", Cell.of(frame), ASKED) for frame in (once, weighted))
    assert {name: pytest.approx(estimate.value) for name, estimate in one.figures.items()} == {
        name: estimate.value for name, estimate in other.figures.items()
    }


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (None, Outcome.BILLED),
        (Reason.RISK_HIGH, Outcome.DROPPED),
        (Reason.AGENT_DECLARED_BOT, Outcome.DROPPED),
        (Reason.RISK_GREY, Outcome.UNDECIDED),
        (Reason.PREFETCHED, None),
        (Reason.DOUBLE_FIRE, None),
        (Reason.OUTSIDE_FLIGHT, None),
    ],
)
def test_what_becomes_of_an_impression_follows_from_the_class_of_its_reason(reason, outcome):
    assert outcome_of(reason) is outcome


def test_rows_that_lack_a_column_or_have_a_score_that_is_no_number_are_refused():
    whole = a_world(n=20)
    assert check(whole) is whole
    with pytest.raises(ValueError, match="entity"):
        check(whole.drop("entity"))
    with pytest.raises(ValueError, match="no number"):
        check(whole.with_columns(model=float("nan")))


def test_rules_score_by_what_they_would_do():
    assert baselines.rules(np.array(["billed", "dropped", "undecided"])).tolist() == [0.0, 1.0, 0.5]


def test_the_rate_rule_goes_by_the_window_in_which_most_is_asked_of_a_person():
    values = features(person_10s=[3, 30, np.nan], person_min=[50, 30, np.nan], person_hour=[100, 30, np.nan])
    assert baselines.rate(values, UNUSUAL).tolist() == [0.5, 1.0, 0.0]


def test_the_logistic_baseline_learns_from_size_and_from_absence_and_its_scores_are_probabilities():
    rng = np.random.default_rng(4)
    y = (rng.random(2_000) < 0.3).astype(float)
    gap = np.where(rng.random(2_000) < 0.4 * y, np.nan, np.exp(rng.normal(8 - 2 * y, 1)))
    values = features(person_gap_ms=gap)
    fitted = baselines.logistic(values, y, np.ones(2_000))
    p = fitted.score(values)
    assert metrics.roc_auc(y, p, np.ones(2_000)) > 0.9
    assert metrics.ece_by_mass(y, p, np.ones(2_000)) < 0.03
    absent, slow = features(person_gap_ms=[np.nan, 30_000.0])[:, None]
    assert fitted.score(absent)[0] > fitted.score(slow)[0]


def test_the_logistic_baseline_takes_a_chance_for_a_target():
    values = features(person_gap_ms=[10.0, 10.0, 9_000.0, 9_000.0] * 50)
    fitted = baselines.logistic(values, np.array([0.8, 0.8, 0.2, 0.2] * 50), np.ones(200))
    assert fitted.score(values[:3]) == pytest.approx([0.8, 0.8, 0.2], abs=0.02)
