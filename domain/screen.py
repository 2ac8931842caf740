"""
What a client claims, and the screen: rules over one claim, each a named predicate, in order of precedence.

The screen reads nothing but the event and the pack, so a stored render can be screened again, also under another pack.
"""

import operator
from collections.abc import Callable
from typing import NamedTuple

from domain.events import Cut, ImpressionRendered
from domain.ids import minted_at
from domain.pack import Pack
from domain.pack_tables import EXPECTED, CountPoint, OmidProof
from domain.reasons import CLASS_OF, PRECEDENCE, Reason, ReasonClass
from domain.render import Render, millis
from domain.token import Token
from domain.vocabulary import AgentClass, CountingMethod, DataSet, Evidence, NetworkClass

_BEGUN = frozenset({OmidProof.BEGUN, OmidProof.SHOWN})
_expected = operator.attrgetter(*EXPECTED)


class Clocks(NamedTuple):
    """When it happened (epoch ms, within [served, received]) and how far the client's clock was outside of that."""

    event_at: int
    skew_ms: int


def read_clocks(client_at: int | None, offset_ms: int | None, served_at: int, received_at: int) -> Clocks:
    """
    Return when a render happened: the client's time, corrected by how far its clock is behind, where that is known.

    Times are epoch ms. Without a client time it is *received_at*.
    """
    if client_at is None:
        return Clocks(received_at, 0)
    client_at += offset_ms or 0
    event_at = max(served_at, min(client_at, received_at))
    return Clocks(event_at, abs(client_at - event_at))


class Traits(NamedTuple):
    """What is known of the device from what it says of itself; see `ImpressionRendered`."""

    agent_age_days: int | None = None
    sdk_age_days: int | None = None
    fingerprint_inconsistencies: int | None = None


UNKNOWN_DEVICE = Traits()


class Rule(NamedTuple):
    reason: Reason
    holds: Callable[[ImpressionRendered, Pack], bool]


SCREEN: tuple[Rule, ...] = (
    Rule(Reason.TOKEN_INVALID, lambda r, p: r.served_at - r.received_at > p.clock_ahead_max_ms),
    Rule(Reason.TOKEN_EXPIRED, lambda r, p: r.received_at - r.served_at > p.token_age_max_ms),
    Rule(Reason.PREFETCHED, lambda r, p: r.prefetched and not _shown(r, p)),
    Rule(Reason.NOT_BEGUN, lambda r, p: r.omid_type is not None and p.omid[r.omid_type] is OmidProof.NOT_BEGUN),
    Rule(Reason.OUTSIDE_FLIGHT, lambda r, _: not r.flight_start <= r.event_at <= r.flight_end),
    Rule(Reason.AGENT_DECLARED_BOT, lambda r, _: r.agent_class is AgentClass.DECLARED_BOT),
    Rule(Reason.AGENT_NOT_A_BROWSER, lambda r, _: r.agent_class is AgentClass.NOT_A_BROWSER),
    Rule(Reason.NETWORK_DATA_CENTRE, lambda r, _: r.network_class is NetworkClass.DATA_CENTRE),
    Rule(Reason.AREA_INVISIBLE, lambda r, p: (area := r.area_px) is not None and area <= p.area_invisible_max_px),
    Rule(Reason.DEVICE_NOT_RENDERING, lambda r, p: r.background and not _shown(r, p)),
    Rule(Reason.OMID_UNPROVEN, lambda r, p: not r.begun and _unproven(r, p) is Reason.OMID_UNPROVEN),
    Rule(
        Reason.EVIDENCE_INCOMPLETE,
        lambda r, p: (
            ((r.agent_class is AgentClass.ABSENT or (p.requires_fields and r.missing)) and _lacks_required(r, p))
            or (not r.begun and _unproven(r, p) is Reason.EVIDENCE_INCOMPLETE)
        ),
    ),
    Rule(Reason.CLOCK_SKEWED, lambda r, p: r.skew_ms > p.clock_skew_max_ms),
    Rule(Reason.LATE, lambda r, p: r.received_at - r.served_at > p.late_after_ms),
)

REQUEST_REASONS = frozenset(reason for reason, cls in CLASS_OF.items() if cls is ReasonClass.REQUEST)


def screen(rendered: ImpressionRendered, pack: Pack) -> tuple[Reason, ...]:
    """Return all reasons that hold against *rendered*, the deciding one first."""
    return tuple([reason for reason, holds in SCREEN if holds(rendered, pack)])


def in_order(reasons: set[Reason]) -> tuple[Reason, ...]:
    """Return *reasons* in order of precedence."""
    return tuple(sorted(reasons, key=PRECEDENCE.__getitem__))


def claim(  # noqa: PLR0913 (what is known of a render is this much)
    render: Render,
    token: Token,
    pack: Pack,
    *,
    digest: str,
    received_at: int,
    person: tuple[str, str, str, str] = ("", "", "", ""),
    clock_offset_ms: int | None = None,
    agent_class: AgentClass = AgentClass.BROWSER,
    network_class: NetworkClass = NetworkClass.EYEBALL,
    traits: Traits = UNKNOWN_DEVICE,
) -> ImpressionRendered:
    """
    Return the event that says what *render* claims.

    *person* has the pseudonyms of user, device, network and session; *clock_offset_ms* is how far the client's clock
    is behind, None if that is not known.
    """
    served_at = minted_at(token.impression)
    client_at, sent_at, on_screen_at = render.client_at, render.sent_at, render.on_screen_at
    client_at = None if client_at is None else millis(client_at)
    sent_at = None if sent_at is None else millis(sent_at)
    event_at, skew_ms = read_clocks(client_at, clock_offset_ms, served_at, received_at)
    user, device, network, session = person
    width, height = render.width, render.height
    return ImpressionRendered(
        cause=render.event_id,
        digest=digest,
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
        flight_start=token.flight_start,
        flight_end=token.flight_end,
        served_at=served_at,
        received_at=received_at,
        event_at=event_at,
        skew_ms=skew_ms,
        client_at=client_at,
        sent_at=sent_at,
        on_screen_at=None if on_screen_at is None else millis(on_screen_at),
        omid_type=render.omid_type,
        begun=_begun(render, pack.count_point_of(token.surface, token.format), pack),
        prefetched=render.prefetched,
        background=render.background,
        auto_refresh=render.auto_refresh,
        area_px=None if width is None or height is None else width * height,
        stack_depth=render.stack_depth,
        visible_ratio=render.visible_ratio,
        visible_ms=render.visible_ms,
        duration_ms=render.duration_ms,
        clicked=render.clicked,
        sdk=render.sdk or "",
        sdk_seq=render.sdk_seq,
        country=render.country or "",
        session=session,
        user=user,
        device=device,
        network=network,
        agent_class=agent_class,
        network_class=network_class,
        agent_age_days=traits.agent_age_days,
        sdk_age_days=traits.sdk_age_days,
        fingerprint_inconsistencies=traits.fingerprint_inconsistencies,
        missing=_missing(render),
    )


def cut_of(rendered: ImpressionRendered, pack: Pack, data_set: DataSet = DataSet.LIVE) -> Cut:
    """Return the report dimensions of the impression, as its first render fixes them."""
    point = pack.count_point_of(rendered.surface, rendered.format)
    return Cut(
        event_at=rendered.event_at,
        campaign=rendered.campaign,
        advertiser=rendered.advertiser,
        creative=rendered.creative,
        placement=rendered.placement,
        publisher=rendered.publisher,
        surface=rendered.surface,
        format=rendered.format,
        region=rendered.region,
        currency=rendered.currency,
        billing_event=rendered.billing_event,
        counting_method=point.method,
        evidence=point.evidence if rendered.begun else Evidence.NONE,
        sdk=rendered.sdk,
        country=rendered.country,
        auto_refresh=rendered.auto_refresh,
        data_set=data_set,
    )


def _missing(render: Render) -> tuple[str, ...]:
    values = _expected(render)
    if None not in values:
        return ()
    return tuple([name for name, value in zip(EXPECTED, values, strict=True) if value is None])


def _begun(render: Render, point: CountPoint, pack: Pack) -> bool:
    if point.evidence is Evidence.ON_SCREEN_AT:
        return render.on_screen_at is not None
    if point.evidence is not Evidence.OMID:
        return True
    return render.omid_type is not None and pack.omid[render.omid_type] in _BEGUN


def _shown(rendered: ImpressionRendered, pack: Pack) -> bool:
    """Tell whether something says that the ad was on the screen, not only rendered."""
    omid = rendered.omid_type
    return rendered.on_screen_at is not None or (omid is not None and pack.omid[omid] is OmidProof.SHOWN)


def _lacks_required(rendered: ImpressionRendered, pack: Pack) -> bool:
    """Tell whether a field is missing that the surface requires; the agent is when the lists call it absent."""
    for name in pack.count_point_of(rendered.surface, rendered.format).required:
        if rendered.agent_class is AgentClass.ABSENT if name == "agent" else name in rendered.missing:
            return True
    return False


def _unproven(rendered: ImpressionRendered, pack: Pack) -> Reason | None:
    """Return what the missing proof of begin means; `loaded` is no missing proof, but proof that it did not begin."""
    point = pack.count_point_of(rendered.surface, rendered.format)
    omid = rendered.omid_type
    if point.method is CountingMethod.DELIVERY or (omid is not None and pack.omid[omid] is OmidProof.NOT_BEGUN):
        return None
    return point.absent
