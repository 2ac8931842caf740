"""What each command leads to. The worked cases of docs/requirements.md cover the verdicts; here stand the events."""

import pytest
from builders import (
    DAY,
    HOUR,
    MINTED,
    ORIGINAL,
    PACK,
    PRICE,
    SECOND,
    VERSIONS,
    a_correction,
    a_label,
    a_render,
    a_reprice,
    a_token,
    a_view,
    admit,
    admit_omid,
    an_answer,
    an_expiry,
    appends,
    appends_nothing,
    cause,
    changes_no_standing,
    counts,
    given,
    refuses,
    stands,
)
from msgspec.structs import replace

from domain.decide import Refusal, decide
from domain.events import CorrectionKind, Uniqueness
from domain.impression import Claimed, ImpossibleTransition, Judged, Unseen, evolve
from domain.reasons import CLASS_OF, Reason, ReasonClass, Verdict
from domain.standing import Viewability
from domain.vocabulary import AgentClass, Authority, BillingEvent, Format, Label, LabelSource, OmidType

VIEWABLE_AD = a_token(billing_event=BillingEvent.VIEWABLE)
PREFETCH = {"prefetched": True, "on_screen_at": None}
FIRST = ("Rendered", "Scored", "Deduped")


def skewed():
    """A render that leaves the impression uncertain, with a deadline a day after its receipt."""
    return admit(render=a_render(client_at=MINTED - HOUR))


def test_counts_a_plain_render():
    given().when(admit()).then(appends(*FIRST), counts())


def test_counts_a_display_ad_seen_at_exactly_half_its_pixels_for_one_second():
    given().when(admit(render=a_render(visible_ratio=0.5, visible_ms=1_000))).then(counts(viewable="mrc"))


def test_a_first_render_says_what_was_claimed_thought_and_decided():
    command = admit(render=a_render(event_id=cause(1)))
    rendered, scored, deduped = given().when(command).events
    assert (rendered, scored) == (command.rendered, command.scored)
    assert rendered.cause == deduped.cause == cause(1)
    assert rendered.digest == deduped.digest == command.rendered.digest
    assert (deduped.uniqueness, deduped.verdict, deduped.reason) == (Uniqueness.UNIQUE, Verdict.VALID, None)
    assert (deduped.before, deduped.cut, deduped.decided_at) == (None, command.cut, command.decided_at)


def test_the_first_reason_decides_and_all_are_recorded():
    _, scored, deduped = given().when(admit(agent_class=AgentClass.DECLARED_BOT, also=[Reason.RISK_HIGH])).events
    assert scored.reasons == (Reason.AGENT_DECLARED_BOT, Reason.RISK_HIGH)
    assert deduped.reason is Reason.AGENT_DECLARED_BOT


@pytest.mark.parametrize("reason", [reason for reason in Reason if CLASS_OF[reason] is ReasonClass.UNDECIDED])
def test_an_uncertain_render_reserves_its_price_until_its_deadline(reason):
    command = admit(also=[reason])
    standing = given().when(command).then(stands(Verdict.UNCERTAIN, reason, reserved=PRICE)).after.standing
    assert standing.resolve_by == command.rendered.received_at + PACK.resolve_within_ms[reason]
    assert not standing.expired


@pytest.mark.parametrize(
    "reason", [reason for reason in Reason if CLASS_OF[reason] in {ReasonClass.GIVT, ReasonClass.SIVT}]
)
def test_invalid_traffic_is_dropped_and_reserves_nothing(reason):
    given().when(admit(also=[reason])).then(appends(*FIRST), stands(Verdict.DROPPED, reason))


def test_a_double_fire_names_the_impression_that_it_repeats():
    turn = given().when(admit(also=[Reason.DOUBLE_FIRE])).then(stands(Verdict.DUPLICATE, Reason.DOUBLE_FIRE))
    assert turn.events[-1].uniqueness is Uniqueness.DUPLICATE
    assert turn.events[-1].duplicate_of == ORIGINAL


def test_what_is_dropped_before_it_is_a_double_fire_names_no_other_impression():
    outside = a_token(flight_end=MINTED)
    turn = given().when(admit(token=outside, also=[Reason.DOUBLE_FIRE]))
    assert turn.then(stands(Verdict.DROPPED, Reason.OUTSIDE_FLIGHT)).events[-1].duplicate_of is None


def test_a_retry_appends_nothing_and_finds_the_first_answer():
    turn = given(admit(render=a_render(event_id=cause(1)))).when(
        admit(render=a_render(event_id=cause(1), attempt=3), received_at=MINTED + HOUR)
    )
    turn.then(appends_nothing)
    assert turn.after.absorbed[cause(1)].verdict is Verdict.VALID


def test_a_retry_is_recognised_though_by_now_it_would_be_judged_otherwise():
    given(admit(render=a_render(event_id=cause(1)))).when(
        admit(render=a_render(event_id=cause(1)), received_at=MINTED + 3 * DAY, also=[Reason.RISK_HIGH])
    ).then(appends_nothing)


def test_an_event_id_with_other_content_is_refused():
    given(admit(render=a_render(event_id=cause(1)))).when(admit(render=a_render(event_id=cause(1), clicked=True))).then(
        refuses(Refusal.EVENT_ID_REUSED)
    )


@pytest.mark.parametrize(
    "command",
    [
        a_view(id_=cause(1)),
        a_correction(Reason.RISK_HIGH, id_=cause(1)),
        a_label(id_=cause(1)),
    ],
)
def test_an_id_that_a_render_had_is_refused_to_every_other_command(command):
    given(admit(render=a_render(event_id=cause(1)))).when(command).then(refuses(Refusal.EVENT_ID_REUSED))


def test_a_second_render_is_evidence_and_changes_nothing():
    turn = given(admit()).when(admit()).then(appends("Deduped"), changes_no_standing, counts())
    [event] = turn.events
    assert (event.uniqueness, event.verdict, event.reason) == (
        Uniqueness.DUPLICATE,
        Verdict.DUPLICATE,
        Reason.DUPLICATE_RENDER,
    )
    assert event.before == event.after
    assert event.cut == turn.before.cut
    assert turn.after.repeats == 1


@pytest.mark.parametrize("field", ["creative", "placement", "publisher"])
def test_a_second_render_with_other_content_is_a_conflict(field):
    [event] = given(admit()).when(admit(token=a_token(**{field: "other"}))).then(changes_no_standing).events
    assert event.reason is Reason.DUPLICATE_CONFLICT


@pytest.mark.parametrize("field", ["ad", "campaign", "advertiser"])
def test_a_second_render_of_the_same_content_is_a_repeat_whatever_else_it_claims(field):
    [event] = given(admit()).when(admit(token=a_token(**{field: "other"}))).then(changes_no_standing).events
    assert event.reason is Reason.DUPLICATE_RENDER


def test_a_prefetched_impression_counts_when_shown_in_the_hour_of_its_first_event():
    shown = admit(received_at=MINTED + 3 * HOUR)
    turn = given(admit(render=a_render(**PREFETCH))).when(shown).then(appends(*FIRST), counts())
    deduped = turn.events[-1]
    assert deduped.before == turn.before.standing
    assert deduped.cut.event_at == MINTED + SECOND
    assert turn.after.begun_at == MINTED + 3 * HOUR


def test_what_a_prefetched_render_measured_is_kept_when_it_counts():
    prefetched = admit(render=a_render(visible_ratio=0.9, visible_ms=2_000, **PREFETCH), token=VIEWABLE_AD)
    given(prefetched).when(admit(token=VIEWABLE_AD)).then(counts(viewable="mrc"))


def test_a_proof_completes_the_first_decision_without_any_authority():
    given_state = given(admit_omid(OmidType.UNSPECIFIED))
    proof = admit_omid(OmidType.VIEWABLE, received_at=MINTED + HOUR)
    turn = given_state.when(proof).then(appends("Rendered", "Scored", "Reconciled"), counts())
    event = turn.events[-1]
    assert (event.kind, event.authority, event.accepted, event.asked) == (CorrectionKind.EVIDENCE, None, True, None)
    assert (event.observed_at, event.versions) == (MINTED + HOUR, VERSIONS)
    assert (event.before, event.after) == (turn.before.standing, turn.after.standing)


def test_a_proof_that_leaves_another_doubt_has_its_own_deadline():
    late = admit_omid(OmidType.VIEWABLE, received_at=MINTED + DAY + 1)
    turn = given(admit_omid(OmidType.OTHER)).when(late).then(stands(Verdict.UNCERTAIN, Reason.LATE, reserved=PRICE))
    assert turn.after.standing.resolve_by == MINTED + DAY + 1 + PACK.resolve_within_ms[Reason.LATE]


def test_a_proof_counts_at_the_price_of_now():
    given(admit_omid(OmidType.OTHER), a_reprice(1_500)).when(admit_omid()).then(counts(billable=1_500))


@pytest.mark.parametrize(
    "command",
    [a_view(), a_correction(Reason.RISK_HIGH), an_expiry(), a_reprice(1), a_label()],
)
def test_what_comes_before_the_first_render_can_be_parked(command):
    given().when(command).then(refuses(Refusal.NOT_RENDERED))


def test_a_view_says_what_was_measured_and_where_it_leads():
    view = a_view(visible_ratio=0.7, visible_ms=1_200, received_at=MINTED + HOUR)
    turn = given(admit(token=VIEWABLE_AD)).when(view).then(appends("Viewed"), counts(viewable="mrc"))
    [event] = turn.events
    assert (event.visible_ratio, event.visible_ms, event.area_px) == (0.7, 1_200, 75_000)
    assert (event.viewed_at, event.received_at, event.said) == (
        MINTED + HOUR,
        MINTED + HOUR,
        {"mrc": Viewability.VIEWABLE, "mrc_half": Viewability.VIEWABLE, "groupm": Viewability.NOT_VIEWABLE},
    )
    assert (event.before.reserved_micros, event.after.billable_micros) == (PRICE, PRICE)
    assert event.cut == turn.before.cut


def test_what_a_view_does_not_say_of_a_video_its_render_said():
    seen = {"format": Format.VIDEO, "visible_ratio": 1.0, "visible_ms": 3_000}
    render = a_render(duration_ms=6_000)
    view = given(admit(render=render, token=a_token(format=Format.VIDEO))).when(a_view(**seen)).events[0]
    assert (view.duration_ms, view.said["groupm"]) == (None, Viewability.VIEWABLE)


def test_a_view_that_moves_nothing_appends_nothing():
    given(admit(), a_view()).when(a_view(visible_ratio=0.2)).then(appends_nothing)


def test_a_view_a_day_after_begin_is_a_label_of_no_weight():
    begun = MINTED + SECOND
    given(admit()).when(a_view(received_at=begun + DAY)).then(appends("Viewed"))
    [event] = given(admit()).when(a_view(received_at=begun + DAY + 1)).then(changes_no_standing).events
    assert (event.source, event.label, event.weight) == (LabelSource.VIEW, Label.VIEWABLE, 0.0)


def test_a_late_view_of_little_is_a_label_too():
    [event] = given(admit()).when(a_view(visible_ratio=0.1, received_at=MINTED + 2 * DAY)).events
    assert event.label is Label.NOT_VIEWABLE


def test_a_late_view_of_another_pack_than_the_campaigns_is_not_kept():
    given(admit(token=a_token(viewability_pack="other"))).when(a_view(received_at=MINTED + 2 * DAY)).then(
        appends_nothing
    )


def test_a_correction_says_who_asked_for_what_and_what_came_of_it():
    command = a_correction(Reason.STACKED, Authority.SDK_BUG, id_=cause(7), evidence="bug 12")
    turn = given(admit()).when(command).then(appends("Reconciled"), stands(Verdict.DROPPED, Reason.STACKED))
    [event] = turn.events
    assert (event.cause, event.kind, event.authority) == (cause(7), CorrectionKind.VERDICT, Authority.SDK_BUG)
    assert (event.asked, event.accepted, event.evidence) == (Reason.STACKED, True, "bug 12")
    assert (event.before, event.after) == (turn.before.standing, turn.after.standing)
    assert event.cut == turn.before.cut


def test_a_weaker_correction_is_refused_evidence():
    history = given(admit(), a_correction(Reason.STACKED, Authority.REVIEW))
    turn = history.when(a_correction(None, Authority.MODEL)).then(appends("Reconciled"), changes_no_standing)
    assert not turn.events[0].accepted


def test_a_correction_keeps_what_was_seen():
    history = given(admit(token=VIEWABLE_AD), a_view(), a_correction(Reason.STACKED))
    history.when(a_correction(None, observed_at=MINTED + DAY)).then(counts(viewable="mrc"))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": CorrectionKind.EVIDENCE},
        {"authority": Authority.EXPIRY},
        {"kind": CorrectionKind.EXPIRY},
        {"kind": CorrectionKind.EXPIRY, "authority": Authority.EXPIRY, "asked": Reason.STACKED},
        {"kind": CorrectionKind.REPRICE},
        {"kind": CorrectionKind.REPRICE, "asked_price_micros": -1},
        {"kind": CorrectionKind.REPRICE, "asked_price_micros": 1, "asked": Reason.STACKED},
        {"asked_price_micros": 1},
    ],
)
def test_a_correction_whose_parts_do_not_fit_is_refused(changes):
    late = replace(a_correction(observed_at=MINTED + 30 * DAY), **changes)
    given(skewed()).when(late).then(refuses(Refusal.ILLEGAL_EDGE))


def test_an_expiry_releases_what_was_reserved_and_leaves_the_impression_undecided():
    turn = given(skewed()).when(an_expiry(MINTED + SECOND + DAY))
    standing = turn.then(stands(Verdict.UNCERTAIN, Reason.CLOCK_SKEWED)).after.standing
    assert standing.expired
    assert turn.events[0].kind is CorrectionKind.EXPIRY


def test_an_expiry_waits_for_the_deadline():
    given(skewed()).when(an_expiry(MINTED + SECOND + DAY - 1)).then(refuses(Refusal.ILLEGAL_EDGE))


def test_a_proof_that_leaves_another_doubt_moves_the_deadline_on():
    late = MINTED + DAY + 1
    history = given(admit_omid(OmidType.OTHER), admit_omid(OmidType.VIEWABLE, received_at=late))
    history.when(an_expiry(MINTED + 2 * DAY)).then(refuses(Refusal.ILLEGAL_EDGE))
    history.when(an_expiry(late + 3 * DAY)).then(stands(Verdict.UNCERTAIN, Reason.LATE))


def test_a_double_fire_is_promoted_only_when_its_original_is_out():
    fired = given(admit(also=[Reason.DOUBLE_FIRE]))
    fired.when(a_correction(None)).then(refuses(Refusal.ORIGINAL_COUNTS))
    fired.when(a_correction(None, original_is_out=True)).then(counts())
    fired.when(a_correction(Reason.DOUBLE_FIRE)).then(stands(Verdict.DUPLICATE, Reason.DOUBLE_FIRE))


def test_a_label_is_kept_and_changes_no_standing():
    turn = given(admit()).when(a_label(weight=0.7)).then(appends("Labelled"), changes_no_standing)
    assert turn.events[0].weight == 0.7


def test_that_a_client_was_told_otherwise_is_kept_and_changes_no_standing():
    first = admit()
    told = an_answer(first.rendered.cause)
    turn = given(first).when(told).then(appends("Answered"), changes_no_standing)
    assert (turn.events[0].of, turn.events[0].verdict) == (first.rendered.cause, Verdict.UNCERTAIN)
    given(first, told).when(told).then(appends_nothing)


def test_that_a_client_was_told_what_is_stored_is_no_news():
    first = admit()
    given(first).when(an_answer(first.rendered.cause, Verdict.VALID, None)).then(appends_nothing)


def test_nothing_is_told_about_a_render_that_is_not_there():
    given(admit()).when(an_answer(cause(99))).then(refuses(Refusal.NOT_RENDERED))
    given().when(an_answer(cause(99))).then(refuses(Refusal.NOT_RENDERED))


def test_nothing_is_decided_inside_an_append():
    rendered, scored, _ = given().when(admit()).events
    claimed = evolve(Unseen(), rendered)
    judged = evolve(claimed, scored)
    assert isinstance(claimed, Claimed)
    assert isinstance(judged, Judged)
    for state in (claimed, judged):
        with pytest.raises(ImpossibleTransition):
            decide(state, admit())
