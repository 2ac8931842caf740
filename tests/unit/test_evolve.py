"""`evolve` accepts what `decide` emits and nothing that it would not."""

import pytest
from builders import (
    DAY,
    HOUR,
    MINTED,
    ORIGINAL,
    PRICE,
    VERSIONS,
    a_correction,
    a_label,
    a_render,
    a_reprice,
    a_view,
    admit,
    admit_omid,
    an_answer,
    an_expiry,
    cause,
    given,
)
from histories import histories
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.decide import CommandRefused, decide
from domain.events import (
    CorrectionKind,
    ImpressionAnswered,
    ImpressionDeduped,
    ImpressionLabelled,
    ImpressionReconciled,
    ImpressionRendered,
    ImpressionScored,
    ImpressionViewed,
    Uniqueness,
)
from domain.impression import Decided, ImpossibleTransition, Unseen, fold
from domain.reasons import CLASS_OF, Reason, ReasonClass, Verdict
from domain.standing import Dropped, Duplicate, Uncertain, Valid, Viewability
from domain.vocabulary import Authority, BillingEvent, Format, OmidType, Surface

OTHER_CUT = {
    "event_at": MINTED + 999,
    "campaign": "another",
    "advertiser": "another",
    "creative": "another",
    "placement": "another",
    "publisher": "another",
    "surface": Surface.REELS,
    "format": Format.VIDEO,
    "region": "another",
    "currency": "XXX",
    "billing_event": BillingEvent.VIEWABLE,
    "sdk": "another",
}
STANDINGS = [
    Valid(billable_micros=PRICE),
    Valid(billable_micros=PRICE + 1),
    Valid(reserved_micros=PRICE),
    Valid(billable_micros=PRICE, viewability={"mrc": Viewability.VIEWABLE}),
    Valid(billable_micros=-1),
    *[Dropped(reason=reason, reason_class=CLASS_OF[reason]) for reason in (Reason.PREFETCHED, Reason.STACKED)],
    Dropped(reason=Reason.STACKED, reason_class=ReasonClass.GIVT),
    Duplicate(reason=Reason.DOUBLE_FIRE, reason_class=ReasonClass.DUPLICATE),
    Uncertain(reason=Reason.LATE, reason_class=ReasonClass.UNDECIDED, reserved_micros=PRICE, resolve_by=1),
    Uncertain(reason=Reason.LATE, reason_class=ReasonClass.UNDECIDED, expired=True),
]


def appended(*commands):
    """The stream before the last of *commands*, and what that one appends to it."""
    *before, last = commands
    state = given(*before).state
    return state, decide(state, last)


COUNTED = appended(admit(render=a_render(event_id=cause(1))))
DOUBLE = appended(admit(also=[Reason.DOUBLE_FIRE]))
AGAIN = appended(admit(render=a_render(prefetched=True, on_screen_at=None)), admit())
REPEATED = appended(admit(), admit())
COMPLETED = appended(admit_omid(OmidType.OTHER), admit_omid())
VIEWED = appended(admit(), a_view())
CORRECTED = appended(admit(), a_correction(Reason.STACKED, Authority.MODEL))
KEPT = appended(admit(), a_correction(Reason.STACKED), a_correction(None, Authority.MODEL))
EXPIRED = appended(admit_omid(OmidType.OTHER), an_expiry())
REPRICED = appended(admit(), a_reprice(1_500))
LABELLED = appended(admit(), a_label())
TOLD = appended(admit(render=a_render(event_id=cause(2))), an_answer(cause(2)))
STREAMS = {
    "counted": COUNTED,
    "double fire": DOUBLE,
    "counted again": AGAIN,
    "repeated": REPEATED,
    "completed": COMPLETED,
    "viewed": VIEWED,
    "corrected": CORRECTED,
    "kept as evidence": KEPT,
    "expired": EXPIRED,
    "repriced": REPRICED,
    "labelled": LABELLED,
    "told otherwise": TOLD,
}
RENDERS = [COUNTED, DOUBLE, AGAIN, COMPLETED]
FIRST_RENDERS = [COUNTED, DOUBLE]
ON_A_STANDING = [AGAIN, REPEATED, COMPLETED, VIEWED, CORRECTED, KEPT, EXPIRED, REPRICED]
MOVING = ImpressionDeduped | ImpressionViewed | ImpressionReconciled


def refuses(state, events):
    with pytest.raises(ImpossibleTransition):
        fold(events, state)


def refuses_changed(stream, at, **changes):
    """The event at *at* of what was appended is not accepted with *changes*."""
    state, events = stream
    changed = list(events)
    changed[at] = replace(events[at], **changes)
    assert changed[at] != events[at], "nothing is changed"
    refuses(state, changed)


@pytest.mark.parametrize("name", STREAMS)
def test_what_decide_emits_is_accepted_and_stands_where_it_says(name):
    state, events = STREAMS[name]
    after = fold(events, state)
    assert isinstance(after, Decided)
    if isinstance(events[-1], MOVING):
        assert after.standing == events[-1].after


@pytest.mark.parametrize("name", STREAMS)
def test_nothing_is_accepted_twice(name):
    state, events = STREAMS[name]
    refuses(state, [*events, *events])


@pytest.mark.parametrize("name", sorted(STREAMS.keys() - {"counted", "double fire"}))
def test_only_a_render_begins_a_stream(name):
    _, events = STREAMS[name]
    if isinstance(events[0], ImpressionRendered):
        events = events[2:]
    refuses(Unseen(), events)


@pytest.mark.parametrize("stream", RENDERS)
@pytest.mark.parametrize("order", [(0, 2), (1, 2), (2,), (0, 0, 1, 2), (0, 1, 1, 2), (1, 0, 2), (0, 2, 1), (2, 1, 0)])
def test_an_append_that_is_not_whole_and_in_order_is_not_accepted(stream, order):
    state, events = stream
    refuses(state, [events[at] for at in order])


@pytest.mark.parametrize("stream", RENDERS)
@pytest.mark.parametrize("name", ["repeated", "viewed", "corrected", "labelled", "told otherwise"])
def test_nothing_comes_between_the_events_of_an_append(stream, name):
    state, events = stream
    refuses(state, [events[0], *STREAMS[name][1]])
    refuses(state, [*events[:2], *STREAMS[name][1]])


@pytest.mark.parametrize("stream", RENDERS)
@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("changes", [{"cause": cause(77)}, {"digest": "another"}])
def test_the_events_of_a_render_have_one_cause(stream, at, changes):
    refuses_changed(stream, at, **changes)


@pytest.mark.parametrize("stream", [REPEATED, VIEWED, CORRECTED, LABELLED])
def test_a_cause_is_absorbed_once(stream):
    state, _ = stream
    refuses_changed(stream, 0, cause=next(iter(state.absorbed)))


@pytest.mark.parametrize("stream", RENDERS)
def test_the_answer_is_the_first_reason_that_holds(stream):
    refuses_changed(stream, 1, reasons=(Reason.RISK_HIGH,))


@pytest.mark.parametrize("field", sorted(OTHER_CUT))
@pytest.mark.parametrize("stream", ON_A_STANDING)
def test_the_cut_is_copied_unchanged(stream, field):
    event = stream[1][-1]
    refuses_changed(stream, -1, cut=replace(event.cut, **{field: OTHER_CUT[field]}))


@pytest.mark.parametrize("field", sorted(OTHER_CUT.keys() - {"event_at"}))
@pytest.mark.parametrize("stream", FIRST_RENDERS)
def test_the_first_cut_is_what_the_render_claims(stream, field):
    _, events = stream
    refuses_changed(stream, 2, cut=replace(events[2].cut, **{field: OTHER_CUT[field]}))
    refuses_changed(stream, 0, **{field: OTHER_CUT[field]})


@pytest.mark.parametrize("field", ["creative", "placement", "publisher", "surface", "format"])
@pytest.mark.parametrize("stream", [AGAIN, COMPLETED])
def test_a_conflicting_render_neither_counts_nor_completes(stream, field):
    refuses_changed(stream, 0, **{field: OTHER_CUT[field]})


@pytest.mark.parametrize("name", sorted(STREAMS.keys() - {"labelled", "told otherwise"}))
@pytest.mark.parametrize("field", ["before", "after"])
@pytest.mark.parametrize("standing", STANDINGS)
def test_a_change_leads_from_where_the_impression_stands_to_where_the_rules_lead(name, field, standing):
    stream = STREAMS[name]
    event = stream[1][-1]
    is_same = getattr(event, field) == standing
    free = isinstance(event, ImpressionDeduped | ImpressionReconciled) and _differ_in_views_alone(
        event, field, standing
    )
    if not is_same and not free:
        refuses_changed(stream, -1, **{field: standing})


def _differ_in_views_alone(event, field, standing):
    """What a render measured is known to the rule pack alone, so viewability may be any that is not a step back."""
    is_decision = event.before is None or (isinstance(event, ImpressionReconciled) and event.kind == "evidence")
    is_decision |= isinstance(event, ImpressionDeduped) and event.uniqueness is Uniqueness.UNIQUE
    return is_decision and field == "after" and replace(standing, viewability={}) == event.after


@pytest.mark.parametrize(
    ("stream", "changes"),
    [
        (COUNTED, {"uniqueness": Uniqueness.DUPLICATE}),
        (COUNTED, {"verdict": Verdict.UNCERTAIN}),
        (COUNTED, {"reason": Reason.LATE}),
        (COUNTED, {"renders": 2}),
        (COUNTED, {"duplicate_of": ORIGINAL}),
        (DOUBLE, {"uniqueness": Uniqueness.UNIQUE}),
        (DOUBLE, {"verdict": Verdict.DROPPED}),
        (AGAIN, {"before": None}),
        (REPEATED, {"uniqueness": Uniqueness.UNIQUE}),
        (REPEATED, {"verdict": Verdict.VALID}),
        (REPEATED, {"reason": Reason.DOUBLE_FIRE}),
        (REPEATED, {"reason": None}),
        (REPEATED, {"renders": 0}),
        (REPEATED, {"duplicate_of": ORIGINAL}),
        (COMPLETED, {"authority": Authority.REVIEW}),
        (COMPLETED, {"accepted": False}),
        (COMPLETED, {"asked": Reason.RISK_HIGH}),
        (COMPLETED, {"asked_price_micros": 1}),
        (COMPLETED, {"kind": CorrectionKind.VERDICT}),
        (VIEWED, {"said": {}}),
        (VIEWED, {"said": {"mrc": Viewability.NOT_VIEWABLE}}),
        (CORRECTED, {"accepted": False}),
        (CORRECTED, {"authority": None}),
        (CORRECTED, {"authority": Authority.EXPIRY}),
        (CORRECTED, {"asked": None}),
        (CORRECTED, {"asked": Reason.RISK_GREY}),
        (CORRECTED, {"asked": Reason.DUPLICATE_RENDER}),
        (CORRECTED, {"asked_price_micros": 1}),
        (CORRECTED, {"kind": CorrectionKind.EVIDENCE}),
        (CORRECTED, {"kind": CorrectionKind.EXPIRY}),
        (CORRECTED, {"kind": CorrectionKind.REPRICE}),
        (KEPT, {"accepted": True}),
        (KEPT, {"authority": Authority.REVIEW, "observed_at": MINTED + DAY}),
        (EXPIRED, {"accepted": False}),
        (EXPIRED, {"asked": Reason.STACKED}),
        (EXPIRED, {"authority": Authority.MODEL}),
        (EXPIRED, {"decided_at": MINTED + HOUR}),
        (REPRICED, {"asked_price_micros": 1_501}),
        (REPRICED, {"asked_price_micros": -1}),
        (REPRICED, {"asked_price_micros": None}),
        (REPRICED, {"asked": Reason.STACKED}),
    ],
)
def test_a_part_that_does_not_fit_the_others_is_not_accepted(stream, changes):
    refuses_changed(stream, -1, **changes)


@pytest.mark.parametrize("stream", [COUNTED, REPEATED, VIEWED, CORRECTED, EXPIRED, LABELLED])
def test_after_a_decision_no_first_decision_is_accepted(stream):
    state = fold(stream[1], stream[0])
    rendered, scored, deduped = COUNTED[1]
    later = [replace(rendered, cause=cause(88)), scored, replace(deduped, cause=cause(88))]
    refuses(state, later)
    refuses(state, [*later[:2], replace(later[2], before=state.standing, cut=state.cut)])


def test_a_repeat_leaves_the_impression_where_it_stands():
    for standing in STANDINGS[1:]:
        refuses_changed(REPEATED, 0, before=standing, after=standing)


def test_a_render_that_proves_nothing_neither_counts_nor_completes():
    for stream in (AGAIN, COMPLETED):
        unproven = (Reason.OMID_UNPROVEN,)
        after = Uncertain(reason=unproven[0], reason_class=ReasonClass.UNDECIDED, reserved_micros=PRICE, resolve_by=1)
        state, (rendered, scored, last) = stream
        changes = {"verdict": after.verdict, "reason": unproven[0]} if isinstance(last, ImpressionDeduped) else {}
        unproved = replace(rendered, begun=False)
        refuses(state, [unproved, replace(scored, reasons=unproven), replace(last, after=after, **changes)])


def test_viewability_does_not_move_back_when_a_render_counts():
    state, events = appended(
        admit(render=a_render(prefetched=True, on_screen_at=None)),
        a_view(),
        admit(),
    )
    assert events[2].after.viewability["mrc"] is Viewability.VIEWABLE
    for lower in ({}, {"mrc": Viewability.NOT_VIEWABLE}):
        refuses(state, [*events[:2], replace(events[2], after=replace(events[2].after, viewability=lower))])


FREE = {
    ImpressionRendered: {
        "ad": "another",
        "session": "another",
        "user": "another",
        "missing": ("sdk",),
        "visible_ms": 9,
        "sdk_seq": 9,
    },
    ImpressionScored: {"versions": replace(VERSIONS, model="m"), "risk": 0.5, "features": b"\0\0\0?", "spent_ms": 9},
    ImpressionDeduped: {"decided_at": MINTED + 9},
    ImpressionViewed: {"viewed_at": MINTED + 9, "received_at": MINTED + 9, "visible_ms": 9},
    ImpressionReconciled: {"evidence": "another", "deadline_met": False, "versions": replace(VERSIONS, model="m")},
    ImpressionLabelled: {"weight": 0.25, "observed_at": MINTED + 9},
    ImpressionAnswered: {"reason": Reason.LATE, "answered_at": MINTED + 9},
}
"""What a command brings of its own: any other is as good."""


@pytest.mark.parametrize("name", STREAMS)
def test_what_a_command_brings_of_its_own_changes_no_state(name):
    state, events = STREAMS[name]
    for at, event in enumerate(events):
        for field, value in FREE[type(event)].items():
            changed = list(events)
            changed[at] = replace(event, **{field: value})
            assert fold(changed, state) == fold(events, state)


MUTATIONS = {
    "before": st.none() | st.sampled_from(STANDINGS),
    "after": st.sampled_from(STANDINGS),
    "verdict": st.sampled_from(Verdict),
    "uniqueness": st.sampled_from(Uniqueness),
    "accepted": st.booleans(),
    "authority": st.none() | st.sampled_from(Authority),
    "kind": st.sampled_from(CorrectionKind),
    "cause": st.sampled_from([cause(number) for number in range(1, 14)]),
    "digest": st.sampled_from(["", "another"]),
    "asked_price_micros": st.none() | st.sampled_from([-1, 0, PRICE]),
}


@for_all(history=histories(8), data=st.data())
def test_a_changed_event_is_not_accepted_or_leads_where_it_says_itself(history, data):
    """It may be one that another command would have led to; then the state follows from it and stays possible."""
    state, moments = Unseen(), []
    for command in history:
        try:
            events = decide(state, command)
        except CommandRefused:
            continue
        moments += [(state, events)] if events else []
        state = fold(events, state)
    if not moments:
        return
    state, events = data.draw(st.sampled_from(moments))
    places = [(at, name) for at, event in enumerate(events) for name in event.__struct_fields__ if name in MUTATIONS]
    at, field = data.draw(st.sampled_from(places))
    changed = list(events)
    changed[at] = replace(events[at], **{field: data.draw(MUTATIONS[field])})
    try:
        after = fold(changed, state)
    except ImpossibleTransition:
        return
    last = changed[-1]
    # A price asked for what is not billed, too, shows in the state alone.
    assert after == fold(events, state) or field in {"authority", "cause", "digest", "after", "asked_price_micros"}
    if isinstance(last, MOVING):
        assert after.standing == last.after
        assert after.standing.billable_micros >= 0
        assert last.after.billable_micros == 0 or last.after.verdict is Verdict.VALID
