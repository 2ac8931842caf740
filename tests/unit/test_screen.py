import pytest
from builders import (
    DAY,
    HOUR,
    MINTED,
    NETWORK_AD,
    PACK,
    PRICE,
    SCREENED,
    SECOND,
    a_claim,
    a_render,
    a_token,
    an_omid_render,
    cause,
    digest,
    reasons_against,
)
from hypothesis import given
from hypothesis import strategies as st

from domain.events import Cut
from domain.reasons import CLASS_OF, PRECEDENCE, Reason, ReasonClass
from domain.render import content
from domain.screen import REQUEST_REASONS, cut_of, in_order, read_clocks, screen
from domain.vocabulary import (
    AgentClass,
    BillingEvent,
    CountingMethod,
    DataSet,
    Evidence,
    Format,
    NetworkClass,
    OmidType,
    Surface,
)

MINUTE = 60 * SECOND
NETWORK = a_token(**NETWORK_AD)
FIRST_PARTY = [Surface.FEED, Surface.INSTAGRAM, Surface.REELS]
BEGUN = [OmidType.BEGIN_TO_RENDER, OmidType.ONE_PIXEL, OmidType.VIEWABLE, OmidType.AUDIBLE]
SHOWN = BEGUN[1:]


def test_the_screen_checks_in_order_of_precedence():
    order = [PRECEDENCE[reason] for reason in SCREENED]
    assert order == sorted(order)
    assert len(set(order)) == len(order)


def test_every_reason_has_one_class_and_classes_stand_in_order():
    assert CLASS_OF.keys() == set(Reason)
    assert sorted(CLASS_OF, key=PRECEDENCE.__getitem__) == list(Reason)
    classes = [CLASS_OF[reason] for reason in Reason]
    assert list(dict.fromkeys(classes)) == list(ReasonClass)
    assert classes == sorted(classes, key=list(ReasonClass).index)


def test_the_reasons_of_class_request_are_those_that_touch_no_stream():
    assert set(REQUEST_REASONS) == {
        Reason.TOKEN_INVALID,
        Reason.TOKEN_EXPIRED,
        Reason.REGION_MISDIRECTED,
        Reason.EVENT_ID_REUSED,
    }


def test_nothing_holds_against_a_plain_render():
    assert reasons_against() == ()


@pytest.mark.parametrize(
    ("reason", "just_not", "just"),
    [
        (Reason.TOKEN_INVALID, {"received_at": MINTED - 5 * MINUTE}, {"received_at": MINTED - 5 * MINUTE - 1}),
        (Reason.TOKEN_EXPIRED, {"received_at": MINTED + 7 * DAY}, {"received_at": MINTED + 7 * DAY + 1}),
        (Reason.LATE, {"received_at": MINTED + DAY}, {"received_at": MINTED + DAY + 1}),
        (
            Reason.CLOCK_SKEWED,
            {"render": a_render(client_at=MINTED - 10 * MINUTE)},
            {"render": a_render(client_at=MINTED - 10 * MINUTE - 1)},
        ),
        (
            Reason.CLOCK_SKEWED,
            {"render": a_render(client_at=MINTED + SECOND + 10 * MINUTE)},
            {"render": a_render(client_at=MINTED + SECOND + 10 * MINUTE + 1)},
        ),
        (
            Reason.AREA_INVISIBLE,
            {"render": a_render(width=2, height=1)},
            {"render": a_render(width=1, height=1)},
        ),
        (
            Reason.OUTSIDE_FLIGHT,
            {"token": a_token(flight_end=MINTED + SECOND)},
            {"token": a_token(flight_end=MINTED + SECOND - 1)},
        ),
        (
            Reason.OUTSIDE_FLIGHT,
            {"token": a_token(flight_start=MINTED + SECOND)},
            {"token": a_token(flight_start=MINTED + SECOND + 1)},
        ),
        (
            Reason.PREFETCHED,
            {"render": a_render(prefetched=True)},
            {"render": a_render(prefetched=True, on_screen_at=None)},
        ),
        (
            Reason.DEVICE_NOT_RENDERING,
            {"render": a_render(background=True)},
            {"render": a_render(background=True, on_screen_at=None)},
        ),
        (Reason.EVIDENCE_INCOMPLETE, {}, {"render": a_render(on_screen_at=None)}),
        (Reason.EVIDENCE_INCOMPLETE, {}, {"agent_class": AgentClass.ABSENT}),
        (Reason.AGENT_DECLARED_BOT, {}, {"agent_class": AgentClass.DECLARED_BOT}),
        (Reason.AGENT_NOT_A_BROWSER, {}, {"agent_class": AgentClass.NOT_A_BROWSER}),
        (
            Reason.NETWORK_DATA_CENTRE,
            {"network_class": NetworkClass.ABSENT},
            {"network_class": NetworkClass.DATA_CENTRE},
        ),
    ],
)
def test_a_reason_holds_from_its_boundary_on(reason, just_not, just):
    assert reason not in reasons_against(**just_not)
    assert reason in reasons_against(**just)


def test_every_rule_of_the_screen_holds_for_some_render():
    worst = [
        a_claim(received_at=MINTED - HOUR),
        a_claim(received_at=MINTED + 8 * DAY),
        a_claim(
            an_omid_render(OmidType.OTHER, prefetched=True, background=True, width=1, height=1, client_at=MINTED - DAY),
            a_token(flight_end=MINTED - 1, **NETWORK_AD),
            agent_class=AgentClass.DECLARED_BOT,
            network_class=NetworkClass.DATA_CENTRE,
        ),
        a_claim(an_omid_render(OmidType.LOADED), NETWORK, agent_class=AgentClass.NOT_A_BROWSER),
        a_claim(agent_class=AgentClass.ABSENT),
    ]
    assert {reason for seen in worst for reason in screen(seen, PACK)} == set(SCREENED)


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 250), (300, 0), (1, 1)])
def test_an_ad_without_area_is_invisible(width, height):
    assert reasons_against(a_render(width=width, height=height)) == (Reason.AREA_INVISIBLE,)


@pytest.mark.parametrize(("width", "height"), [(None, None), (None, 0), (0, None)])
def test_an_ad_of_unknown_area_is_not_called_invisible(width, height):
    assert reasons_against(a_render(width=width, height=height)) == ()


@pytest.mark.parametrize("omid", OmidType)
def test_the_audience_network_counts_from_begin_to_render_on(omid):
    expected = {OmidType.LOADED: (Reason.NOT_BEGUN,)} | dict.fromkeys(BEGUN, ())
    assert reasons_against(an_omid_render(omid), NETWORK) == expected.get(omid, (Reason.OMID_UNPROVEN,))


def test_the_audience_network_without_omid_is_unproven():
    assert reasons_against(a_render(on_screen_at=None), NETWORK) == (Reason.OMID_UNPROVEN,)
    assert reasons_against(a_render(on_screen_at=MINTED), NETWORK) == (Reason.OMID_UNPROVEN,)


@pytest.mark.parametrize("surface", FIRST_PARTY)
def test_first_party_surfaces_count_by_their_time_on_the_screen(surface):
    token = a_token(surface=surface)
    assert reasons_against(a_render(), token) == ()
    assert reasons_against(an_omid_render(OmidType.VIEWABLE), token) == (Reason.EVIDENCE_INCOMPLETE,)


def test_a_pixel_is_proved_by_its_delivery():
    assert reasons_against(a_render(on_screen_at=None), a_token(surface=Surface.PIXEL)) == ()


@pytest.mark.parametrize("omid", OmidType)
def test_a_prefetched_ad_counts_only_when_shown(omid):
    reasons = reasons_against(an_omid_render(omid, prefetched=True), NETWORK)
    assert (Reason.PREFETCHED in reasons) is (omid not in SHOWN)


def test_all_reasons_that_hold_are_recorded_the_deciding_one_first():
    seen = a_claim(
        an_omid_render(OmidType.LOADED, prefetched=True, width=1, height=1),
        a_token(flight_end=MINTED, **NETWORK_AD),
        MINTED + 2 * DAY,
        agent_class=AgentClass.DECLARED_BOT,
        network_class=NetworkClass.DATA_CENTRE,
    )
    assert screen(seen, PACK) == (
        Reason.PREFETCHED,
        Reason.NOT_BEGUN,
        Reason.OUTSIDE_FLIGHT,
        Reason.AGENT_DECLARED_BOT,
        Reason.NETWORK_DATA_CENTRE,
        Reason.AREA_INVISIBLE,
        Reason.LATE,
    )


@given(reasons=st.sets(st.sampled_from(Reason)))
def test_reasons_are_put_in_order_of_precedence(reasons):
    assert in_order(reasons) == tuple(reason for reason in Reason if reason in reasons)


def clocks(client_at=None, sent_at=None, received_at=MINTED + HOUR):
    return read_clocks(client_at, None if sent_at is None else received_at - sent_at, MINTED, received_at)


def test_without_a_client_time_it_happened_when_it_was_received():
    assert clocks() == (MINTED + HOUR, 0)
    assert clocks(sent_at=MINTED) == (MINTED + HOUR, 0)


def test_a_client_time_between_serving_and_receipt_stands():
    assert clocks(client_at=MINTED + MINUTE) == (MINTED + MINUTE, 0)


@pytest.mark.parametrize("error", [-3 * DAY, -1, 0, 1, 3 * DAY])
def test_a_client_time_is_corrected_by_what_the_clock_showed_when_sending(error):
    happened, sent = MINTED + MINUTE, MINTED + HOUR
    assert clocks(client_at=happened + error, sent_at=sent + error) == (happened, 0)


@pytest.mark.parametrize(
    ("client_at", "event_at", "skew_ms"),
    [
        (MINTED - 7, MINTED, 7),
        (MINTED, MINTED, 0),
        (MINTED + HOUR, MINTED + HOUR, 0),
        (MINTED + HOUR + 9, MINTED + HOUR, 9),
    ],
)
def test_a_time_is_clamped_between_serving_and_receipt_and_the_rest_is_skew(client_at, event_at, skew_ms):
    assert clocks(client_at=client_at) == (event_at, skew_ms)


@given(
    client_at=st.none() | st.integers(0, 1 << 47),
    sent_at=st.none() | st.integers(0, 1 << 47),
    received_at=st.integers(MINTED, MINTED + 7 * DAY),
)
def test_nothing_happens_before_it_was_served_or_after_it_was_received(client_at, sent_at, received_at):
    event_at, skew_ms = clocks(client_at, sent_at, received_at)
    assert MINTED <= event_at <= received_at
    assert skew_ms >= 0


def test_what_was_claimed_is_the_render_and_its_token_without_names_of_persons():
    render = a_render(
        event_id=cause(5),
        client_at=MINTED + SECOND,
        sent_at=MINTED + 2 * SECOND,
        user="anna",
        device="her phone",
        network="192.0.2.7",
        sdk="ios/12",
    )
    event = a_claim(render, received_at=MINTED + 3 * SECOND, person=("u1", "d1", "n1", "s1"))
    assert (event.cause, event.digest) == (cause(5), digest(content(render)))
    assert (event.served_at, event.received_at) == (MINTED, MINTED + 3 * SECOND)
    assert (event.client_at, event.sent_at, event.on_screen_at) == (
        MINTED + SECOND,
        MINTED + 2 * SECOND,
        MINTED + SECOND,
    )
    assert (event.user, event.device, event.network) == ("u1", "d1", "n1")
    assert (event.area_px, event.price_micros, event.currency) == (75_000, PRICE, "EUR")
    assert not {"anna", "her phone", "192.0.2.7"} & {getattr(event, name) for name in event.__struct_fields__}


def test_what_is_missing_is_named():
    bare = a_render(width=None, height=None, agent=None)
    assert a_claim(bare).missing == ("client_at", "width", "height", "sdk", "user", "device", "agent")
    full = a_render(client_at=MINTED, sdk="s", user="u", device="d")
    assert a_claim(full).missing == ()


def test_the_cut_has_every_dimension_of_the_first_render():
    token = a_token(billing_event=BillingEvent.VIEWABLE, format=Format.VIDEO)
    render = a_render(client_at=MINTED + 7, sdk="ios/12", country="DE", auto_refresh=True)
    assert cut_of(a_claim(render, token), PACK, DataSet.REPLAY) == Cut(
        event_at=MINTED + 7,
        campaign="campaign-1",
        advertiser="advertiser-1",
        creative="creative-1",
        placement="placement-1",
        publisher="publisher-1",
        surface=Surface.FEED,
        format=Format.VIDEO,
        region="eu",
        currency="EUR",
        billing_event=BillingEvent.VIEWABLE,
        counting_method=CountingMethod.ON_SCREEN,
        evidence=Evidence.ON_SCREEN_AT,
        sdk="ios/12",
        country="DE",
        auto_refresh=True,
        data_set=DataSet.REPLAY,
    )


def test_the_cut_names_no_evidence_where_there_is_none():
    assert cut_of(a_claim(a_render(on_screen_at=None)), PACK).evidence is Evidence.NONE
    assert cut_of(a_claim(an_omid_render(OmidType.LOADED), NETWORK), PACK).evidence is Evidence.NONE
    assert cut_of(a_claim(an_omid_render(), NETWORK), PACK).evidence is Evidence.OMID
