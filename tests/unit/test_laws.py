"""What holds whatever happens to an impression, in any order, as often as it likes."""

from functools import cache, reduce

from builders import MINTED, but_for_answers, cause, standing_of
from case_stories import SUMS, counted_as
from histories import (
    commands,
    corrections,
    decided_histories,
    histories,
    live,
    populations,
    renders,
    tokens,
    views,
    wild_corrections,
)
from hypothesis import given
from hypothesis import strategies as st

from domain.decide import AdmitRender, CommandRefused, Reconcile, RecordView, decide
from domain.events import ImpressionDeduped, ImpressionReconciled, ImpressionViewed
from domain.impression import Decided, Unseen, evolve, fold
from domain.pack import merge_views
from domain.reasons import Verdict

MOVING = ImpressionDeduped | ImpressionViewed | ImpressionReconciled


def moves(events):
    return [event for event in events if isinstance(event, MOVING)]


def highest_price(history):
    prices = [command.rendered.price_micros for command in history if isinstance(command, AdmitRender)]
    asked = [command.asked_price_micros or 0 for command in history if isinstance(command, Reconcile)]
    return max([0, *prices, *asked])


@given(history=histories())
def test_no_history_bills_an_impression_twice(history):
    state, events = live(history)
    billed = sum(e.after.billable_micros - (e.before.billable_micros if e.before else 0) for e in moves(events))
    assert billed == (state.standing.billable_micros if isinstance(state, Decided) else 0)
    assert 0 <= billed <= highest_price(history)


@given(history=histories())
def test_every_change_starts_where_the_one_before_ended_and_keeps_the_cut(history):
    changes = moves(live(history)[1])
    assert [event.before for event in changes] == [None, *(event.after for event in changes)][: len(changes)]
    assert all(event.cut == changes[0].cut for event in changes)


@given(history=histories())
def test_money_is_within_the_price_and_only_what_is_valid_is_billed(history):
    _, events = live(history)
    for event in moves(events):
        billable, reserved = event.after.billable_micros, event.after.reserved_micros
        assert billable >= 0
        assert reserved >= 0
        assert billable + reserved <= highest_price(history)
        assert billable == 0 or (reserved == 0 and event.after.verdict is Verdict.VALID)


@given(history=histories())
def test_viewability_never_moves_back(history):
    _, events = live(history)
    for event in moves(events):
        before = event.before.viewability if event.before else {}
        assert merge_views(before, event.after.viewability) == event.after.viewability


@given(population=populations)
def test_gross_is_net_and_invalid_and_undecided_over_any_population(population):
    sums = dict.fromkeys(SUMS, 0)
    for history in population:
        for event in moves(live(history)[1]):
            before, after = counted_as(event.before), counted_as(event.after)
            sums = {name: sums[name] + after[name] - before[name] for name in SUMS}
            assert sums["gross"] == sums["net"] + sums["givt"] + sums["sivt"] + sums["undecided"]
    stand = [live(history)[0] for history in population]
    totals = [counted_as(state.standing if isinstance(state, Decided) else None) for state in stand]
    assert sums == {name: sum(one[name] for one in totals) for name in SUMS}


@given(history=histories())
def test_evolve_follows_whatever_decide_emits_to_where_its_last_event_says(history):
    state, written = Unseen(), []
    for command in history:
        try:
            events = decide(state, command)
        except CommandRefused:
            continue
        state = reduce(evolve, events, state)
        written += events
        assert isinstance(state, Unseen | Decided)
        if ends := moves(events):
            assert standing_of(state) == ends[-1].after
    assert fold(written) == state


@given(history=histories(), data=st.data())
def test_a_retry_of_anything_changes_nothing(history, data):
    taken, state = [], Unseen()
    for command in history:
        try:
            state = fold(decide(state, command), state)
        except CommandRefused:
            continue
        taken.append(command)
    if taken:
        _, events = live(data.draw(st.lists(st.sampled_from(taken), max_size=5)), state)
        assert events == []


@given(history=decided_histories(), data=st.data())
def test_decide_raises_nothing_but_a_refusal(history, data):
    state, _ = live(history)
    token = data.draw(tokens)
    for command in [data.draw(commands(token)) for _ in range(3)]:
        for at in (Unseen(), state):
            try:
                events = decide(at, command)
            except CommandRefused:
                continue
            assert isinstance(events, tuple)


@cache
def arrivals(token):
    """Corrections and views that arrive once each."""
    ids = st.integers(100, 10_000).map(cause)
    return st.lists(
        corrections(ids) | wild_corrections(ids) | views(token).filter(_bills),
        min_size=2,
        max_size=5,
        unique_by=lambda command: command.cause if isinstance(command, RecordView) else command.correction,
    )


@given(data=st.data())
def test_corrections_and_views_end_in_the_same_state_in_any_order(data):
    token = data.draw(tokens)
    rendered, _ = live([data.draw(renders(token)), data.draw(renders(token))])
    arriving = data.draw(arrivals(token))
    one, _ = live(arriving, rendered)
    other, _ = live(data.draw(st.permutations(arriving)), rendered)
    assert but_for_answers(one) == but_for_answers(other)


def _bills(view):
    """In time to move money whenever the impression began; a later view is only a label."""
    return view.received_at < MINTED + view.pack.view_money_max_ms
