"""Conditions: down after failures in a row, up after a stretch of health, never to and fro."""

from hypothesis import given
from hypothesis import strategies as st
from ladderkit import Clock

from commands.conditions import Condition, Patience
from commands.ladder import PATIENCE

THREE = Patience(failures=3, ill_s=0.5, proofs=2, well_s=5.0)


def after(patience, *notes, step=0.3):
    """The condition after *notes* (True: well), *step* seconds apart."""
    clock = Clock()
    condition = Condition(patience, clock)
    for is_well in notes:
        condition.note(is_well=is_well)
        clock.pass_by(step)
    return condition, clock


def test_a_single_failure_is_forgiven():
    assert not after(THREE, False, True, False, False, True)[0].is_down


def test_failures_in_a_row_over_a_while_take_it_down():
    assert after(THREE, False, False, False)[0].is_down


def test_failures_at_one_moment_say_nothing_yet():
    assert not after(THREE, False, False, False, step=0.0)[0].is_down


def test_it_is_up_again_only_after_a_whole_stretch_of_health():
    condition, clock = after(THREE, False, False, False, True)
    clock.pass_by(4.0)
    condition.well()
    assert condition.is_down
    clock.pass_by(1.0)
    condition.well()
    assert not condition.is_down


def test_a_failure_starts_the_stretch_anew():
    condition, clock = after(THREE, False, False, False, True)
    clock.pass_by(4.0)
    condition.ill()
    for _ in range(2):
        clock.pass_by(1.0)
        condition.well()
    assert condition.is_down


def test_what_falls_again_soon_must_be_well_for_twice_as_long():
    one = Patience(well_s=2.0, well_max_s=8.0, calm_s=10.0)
    clock = Clock()
    condition = Condition(one, clock)
    stretches = []
    for _ in range(4):
        condition.ill()
        began = clock.now
        while condition.is_down:
            condition.well()
            clock.pass_by(0.5)
        stretches.append(clock.now - began - 0.5)
    assert stretches == [2.0, 4.0, 8.0, 8.0]


@given(
    st.sampled_from([*PATIENCE.values(), THREE]),
    st.lists(st.tuples(st.booleans(), st.floats(0.0, 5.0)), min_size=20, max_size=300),
)
def test_whatever_happens_it_changes_at_most_so_often_in_a_minute(patience, history):
    clock = Clock()
    condition = Condition(patience, clock)
    changed_at = []
    for is_well, seconds in history:
        before = condition.is_down
        condition.note(is_well=is_well)
        if condition.is_down is not before:
            changed_at.append(clock.now)
        clock.pass_by(seconds)
    assert condition.changes == len(changed_at)
    for at in changed_at:
        assert sum(at <= one < at + 60.0 for one in changed_at) <= 2 + 120 / patience.well_s


@given(st.lists(st.booleans(), max_size=40), st.sampled_from(list(PATIENCE.values())))
def test_whatever_happened_before_health_brings_it_up_again_by_itself(history, patience):
    condition, clock = after(patience, *history)
    for _ in range(int(patience.well_max_s / 0.25) + patience.proofs + 1):
        condition.well()
        clock.pass_by(0.25)
    assert not condition.is_down
