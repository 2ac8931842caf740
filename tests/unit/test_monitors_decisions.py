"""What decisions look like now, beside the training: faults are found by name, and nothing is found without one."""

from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from builders import MINTED
from hypothesis import given as for_all
from hypothesis import strategies as st
from monitorkit import (
    AGENT,
    ANY_EXCESS,
    FLAG,
    NAMES,
    PERSON,
    SOMETIMES,
    VISIBLE,
    measured,
    rows,
    trained,
    window,
    with_values,
)
from msgspec.structs import replace
from sklearn.metrics import average_precision_score

from ml.features.matrix import COLD, STALE, TIMEOUT
from ml.monitors.alarms import Alarms
from ml.monitors.changes import changed_at
from ml.monitors.changes import told as when
from ml.monitors.checks import Check, judge
from ml.monitors.estimates import average_precision
from ml.monitors.reference import CorruptReference, dump, load, reference_of
from ml.monitors.rows import plain_rows
from ml.monitors.shifts import DRAWS, Scatter, homogeneity, index, scatter_of, shift
from ml.monitors.slices import CHUNKS, SPANS_MAX, Slices
from ml.monitors.tallies import CELLS, NO_VALUE, RISK_BINS, RISK_EDGES, SURFACES, Bins, added, count, total

MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def reference():
    return trained(np.random.default_rng(1), run=3.0, surfaces=("feed", "reels"))


@pytest.fixture
def chance():
    return np.random.default_rng(2)


def found(measures):
    return {(one.check, one.surface, one.subject) for one in judge(measures) if one.found}


def faulty(chance, change, **changes):
    return window(chance, change, run=3.0, surfaces=("feed", "reels"), **changes)


def test_without_a_fault_nothing_is_found(reference, chance):
    for _ in range(5):
        assert found(measured(reference, faulty(chance, lambda one: one))) == set()


def test_a_frozen_feature_is_found_by_name(reference, chance):
    frozen = faulty(chance, lambda one: with_values(one, PERSON, 3.0))
    assert found(measured(reference, frozen)) == {
        (Check.FEATURE_SHIFT, surface, "person_min") for surface in ("feed", "reels")
    }


def test_nulls_that_became_zeros_are_found(reference, chance):
    def zeros(one):
        return with_values(one, SOMETIMES, 0.0, np.isnan(one.values[:, SOMETIMES]))

    named = found(measured(reference, faulty(chance, zeros)))
    assert named == {(Check.FEATURE_SHIFT, surface, "sometimes") for surface in ("feed", "reels")}


def test_values_that_became_nulls_are_found_as_missing(reference, chance):
    def nulls(one):
        return with_values(one, VISIBLE, np.nan, chance.random(len(one.surface)) < 0.2)

    named = found(measured(reference, faulty(chance, nulls)))
    assert {(Check.FEATURE_MISSING, surface, "visible_ms") for surface in ("feed", "reels")} <= named
    assert {subject for _, _, subject in named} == {"visible_ms"}


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_one_sdk_that_measures_in_seconds_is_named_with_what_it_measures(reference, chance, share):
    """Also where it is one in four of a surface's, too few to move the surface by as much as matters."""

    def seconds(one):
        mine = (one.sdk == "ios/12.2") & (chance.random(len(one.sdk)) < share)
        one = one._replace(sdk=np.where((one.sdk == "ios/12.2") & ~mine, "ios/12.1", one.sdk))
        return with_values(one, VISIBLE, one.values[mine, VISIBLE] / 1_000, mine)

    named = found(measured(reference, faulty(chance, seconds)))
    clients = {one for one in named if one[0] is Check.CLIENT_UNIT}
    assert clients == {(Check.CLIENT_UNIT, surface, "ios/12.2 visible_ms") for surface in ("feed", "reels")}
    assert {subject for _, _, subject in named - clients} <= {"visible_ms"}


def test_agents_known_as_of_eighteen_months_ago_are_found(reference, chance):
    """Versions that came out since are unknown: those are most, because people update."""

    def aged(one):
        return with_values(one, AGENT, np.nan, one.values[:, AGENT] < 60)

    named = found(measured(reference, faulty(chance, aged)))
    assert named == {
        (check, surface, "agent_age_days")
        for check in (Check.FEATURE_SHIFT, Check.FEATURE_MISSING)
        for surface in ("feed", "reels")
    }


def test_values_that_come_too_late_are_found_as_stale_and_do_not_count_as_missing(reference, chance):
    def late(one):
        status = one.status.copy()
        status[chance.random(len(status)) < 0.2, PERSON] = TIMEOUT
        status[chance.random(len(status)) < 0.2, FLAG] = STALE
        return one._replace(status=status)

    named = found(measured(reference, faulty(chance, late)))
    assert named == {
        (Check.FEATURE_STALE, surface, name) for surface in ("feed", "reels") for name in ("person_min", "prefetched")
    }


def test_what_is_cold_after_a_restart_is_compared_with_nothing(reference, chance):
    def cold(one):
        status = one.status.copy()
        status[:, PERSON] = COLD
        return with_values(one, PERSON, np.nan)._replace(status=status)

    measures = measured(reference, faulty(chance, cold))
    assert found(measures) == set()
    [shift_, *_] = [one for one in measures if one.check is Check.FEATURE_SHIFT and one.subject == "person_min"]
    assert (shift_.trials, shift_.p_value) == (0, None)


def test_risks_that_moved_are_found(reference, chance):
    named = found(measured(reference, faulty(chance, lambda one: one, shift=1.5)))
    assert {(Check.SCORE_SHIFT, surface, "") for surface in ("feed", "reels")} <= named


def test_since_when_risks_have_moved_is_told(reference, chance):
    """Within two slices of it, of a window of forty."""
    calm, moved = (faulty(chance, lambda one: one, slices=n, n=500, shift=by) for n, by in ((25, 0.0), (15, 1.5)))
    measures = measured(reference, [*calm, *moved], times=[MINTED + at * MINUTE_MS for at in range(40)])
    told = {one.says for one in measures if one.check is Check.SCORE_SHIFT and one.p_value is not None}
    expected = {datetime.fromtimestamp((MINTED + at * MINUTE_MS) / 1_000, UTC) for at in range(23, 28)}
    assert told
    assert told <= {f"since about {moment:%Y-%m-%d %H:%M} UTC" for moment in expected}


@pytest.mark.parametrize(
    "values", [np.zeros(40), np.arange(5.0), np.zeros(0), np.random.default_rng(1).normal(size=60)]
)
def test_where_no_change_shows_no_time_is_told(values):
    assert changed_at(values) is None
    assert when(None, []) == ""


def test_more_left_undecided_than_three_in_a_hundred_is_found(reference, chance):
    def grey(one):
        return one._replace(grey=chance.random(len(one.grey)) < 0.06)

    assert found(measured(reference, faulty(chance, grey))) == {
        (Check.GREY, surface, "") for surface in ("feed", "reels")
    }


def test_what_is_decided_with_something_missing_is_not_held_against_the_grey_band(reference, chance):
    def degraded(one):
        half = chance.random(len(one.grey)) < 0.5
        return one._replace(grey=half, full=~half)

    assert found(measured(reference, faulty(chance, degraded))) == set()


def test_rules_and_model_that_disagree_oftener_than_they_did_are_found(reference, chance):
    def quarrel(one):
        bots = chance.random(len(one.band)) < 0.2
        return one._replace(
            invalid_by_rules=bots,
            band=np.where(bots, "clear", np.where(chance.random(len(one.band)) < 0.1, "risky", one.band)),
        )

    named = found(measured(reference, faulty(chance, quarrel)))
    assert named == {
        (check, surface, "") for check in (Check.RULES_ONLY, Check.MODEL_ONLY) for surface in ("feed", "reels")
    }


def test_risks_that_tell_less_foretell_a_worse_performance(reference, chance):
    def blunt(one):
        logit = np.log(one.risk / (1 - one.risk))
        return one._replace(risk=1 / (1 + np.exp(-(logit * 0.4 - 2.2))))

    named = found(measured(reference, faulty(chance, blunt)))
    assert {(Check.PERFORMANCE, surface, "") for surface in ("feed", "reels")} <= named


@pytest.mark.parametrize("seed", [3, 4])
def test_of_calibrated_risks_the_estimate_is_what_labels_say_later(seed):
    chance = np.random.default_rng(seed)
    one = rows(chance, 100_000)
    truth = chance.random(len(one.risk)) < one.risk
    risks = count(one, trained(chance, 1_000).bins).risks[SURFACES.index("feed")]
    assert average_precision(risks) == pytest.approx(average_precision_score(truth, one.risk), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("run", "seed"), [(1.0, 5), (4.0, 6)])
def test_where_nothing_changed_false_alarms_stay_under_the_agreed_rate(run, seed):
    """Over many worlds, also where a person's rows come together; every excess would count."""
    chance = np.random.default_rng(seed)
    worlds, rate, false = 40, 0.05, 0
    for _ in range(worlds):
        then = trained(chance, 4_000, run=run)
        measures = measured(then, window(chance, slices=10, n=400, run=run), ANY_EXCESS)
        kept = [one for one in measures if one.check is not Check.GREY]
        false += any(one.found for one in judge(kept, rate, ANY_EXCESS))
    assert false <= worlds * rate + 3 * (worlds * rate * (1 - rate)) ** 0.5


def test_taking_visits_for_independent_rows_would_give_false_alarms_in_most_worlds():
    chance = np.random.default_rng(7)
    false = 0
    for _ in range(20):
        one = trained(chance, 6_000, run=4.0)
        now = total([count(rows(chance, 6_000, run=4.0), one.bins)], len(NAMES)).features[0]
        then = one.tally.features[0]
        false += any(homogeneity(now[at], then[at], DRAWS) < 0.05 / len(NAMES) for at in range(len(NAMES)))
    assert false >= 10


@pytest.mark.slow
def test_as_it_runs_a_day_without_a_fault_raises_no_alarm():
    chance = np.random.default_rng(8)
    then = trained(chance, run=3.0)
    alarms, slices = Alarms(), window(chance, slices=12, run=3.0)
    for at in range(24):
        slices = [*slices[1:], rows(chance, 1_000, run=3.0)]
        alarms.look(judge(measured(then, slices)), at)
    assert alarms.standing == []


def test_scatter_is_measured_between_slices():
    chance = np.random.default_rng(9)
    draws = chance.multinomial(500, [0.5, 0.3, 0.2], 200)
    assert scatter_of(draws).factor == pytest.approx(1, abs=0.15)
    assert scatter_of(3 * chance.multinomial(170, [0.5, 0.3, 0.2], 200)).factor == pytest.approx(3, abs=0.4)
    assert scatter_of(draws[:1]) == DRAWS


def test_the_index_is_nought_for_the_same_and_grows_with_the_difference():
    even = np.array([100, 100, 100])
    assert index(even, even * 7) == pytest.approx(0, abs=1e-4)
    assert 0 < index(np.array([110, 100, 90]), even) < index(np.array([150, 100, 50]), even)


@for_all(
    now=st.lists(st.integers(0, 500), min_size=4, max_size=4),
    then=st.lists(st.integers(0, 500), min_size=4, max_size=4),
)
def test_a_shift_is_never_negative_and_its_chance_is_one(now, then):
    now, then = np.array(now) + 1, np.array(then) + 1
    one, other = shift(now, then, DRAWS), shift(now, then, Scatter(4.0, 50))
    assert one.psi >= other.psi >= 0
    assert 0 <= one.p_value <= 1
    assert 0 <= other.p_value <= 1


def test_what_chance_alone_adds_to_the_index_is_taken_off():
    chance = np.random.default_rng(10)
    drawn = [shift(*chance.multinomial(400, np.full(12, 1 / 12), 2), DRAWS).psi for _ in range(300)]
    raw = [index(*chance.multinomial(400, np.full(12, 1 / 12), 2)) for _ in range(300)]
    assert np.mean(raw) > 0.05
    assert np.mean(drawn) < 0.015


def test_a_feature_with_few_values_has_a_bin_for_each_and_others_beyond():
    values = np.repeat([0.0, 1.0, 2.0], 10)[:, None]
    reference = reference_of(plain_rows(np.full(30, "feed"), values), ["rank"], "s")
    assert reference.edges == ((-0.5, 0.5, 1.5, 2.5),)
    new = np.array([[-7.0], [0.0], [1.0], [2.0], [3.0], [np.nan]])
    counted = count(plain_rows(np.full(6, "feed"), new), reference.bins).features[SURFACES.index("feed"), 0]
    assert counted[[0, 1, 2, 3, 4, NO_VALUE]].tolist() == [1] * 6


def test_bins_of_risk_are_fine_where_risks_are_small():
    assert RISK_EDGES[0] < 0.001
    assert (np.diff(RISK_EDGES) > 0).all()
    assert len(RISK_EDGES) + 1 == RISK_BINS


def test_surfaces_that_nobody_knows_are_left_out(chance):
    one = rows(chance, 10)
    bins = trained(chance, 100).bins
    assert not count(one._replace(surface=np.full(10, "billboard")), bins).states.any()
    assert count(one, bins).states.sum() == 10 * len(NAMES)


def test_no_rows_count_as_nothing(chance):
    bins = trained(chance, 100).bins._replace(clients=(VISIBLE,))
    one = rows(chance, 10)
    nothing = count(one.take(np.zeros(10, np.bool_)), bins)
    assert (nothing.features.any(), nothing.clients) == (False, {})


def test_tallies_add_as_rows_do(chance):
    bins = trained(chance, 1_000).bins._replace(clients=(VISIBLE, PERSON))
    one, other = rows(chance, 200), rows(chance, 300)
    both = type(one)(*(np.concatenate([a, b]) for a, b in zip(one, other, strict=True)))
    whole, summed = count(both, bins), added(count(one, bins), count(other, bins))
    for field in ("features", "states", "risks", "shares"):
        assert (getattr(whole, field) == getattr(summed, field)).all()
    assert len(whole.clients) == 3
    assert whole.clients.keys() == summed.clients.keys()
    assert all((whole.clients[cell] == summed.clients[cell]).all() for cell in whole.clients)


def test_a_reference_is_read_as_it_was_written(reference):
    data = dump(reference)
    assert load(data) == reference
    assert dump(load(data)) == data
    assert (load(data).tally.features == reference.tally.features).all()
    assert len(data) < 20_000


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"names": ("one",)},
        {"edges": ((2.0, 1.0), *[()] * (len(NAMES) - 1))},
        {"edges": ((float("nan"), 1.0), *[()] * (len(NAMES) - 1))},
        {"risks": ((1, 2),)},
        {"features": ((1,),)},
        {"shares": ()},
    ],
)
def test_a_reference_that_does_not_fit_together_is_refused(reference, change):
    with pytest.raises(CorruptReference):
        load(dump(replace(reference, **change)))


def test_bytes_that_are_no_reference_are_refused(reference):
    data = dump(reference)
    for wrong in (b"", data[:-1], b"\xff" + data, msgspec.msgpack.encode({"format": 1})):
        with pytest.raises(CorruptReference):
            load(wrong)


def test_a_window_rolls_on_and_keeps_models_apart(chance):
    bins, one = trained(chance, 100).bins, rows(chance, 8)
    slices = Slices(SPANS_MAX * 1_000)
    for at in range(0, 120_000, 500):
        slices.add("s2-a", at, one, bins)
    assert len(slices.of("s2-a")) == SPANS_MAX * CHUNKS
    assert total(slices.of("s2-a"), len(NAMES)).risks.sum() == 2 * SPANS_MAX * 8
    slices.add("s2-b", 120_000, one, bins)
    assert len(slices.of("s2-b")) == CHUNKS
    slices.add("s2-b", 10_000_000, one, bins)
    assert slices.of("s2-a") == []
    for number in range(6):
        slices.add(f"s2-{number}", 10_000_000, one, bins)
    assert slices.of("s2-b") == []


def test_scatter_shows_from_the_first_look_on(chance):
    slices = Slices(3_600_000)
    slices.add("s2-a", 0, rows(chance, 4_000, run=5.0), trained(chance).bins)
    kinds = np.stack([one.features[SURFACES.index("feed"), PERSON] for one in slices.of("s2-a")])
    assert scatter_of(kinds).factor > 2


def test_bins_hold_every_number():
    bins = Bins(("one",), np.array([[0.0, 1.0] + [np.inf] * 13]))
    values = np.array([[-np.inf], [0.0], [0.5], [1.0], [1e300], [np.inf], [np.nan]])
    counted = count(plain_rows(np.full(7, "feed"), values), bins).features[SURFACES.index("feed"), 0]
    assert (counted.sum(), len(counted), counted[NO_VALUE]) == (7, CELLS, 1)
