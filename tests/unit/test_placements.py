"""What may be put in force, taken back and taken away, and what follows from it."""

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec.structs import replace
from registrykit import NOW, a_ref, asked, place, retire, roll_back

from domain import placing as rules
from domain.impression import ImpossibleTransition
from domain.placement_events import ModelPlaced, Role, Stage
from domain.placements import CHAMPIONS_MAX, NO_PLACEMENTS, SHARE_MAX, fold_placements
from domain.placing import REASON_MAX, PlacementRefusal, PlacementRefused, decide_placement

CHALLENGER, CANARY = Role.CHALLENGER, Role.CANARY


def after(*commands, state=NO_PLACEMENTS):
    for command in commands:
        state = fold_placements(decide_placement(state, command), state)
    return state


def in_force(*commands):
    return after(*commands).of(Stage.S2)


def a_placed(role, name="a", **changes):
    fields = {**asked(), "stage": Stage.S2, "role": role, "model": a_ref(name)}
    return ModelPlaced(**{**fields, **changes})


def refusal_of(command, *before):
    with pytest.raises(PlacementRefused) as caught:
        decide_placement(after(*before), command)
    return caught.value.refusal


def test_a_promoted_model_is_champion_and_the_event_says_who_why_and_what_bytes():
    state = after(place("a", by="key", reason="better by 2 points"))
    [event] = decide_placement(state, place("b", by="key", reason="better by 2 points", at=NOW + 5))
    assert (event.role, event.model, event.by, event.reason) == (Role.CHAMPION, a_ref("b"), "key", "better by 2 points")
    now = fold_placements([event], state).of(Stage.S2)
    assert (now.champion, now.before, now.champion_since) == (a_ref("b"), (a_ref("a"),), NOW + 5)


def test_a_promotion_that_is_done_already_leads_to_nothing():
    assert decide_placement(after(place("a")), place("a")) == ()


def test_a_command_that_comes_again_leads_to_nothing_and_with_another_content_is_refused():
    command = place("a")
    state = after(command, place("b"))
    assert decide_placement(state, command) == ()
    with pytest.raises(PlacementRefused) as caught:
        decide_placement(state, replace(command, digest="other"))
    assert caught.value.refusal is PlacementRefusal.REQUEST_REUSED


def test_what_the_registry_does_not_know_cannot_be_placed():
    for role, share in ((Role.CHAMPION, 0.0), (CHALLENGER, 0.0), (CANARY, 0.1)):
        assert refusal_of(place("nobody", role, share), place("a")) is PlacementRefusal.UNKNOWN_MODEL


def test_a_model_of_another_schema_cannot_be_placed():
    assert refusal_of(place("b", features="features-old"), place("a")) is PlacementRefusal.SCHEMA_MISMATCH
    assert refusal_of(place("b", schema="")) is PlacementRefusal.SCHEMA_MISMATCH


def test_a_challenger_and_a_canary_stand_beside_the_champion():
    now = in_force(place("a"), place("b", CHALLENGER), place("c", CANARY, 0.05, at=NOW + 7))
    assert (now.champion, now.challenger) == (a_ref("a"), a_ref("b"))
    assert (now.canary.ref, now.canary.share, now.canary.since) == (a_ref("c"), 0.05, NOW + 7)


@pytest.mark.parametrize(("role", "share"), [(CHALLENGER, 0.0), (CANARY, 0.1)])
def test_nothing_stands_beside_a_champion_that_is_not_there_or_beside_itself(role, share):
    assert refusal_of(place("a", role, share)) is PlacementRefusal.NO_CHAMPION
    assert refusal_of(place("a", role, share), place("a")) is PlacementRefusal.IS_CHAMPION


@pytest.mark.parametrize("share", [0.0, -0.1, SHARE_MAX + 0.01, float("nan")])
def test_a_canary_decides_for_a_part_and_at_most_for_half(share):
    assert refusal_of(place("b", CANARY, share), place("a")) is PlacementRefusal.BAD_SHARE


def test_only_a_canary_has_a_share():
    assert refusal_of(place("b", CHALLENGER, 0.1), place("a")) is PlacementRefusal.BAD_SHARE
    assert refusal_of(place("b", share=0.1)) is PlacementRefusal.BAD_SHARE


def test_a_canarys_share_can_be_changed_and_the_same_again_is_nothing():
    state = after(place("a"), place("b", CANARY, 0.05))
    assert decide_placement(state, place("b", CANARY, 0.05)) == ()
    assert after(place("b", CANARY, 0.2), state=state).of(Stage.S2).canary.share == 0.2


def test_a_model_has_one_role_at_a_time():
    now = in_force(place("a"), place("b", CHALLENGER), place("b", CANARY, 0.1))
    assert (now.challenger, now.canary.ref) == (None, a_ref("b"))
    now = in_force(place("a"), place("b", CANARY, 0.1), place("b", CHALLENGER))
    assert (now.challenger, now.canary) == (a_ref("b"), None)


def test_a_promotion_ends_the_canary_and_leaves_another_challenger():
    now = in_force(place("a"), place("b", CHALLENGER), place("c", CANARY, 0.1), place("c"))
    assert (now.champion, now.challenger, now.canary) == (a_ref("c"), a_ref("b"), None)
    now = in_force(place("a"), place("b", CHALLENGER), place("b"))
    assert (now.champion, now.challenger) == (a_ref("b"), None)


def test_a_roll_back_ends_a_canary_first_and_then_returns_to_the_champion_before():
    state = after(place("a"), place("b"), place("c", CANARY, 0.1))
    state = after(roll_back("c"), state=state)
    assert (state.of(Stage.S2).champion, state.of(Stage.S2).canary) == (a_ref("b"), None)
    state = after(roll_back("b"), state=state)
    assert (state.of(Stage.S2).champion, state.of(Stage.S2).before) == (a_ref("a"), ())


def test_rolling_back_goes_further_back_each_time_and_not_to_and_fro():
    state = after(place("a"), place("b"), place("c"), roll_back("c"), roll_back("b"))
    assert state.of(Stage.S2).champion == a_ref("a")
    with pytest.raises(PlacementRefused) as caught:
        decide_placement(state, roll_back("a"))
    assert caught.value.refusal is PlacementRefusal.NOTHING_BEFORE


def test_a_champion_that_comes_back_leaves_no_challenger_that_is_itself():
    now = in_force(place("a"), place("b"), place("a", CHALLENGER), roll_back("b"))
    assert (now.champion, now.challenger) == (a_ref("a"), None)


def test_of_two_who_roll_back_at_once_one_is_told_that_it_has_happened():
    before = (place("a"), place("b"), place("c"))
    assert refusal_of(roll_back("c"), *before, roll_back("c")) is PlacementRefusal.CHANGED_SINCE


def test_without_a_champion_rules_alone_decide_and_a_roll_back_brings_it_back():
    state = after(place("a"), place("b", CHALLENGER), retire("a"))
    now = state.of(Stage.S2)
    assert (now.champion, now.challenger, now.before) == (None, None, (a_ref("a"),))
    assert after(roll_back(""), state=state).of(Stage.S2).champion == a_ref("a")


def test_whatever_role_a_model_has_it_can_be_retired_from():
    state = after(place("a"), place("b", CHALLENGER), place("c", CANARY, 0.1))
    assert after(retire("b"), state=state).of(Stage.S2).challenger is None
    assert after(retire("c"), state=state).of(Stage.S2).canary is None
    with pytest.raises(PlacementRefused) as caught:
        decide_placement(state, retire("z"))
    assert caught.value.refusal is PlacementRefusal.NOT_PLACED


def test_a_guard_that_comes_late_ends_nothing_else():
    state = after(place("a"), place("b", CANARY, 0.1), place("b"))
    assert decide_placement(state, retire("b", only_as=CANARY)) == ()
    assert after(retire("b", only_as=Role.CHAMPION), state=state).of(Stage.S2).champion is None


def test_each_stage_has_its_own_champion_and_only_the_first_is_tried_in_shares():
    state = after(place("a"), place("z", stage=Stage.S3))
    assert [state.of(stage).champion for stage in Stage] == [a_ref("a"), a_ref("z")]
    with pytest.raises(PlacementRefused) as caught:
        decide_placement(state, place("y", CANARY, 0.1, stage=Stage.S3))
    assert caught.value.refusal is PlacementRefusal.ROLE_OF_STAGE


@pytest.mark.parametrize("reason", ["", "x" * (REASON_MAX + 1), "a\0b"])
def test_whoever_changes_what_decides_says_why(reason):
    assert refusal_of(place("a", reason=reason)) is PlacementRefusal.BAD_REASON


def test_placements_end_somewhere_and_what_takes_a_model_away_goes_on(monkeypatch):
    monkeypatch.setattr(rules, "PLACEMENTS_MAX", 2)
    state = after(place("a"), place("b"))
    assert refusal_of(place("c"), place("a"), place("b")) is PlacementRefusal.TOO_MANY
    assert after(roll_back("b"), retire("a"), state=state).version == 4


def test_so_many_champions_are_remembered_and_no_more():
    now = in_force(*[place(f"{number}") for number in range(CHAMPIONS_MAX + 5)])
    assert len(now.champions) == CHAMPIONS_MAX


names = st.sampled_from("abc")
commands = st.one_of(
    names.map(place),
    names.map(lambda name: place(name, CHALLENGER)),
    st.tuples(names, st.sampled_from([0.05, 0.5])).map(lambda drawn: place(drawn[0], CANARY, drawn[1])),
    names.map(retire),
    st.sampled_from(["a", "b", "c", ""]).map(roll_back),
)


@for_all(st.lists(commands, max_size=25))
def test_evolve_accepts_what_decide_emits_and_no_state_is_contradictory(history):
    state, events = NO_PLACEMENTS, []
    for command in history:
        try:
            new = decide_placement(state, command)
        except PlacementRefused:
            continue
        events += new
        state = fold_placements(new, state)
        now = state.of(Stage.S2)
        beside = [ref for ref in (now.challenger, now.canary and now.canary.ref) if ref is not None]
        assert len({now.champion, *beside}) == 1 + len(beside)
        assert now.champion is not None or not beside
        assert decide_placement(state, command) == ()
    assert fold_placements(events) == state
    assert state.version == len(events)


@for_all(st.lists(commands, max_size=12))
def test_no_event_can_follow_on_itself(history):
    state = NO_PLACEMENTS
    for command in history:
        try:
            new = decide_placement(state, command)
        except PlacementRefused:
            continue
        state = fold_placements(new, state)
        for event in new:
            with pytest.raises(ImpossibleTransition):
                fold_placements([event], state)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (a_placed(Role.CHALLENGER), "no other champion"),
        (a_placed(Role.CANARY, share=0.1), "no other champion"),
        (a_placed(Role.CHAMPION, rolled_back=True), "not champion before"),
        (a_placed(Role.CHAMPION, model=None), "names no model"),
        (a_placed(Role.NONE), "none already"),
    ],
)
def test_an_event_that_nobody_decided_is_refused(event, why):
    with pytest.raises(ImpossibleTransition, match=why):
        fold_placements([event])


def test_a_canary_with_an_impossible_share_is_refused():
    with pytest.raises(ImpossibleTransition, match="share"):
        fold_placements([a_placed(Role.CANARY, "b", share=0.7)], after(place("a")))


def test_a_champion_does_not_come_back_under_a_canary():
    state = after(place("a"), place("b"), place("c", CANARY, 0.1))
    with pytest.raises(ImpossibleTransition, match="canary"):
        fold_placements([a_placed(Role.CHAMPION, rolled_back=True)], state)
