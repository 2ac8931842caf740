"""What ends a canary by itself, what a trial of two models says, and whose impressions are whose."""

import random

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.ids import mint
from domain.placement_events import Role
from domain.reasons import Reason
from ml.models.scorer import CLEAR, GREY, RISKY, Scores
from ml.registry.arms import in_share
from ml.registry.experiments import (
    CURRENCIES_MAX,
    PRICE_CAP_MICROS,
    Finding,
    Judged,
    Trial,
)
from ml.registry.guards import LIMITS, Guard, Guardrails, Share, parse_limits
from ml.registry.side_by_side import CURRENCIES_MAX as NAMED_MAX
from ml.registry.side_by_side import HOUR_MS, Pair, Rows, SideBySide, is_models_word

NOW = 1_790_000_000_000


def ids(count, seed=1):
    rng = random.Random(seed)
    return [mint(NOW + n, n % 4_096, rng.getrandbits(62)) for n in range(count)]


def test_a_canary_decides_for_its_share_and_always_for_the_same_impressions():
    chosen = in_share(ids(20_000), "s2-a", 0.05)
    assert chosen.mean() == pytest.approx(0.05, abs=0.006)
    assert (chosen == in_share(ids(20_000), "s2-a", 0.05)).all()
    assert [in_share([one], "s2-a", 0.05)[0] for one in ids(50)] == chosen[:50].tolist()


def test_a_larger_share_takes_others_in_and_lets_none_go():
    small, large = (in_share(ids(5_000), "s2-a", share) for share in (0.05, 0.2))
    assert large[small].all()


def test_another_canary_has_other_impressions():
    first, second = (in_share(ids(20_000), model, 0.2) for model in ("s2-a", "s2-b"))
    assert (first & second).mean() == pytest.approx(0.04, abs=0.006)


def test_nobodys_share_is_nobody_and_all_are_all():
    assert not in_share(ids(100), "s2-a", 0.0).any()
    assert in_share(ids(100), "s2-a", 1.0).all()


def watch(guard, canary, champion, batches=600, seed=0):
    """Guardrails after *batches* of one canary's render and 19 of the champion's; shares are those of *guard*."""
    rng, rails = np.random.default_rng(seed), Guardrails()
    for ours, theirs in zip(rng.binomial(1, canary, batches), rng.binomial(19, champion, batches), strict=True):
        rails.observe(guard, Share(int(ours), 1), Share(int(theirs), 19))
        if rails.tripped:
            break
    return rails


@pytest.mark.parametrize("guard", Guard)
def test_every_guard_ends_a_canary_that_is_far_over_its_limit_and_says_why(guard):
    tripped = watch(guard, canary=0.5, champion=0.02).tripped
    assert (tripped.guard, tripped.batches < 100) == (guard, True)
    assert tripped.difference > tripped.limit
    assert f"guard: {guard.value} is " in tripped.reason


@pytest.mark.parametrize("guard", Guard)
def test_no_guard_ends_a_canary_that_is_like_its_champion(guard):
    assert [seed for seed in range(40) if watch(guard, 0.03, 0.03, seed=seed).tripped] == []


def test_limits_that_are_not_named_stay_as_they_are():
    assert parse_limits("drop_share=0.03") == {**LIMITS, Guard.DROPPED: 0.03}
    assert parse_limits("") == LIMITS


@pytest.mark.parametrize("text", ["drops=0.1", "drop_share", "drop_share=x", "drop_share=0", "drop_share=1.5"])
def test_limits_that_cannot_be_are_refused(text):
    with pytest.raises(ValueError):
        parse_limits(text)


def test_a_canary_that_is_milder_trips_nothing():
    assert watch(Guard.UNCERTAIN, canary=0.0, champion=0.3).tripped is None


def test_batches_without_a_canary_are_put_to_the_next_that_has_one():
    rails = Guardrails()
    rails.observe(Guard.DROPPED, Share(), Share(5, 10))
    assert rails.differences[Guard.DROPPED] == 0.0
    rails.observe(Guard.DROPPED, Share(1, 1), Share(0, 10))
    assert rails.differences[Guard.DROPPED] == 0.75


def judged(champion, other, *, is_invalid=True, **changes):
    fields = {"weight": 1.0, "is_open": True, "price_micros": PRICE_CAP_MICROS, "currency": "EUR"}
    return Judged(is_invalid=is_invalid, champion=champion, other=other, **{**fields, **changes})


def tried(*observed):
    trial = Trial()
    for one in observed:
        trial.observe(one)
    return trial.result


def test_a_model_that_finds_what_the_champion_misses_is_better_in_agreement_and_in_money():
    result = tried(*[judged(CLEAR, RISKY)] * 100, *[judged(CLEAR, CLEAR, is_invalid=False)] * 100)
    assert result.finding is Finding.BETTER
    assert (result.agreement.labels, result.agreement.mean) == (200, 0.5)
    assert result.money_micros["EUR"].mean == PRICE_CAP_MICROS / 2
    assert result.money_micros["EUR"].lower > 0


def test_a_model_that_withholds_what_people_saw_is_worse():
    result = tried(*[judged(CLEAR, RISKY, is_invalid=False)] * 100)
    assert (result.finding, result.agreement.mean) == (Finding.WORSE, -1.0)
    assert result.money_micros["EUR"].upper < 0


def test_who_agrees_more_and_loses_money_is_worse():
    cheap = [judged(CLEAR, RISKY, price_micros=1)] * 300
    dear = [judged(CLEAR, RISKY, is_invalid=False)] * 100
    result = tried(
        *[one for group in zip(cheap[:100], cheap[100:200], cheap[200:], dear, strict=True) for one in group]
    )
    assert result.agreement.lower > 0
    assert result.finding is Finding.WORSE


def test_undecided_counts_half():
    assert tried(judged(CLEAR, GREY)).agreement.mean == 0.5
    assert tried(judged(GREY, GREY)).agreement.mean == 0.0
    assert tried(judged(RISKY, GREY, weight=0.5)).agreement.mean == -0.25


def test_few_labels_decide_nothing():
    assert tried(*[judged(CLEAR, RISKY)] * 5).finding is Finding.UNDECIDED
    assert tried().finding is Finding.UNDECIDED


def test_money_that_does_not_depend_on_the_model_is_left_out():
    assert tried(judged(CLEAR, RISKY, is_open=False)).money_micros == {}


def test_currencies_stay_apart_and_too_many_are_counted_and_left_out():
    result = tried(*[judged(CLEAR, RISKY, currency=f"C{n}", price_micros=1_000) for n in range(CURRENCIES_MAX + 2)])
    assert [one.labels for one in result.money_micros.values()] == [1] * CURRENCIES_MAX
    assert result.left_out == 2
    assert result.money_micros["C0"].mean == 1_000


def scores(bands, risks=None):
    risk = np.array([0.1, 0.5, 0.9])[bands] if risks is None else np.array(risks)
    return Scores(risk, np.array(bands, np.uint8), np.zeros(len(bands), np.intp))


PAIR = Pair(Role.CHALLENGER, "s2-a", "s2-b")


def rows(n, currency="EUR", price=100, *, is_open=True):
    return Rows([currency] * n, np.full(n, price), np.full(n, is_open))


def test_two_models_are_compared_by_band_by_difference_and_by_money():
    beside = SideBySide("eu-1")
    beside.note(NOW, PAIR, (scores([CLEAR, CLEAR, RISKY, GREY]), scores([CLEAR, RISKY, CLEAR, GREY])), rows(4))
    [row] = beside.take(NOW)
    assert (row.key.gate, row.key.hour, row.key.role) == ("eu-1", NOW - NOW % HOUR_MS, Role.CHALLENGER)
    assert (row.rows, row.agreed, row.stricter, row.milder) == (4, 2, 1, 1)
    assert (row.difference_sum, row.difference_abs_sum) == pytest.approx((0.0, 1.6))
    assert row.difference_max == pytest.approx(0.8)
    assert row.money_micros == 0


def test_money_is_what_the_others_word_would_bill_more():
    beside = SideBySide("eu-1")
    beside.note(NOW, PAIR, (scores([CLEAR, CLEAR, GREY]), scores([RISKY, GREY, GREY])), rows(3))
    assert beside.take(NOW)[0].money_micros == -200
    beside.note(NOW, PAIR, (scores([GREY]), scores([CLEAR])), rows(1, is_open=False))
    assert beside.take(NOW)[0].money_micros == -200


def test_hours_and_currencies_stand_apart_and_what_is_over_is_forgotten():
    beside = SideBySide("eu-1")
    both = (scores([CLEAR]), scores([RISKY]))
    for at, currency in ((NOW, "EUR"), (NOW, "USD"), (NOW + HOUR_MS, "EUR"), (NOW + 3 * HOUR_MS, "EUR")):
        beside.note(at, PAIR, both, rows(1, currency))
    assert len(beside.take(NOW + 3 * HOUR_MS)) == 4
    assert beside.take(NOW + 3 * HOUR_MS) == []
    beside.note(NOW, PAIR, both, rows(1))
    assert [row.rows for row in beside.take(NOW + 3 * HOUR_MS)] == [1]


def test_further_currencies_are_counted_without_money():
    beside = SideBySide("eu-1")
    for n in range(NAMED_MAX + 3):
        beside.note(NOW, PAIR, (scores([CLEAR]), scores([RISKY])), rows(1, f"C{n}"))
    found = {row.key.currency: row for row in beside.take(NOW)}
    assert (found[""].rows, found[""].money_micros, len(found)) == (3, 0, NAMED_MAX + 1)


def test_rows_that_could_not_be_kept_are_taken_again_with_what_came_meanwhile():
    beside = SideBySide("eu-1")
    both = (scores([CLEAR]), scores([RISKY]))
    beside.note(NOW, PAIR, both, rows(1))
    taken = beside.take(NOW)
    beside.note(NOW, PAIR, both, rows(1))
    beside.give_back(taken)
    assert [row.rows for row in beside.take(NOW)] == [2]


def test_only_a_models_reasons_leave_the_word_to_it():
    assert is_models_word(())
    assert is_models_word((Reason.RISK_GREY,))
    assert not is_models_word((Reason.AREA_INVISIBLE, Reason.RISK_GREY))


@for_all(st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([0, 1, 2])), min_size=1, max_size=30))
def test_agreed_stricter_and_milder_are_all_there_is(bands):
    beside = SideBySide("eu-1")
    ours, theirs = zip(*bands, strict=True)
    beside.note(NOW, PAIR, (scores(list(ours)), scores(list(theirs))), rows(len(bands)))
    [row] = beside.take(NOW)
    assert row.agreed + row.stricter + row.milder == row.rows == len(bands)
