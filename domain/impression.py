"""The state of one impression, folded from its stream: `evolve` accepts exactly what `decide` emits."""

import operator
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.corrections import REPEATS, PriceInForce, Ruling, VerdictInForce, flaw_of
from domain.events import (
    CausedEvent,
    CorrectionKind,
    Cut,
    ImpressionAnswered,
    ImpressionDeduped,
    ImpressionEvent,
    ImpressionLabelled,
    ImpressionReconciled,
    ImpressionRendered,
    ImpressionScored,
    ImpressionViewed,
    Uniqueness,
)
from domain.ids import CauseId
from domain.pack import merge_views
from domain.reasons import CLASS_OF, Reason, ReasonClass, Verdict
from domain.standing import Dropped, Duplicate, Standing, Terms, Uncertain, Viewabilities, Viewability, standing_for
from domain.vocabulary import Label, LabelSource, Rung


class ImpossibleTransition(Exception):
    """The event cannot follow on the state: the stream was not written by `decide`."""

    def __init__(self, state: object, event: object, why: str) -> None:
        super().__init__(f"{type(event).__name__} cannot follow on {type(state).__name__}: {why}")


class Answer(Struct, frozen=True):
    """What was answered to one cause, and on which rung a render was decided; a retry gets the same."""

    digest: str
    verdict: Verdict
    reason: Reason | None
    rung: Rung | None = None


class Unseen(Struct, frozen=True):
    """No render of it has arrived."""


class Decided(Struct, frozen=True, kw_only=True):
    """
    A render was decided. `standing` follows from the rest; corrections are judged against `first`, the decision
    that renders alone led to, so that the order in which corrections arrive does not matter. `begun_at` (epoch ms) is
    when the render that counts began: that of the cut, or later where the first render was none that counts.
    `seen_late` is what labels say of views that came too late for money, under the campaign's own viewability pack.
    `area_px` and `duration_ms` are of the ad, as the renders that decided said.
    """

    cut: Cut
    begun_at: int
    terms: Terms
    first: Standing
    standing: Standing
    verdict_in_force: VerdictInForce | None = None
    price_in_force: PriceInForce | None = None
    repeats: int = 0
    seen_late: Viewability | None = None
    area_px: int | None = None
    duration_ms: int | None = None
    absorbed: dict[CauseId, Answer]


class Claimed(Struct, frozen=True):
    """Inside an append: a render is claimed, not yet judged."""

    prior: Unseen | Decided
    rendered: ImpressionRendered


class Judged(Struct, frozen=True):
    """Inside an append: a render is judged, not yet decided."""

    prior: Unseen | Decided
    rendered: ImpressionRendered
    scored: ImpressionScored


Impression: TypeAlias = Unseen | Claimed | Judged | Decided

_content = operator.attrgetter("creative", "placement", "publisher", "surface", "format")
_dimensions = operator.attrgetter(
    *("event_at", "campaign", "advertiser", "creative", "placement", "publisher", "surface", "format"),
    *("region", "currency", "billing_event", "sdk", "country", "auto_refresh"),
)

UNPROVEN = frozenset({Reason.OMID_UNPROVEN, Reason.EVIDENCE_INCOMPLETE})


def fold(events: Iterable[ImpressionEvent], state: Impression | None = None) -> Impression:
    """
    Return the state after *events*.

    Raises:
        ImpossibleTransition: an event cannot follow on what is before it.
    """
    return reduce(evolve, events, Unseen() if state is None else state)


def evolve(state: Impression, event: ImpressionEvent) -> Impression:  # noqa: PLR0911 (one per event)
    """
    Return the state after *event*.

    Raises:
        ImpossibleTransition: `decide` would not have emitted *event* in *state*.
    """
    match event:
        case ImpressionRendered():
            return _claimed(state, event)
        case ImpressionScored():
            return _judged(state, event)
        case ImpressionDeduped():
            return _decided(state, event) if isinstance(state, Judged) else _repeated(state, event)
        case ImpressionReconciled(kind=CorrectionKind.EVIDENCE):
            return _completed(state, event)
        case ImpressionReconciled():
            return _reconciled(state, event)
        case ImpressionViewed():
            return _viewed(state, event)
        case ImpressionLabelled():
            return _labelled(state, event)
        case ImpressionAnswered():
            return _answered(state, event)
        case _:
            assert_never(event)


def settle(state: Decided, viewability: Viewabilities | None = None) -> Standing:
    """Return the standing that follows from the first decision, the corrections in force and *viewability*."""
    ruled = state.verdict_in_force
    reason = state.first.reason if ruled is None or ruled.expiry else ruled.reason
    terms = state.terms
    if state.price_in_force is not None:
        terms = replace(terms, price_micros=state.price_in_force.price_micros)
    seen = state.standing.viewability if viewability is None else viewability
    resolve_by = state.first.resolve_by if isinstance(state.first, Uncertain) else None
    standing = standing_for(reason, terms, seen, resolve_by)
    if ruled is not None and ruled.expiry and isinstance(standing, Uncertain):
        return replace(standing, expired=True, reserved_micros=0)
    return standing


def counts_again(state: Decided) -> bool:
    """Tell whether a render that proves begin makes the impression count now: so far it was none."""
    first = state.first
    return (
        state.verdict_in_force is None and isinstance(first, Dropped) and first.reason_class is ReasonClass.NOT_COUNTED
    )


def lacks_proof(state: Decided) -> bool:
    """Tell whether a render that proves begin brings what the uncertain impression lacks."""
    return state.verdict_in_force is None and isinstance(state.first, Uncertain) and state.first.reason in UNPROVEN


def begins(rendered: ImpressionRendered, scored: ImpressionScored) -> bool:
    """Tell whether the render proves that rendering began, whatever else speaks against it."""
    return _begins(rendered, scored.reasons)


def adds_to(standing: Reason | None, rendered: ImpressionRendered, reasons: Sequence[Reason]) -> bool:
    """Tell whether a render with *reasons* against it adds to an impression that renders alone left for *standing*."""
    if standing is None or not _begins(rendered, reasons):
        return False
    return CLASS_OF[standing] is ReasonClass.NOT_COUNTED or (standing in UNPROVEN and UNPROVEN.isdisjoint(reasons))


def completes(rendered: ImpressionRendered, scored: ImpressionScored) -> bool:
    """Tell whether the render lacks no proof of anything."""
    return begins(rendered, scored) and UNPROVEN.isdisjoint(scored.reasons)


def _begins(rendered: ImpressionRendered, reasons: Sequence[Reason]) -> bool:
    return rendered.begun and not any(CLASS_OF[reason] is ReasonClass.NOT_COUNTED for reason in reasons)


def terms_of(rendered: ImpressionRendered) -> Terms:
    """Return how *rendered* is billed, if it is."""
    return Terms(rendered.price_micros, rendered.billing_event, rendered.viewability_pack)


def conflicts(cut: Cut, rendered: ImpressionRendered) -> bool:
    """Tell whether *rendered* claims other content for the impression than *cut* has."""
    return bool(_content(cut) != _content(rendered))


def corrected(state: Decided, event: ImpressionReconciled) -> tuple[Decided, bool]:
    """Return the state after the correction, and whether it is in force (else it is refused evidence)."""
    assert event.authority is not None
    rank = Ruling(event.authority, event.observed_at, str(event.cause))
    if event.kind is CorrectionKind.REPRICE:
        assert event.asked_price_micros is not None
        if state.price_in_force is not None and rank <= state.price_in_force.rank:
            return state, False
        moved = replace(state, price_in_force=PriceInForce(rank, event.asked_price_micros))
    else:
        if state.verdict_in_force is not None and rank <= state.verdict_in_force.rank:
            return state, False
        moved = replace(state, verdict_in_force=VerdictInForce(rank, event.asked, event.kind is CorrectionKind.EXPIRY))
    return replace(moved, standing=settle(moved)), True


def _claimed(state: Impression, event: ImpressionRendered) -> Claimed:
    if isinstance(state, Claimed | Judged):
        raise ImpossibleTransition(state, event, "the render before it is not decided")
    if isinstance(state, Decided):
        _is_news(state, event)
    return Claimed(state, event)


def _judged(state: Impression, event: ImpressionScored) -> Judged:
    if not isinstance(state, Claimed):
        raise ImpossibleTransition(state, event, "it judges no render")
    return Judged(state.prior, state.rendered, event)


def _decided(state: Judged, event: ImpressionDeduped) -> Decided:
    prior = state.prior
    if isinstance(prior, Decided) and not (counts_again(prior) and begins(state.rendered, state.scored)):
        raise ImpossibleTransition(state, event, "the impression was decided before")
    if isinstance(prior, Decided) and (event.cut != prior.cut or conflicts(prior.cut, state.rendered)):
        raise ImpossibleTransition(state, event, "it is cut otherwise than before")
    if isinstance(prior, Unseen) and _dimensions(event.cut) != _dimensions(state.rendered):
        raise ImpossibleTransition(state, event, "it is cut otherwise than the render claims")
    if event.before != (prior.standing if isinstance(prior, Decided) else None):
        raise ImpossibleTransition(state, event, "it does not start where the impression stands")
    is_double = isinstance(event.after, Duplicate)
    is_one = event.renders == 1 and not event.counted
    if event.uniqueness is not (Uniqueness.DUPLICATE if is_double else Uniqueness.UNIQUE) or not is_one:
        raise ImpossibleTransition(state, event, "it does not say how unique the impression is")
    if event.verdict is not event.after.verdict or (event.duplicate_of is not None and not is_double):
        raise ImpossibleTransition(state, event, "its answer is not where the impression stands")
    return _first_decision(state, event, event.cut, event.reason)


def _completed(state: Impression, event: ImpressionReconciled) -> Decided:
    if not isinstance(state, Judged) or not isinstance(state.prior, Decided):
        raise ImpossibleTransition(state, event, "no render brought evidence")
    prior = state.prior
    if not lacks_proof(prior) or not completes(state.rendered, state.scored) or conflicts(prior.cut, state.rendered):
        raise ImpossibleTransition(state, event, "it brings nothing that was missing")
    if event.before != prior.standing or event.cut != prior.cut or not event.accepted:
        raise ImpossibleTransition(state, event, "it does not start where the impression stands")
    if (event.authority, event.asked, event.asked_price_micros) != (None, None, None):
        raise ImpossibleTransition(state, event, "a render asks for nothing")
    return _first_decision(state, event, prior.cut, event.after.reason)


def _first_decision(
    state: Judged, event: ImpressionDeduped | ImpressionReconciled, cut: Cut, reason: Reason | None
) -> Decided:
    """The decision that renders alone led to; a later render of an impression that did not count replaces it."""
    prior, rendered, after = state.prior, state.rendered, event.after
    if not _same_cause(event, rendered):
        raise ImpossibleTransition(state, event, "it decides another render")
    if not reason is after.reason is (state.scored.reasons[0] if state.scored.reasons else None):
        raise ImpossibleTransition(state, event, "its reason is not the first that holds")
    known = prior if isinstance(prior, Decided) else None
    if known is not None and merge_views(known.standing.viewability, after.viewability) != after.viewability:
        raise ImpossibleTransition(state, event, "viewability moved back")
    moved = Decided(
        cut=cut,
        begun_at=_begun_at(cut, rendered, known),
        terms=terms_of(rendered),
        first=after,
        standing=after,
        price_in_force=None if known is None else known.price_in_force,
        repeats=0 if known is None else known.repeats,
        seen_late=None if known is None else known.seen_late,
        area_px=known.area_px if known is not None and rendered.area_px is None else rendered.area_px,
        duration_ms=known.duration_ms if known is not None and rendered.duration_ms is None else rendered.duration_ms,
        absorbed=_absorb({} if known is None else known.absorbed, event, after, state.scored.rung),
    )
    if after != settle(moved):
        raise ImpossibleTransition(state, event, f"{after} does not follow from its reason")
    return moved


def _repeated(state: Impression, event: ImpressionDeduped) -> Decided:
    known = _known(state, event)
    if event.uniqueness is not Uniqueness.DUPLICATE or event.verdict is not Verdict.DUPLICATE or event.renders < 1:
        raise ImpossibleTransition(state, event, "it is no repeat")
    if event.renders > 1 and not event.counted:
        raise ImpossibleTransition(state, event, "one render stands for one")
    if event.reason not in REPEATS or event.duplicate_of is not None:
        raise ImpossibleTransition(state, event, "it repeats another impression")
    if not event.before == event.after == known.standing:
        raise ImpossibleTransition(state, event, "a repeat changes nothing")
    answer = Answer(event.digest, event.verdict, event.reason)
    return replace(known, repeats=known.repeats + event.renders, absorbed={**known.absorbed, event.cause: answer})


def _reconciled(state: Impression, event: ImpressionReconciled) -> Decided:
    known = _known(state, event)
    if flaw := flaw_of(known.first, event):
        raise ImpossibleTransition(state, event, flaw)
    moved, accepted = corrected(known, event)
    if event.accepted is not accepted or event.before != known.standing or event.after != moved.standing:
        raise ImpossibleTransition(state, event, "it does not do what its authority allows")
    return replace(moved, absorbed=_absorb(moved.absorbed, event, moved.standing))


def _viewed(state: Impression, event: ImpressionViewed) -> Decided:
    known = _known(state, event)
    merged = merge_views(known.standing.viewability, event.said)
    if event.before != known.standing or event.after != settle(known, merged) or event.after == event.before:
        raise ImpossibleTransition(state, event, "it does not move viewability, or something else")
    return replace(known, standing=event.after, absorbed=_absorb(known.absorbed, event, event.after))


def _labelled(state: Impression, event: ImpressionLabelled) -> Decided:
    if not isinstance(state, Decided):
        raise ImpossibleTransition(state, event, "nothing is known of the impression")
    _is_news(state, event)
    seen_late = state.seen_late
    if event.source is LabelSource.VIEW and seen_late is not Viewability.VIEWABLE:
        seen_late = Viewability.VIEWABLE if event.label is Label.VIEWABLE else Viewability.NOT_VIEWABLE
    return replace(state, seen_late=seen_late, absorbed=_absorb(state.absorbed, event, state.standing))


def _answered(state: Impression, event: ImpressionAnswered) -> Decided:
    if not isinstance(state, Decided):
        raise ImpossibleTransition(state, event, "nothing is known of the impression")
    _is_news(state, event)
    stored = state.absorbed.get(event.of)
    if stored is None or (stored.verdict, stored.reason) == (event.verdict, event.reason):
        raise ImpossibleTransition(state, event, "no render of that cause was answered otherwise")
    return replace(state, absorbed=_absorb(state.absorbed, event, state.standing))


def _known(state: Impression, event: ImpressionDeduped | ImpressionReconciled | ImpressionViewed) -> Decided:
    if not isinstance(state, Decided):
        raise ImpossibleTransition(state, event, "nothing is known of the impression")
    _is_news(state, event)
    if event.cut != state.cut:
        raise ImpossibleTransition(state, event, "it is cut otherwise than before")
    return state


def _begun_at(cut: Cut, rendered: ImpressionRendered, known: Decided | None) -> int:
    if known is None:
        return cut.event_at
    if not counts_again(known):
        return known.begun_at
    return max(known.begun_at, rendered.event_at)


def _same_cause(event: CausedEvent, rendered: ImpressionRendered) -> bool:
    return event.cause == rendered.cause and event.digest == rendered.digest


def _is_news(state: Decided, event: CausedEvent) -> None:
    if event.cause in state.absorbed:
        raise ImpossibleTransition(state, event, f"its cause {event.cause} is absorbed already")


def _absorb(
    absorbed: dict[CauseId, Answer], event: CausedEvent, standing: Standing, rung: Rung | None = None
) -> dict[CauseId, Answer]:
    return {**absorbed, event.cause: Answer(event.digest, standing.verdict, standing.reason, rung)}
