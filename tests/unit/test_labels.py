"""Labels: who may teach what, what several say together, how long they take, and what silence means."""

import numpy as np
import polars as pl
import pytest
from builders import DAY, HOUR, MINTED
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from learnkit import a_label

from domain.feedback import SOURCES
from domain.placement_events import Stage
from domain.vocabulary import Label, LabelSource
from ml.labels.arrival import ArrivalCurve, expected_curve, fit_curve
from ml.labels.beliefs import LABEL_COLUMNS, arrived, beliefs
from ml.labels.pu import Coverage, coverage, matured_count, posterior, prior_of
from ml.labels.sources import LESSONS
from ml.models.s3 import belief_of

NOW = MINTED + 10 * DAY


def frame(*labels, impression="i"):
    rows = [
        (impression, one.source.value, one.label.value, one.weight, one.observed_at, one.received_at) for one in labels
    ]
    return pl.DataFrame(rows, schema=LABEL_COLUMNS, orient="row").lazy()


def known(*labels, at=NOW, stage=Stage.S2):
    return arrived(frame(*labels), pl.DataFrame({"impression": ["i"], "known_at": [at]}), stage)


def believed(*labels, **changes):
    said = beliefs(known(*labels, **changes))
    return said.row(0)[1:] if len(said) else (0.0, 0.0)


# Who may teach what


def test_every_source_of_labels_has_a_lesson():
    assert set(LESSONS) == set(LabelSource)


@pytest.mark.parametrize("source", [LabelSource.DECLARED_BOT, LabelSource.SDK_BUG, LabelSource.VIEW])
@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("label", list(Label))
def test_what_the_screen_settles_and_what_no_visitor_does_is_no_target(source, stage, label):
    assert believed(a_label(source, label), stage=stage) == (0.0, 0.0)


def test_a_label_that_its_source_may_not_give_is_none():
    assert believed(a_label(LabelSource.HONEYPOT, Label.HUMAN)) == (0.0, 0.0)


def test_a_source_is_trusted_as_the_list_says_whatever_stands_in_the_label():
    for source, trust in SOURCES.items():
        if LESSONS[source].stages and Label.INVALID in trust.says:
            assert believed(a_label(source, weight=1.0)) == pytest.approx((trust.weight, 0.0))


def test_a_weight_can_lower_the_trust_in_a_source():
    assert believed(a_label(LabelSource.THIRD_PARTY, weight=0.2)) == pytest.approx((0.2, 0.0))
    assert believed(a_label(LabelSource.THIRD_PARTY, weight=-3.0)) == (0.0, 0.0)


# What was known when


@pytest.mark.parametrize(("late_ms", "expected"), [(0, 1.0), (1, 0.0)])
def test_a_label_that_arrives_a_millisecond_after_the_cut_off_is_not_known(late_ms, expected):
    assert believed(a_label(at=NOW + late_ms), at=NOW)[0] == expected


# What they say together


def test_two_weak_labels_are_worth_more_than_one():
    third, banned = a_label(LabelSource.THIRD_PARTY), a_label(LabelSource.PUBLISHER_BAN)
    assert believed(third, banned) == pytest.approx((1 - 0.3 * 0.5, 0.0))


def test_labels_that_contradict_each_other_say_less_than_each_alone():
    invalid, human = believed(a_label(LabelSource.THIRD_PARTY), a_label(LabelSource.HUMAN_SIGNAL, Label.HUMAN))
    assert invalid == human == pytest.approx(0.7 * 0.3 / (1 - 0.7 * 0.7))


def test_who_changes_his_mind_does_not_speak_twice():
    first = a_label(LabelSource.HUMAN_REVIEW, Label.INVALID, MINTED)
    last = a_label(LabelSource.HUMAN_REVIEW, Label.HUMAN, MINTED + HOUR)
    assert believed(last, first) == believed(first, last) == pytest.approx((0.0, 0.9))


some_labels = st.lists(
    st.builds(
        a_label,
        st.sampled_from(list(LabelSource)),
        st.sampled_from(list(Label)),
        st.integers(MINTED, NOW + 2),
        weight=st.floats(-0.5, 1.5),
    ),
    max_size=6,
)


@settings(max_examples=40)
@for_all(some_labels, st.randoms(use_true_random=False))
def test_the_order_in_which_labels_arrive_does_not_matter(labels, dice):
    shuffled = list(labels)
    dice.shuffle(shuffled)
    assert believed(*shuffled) == believed(*labels)


@settings(max_examples=40)
@for_all(some_labels)
def test_what_is_believed_of_an_impression_never_exceeds_what_can_be(labels):
    invalid, human = believed(*labels)
    assert invalid >= 0
    assert human >= 0
    assert invalid + human <= 1 + 1e-12


@settings(max_examples=40)
@for_all(some_labels)
def test_a_stream_and_a_data_set_say_the_same_of_the_same_labels(labels):
    ordered = sorted(labels, key=lambda one: (one.observed_at, one.received_at, one.label, one.weight))
    belief = belief_of(ordered, NOW)
    assert (belief.invalid, belief.human) == pytest.approx(believed(*labels, stage=Stage.S3), abs=1e-12)


# How long they take


def delays(scale, shape, n, seed, span):
    """Labels of impressions that are spread over *span*, of which those are seen that came before its end."""
    dice = np.random.default_rng(seed)
    age, delay = dice.uniform(0, span, n), scale * dice.weibull(shape, n)
    return delay[delay <= age], age[delay <= age]


@pytest.mark.parametrize(("scale", "shape", "span"), [(1.5 * DAY, 0.8, 6 * DAY), (2 * DAY, 1.4, 4 * DAY)])
def test_a_curve_is_found_although_late_labels_were_not_seen_yet(scale, shape, span):
    seen, ages = delays(scale, shape, 8_000, 1, span)
    curve = fit_curve(LabelSource.THIRD_PARTY, seen, ages)
    assert curve.labels == len(seen)
    at = np.array([0.3, 1.0, 2.0]) * scale
    expected = ArrivalCurve(scale, shape).arrived_by(at)
    assert curve.arrived_by(at) == pytest.approx(expected, abs=0.04)
    assert np.mean(seen[:, None] <= at, axis=0)[1] > expected[1] + 0.04  # what a plain share would have said


def test_the_order_of_labels_does_not_matter_for_their_curve():
    seen, ages = delays(DAY, 1.0, 12_000, 2, 6 * DAY)
    assert fit_curve(LabelSource.DISPUTE, seen, ages) == fit_curve(LabelSource.DISPUTE, seen[::-1], ages[::-1])


@pytest.mark.parametrize("source", list(LabelSource))
def test_without_labels_the_list_speaks(source):
    curve = fit_curve(source, np.zeros(0), np.zeros(0))
    soon, late = LESSONS[source].delay_ms
    assert curve == expected_curve(source)
    assert curve.arrived_by(np.array([soon, late], float)) == pytest.approx([0.05, 0.95])


def test_nothing_has_arrived_before_there_was_anything():
    assert ArrivalCurve(DAY, 0.7).arrived_by(np.array([-5.0, 0.0])) == pytest.approx([0.0, 0.0], abs=1e-5)


def test_labels_that_all_came_at_once_have_a_curve():
    delay = np.full(300, float(DAY))
    curve = fit_curve(LabelSource.ACCOUNT_ACTION, delay, np.full(300, 40.0 * DAY))
    assert curve.arrived_by(np.array([0.8, 1.2, 40.0]) * DAY) == pytest.approx([0.0, 1.0, 1.0], abs=0.05)


# What silence means

CURVES = {source: ArrivalCurve(DAY, 1.0) for source in LabelSource}


@pytest.mark.parametrize("prior", [0.02, 0.5, 0.9])
def test_the_longer_nothing_is_said_the_less_likely_it_is_invalid(prior):
    ages = np.array([0.0, HOUR, DAY, 30 * DAY])
    told = Coverage({LabelSource.THIRD_PARTY: 0.6}).told_by(ages, CURVES)
    chance = posterior(np.full(4, prior), told)
    assert chance[0] == pytest.approx(prior)
    assert (np.diff(chance) < 0).all()
    assert chance[-1] == pytest.approx(prior * 0.4 / (prior * 0.4 + 1 - prior), rel=1e-6)


def test_the_share_that_is_labelled_is_read_off_those_that_are():
    score, labelled = np.array([0.3, 0.3, 0.3, 0.0]), np.array([1.0, 0.0, 0.0, 0.0])
    assert prior_of(score, labelled, np.ones(4), score) == pytest.approx([0.999, 0.999, 0.999, 0.0])
    assert prior_of(score, 0 * labelled, np.ones(4), score).tolist() == [0.0] * 4


def test_labels_that_may_be_wrong_fall_on_all_alike():
    score = np.array([0.45] * 100 + [0.05] * 900)
    labelled = np.array([1.0] * 45 + [0.0] * 55 + [1.0] * 45 + [0.0] * 855)
    prior = prior_of(score, labelled, np.full(1_000, 0.5), score)
    assert prior[-1] == pytest.approx(0.01, abs=0.02)
    assert prior[0] > 0.9


def test_sources_that_label_the_same_share_twice_label_more_than_one():
    both = Coverage({LabelSource.THIRD_PARTY: 0.5, LabelSource.DISPUTE: 0.5}).told_by(np.array([1e15]), CURVES)
    assert both == pytest.approx([0.75])


def test_labels_so_far_are_counted_up_to_those_there_will_be():
    dice = np.random.default_rng(3)
    ages = dice.uniform(0, 4 * DAY, 4_000)
    has_come = dice.random(4_000) < CURVES[LabelSource.DISPUTE].arrived_by(ages)
    count = matured_count(ages[has_come], CURVES[LabelSource.DISPUTE])
    assert count == pytest.approx(4_000, rel=0.1)
    assert coverage({LabelSource.DISPUTE: count}, 8_000).shares[LabelSource.DISPUTE] == pytest.approx(0.5, rel=0.1)
