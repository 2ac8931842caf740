"""
What a client claims, and the screen: rules over one claim, each a named predicate, in order of precedence.

The screen reads nothing but the event and the pack, so a stored render can be screened again, also under another pack.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from domain.events import Cut, ImpressionRendered
from domain.ids import minted_at
from domain.pack import Pack
from domain.pack_tables import EXPECTED, CountPoint, OmidProof
from domain.reasons import CLASS_OF, PRECEDENCE, Reason, ReasonClass
from domain.render import Render
from domain.token import Token
from domain.vocabulary import AgentClass, CountingMethod, DataSet, Evidence, NetworkClass

_BEGUN = frozenset({OmidProof.BEGUN, OmidProof.SHOWN})
_expected = operator.attrgetter(*EXPECTED)
_times = operator.attrgetter("client_at", "sent_at", "on_screen_at")
"""Of a render, which brings them to epoch ms."""


def _fields(struct: type[Struct], first: str, last: str) -> Callable[[Any], tuple[Any, ...]]:
    """Return what reads the fields of *struct* from *first* to *last* off whatever has them by the same names."""
    names = struct.__struct_fields__
    return operator.attrgetter(*names[names.index(first) : names.index(last) + 1])


_sold = _fields(ImpressionRendered, "ad", "flight_end")
_dimensions = _fields(Cut, "event_at", "billing_event")


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


REQUEST_REASONS = frozenset(reason for reason, cls in CLASS_OF.items() if cls is ReasonClass.REQUEST)


def screen(r: ImpressionRendered, p: Pack) -> tuple[Reason, ...]:  # noqa: C901, PLR0912 (a branch for each rule)
    """Return all reasons that hold against the claim *r* under the pack *p*, the deciding one first."""
    found: list[Reason] = []
    if r.served_at - r.received_at > p.clock_ahead_max_ms:
        found.append(Reason.TOKEN_INVALID)
    if r.received_at - r.served_at > p.token_age_max_ms:
        found.append(Reason.TOKEN_EXPIRED)
    if r.prefetched and not _shown(r, p):
        found.append(Reason.PREFETCHED)
    if r.omid_type is not None and p.omid[r.omid_type] is OmidProof.NOT_BEGUN:
        found.append(Reason.NOT_BEGUN)
    if not r.flight_start <= r.event_at <= r.flight_end:
        found.append(Reason.OUTSIDE_FLIGHT)
    if r.agent_class is AgentClass.DECLARED_BOT:
        found.append(Reason.AGENT_DECLARED_BOT)
    if r.agent_class is AgentClass.NOT_A_BROWSER:
        found.append(Reason.AGENT_NOT_A_BROWSER)
    if r.network_class is NetworkClass.DATA_CENTRE:
        found.append(Reason.NETWORK_DATA_CENTRE)
    if r.area_px is not None and r.area_px <= p.area_invisible_max_px:
        found.append(Reason.AREA_INVISIBLE)
    if r.background and not _shown(r, p):
        found.append(Reason.DEVICE_NOT_RENDERING)
    unproven = None if r.begun else _unproven(r, p)
    if unproven is Reason.OMID_UNPROVEN:
        found.append(Reason.OMID_UNPROVEN)
    may_lack = r.agent_class is AgentClass.ABSENT or (r.missing and p.requires_fields)
    if unproven is Reason.EVIDENCE_INCOMPLETE or (may_lack and _lacks_required(r, p)):
        found.append(Reason.EVIDENCE_INCOMPLETE)
    if r.skew_ms > p.clock_skew_max_ms:
        found.append(Reason.CLOCK_SKEWED)
    if r.received_at - r.served_at > p.late_after_ms:
        found.append(Reason.LATE)
    return tuple(found)


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
    person: Sequence[str] = ("", "", "", ""),
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
    client_at, sent_at, on_screen_at = _times(render)
    event_at, skew_ms = read_clocks(client_at, clock_offset_ms, served_at, received_at)
    user, device, network, session = person
    width, height = render.width, render.height
    # By place: naming so many fields would cost more than all else here.
    fields: tuple[Any, ...] = (
        render.event_id,
        digest,
        *_sold(token),
        served_at,
        received_at,
        event_at,
        skew_ms,
        client_at,
        sent_at,
        on_screen_at,
        render.omid_type,
        _begun(render, pack.count_point_of(token.surface, token.format), pack),
        render.prefetched,
        render.background,
        render.auto_refresh,
        None if width is None or height is None else width * height,
        render.stack_depth,
        render.visible_ratio,
        render.visible_ms,
        render.duration_ms,
        render.clicked,
        render.sdk or "",
        render.sdk_seq,
        render.country or "",
        session,
        user,
        device,
        network,
        agent_class,
        network_class,
        *traits,
        _missing(render),
    )
    return ImpressionRendered(*fields)


def cut_of(rendered: ImpressionRendered, pack: Pack, data_set: DataSet = DataSet.LIVE) -> Cut:
    """Return the report dimensions of the impression, as its first render fixes them."""
    point = pack.count_point_of(rendered.surface, rendered.format)
    evidence = point.evidence if rendered.begun else Evidence.NONE
    reported = rendered.sdk, rendered.country, rendered.auto_refresh
    fields: tuple[Any, ...] = (*_dimensions(rendered), point.method, evidence, *reported, data_set)
    return Cut(*fields)


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
