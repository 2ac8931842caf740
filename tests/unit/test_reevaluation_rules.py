"""Which appends give cause to look again, when, and what a model's word would change."""

import pytest
from builders import (
    DAY,
    HOUR,
    MINTED,
    PRICE,
    SECOND,
    a_correction,
    a_label,
    a_reprice,
    a_token,
    a_view,
    admit,
    admit_omid,
    an_expiry,
    given,
)
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from lookkit import NOW as LATER
from lookkit import a_first

from domain.decide import decide
from domain.impression import Unseen
from domain.reasons import CLASS_OF, Reason, ReasonClass, Verdict
from domain.reevaluation import Look, LookTimes, Why, is_about_traffic, looks_of, would_become
from domain.standing import Dropped, Uncertain, Valid
from domain.vocabulary import Authority, BillingEvent, Label, LabelSource, OmidType, Rung

NOW = MINTED + SECOND
TIMES = LookTimes(uncertain_ms=300_000, deadline_ms=900_000, shed_ms=HOUR, sample_ms=7 * DAY)


def looks(*commands, times=TIMES):
    """The looks that the last of *commands* gives cause for."""
    state = given(*commands[:-1]).state if commands[:-1] else Unseen()
    return looks_of(decide(state, commands[-1]), times)


def test_what_counts_or_is_dropped_is_not_looked_at_again():
    assert looks(admit()) == looks(admit(also=[Reason.AREA_INVISIBLE])) == ()


@pytest.mark.parametrize("reason", [one for one in Reason if CLASS_OF[one] is ReasonClass.UNDECIDED])
def test_whatever_is_uncertain_is_looked_at_twice_before_its_deadline(reason):
    command = admit(also=[reason])
    [_, _, decided] = decide(Unseen(), command)
    first, last = looks(command)
    assert first == Look(Why.UNCERTAIN, NOW + TIMES.uncertain_ms)
    assert last == Look(Why.DEADLINE, decided.after.resolve_by - TIMES.deadline_ms)
    assert first.due_at < last.due_at < decided.after.resolve_by


@settings(max_examples=40)
@for_all(st.integers(0, 10 * DAY), st.integers(0, 10 * DAY))
def test_however_little_time_there_is_one_look_is_in_time(uncertain_ms, deadline_ms):
    command = admit(also=[Reason.RISK_GREY])
    found = looks(command, times=LookTimes(uncertain_ms=uncertain_ms, deadline_ms=deadline_ms))
    assert found[0].why is Why.UNCERTAIN
    assert NOW <= found[0].due_at <= NOW + 3 * DAY
    assert [look.why for look in found[1:]] in ([], [Why.DEADLINE])
    assert all(found[0].due_at < look.due_at for look in found[1:])


def test_a_view_of_what_is_uncertain_gives_no_cause_for_more_looks():
    assert looks(admit(also=[Reason.RISK_GREY]), a_view()) == ()


def test_a_render_that_completes_another_gives_cause_only_where_it_stays_uncertain():
    lacking, whole = admit_omid(OmidType.OTHER), admit_omid()
    assert looks(lacking, whole) == ()
    still = admit_omid(also=[Reason.RISK_GREY])
    assert [look.why for look in looks(lacking, still)] == [Why.UNCERTAIN, Why.DEADLINE]


def test_what_has_expired_is_not_looked_at_again():
    assert looks(admit(also=[Reason.RISK_GREY]), an_expiry()) == ()


def test_what_was_shed_and_what_is_sampled_is_looked_at_once_each():
    def of(**changes):
        return looks_of(a_first(1, LATER, **changes).events, TIMES)

    assert of(shed=True) == (Look(Why.SHED, LATER + TIMES.shed_ms),)
    assert of(propensity=0.003) == (Look(Why.SAMPLE, LATER + TIMES.sample_ms),)
    assert [look.why for look in of(shed=True, propensity=0.003, also=[Reason.LATE])] == [
        Why.SHED,
        Why.SAMPLE,
        Why.UNCERTAIN,
        Why.DEADLINE,
    ]


def test_shed_beside_a_worse_rung_is_shed_still():
    [rendered, scored, decided] = a_first(1, LATER).events
    beside = type(scored)(versions=scored.versions, rung=Rung.SPOOLED, rungs=(Rung.SHED,))
    assert [look.why for look in looks_of((rendered, beside, decided), TIMES)] == [Why.SHED]


@pytest.mark.parametrize(
    ("source", "label", "is_so"),
    [
        (LabelSource.THIRD_PARTY, Label.INVALID, True),
        (LabelSource.HUMAN_SIGNAL, Label.HUMAN, True),
        (LabelSource.SDK_BUG, Label.INSTRUMENTATION, False),
        (LabelSource.VIEW, Label.VIEWABLE, False),
        (LabelSource.HUMAN_SIGNAL, Label.INVALID, False),
    ],
)
def test_a_label_speaks_of_the_person_where_it_says_who_was_there(source, label, is_so):
    turn = given(admit()).when(a_label(source, label))
    assert [is_about_traffic(event) for event in turn.events] == [is_so]


# What it would change


def test_a_correction_to_valid_would_bill_the_price():
    change = would_become(given(admit(also=[Reason.RISK_GREY])).state, None, NOW)
    assert (type(change.before), type(change.after)) == (Uncertain, Valid)
    assert (change.allowed, change.micros) == (True, PRICE)


def test_what_is_billed_when_seen_and_was_not_seen_would_bill_nothing():
    command = admit(token=a_token(billing_event=BillingEvent.VIEWABLE), also=[Reason.RISK_GREY])
    assert would_become(given(command).state, None, NOW).micros == 0


def test_a_correction_to_dropped_would_give_back_what_is_billed_at_the_price_in_force():
    change = would_become(given(admit(), a_reprice(500)).state, Reason.RISK_HIGH, NOW)
    assert isinstance(change.after, Dropped)
    assert change.micros == -500


@pytest.mark.parametrize(("authority", "allowed"), [(Authority.REVIEW, False), (Authority.THIRD_PARTY, False)])
def test_where_more_authority_has_spoken_nothing_would_change(authority, allowed):
    change = would_become(given(admit(), a_correction(None, authority)).state, Reason.RISK_HIGH, NOW)
    assert (change.allowed, change.micros, change.after.verdict) == (allowed, 0, Verdict.VALID)


def test_what_a_model_said_before_it_may_say_otherwise_later():
    state = given(admit(), a_correction(Reason.RISK_HIGH, Authority.MODEL, observed_at=NOW)).state
    change = would_become(state, None, NOW + 1)
    assert (change.allowed, change.micros) == (True, PRICE)


def test_no_edge_is_no_change():
    change = would_become(given(admit()).state, Reason.RISK_GREY, NOW)
    assert (change.allowed, change.before) == (False, change.after)


def test_asking_what_would_change_changes_nothing():
    state = given(admit(also=[Reason.RISK_GREY])).state
    told = repr(state)
    would_become(state, None, NOW)
    assert repr(state) == told
