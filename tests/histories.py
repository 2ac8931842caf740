"""Hypothesis strategies: whatever may happen to impressions, in any order, as often as it likes."""

from functools import cache

from builders import (
    DAY,
    HOUR,
    MINTED,
    PRICE,
    SECOND,
    a_correction,
    a_label,
    a_render,
    a_reprice,
    a_token,
    a_view,
    admit,
    an_expiry,
    cause,
)
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.decide import AdmitRender, Command, CommandRefused, decide
from domain.events import CorrectionKind, ImpressionEvent
from domain.impression import Impression, Unseen, fold
from domain.reasons import Reason
from domain.screen import REQUEST_REASONS
from domain.token import Token
from domain.vocabulary import (
    AgentClass,
    Authority,
    BillingEvent,
    DataSet,
    Format,
    Label,
    LabelSource,
    NetworkClass,
    OmidType,
    Surface,
)

AUTHORITIES = [authority for authority in Authority if authority is not Authority.EXPIRY]
FOUND_LATER = [
    Reason.BUDGET_EXHAUSTED,
    Reason.CAMPAIGN_UNKNOWN,
    Reason.DOUBLE_FIRE,
    Reason.RATE_ABUSIVE,
    Reason.RISK_HIGH,
    Reason.STACKED,
    Reason.REGISTRY_BEHIND,
    Reason.RISK_GREY,
    Reason.DEGRADED,
]
"""Reasons that stages after the screen find."""

causes = st.sampled_from([cause(number) for number in range(1, 13)])
"""Few, so that ids meet again with the same content and with another."""
moments = st.sampled_from(
    [
        MINTED + since
        for since in (*[1, SECOND, 2 * SECOND, HOUR] * 3, DAY, DAY + SECOND, DAY + 2 * SECOND, 3 * DAY, 6 * DAY)
    ]
)
measures = st.sampled_from(
    [
        {"visible_ratio": ratio, "visible_ms": visible_ms, "clicked": clicked}
        for ratio in (None, 0.0, 0.3, 0.5, 1.0)
        for visible_ms in (None, 999, 1_000, 2_000)
        for clicked in (False, True)
    ]
)
_USUAL = [
    *[{"on_screen_at": MINTED, "omid_type": OmidType.BEGIN_TO_RENDER}] * 3,
    {"on_screen_at": None, "prefetched": True},
    {"on_screen_at": None, "omid_type": OmidType.LOADED},
    {"on_screen_at": None, "omid_type": OmidType.UNSPECIFIED},
]
_UNUSUAL = [
    {"on_screen_at": on_screen_at, "omid_type": omid_type, "client_at": client_at, "width": width, flag: True}
    for on_screen_at in (None, MINTED)
    for omid_type in (None, *OmidType)
    for client_at in (None, MINTED + HOUR, MINTED - HOUR)
    for width in (None, 1, 300, 970)
    for flag in ("prefetched", "background", "auto_refresh")
]
claims = st.sampled_from(_USUAL * 300 + _UNUSUAL)
origins = st.sampled_from(
    [(AgentClass.BROWSER, NetworkClass.EYEBALL)] * 60 + [(agent, net) for agent in AgentClass for net in NetworkClass]
)
found_later = st.sampled_from(
    [()] * 40 + [(reason,) for reason in FOUND_LATER] + [(Reason.DOUBLE_FIRE, Reason.STACKED)]
)
tokens = st.sampled_from(
    [
        a_token(surface=surface, format=fmt, billing_event=billing, price_micros=price, flight_end=MINTED + flight)
        for surface in (Surface.FEED, Surface.AUDIENCE_NETWORK, Surface.PIXEL)
        for fmt in Format
        for billing in BillingEvent
        for price in (0, 1, PRICE)
        for flight in (HOUR, 30 * DAY)
    ]
)


@cache
def renders(token: Token):
    """Renders that the gate lets through to the rules: nothing of class request holds against them."""
    others = [token, token, token, replace(token, creative="other")]
    return st.builds(
        _admit,
        event_id=causes,
        claimed=claims,
        seen=measures,
        token=st.sampled_from(others),
        received_at=moments,
        origin=origins,
        also=found_later,
    )


def _admit(*, event_id, claimed, seen, origin, **rest):
    agent, network = origin
    command = admit(
        render=a_render(event_id=event_id, **claimed, **seen),
        agent_class=agent,
        network_class=network,
        **rest,
    )
    assert not REQUEST_REASONS & set(command.scored.reasons)
    return command


@cache
def views(token: Token):
    return st.builds(
        lambda id_, at, seen: a_view(
            id_=id_, received_at=at, **{"format": token.format, "visible_ratio": None, **seen}
        ),
        causes,
        moments,
        measures,
    )


asked_reasons = st.none() | st.sampled_from(Reason)


@cache
def corrections(ids=causes):
    """Corrections by every authority, also to what no rule allows."""
    common = {"id_": ids, "observed_at": moments}
    return st.one_of(
        st.builds(a_correction, asked_reasons, st.sampled_from(AUTHORITIES), original_is_out=st.booleans(), **common),
        st.builds(a_reprice, st.sampled_from([0, 1, 1_500, 2 * PRICE]), st.sampled_from(AUTHORITIES), **common),
        st.builds(an_expiry, moments, id_=ids),
    )


@cache
def wild_corrections(ids=causes):
    """Corrections whose parts need not fit each other."""
    return st.builds(
        a_correction,
        asked_reasons,
        st.sampled_from(Authority),
        id_=ids,
        observed_at=moments,
        kind=st.sampled_from(CorrectionKind),
        asked_price_micros=st.none() | st.sampled_from([-1, 0, PRICE]),
    )


labels = st.builds(
    a_label,
    st.sampled_from(LabelSource),
    st.sampled_from(Label),
    st.floats(0, 1),
    at=moments,
    id_=causes,
)


@cache
def commands(token: Token):
    return st.one_of(renders(token), renders(token), views(token), corrections(), wild_corrections(), labels)


@cache
def decided_histories(max_size=10):
    """Commands about one impression, a render first."""
    return tokens.flatmap(lambda token: _render_first(token, max_size))


@cache
def histories(max_size=10):
    """Commands about one impression; some come before any render."""
    of_any_order = tokens.flatmap(lambda token: _anything(token, max_size))
    return st.one_of(decided_histories(max_size), decided_histories(max_size), of_any_order)


@cache
def _anything(token, max_size):
    return st.lists(commands(token), max_size=max_size)


@cache
def _render_first(token, max_size):
    return st.builds(lambda first, rest: [first, *rest], renders(token), _anything(token, max_size - 1))


populations = st.lists(histories(max_size=5), min_size=1, max_size=6)
"""Histories of several impressions."""


def live(history: list[Command], state: Impression | None = None) -> tuple[Impression, list[ImpressionEvent]]:
    """Return the state that *history* leads to and all its events; refused commands are passed over."""
    state = Unseen() if state is None else state
    written: list[ImpressionEvent] = []
    for command in history:
        try:
            events = decide(state, command)
        except CommandRefused:
            continue
        state = fold(events, state)
        written += events
    return state, written


_PLACES = [
    {"sdk": sdk, "country": country, "data_set": data_set, "auto_refresh": auto_refresh}
    for data_set in (DataSet.LIVE, DataSet.REPLAY, DataSet.LIVE)
    for sdk, country in (("12.3", "DE"), ("12.3", "FR"), ("", "DE"))
    for auto_refresh in (False, True)
]
_SOLD = [
    {"campaign": campaign, "publisher": publisher, "currency": currency}
    for campaign in ("campaign-1", "campaign-2")
    for publisher in ("publisher-1", "publisher-2")
    for currency in ("EUR", "USD")
]


def _moved(command, place):
    if not isinstance(command, AdmitRender):
        return command
    claimed = {name: value for name, value in place.items() if name != "data_set"}
    return replace(command, cut=replace(command.cut, **place), rendered=replace(command.rendered, **claimed))


@st.composite
def _scattered(draw):
    first = draw(st.integers(0, 1_000))
    population = []
    for number in range(first, first + draw(st.integers(3, 8))):
        token = replace(draw(tokens), **_SOLD[number % len(_SOLD)])
        place = _PLACES[number % len(_PLACES)]
        population.append([_moved(command, place) for command in draw(_render_first(token, 5))])
    return population


scattered = _scattered()
"""Histories of several impressions that differ in many dimensions of a report."""
