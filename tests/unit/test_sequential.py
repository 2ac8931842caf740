"""Tests that are looked at all the time: how often they are wrong, and how soon they are right."""

from statistics import median

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from ml.registry.sequential import HarmBet, MeanSequence

SEEDS = range(150)


def paired(seed, n, gains, losses):
    """Paired differences of two models: 1, -1 or, mostly, 0."""
    drawn = np.random.default_rng(seed).random(n)
    return np.where(drawn < gains, 1.0, np.where(drawn < gains + losses, -1.0, 0.0)).tolist()


def first_verdict(values, alpha):
    """At which observation the interval leaves 0 out, None if it never does."""
    sequence = MeanSequence(alpha)
    for at, value in enumerate(values, 1):
        sequence.add(value)
        if sequence.interval.lower > 0 or sequence.interval.upper < 0:
            return at
    return None


def test_looked_at_after_every_label_two_equal_models_are_told_apart_in_at_most_alpha_of_all_cases():
    wrong = [seed for seed in SEEDS if first_verdict(paired(seed, 800, 0.05, 0.05), alpha=0.1)]
    assert len(wrong) / len(SEEDS) <= 0.1


def test_a_model_that_is_four_points_better_is_found_within_some_thousand_labels():
    found = [first_verdict(paired(seed, 3_000, 0.06, 0.02), alpha=0.05) for seed in range(30)]
    assert None not in found
    assert median(found) < 1_500


def test_the_interval_holds_the_mean_at_every_moment():
    missed = 0
    for seed in range(100):
        sequence, values = MeanSequence(0.1, 0.0, 1.0), np.random.default_rng(seed).beta(2, 6, 400)
        bounds = []
        for value in values.tolist():
            sequence.add(value)
            bounds.append(sequence.interval)
        missed += not all(lower <= 0.25 <= upper for lower, upper in bounds)
    assert missed <= 10


@for_all(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
def test_an_interval_never_grows_and_stays_within_bounds(values):
    sequence, before = MeanSequence(0.05), (-1.0, 1.0)
    for value in values:
        sequence.add(value)
        lower, upper = sequence.interval
        assert -1.0 <= before[0] <= lower
        assert upper <= before[1] <= 1.0
        before = (lower, upper)
    assert sequence.n == len(values)
    assert sequence.mean == pytest.approx(sum(values) / len(values), abs=1e-12)


def by_the_paper(x, alpha):
    """Theorem 2 and (15) of the paper as they stand there, for all of *x* at once."""
    t = np.arange(1, len(x) + 1)
    means = (0.5 + np.cumsum(x)) / (t + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2)) / (t + 1)
    mean_before, variance_before = np.append(0.5, means[:-1]), np.append(0.25, variances[:-1])
    lambdas = np.minimum(np.sqrt(2 * np.log(2 / alpha) / (variance_before * t * np.log(1 + t))), 0.5)
    v, psi = 4 * (x - mean_before) ** 2, (-np.log(1 - lambdas) - lambdas) / 4
    centre = np.cumsum(lambdas * x) / np.cumsum(lambdas)
    radius = (np.log(2 / alpha) + np.cumsum(v * psi)) / np.cumsum(lambdas)
    return np.maximum.accumulate(centre - radius).max(), np.minimum.accumulate(centre + radius).min()


def test_the_sequence_is_that_of_the_paper():
    x = np.random.default_rng(3).beta(5, 2, 500)
    sequence = MeanSequence(0.05, 0.0, 1.0)
    for value in x.tolist():
        sequence.add(value)
    assert sequence.interval == pytest.approx(by_the_paper(x, 0.05), abs=1e-12)


@pytest.mark.parametrize("test", [MeanSequence(0.05), HarmBet(0.0, 0.05)], ids=["sequence", "bet"])
@pytest.mark.parametrize("value", [1.01, -1.01, float("nan")])
def test_what_is_out_of_bounds_is_refused(test, value):
    with pytest.raises(ValueError, match="out of bounds"):
        test.add(value)


def first_alarm(values, limit, alpha):
    bet = HarmBet(limit, alpha)
    for at, value in enumerate(values, 1):
        bet.add(value)
        if bet.is_won:
            return at
    return None


def batches(seed, n, canary, champion):
    """Differences of shares in batches of 1 and 19, as a canary at 5 % has them; shares may be given per batch."""
    rng = np.random.default_rng(seed)
    return (rng.binomial(1, canary, n) - rng.binomial(19, champion, n) / 19).tolist()


def test_a_bet_against_what_does_no_harm_is_won_in_at_most_alpha_of_all_cases():
    won = [seed for seed in SEEDS if first_alarm(batches(seed, 800, 0.03, 0.03), limit=0.0, alpha=0.1)]
    assert len(won) / len(SEEDS) <= 0.1


def test_traffic_that_changes_under_both_wins_no_bet():
    """A wave of attacks raises both shares from 2 to 60 % and back; the difference stays 0."""
    shares = 0.02 + 0.58 * np.sin(np.linspace(0, 6 * np.pi, 800)) ** 2
    won = [seed for seed in SEEDS if first_alarm(batches(seed, 800, shares, shares), limit=0.0, alpha=0.1)]
    assert len(won) / len(SEEDS) <= 0.1


def test_what_is_always_over_the_limit_is_found_within_some_twenty_batches():
    found = [first_alarm(batches(seed, 60, 1.0, 0.03), limit=0.02, alpha=0.0025) for seed in range(10)]
    assert max(found) < 25


def test_ten_points_too_many_are_found_within_some_hundred_batches():
    found = [first_alarm(batches(seed, 1_500, 0.13, 0.03), limit=0.02, alpha=0.0025) for seed in range(20)]
    assert None not in found
    assert median(found) < 400
