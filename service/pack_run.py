"""
Runs the boundary vectors of a rule pack.

Each goes through the code that decides for real, so that it proves both the number and how it is compared.
"""

from collections.abc import Iterator
from typing import Any, assert_never
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from commands.items import Ready, slots_of
from commands.recent import RecentSlots
from domain.decide import AdmitRender, CommandRefused, Reconcile, RecordView, decide
from domain.events import CorrectionKind, ImpressionRendered, ImpressionScored, ImpressionViewed, Versions
from domain.ids import mint
from domain.impression import Decided, Impression, Unseen, fold
from domain.pack import Measures, Pack, judge_view
from domain.pack_tables import EXPECTED
from domain.rates import is_abusive, signals
from domain.reasons import Reason
from domain.render import Kind, Render
from domain.screen import claim, cut_of, screen
from domain.standing import Valid
from domain.token import Token
from domain.vocabulary import AgentClass, Authority, BillingEvent, DataSet, Format, Surface
from service.pack_vectors import (
    DeadlineVector,
    DoubleFireVector,
    IdleVector,
    LatenessVector,
    LateViewVector,
    RateVector,
    RepeatVector,
    ScreenVector,
    SignalVector,
    Vector,
    Vectors,
    ViewVector,
)

_SERVED = 1_790_000_000_000
_MONTH = 30 * 86_400_000
_PLAIN = ScreenVector(case="plain", reasons=())


class Failure(Struct, frozen=True):
    """A vector that the pack does not bear out."""

    table: str
    case: str
    expected: Any
    got: Any

    def __str__(self) -> str:
        expected, got = (msgspec.json.encode(value).decode() for value in (self.expected, self.got))
        return f"{self.table}: {self.case!r}: expected {expected}, got {got}"


def failures(vectors: Vectors, pack: Pack) -> Iterator[Failure]:
    """Yield the vectors that *pack* does not bear out."""
    for table, vector in vectors.all():
        expected, got = outcome(vector, pack)
        if expected != got:
            yield Failure(table, vector.case, expected, got)


def outcome(vector: Vector, pack: Pack) -> tuple[Any, Any]:  # noqa: C901, PLR0911 (one case per kind of vector)
    """Return what *vector* expects and what *pack* says."""
    match vector:
        case ScreenVector():
            return _screened(vector, pack)
        case ViewVector():
            measures = msgspec.convert(vector, Measures, from_attributes=True)
            return vector.says, judge_view(measures, pack)
        case LatenessVector():
            return vector.says, pack.lateness_of(vector.age_ms)
        case SignalVector():
            return (vector.holds, vector.accuses), (_signals(vector, pack), pack.accuses.get(vector.signal))
        case DeadlineVector():
            return vector.expires, _expires(vector, pack)
        case LateViewVector():
            return vector.bills, _bills(vector, pack)
        case RepeatVector():
            return vector.kept, _is_kept(vector, pack)
        case IdleVector():
            return vector.ends, pack.has_idled(vector.idle_ms)
        case DoubleFireVector():
            return vector.fires, _fires_twice(vector, pack)
        case RateVector():
            return (vector.abusive, vector.signals), _conduct(vector, pack)
        case _:
            assert_never(vector)


def _screened(vector: ScreenVector, pack: Pack) -> tuple[Any, Any]:
    rendered = _claimed(vector, pack)
    cut = cut_of(rendered, pack)
    method = cut.counting_method if vector.method is not None else None
    evidence = cut.evidence if vector.evidence is not None else None
    return (vector.reasons, vector.method, vector.evidence), (screen(rendered, pack), method, evidence)


def _signals(vector: SignalVector, pack: Pack) -> bool:
    match vector.signal:
        case "visible_longer":
            return pack.signals.is_visible_too_long(vector.visible_ms, vector.open_ms)
        case "video_longer":
            return pack.signals.is_video_too_long(vector.visible_ms, vector.duration_ms)
        case "stacked":
            return pack.signals.is_stacked(vector.depth)
        case "inconsistent":
            return pack.signals.is_inconsistent(vector.inconsistencies)
        case _:
            assert_never(vector.signal)


def _expires(vector: DeadlineVector, pack: Pack) -> bool:
    state = _admitted(_claimed(_PLAIN, pack), pack, vector.reason)
    at = _SERVED + _PLAIN.received_after_ms + vector.after_ms
    expiry = Reconcile(
        correction=UUID(int=2),
        digest="",
        kind=CorrectionKind.EXPIRY,
        authority=Authority.EXPIRY,
        observed_at=at,
        versions=Versions(pack=pack.id, lists=""),
        decided_at=at,
    )
    try:
        return bool(decide(state, expiry))
    except CommandRefused:
        return False


def _bills(vector: LateViewVector, pack: Pack) -> bool:
    rendered = _claimed(_PLAIN, pack)
    state = _admitted(rendered, pack)
    at = rendered.event_at + vector.after_ms
    view = RecordView(
        cause=UUID(int=2),
        digest="",
        measures=Measures(format=rendered.format, area_px=rendered.area_px, visible_ratio=1.0, visible_ms=86_400_000),
        viewed_at=at,
        received_at=at,
        pack=pack,
        decided_at=at,
    )
    return any(
        isinstance(event, ImpressionViewed) and isinstance(event.after, Valid) and event.after.billable_micros > 0
        for event in decide(state, view)
    )


def _is_kept(vector: RepeatVector, pack: Pack) -> bool:
    state: Impression = _admitted(_claimed(_PLAIN, pack), pack)
    for number in range(1, vector.number + 1):
        repeat = replace(_claimed(_PLAIN, pack), cause=UUID(int=1 + number))
        events = decide(state, _admission(repeat, pack))
        state = fold(events, state)
    return bool(events)


def _fires_twice(vector: DoubleFireVector, pack: Pack) -> bool:
    slots = RecentSlots(2, pack.double_fire_window_ms)
    first, second = (_ready(number, apart_ms, pack) for number, apart_ms in ((1, 0), (2, vector.apart_ms)))
    slots.remember(first)
    return slots.original_of(second) is not None


def _conduct(vector: RateVector, pack: Pack) -> tuple[bool, tuple[str, ...]]:
    found = signals(vector.activity, pack.rates)
    return is_abusive(vector.activity, pack.rates), tuple(f"{signal.family} {signal.name}" for signal in found)


def _ready(number: int, apart_ms: int, pack: Pack) -> Ready:
    rendered = replace(_claimed(_PLAIN, pack), event_at=_SERVED + apart_ms)
    return Ready(
        impression=mint(_SERVED, 0, number),
        kind=Kind.RENDER,
        claim=rendered,
        reasons=(),
        slots=slots_of(DataSet.LIVE, "placement", "creative", "user"),
        versions=Versions(pack=pack.id, lists=""),
        raw=b"",
    )


def _admitted(rendered: ImpressionRendered, pack: Pack, *reasons: Reason) -> Decided:
    state: Impression = Unseen()
    state = fold(decide(state, _admission(rendered, pack, *reasons)), state)
    if not isinstance(state, Decided):
        raise TypeError("a first render is decided")
    return state


def _admission(rendered: ImpressionRendered, pack: Pack, *reasons: Reason) -> AdmitRender:
    scored = ImpressionScored(reasons=reasons, versions=Versions(pack=pack.id, lists=""))
    return AdmitRender(rendered, scored, cut_of(rendered, pack), pack, rendered.received_at)


def _claimed(vector: ScreenVector, pack: Pack) -> ImpressionRendered:
    fields = {
        "client_at": _SERVED + vector.client_after_ms,
        "width": vector.width,
        "height": vector.height,
        **dict.fromkeys(EXPECTED[3:], "any"),
    }
    render = Render(
        event_id=UUID(int=1),
        token="",
        on_screen_at=_SERVED if vector.on_screen else None,
        omid_type=vector.omid_type,
        prefetched=vector.prefetched,
        background=vector.background,
        **{name: value for name, value in fields.items() if name not in vector.lacks},  # type: ignore[arg-type]
    )
    return claim(
        render,
        _token(vector.surface, vector.format, pack.rules_by_format[vector.format][0].name),
        pack,
        digest="",
        received_at=_SERVED + vector.received_after_ms,
        agent_class=AgentClass.ABSENT if "agent" in vector.lacks else vector.agent,
        network_class=vector.network,
    )


def _token(surface: Surface, fmt: Format, view_name: str) -> Token:
    """A campaign in flight that pays when *view_name* says viewable."""
    return Token(
        impression=mint(_SERVED, 0, 1),
        ad="ad",
        creative="creative",
        campaign="campaign",
        advertiser="advertiser",
        placement="placement",
        publisher="publisher",
        surface=surface,
        format=fmt,
        region="eu",
        epoch=1,
        currency="EUR",
        price_micros=1,
        flight_start=_SERVED - _MONTH,
        flight_end=_SERVED + _MONTH,
        billing_event=BillingEvent.VIEWABLE,
        viewability_pack=view_name,
    )
