"""The screen: rules over one render, each a named predicate, checked in order of precedence."""

import operator
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from domain.events import Cut, ImpressionRendered
from domain.ids import minted_at
from domain.pack import CountPoint, Pack
from domain.reasons import CLASS_OF, PRECEDENCE, Reason, ReasonClass
from domain.render import Render, millis
from domain.token import Token
from domain.vocabulary import BEGUN, AgentClass, CountingMethod, DataSet, Evidence, NetworkClass, OmidType

_SHOWN = BEGUN - {OmidType.BEGIN_TO_RENDER}
_EXPECTED = ("client_at", "width", "height", "sdk", "user", "device", "agent")
_expected = operator.attrgetter(*_EXPECTED)


class Observation(Struct, frozen=True, kw_only=True, gc=False):
    """
    All that is known of one render when it is screened. Times are epoch ms; person keys are pseudonyms.

    `shown`: something says that the ad was on the screen, not only rendered. `begun`: the evidence that the count point
    asks for is there.
    """

    render: Render
    token: Token
    digest: str
    served_at: int
    received_at: int
    event_at: int
    skew_ms: int
    point: CountPoint
    shown: bool
    begun: bool
    area_px: int | None
    user: str = ""
    device: str = ""
    network: str = ""
    session: str = ""
    agent_class: AgentClass = AgentClass.BROWSER
    network_class: NetworkClass = NetworkClass.EYEBALL
    data_set: DataSet = DataSet.LIVE


class Clocks(NamedTuple):
    """When it happened (epoch ms, within [served, received]) and how far the client's clock was outside of that."""

    event_at: int
    skew_ms: int


def read_clocks(render: Render | ImpressionRendered, served_at: int, received_at: int) -> Clocks:
    """
    Return the event time of *render*: the client's, corrected by what its clock showed when sending.

    Without a client time it is *received_at*.
    """
    if render.client_at is None:
        return Clocks(received_at, 0)
    client_at = millis(render.client_at)
    if render.sent_at is not None:
        client_at += received_at - millis(render.sent_at)
    event_at = max(served_at, min(client_at, received_at))
    return Clocks(event_at, abs(client_at - event_at))


class Rule(NamedTuple):
    reason: Reason
    holds: Callable[[Observation, Pack], bool]


SCREEN: tuple[Rule, ...] = (
    Rule(Reason.TOKEN_INVALID, lambda o, p: o.served_at - o.received_at > p.clock_ahead_max_ms),
    Rule(Reason.TOKEN_EXPIRED, lambda o, p: o.received_at - o.served_at > p.token_age_max_ms),
    Rule(Reason.PREFETCHED, lambda o, _: o.render.prefetched and not o.shown),
    Rule(Reason.NOT_BEGUN, lambda o, _: o.render.omid_type is OmidType.LOADED),
    Rule(Reason.OUTSIDE_FLIGHT, lambda o, _: not o.token.flight_start <= o.event_at <= o.token.flight_end),
    Rule(Reason.AGENT_DECLARED_BOT, lambda o, _: o.agent_class is AgentClass.DECLARED_BOT),
    Rule(Reason.AGENT_NOT_A_BROWSER, lambda o, _: o.agent_class is AgentClass.NOT_A_BROWSER),
    Rule(Reason.NETWORK_DATA_CENTRE, lambda o, _: o.network_class is NetworkClass.DATA_CENTRE),
    Rule(Reason.AREA_INVISIBLE, lambda o, p: (area := o.area_px) is not None and area <= p.area_invisible_max_px),
    Rule(Reason.DEVICE_NOT_RENDERING, lambda o, _: o.render.background and not o.shown),
    Rule(Reason.OMID_UNPROVEN, lambda o, _: o.point.absent is Reason.OMID_UNPROVEN and _unproven(o)),
    Rule(
        Reason.EVIDENCE_INCOMPLETE,
        lambda o, _: (
            o.agent_class is AgentClass.ABSENT or (o.point.absent is Reason.EVIDENCE_INCOMPLETE and _unproven(o))
        ),
    ),
    Rule(Reason.CLOCK_SKEWED, lambda o, p: o.skew_ms > p.clock_skew_max_ms),
    Rule(Reason.LATE, lambda o, p: o.received_at - o.served_at > p.late_after_ms),
)

REQUEST_REASONS = frozenset(reason for reason, cls in CLASS_OF.items() if cls is ReasonClass.REQUEST)


def screen(observation: Observation, pack: Pack) -> tuple[Reason, ...]:
    """Return all reasons that hold against *observation*, the deciding one first."""
    return tuple([reason for reason, holds in SCREEN if holds(observation, pack)])


def in_order(reasons: set[Reason]) -> tuple[Reason, ...]:
    """Return *reasons* in order of precedence."""
    return tuple(sorted(reasons, key=PRECEDENCE.__getitem__))


def claimed(o: Observation) -> ImpressionRendered:
    """Return the event that says what the client claimed."""
    render, token = o.render, o.token
    return ImpressionRendered(
        cause=render.event_id,
        digest=o.digest,
        ad=token.ad,
        creative=token.creative,
        campaign=token.campaign,
        advertiser=token.advertiser,
        placement=token.placement,
        publisher=token.publisher,
        surface=token.surface,
        format=token.format,
        region=token.region,
        currency=token.currency,
        price_micros=token.price_micros,
        billing_event=token.billing_event,
        viewability_pack=token.viewability_pack,
        served_at=o.served_at,
        received_at=o.received_at,
        client_at=None if render.client_at is None else millis(render.client_at),
        sent_at=None if render.sent_at is None else millis(render.sent_at),
        on_screen_at=None if render.on_screen_at is None else millis(render.on_screen_at),
        omid_type=render.omid_type,
        begun=o.begun,
        prefetched=render.prefetched,
        background=render.background,
        area_px=o.area_px,
        visible_ratio=render.visible_ratio,
        visible_ms=render.visible_ms,
        duration_ms=render.duration_ms,
        clicked=render.clicked,
        sdk=render.sdk or "",
        sdk_seq=render.sdk_seq,
        session=o.session,
        user=o.user,
        device=o.device,
        network=o.network,
        agent_class=o.agent_class,
        network_class=o.network_class,
        missing=_missing(render),
    )


def cut_of(o: Observation) -> Cut:
    """Return the report dimensions of the impression, as its first render fixes them."""
    token, render = o.token, o.render
    return Cut(
        event_at=o.event_at,
        campaign=token.campaign,
        advertiser=token.advertiser,
        creative=token.creative,
        placement=token.placement,
        publisher=token.publisher,
        surface=token.surface,
        format=token.format,
        region=token.region,
        currency=token.currency,
        billing_event=token.billing_event,
        counting_method=o.point.method,
        evidence=o.point.evidence if o.begun else Evidence.NONE,
        sdk=render.sdk or "",
        country=render.country or "",
        auto_refresh=render.auto_refresh,
        data_set=o.data_set,
    )


def observe(  # noqa: PLR0913 (what is known of a render is this much)
    render: Render,
    token: Token,
    pack: Pack,
    *,
    digest: str,
    received_at: int,
    person: tuple[str, str, str, str] = ("", "", "", ""),
    agent_class: AgentClass = AgentClass.BROWSER,
    network_class: NetworkClass = NetworkClass.EYEBALL,
    data_set: DataSet = DataSet.LIVE,
) -> Observation:
    """Return what is known of *render*; *person* has the pseudonyms of user, device, network and session."""
    served_at = minted_at(token.impression)
    event_at, skew_ms = read_clocks(render, served_at, received_at)
    user, device, network, session = person
    width, height = render.width, render.height
    point = pack.count_point_of(token.surface, token.format)
    return Observation(
        render=render,
        token=token,
        digest=digest,
        served_at=served_at,
        received_at=received_at,
        event_at=event_at,
        skew_ms=skew_ms,
        point=point,
        shown=render.on_screen_at is not None or render.omid_type in _SHOWN,
        begun=_begun(render, point),
        area_px=None if width is None or height is None else width * height,
        user=user,
        device=device,
        network=network,
        session=session,
        agent_class=agent_class,
        network_class=network_class,
        data_set=data_set,
    )


def _missing(render: Render) -> tuple[str, ...]:
    values = _expected(render)
    return (
        tuple([name for name, value in zip(_EXPECTED, values, strict=True) if value is None]) if None in values else ()
    )


def _begun(render: Render, point: CountPoint) -> bool:
    if point.evidence is Evidence.ON_SCREEN_AT:
        return render.on_screen_at is not None
    return point.evidence is not Evidence.OMID or render.omid_type in BEGUN


def _unproven(o: Observation) -> bool:
    return not o.begun and o.point.method is not CountingMethod.DELIVERY and o.render.omid_type is not OmidType.LOADED
