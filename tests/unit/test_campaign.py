"""What may be done with a campaign, and whether a moment is in its flight."""

from uuid import UUID

import pytest
from budgetkit import MONTH, a_change, an_opening
from gatekit import NOW
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec.structs import replace

from domain import campaign as rules
from domain.campaign import (
    CampaignRefusal,
    CampaignRefused,
    Opened,
    Unopened,
    decide_campaign,
    evolve_campaign,
    fold_campaign,
    in_flight,
)
from domain.campaign_events import BudgetChanged, CampaignOpened, CampaignPaused, CampaignResumed, FlightChanged
from domain.currency import MONEY_MAX
from domain.ids import TIME_MAX_MS
from domain.impression import ImpossibleTransition

DAY = 86_400_000
OTHER = UUID(int=99)


def after(*commands):
    state = Unopened()
    for command in commands:
        state = fold_campaign("c-1", decide_campaign(state, command), state)
    return state


def refusal_of(state, command):
    with pytest.raises(CampaignRefused) as caught:
        decide_campaign(state, command)
    return caught.value.refusal


def test_a_campaign_is_what_it_was_opened_as():
    campaign = after(an_opening(daily_budget_micros=7)).campaign
    assert (campaign.id, campaign.currency, campaign.time_zone) == ("c-1", "EUR", "Europe/Berlin")
    assert (campaign.budget_micros, campaign.daily_budget_micros, campaign.version) == (1_000, 7, 1)
    assert campaign.opened_at == campaign.changed_at == NOW


def test_a_command_that_comes_again_leads_to_nothing():
    opening, change = an_opening(), a_change(paused=True)
    state = after(opening, change)
    assert decide_campaign(state, opening) == decide_campaign(state, change) == ()


def test_a_request_id_with_another_content_is_refused():
    opening = an_opening()
    state = after(opening)
    assert refusal_of(state, replace(opening, digest="other")) is CampaignRefusal.REQUEST_REUSED


def test_a_campaign_is_opened_once():
    assert refusal_of(after(an_opening()), an_opening()) is CampaignRefusal.ALREADY_OPEN


def test_what_is_not_open_cannot_be_changed():
    assert refusal_of(Unopened(), a_change(paused=True)) is CampaignRefusal.NOT_OPEN


def test_a_change_is_for_the_version_that_its_caller_saw():
    state = after(an_opening(), a_change(1, budget_micros=5))
    assert refusal_of(state, a_change(1, budget_micros=6)) is CampaignRefusal.VERSION_CHANGED


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"currency": "EURO"}, CampaignRefusal.UNKNOWN_CURRENCY),
        ({"currency": "XXX"}, CampaignRefusal.UNKNOWN_CURRENCY),
        ({"advertiser": "a\0"}, CampaignRefusal.BAD_NAME),
        ({"account": "a\nb"}, CampaignRefusal.BAD_NAME),
        ({"flight_start": NOW, "flight_end": NOW - 1}, CampaignRefusal.BAD_FLIGHT),
        ({"flight_end": TIME_MAX_MS + 1}, CampaignRefusal.BAD_FLIGHT),
        ({"flight_start": -1}, CampaignRefusal.BAD_FLIGHT),
        ({"budget_micros": 0}, CampaignRefusal.BAD_BUDGET),
        ({"budget_micros": MONEY_MAX + 1}, CampaignRefusal.BAD_BUDGET),
        ({"daily_budget_micros": 0}, CampaignRefusal.BAD_BUDGET),
    ],
)
def test_an_opening_that_makes_no_sense_is_refused(changes, refusal):
    assert refusal_of(Unopened(), an_opening(**changes)) is refusal


@pytest.mark.parametrize(
    "changes",
    [
        {"flight_start": NOW, "flight_end": NOW},
        {"flight_end": TIME_MAX_MS},
        {"budget_micros": MONEY_MAX},
        {"budget_micros": 1},
    ],
)
def test_the_edges_make_sense(changes):
    assert len(decide_campaign(Unopened(), an_opening(**changes))) == 1


def test_one_request_may_change_several_things_at_once():
    state = after(an_opening())
    change = a_change(flight_end=NOW, budget_micros=5, daily_budget_micros=2, paused=True)
    events = decide_campaign(state, change)
    assert [type(event) for event in events] == [FlightChanged, BudgetChanged, CampaignPaused]
    campaign = fold_campaign("c-1", events, state).campaign
    assert (campaign.flight_start, campaign.flight_end) == (NOW - MONTH, NOW)
    assert (campaign.budget_micros, campaign.daily_budget_micros, campaign.version) == (5, 2, 4)


def test_what_stays_as_it_is_leads_to_nothing():
    state = after(an_opening(daily_budget_micros=3))
    assert decide_campaign(state, a_change(budget_micros=1_000, flight_end=NOW + MONTH, paused=False)) == ()


def test_a_daily_budget_is_kept_unless_it_is_named_and_goes_when_it_is_none():
    state = after(an_opening(daily_budget_micros=3), a_change(budget_micros=9))
    assert state.campaign.daily_budget_micros == 3
    assert (
        after(an_opening(daily_budget_micros=3), a_change(daily_budget_micros=None)).campaign.daily_budget_micros
        is None
    )


@pytest.mark.parametrize("changes", [{"flight_end": NOW - 2 * MONTH}, {"budget_micros": 0}, {"daily_budget_micros": 0}])
def test_a_change_that_makes_no_sense_is_refused(changes):
    assert refusal_of(after(an_opening()), a_change(**changes)) in {
        CampaignRefusal.BAD_FLIGHT,
        CampaignRefusal.BAD_BUDGET,
    }


def test_a_campaign_has_a_limited_number_of_changes(monkeypatch):
    monkeypatch.setattr(rules, "CHANGES_MAX", 2)
    state = after(an_opening(), a_change(1, paused=True))
    assert refusal_of(state, a_change(2, paused=False)) is CampaignRefusal.TOO_MANY_CHANGES


def test_first_and_last_moment_are_in_the_flight():
    campaign = after(an_opening(flight_start=10, flight_end=20)).campaign
    assert [in_flight(campaign, at) for at in (9, 10, 20, 21)] == [False, True, True, False]


def test_a_pause_begins_when_it_is_asked_for_and_ends_when_it_is_over():
    paused = after(an_opening(), a_change(1, paused=True, decided_at=NOW))
    assert [in_flight(paused.campaign, at) for at in (NOW - 1, NOW, NOW + DAY)] == [True, False, False]
    resumed = after(an_opening(), a_change(1, paused=True), a_change(2, paused=False, decided_at=NOW + 50)).campaign
    assert [in_flight(resumed, at) for at in (NOW - 1, NOW, NOW + 49, NOW + 50)] == [True, False, False, True]


def test_pauses_are_remembered_for_as_long_as_something_of_them_can_arrive():
    commands = [an_opening()]
    for number in range(20):
        at = NOW + number * DAY
        commands.append(a_change(1 + 2 * number, paused=True, decided_at=at))
        commands.append(a_change(2 + 2 * number, paused=False, decided_at=at + 10))
    campaign = after(*commands).campaign
    assert [end - begin for begin, end in campaign.pauses] == [10] * 8
    assert not in_flight(campaign, NOW + 19 * DAY)
    assert not in_flight(campaign, NOW + 12 * DAY + 1)


@pytest.mark.parametrize(
    "event",
    [CampaignPaused, CampaignResumed],
)
def test_an_event_that_was_not_decided_cannot_follow(event):
    state = after(an_opening(), a_change(1, paused=True)) if event is CampaignPaused else after(an_opening())
    with pytest.raises(ImpossibleTransition):
        evolve_campaign(state.campaign, event(cause=OTHER, digest="d", decided_at=NOW))
    with pytest.raises(ImpossibleTransition):
        fold_campaign("c-1", [event(cause=OTHER, digest="d", decided_at=NOW)])


def test_a_second_opening_cannot_follow():
    [opened] = decide_campaign(Unopened(), an_opening())
    assert isinstance(opened, CampaignOpened)
    with pytest.raises(ImpossibleTransition):
        fold_campaign("c-1", [opened, opened])


changes = st.fixed_dictionaries(
    {},
    optional={
        "flight_end": st.integers(NOW - MONTH, NOW + 2 * MONTH),
        "budget_micros": st.integers(1, 5_000),
        "daily_budget_micros": st.one_of(st.none(), st.integers(1, 500)),
        "paused": st.booleans(),
    },
)


@for_all(story=st.lists(st.tuples(changes, st.integers(0, 9 * DAY)), max_size=12))
def test_evolve_accepts_what_decide_emits_and_counts_it(story):
    state, at = after(an_opening()), NOW
    events = 1
    for asked, passed in story:
        at += passed
        command = a_change(state.campaign.version, decided_at=at, **asked)
        new = decide_campaign(state, command)
        events += len(new)
        state = fold_campaign("c-1", new, state)
        assert isinstance(state, Opened)
        assert state.campaign.version == events
        assert decide_campaign(state, command) == ()
        assert in_flight(state.campaign, at) is (state.campaign.paused_at is None and at <= state.campaign.flight_end)
