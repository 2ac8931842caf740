"""The ladder itself: its table, how rungs are named, what is in force, and drills that end by themselves."""

import pytest
from gatekit import NOW, Minter
from hypothesis import given
from hypothesis import strategies as st
from ladderkit import Clock

from commands.ladder import DRILL_MAX_S, PATIENCE, SHED_RATE, DrillRefused, Ladder, UnknownRung, is_shed
from domain.ids import mint
from domain.ladder import LADDER, SEVERITY, name_rungs, worst
from domain.vocabulary import Rung


def test_every_rung_stands_once_in_the_table_in_the_order_of_its_severity():
    assert [step.rung for step in LADDER] == list(Rung)


def test_a_rung_covers_milder_ones_only():
    for step in LADDER:
        assert all(SEVERITY[covered] < SEVERITY[step.rung] for covered in step.covers)


def test_without_a_model_its_signals_are_not_missed_apart():
    assert name_rungs(Rung.NO_ASYNC, Rung.MODEL_FALLBACK) == (Rung.MODEL_FALLBACK, ())


def test_the_worst_is_named_first_and_the_others_beside_it():
    named = name_rungs(Rung.PARTIAL_CLIENT, Rung.STALE_BUDGET, Rung.NO_ASYNC, Rung.MODEL_FALLBACK)
    assert named == (Rung.STALE_BUDGET, (Rung.MODEL_FALLBACK, Rung.PARTIAL_CLIENT))


def test_nothing_missing_is_full():
    assert name_rungs() == name_rungs(Rung.FULL) == (Rung.FULL, ())
    assert worst([]) is Rung.FULL


@given(st.permutations(list(Rung)), st.integers(0, len(Rung)))
def test_how_rungs_are_named_depends_on_which_they_are_alone(rungs, count):
    chosen = rungs[:count]
    named = name_rungs(*chosen)
    assert named == name_rungs(*sorted(chosen, key=SEVERITY.__getitem__), *chosen)
    assert named.rung is worst(chosen)
    covered = {rung for step in LADDER if step.rung in chosen for rung in step.covers}
    assert {named.rung, *named.beside} | covered >= set(chosen) - {Rung.FULL}
    assert not covered & set(named.beside)


def a_ladder():
    clock = Clock()
    return Ladder(clock), clock


def test_scoring_that_fails_again_and_again_is_model_fallback_until_it_works_again():
    ladder, clock = a_ladder()
    for _ in range(PATIENCE[Rung.MODEL_FALLBACK].failures):
        ladder.model.ill()
    assert ladder.in_force == (Rung.MODEL_FALLBACK,)
    for _ in range(PATIENCE[Rung.MODEL_FALLBACK].proofs + 1):
        ladder.model.well()
        clock.pass_by(1)
    assert ladder.in_force == ()


@pytest.mark.parametrize("rung", list(PATIENCE))
def test_what_is_watched_comes_into_force_and_goes_after_a_stretch_of_health(rung):
    ladder, clock = a_ladder()
    missing = True
    ladder.watch(rung, lambda: missing)
    for _ in range(PATIENCE[rung].failures):
        ladder.tick()
        clock.pass_by(0.25)
    assert rung in ladder.in_force
    missing = False
    ladder.tick()
    assert rung in ladder.in_force
    for _ in range(int(PATIENCE[rung].well_s / 0.25) + PATIENCE[rung].proofs):
        clock.pass_by(0.25)
        ladder.tick()
    assert rung not in ladder.in_force


def test_several_drills_at_once_end_by_themselves_each_at_its_time():
    ladder, clock = a_ladder()
    ladder.drill("shed", 10)
    ladder.drill("spooled", 20)
    assert {drill.rung for drill in ladder.drills} == {Rung.SHED, Rung.SPOOLED}
    assert ladder.is_shedding
    clock.pass_by(10)
    assert not ladder.is_without(Rung.SHED)
    assert ladder.is_without(Rung.SPOOLED)
    clock.pass_by(10)
    assert ladder.for_batch() == ()
    assert ladder.drills == ()
    assert [drill.rung for drill in ladder.take_ended()] == [Rung.SHED, Rung.SPOOLED]
    assert ladder.take_ended() == []


def test_a_drill_can_be_ended_sooner_and_asked_for_again():
    ladder, clock = a_ladder()
    ladder.drill("shed", 5)
    clock.pass_by(4)
    ladder.drill("shed", 5)
    clock.pass_by(4)
    assert ladder.is_shedding
    assert ladder.stop("shed")
    assert not ladder.is_shedding
    assert not ladder.stop("shed")


@pytest.mark.parametrize("seconds", [0, -1, DRILL_MAX_S + 1, float("nan"), float("inf")])
def test_a_drill_without_a_bound_is_refused(seconds):
    with pytest.raises(DrillRefused, match="600 seconds"):
        a_ladder()[0].drill("shed", seconds)


def test_an_unknown_rung_is_refused_and_the_known_ones_are_named():
    with pytest.raises(UnknownRung, match=r"no rung 'sheded'.*partial_client.*shed.*spooled"):
        a_ladder()[0].drill("sheded", 5)


@pytest.mark.parametrize(("name", "says"), [("full", "nothing is missing"), ("sheltered", "signed order")])
def test_what_cannot_be_drilled_says_why(name, says):
    ladder, _ = a_ladder()
    assert Rung(name) not in ladder.drillable
    with pytest.raises(DrillRefused, match=says):
        ladder.drill(name, 5)


def test_waiting_too_long_for_a_while_is_a_load_to_be_shed():
    ladder, clock = a_ladder()
    for _ in range(20):
        ladder.waited(0.011, 0.020)
        assert not ladder.is_shedding or clock.now >= 1_000.25
        clock.pass_by(0.02)
    assert ladder.is_shedding
    for _ in range(15):
        ladder.waited(0.001, 0.020)
        clock.pass_by(0.25)
    assert not ladder.is_shedding


def test_one_long_wait_sheds_nothing():
    ladder, _ = a_ladder()
    ladder.waited(5.0, 0.020)
    assert not ladder.is_shedding


def test_the_share_that_is_shed_is_the_logged_rate_and_always_the_same_renders():
    dice = Minter(7).random
    ids = [mint(NOW + at, at % 4_096, dice.getrandbits(62)) for at in range(20_000)]
    shed = [is_shed(one) for one in ids]
    assert abs(sum(shed) / len(ids) - SHED_RATE) < 0.01
    assert shed == [is_shed(one) for one in ids]
