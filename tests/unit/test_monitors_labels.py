"""Labels as they mature: late sources and miscalibrated models are told apart, and chance gives few alarms."""

import numpy as np
import pytest
from builders import DAY, HOUR
from msgspec.structs import replace

from domain.vocabulary import LabelSource
from ml.labels.arrival import ArrivalCurve
from ml.monitors.checks import Check, Terms, judge
from ml.monitors.maturity import Aged, arrivals, calibrations, late, ratio_of
from ml.monitors.reference import LabelCurve

SHARE = 0.08
FAST, SLOW = ArrivalCurve(HOUR, 1.0), ArrivalCurve(2.0 * DAY, 1.2)
CURVES = (
    LabelCurve(source=LabelSource.HONEYPOT, rate=0.3 * SHARE, caught=0.3, delays=FAST),
    LabelCurve(source=LabelSource.THIRD_PARTY, rate=0.4 * SHARE, caught=0.4, delays=SLOW),
)
ANY = dict.fromkeys(Check, Terms(0.0, 1))


def a_sample(chance, n=8_000, pages=100, curves=CURVES, *, waves=True):
    """Decisions of two weeks in pages; where there are *waves*, fraud comes in some pages more than in others."""
    page = np.arange(n) * pages // n
    age_ms = (13.9 * DAY * (1 - page / pages)) + 1_000
    share = SHARE * chance.gamma(3.0, 1 / 3.0, pages)[page] if waves else np.full(n, SHARE)
    share = np.clip(share, 0.001, 0.6)
    risk = chance.beta(share * 2, (1 - share) * 2)
    invalid = chance.random(n) < risk
    labelled = np.stack(
        [
            invalid & (chance.random(n) < curve.caught) & (chance.random(n) < curve.delays.arrived_by(age_ms))
            for curve in curves
        ],
        axis=1,
    )
    return Aged(risk, age_ms, page, labelled)


def measured(aged, terms=None):
    arrived = arrivals(aged, CURVES) if terms is None else arrivals(aged, CURVES, terms)
    more = (aged, CURVES, late(arrived))
    return [*arrived, *(calibrations(*more) if terms is None else calibrations(*more, terms))]


def found(aged):
    return {(one.check, one.subject) for one in judge(measured(aged)) if one.found}


def with_logits(aged, scale=1.0, shift=0.0):
    risk = np.clip(aged.risk, 1e-9, 1 - 1e-9)
    return aged._replace(risk=1 / (1 + np.exp(-(np.log(risk / (1 - risk)) * scale + shift))))


@pytest.mark.parametrize("seed", range(5))
def test_where_nothing_is_the_matter_nothing_is_found(seed):
    assert found(a_sample(np.random.default_rng(seed))) == set()


@pytest.mark.parametrize("seed", range(3))
def test_a_source_whose_labels_come_late_is_named_and_the_model_is_not_blamed(seed):
    late_now = (CURVES[0], replace(CURVES[1], delays=ArrivalCurve(20.0 * DAY, 1.2)))
    assert found(a_sample(np.random.default_rng(seed), curves=late_now)) == {(Check.LABEL_ARRIVAL, "third_party")}


def test_a_source_that_fell_silent_is_named():
    silent = (replace(CURVES[0], caught=0.0), CURVES[1])
    assert found(a_sample(np.random.default_rng(1), curves=silent)) == {(Check.LABEL_ARRIVAL, "honeypot")}


def test_without_any_timely_source_nothing_is_said_of_the_model():
    silent = tuple(replace(curve, caught=0.0) for curve in CURVES)
    of_model = [
        one for one in measured(a_sample(np.random.default_rng(1), curves=silent)) if one.check is Check.CALIBRATION
    ]
    assert {(one.p_value, one.untested) for one in of_model} == {(None, "the labels of every source are late")}


@pytest.mark.parametrize(("shift", "times"), [(1.0, 1 / 2), (-1.0, 2)])
def test_a_model_whose_risks_are_too_high_or_too_low_is_found_by_its_labels_and_no_source_is_blamed(shift, times):
    aged = with_logits(a_sample(np.random.default_rng(2), 16_000), shift=shift)
    named = found(aged)
    assert (Check.CALIBRATION, "risk 0 to 1") in named
    assert {check for check, _ in named} == {Check.CALIBRATION}
    [whole] = [one for one in measured(aged) if one.subject == "risk 0 to 1"]
    assert whole.value == pytest.approx(times, rel=0.25)


def test_a_model_that_is_too_sure_is_found_in_its_ranges():
    """Too high where risks are high, too low where they are low: the sum hides it."""
    named = found(with_logits(a_sample(np.random.default_rng(3), 16_000), scale=2.5))
    assert (Check.CALIBRATION, "risk 0 to 0.1") in named


@pytest.mark.parametrize("waves", [False, True])
def test_chance_gives_no_oftener_an_alarm_than_was_agreed(waves):
    """Over many worlds, also where fraud comes in waves; every excess would count."""
    chance = np.random.default_rng(4)
    worlds, rate = 200, 0.05
    false = sum(
        any(one.found for one in judge(measured(a_sample(chance, 3_000, waves=waves), ANY), rate, ANY))
        for _ in range(worlds)
    )
    assert false <= worlds * rate + 3 * (worlds * rate * (1 - rate)) ** 0.5


def test_too_few_labels_to_be_expected_are_not_judged():
    few = measured(a_sample(np.random.default_rng(5), 1_000)._replace(age_ms=np.full(1_000, 1_000.0)))
    assert {one.p_value for one in few} == {None}
    assert {one.untested for one in few} == {
        "fewer than 20 labels to be expected",
        "fewer than 1000 to look at",
    }


def test_one_page_is_no_sample():
    aged = a_sample(np.random.default_rng(6))._replace(page=np.zeros(8_000, np.int64))
    assert {one.untested for one in arrivals(aged, CURVES)} == {"fewer than 10 pages to look at"}


def test_the_error_of_a_ratio_is_that_between_pages():
    """Labels that come by the page weigh as one of them."""
    page = np.repeat(np.arange(50), 100)
    whole_pages = np.repeat(np.arange(50) % 2.0, 100)
    alone, together = (
        ratio_of(np.tile([0.0, 1.0], 2_500), np.full(5_000, 0.5), page),
        ratio_of(whole_pages, np.full(5_000, 0.5), page),
    )
    assert alone.value == together.value == 1.0
    assert together.error == pytest.approx(1 / 50**0.5, rel=0.02)
    assert alone.error == pytest.approx(1 / 2_500**0.5)


def test_nothing_to_look_at_is_said():
    empty = Aged(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), np.zeros((0, 2), np.bool_))
    assert {one.p_value for one in measured(empty)} == {None}
