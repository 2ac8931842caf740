"""The state of one impression, folded from its stream: `evolve` accepts exactly what `decide` emits."""

from collections.abc import Iterable
from functools import reduce
from typing import TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.events import (
    CorrectionKind,
    Cut,
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
from domain.standing import Dropped, Duplicate, Standing, Terms, Uncertain, Viewabilities, standing_for
from domain.vocabulary import Authority


class ImpossibleTransition(Exception):
    """The event cannot follow on the state: the stream was not written by `decide`."""

    def __init__(self, state: object, event: object, why: str) -> None:
        super().__init__(f"{type(event).__name__} cannot follow on {type(state).__name__}: {why}")


class Answer(Struct, frozen=True):
    """What was answered to one cause; a retry of it gets the same."""

    digest: str
    verdict: Verdict
    reason: Reason | None


class Ruling(Struct, frozen=True, order=True):
    """A correction in force. Order is who may overrule whom: authority, then later observation, then id."""

    authority: Authority
    observed_at: int
    correction: str


class Verdictum(Struct, frozen=True):
    """The verdict correction in force: its rank and the reason that it asked for (None: valid)."""

    rank: Ruling
    reason: Reason | None
    expiry: bool = False


class Repricing(Struct, frozen=True):
    """The price correction in force."""

    rank: Ruling
    price_micros: int


class Unseen(Struct, frozen=True):
    """No render of it has arrived."""


class Decided(Struct, frozen=True, kw_only=True):
    """
    A render was decided. `standing` follows from the rest; corrections are judged against `first`, the decision
    that renders alone led to, so that the order in which corrections arrive does not matter.
    """

    cut: Cut
    terms: Terms
    first: Standing
    standing: Standing
    verdictum: Verdictum | None = None
    repricing: Repricing | None = None
    repeats: int = 0
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

UNPROVEN = frozenset({Reason.OMID_UNPROVEN, Reason.EVIDENCE_INCOMPLETE})
REPEATS = frozenset({Reason.DUPLICATE_RENDER, Reason.DUPLICATE_CONFLICT})


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
        case _:
            assert_never(event)


def settle(state: Decided, viewability: Viewabilities | None = None) -> Standing:
    """Return the standing that follows from the first decision, the corrections in force and *viewability*."""
    ruled = state.verdictum
    reason = state.first.reason if ruled is None or ruled.expiry else ruled.reason
    terms = state.terms
    if state.repricing is not None:
        terms = replace(terms, price_micros=state.repricing.price_micros)
    seen = state.standing.viewability if viewability is None else viewability
    resolve_by = state.first.resolve_by if isinstance(state.first, Uncertain) else None
    standing = standing_for(reason, terms, seen, resolve_by)
    if ruled is not None and ruled.expiry and isinstance(standing, Uncertain):
        return replace(standing, expired=True, reserved_micros=0)
    return standing


def counts_again(state: Decided) -> bool:
    """Tell whether a render that proves begin makes the impression count now: so far it was none."""
    first = state.first
    return state.verdictum is None and isinstance(first, Dropped) and first.reason_class is ReasonClass.NOT_COUNTED


def lacks_proof(state: Decided) -> bool:
    """Tell whether a render that proves begin brings what the uncertain impression lacks."""
    return state.verdictum is None and isinstance(state.first, Uncertain) and state.first.reason in UNPROVEN


def proves_begin(scored: ImpressionScored) -> bool:
    """Tell whether nothing says that rendering has not begun or is not proved."""
    return not any(CLASS_OF[reason] is ReasonClass.NOT_COUNTED or reason in UNPROVEN for reason in scored.reasons)


def terms_of(rendered: ImpressionRendered) -> Terms:
    """Return how *rendered* is billed, if it is."""
    return Terms(rendered.price_micros, rendered.billing_event, rendered.viewability_pack)


def conflicts(cut: Cut, rendered: ImpressionRendered) -> bool:
    """Tell whether *rendered* claims other content for the impression than *cut* has."""
    return (
        cut.creative != rendered.creative
        or cut.placement != rendered.placement
        or cut.publisher != rendered.publisher
        or cut.surface is not rendered.surface
        or cut.format is not rendered.format
    )


def edge_is_legal(first: Standing, asked: Reason | None) -> bool:
    """Tell whether a correction may lead from the decision *first* to the reason *asked* (None: valid)."""
    cls = None if asked is None else CLASS_OF[asked]
    if cls in {ReasonClass.REQUEST, ReasonClass.UNDECIDED} or asked in REPEATS:
        return False
    match first:
        case Uncertain():
            return True
        case Duplicate():
            return asked is None
        case Dropped(reason_class=ReasonClass.POLICY):
            return asked is not None and cls is not ReasonClass.DUPLICATE
        case Dropped():
            return cls is not ReasonClass.DUPLICATE
        case _:
            return asked is not None


def corrected(state: Decided, event: ImpressionReconciled) -> tuple[Decided, bool]:
    """Return the state after the correction, and whether it is in force (else it is refused evidence)."""
    assert event.authority is not None
    rank = Ruling(event.authority, event.observed_at, str(event.cause))
    if event.kind is CorrectionKind.REPRICE:
        assert event.asked_price_micros is not None
        if state.repricing is not None and rank <= state.repricing.rank:
            return state, False
        moved = replace(state, repricing=Repricing(rank, event.asked_price_micros))
    else:
        expiry = event.kind is CorrectionKind.EXPIRY
        outranked = state.verdictum is not None and rank <= state.verdictum.rank
        if outranked or (expiry and not isinstance(state.standing, Uncertain)):
            return state, False
        moved = replace(state, verdictum=Verdictum(rank, event.asked, expiry))
    return replace(moved, standing=settle(moved)), True


def _claimed(state: Impression, event: ImpressionRendered) -> Claimed:
    if isinstance(state, Claimed | Judged):
        raise ImpossibleTransition(state, event, "the render before it is not decided")
    if isinstance(state, Decided):
        _is_news(state, event)
    return Claimed(state, event)


def _judged(state: Impression, event: ImpressionScored) -> Judged:
    if not isinstance(state, Claimed) or event.cause != state.rendered.cause:
        raise ImpossibleTransition(state, event, "it judges no render")
    return Judged(state.prior, state.rendered, event)


def _decided(state: Judged, event: ImpressionDeduped) -> Decided:
    prior = state.prior
    if isinstance(prior, Decided) and not (counts_again(prior) and proves_begin(state.scored)):
        raise ImpossibleTransition(state, event, "the impression was decided before")
    if isinstance(prior, Decided) and (event.cut != prior.cut or conflicts(prior.cut, state.rendered)):
        raise ImpossibleTransition(state, event, "it is cut otherwise than before")
    if event.before != (prior.standing if isinstance(prior, Decided) else None):
        raise ImpossibleTransition(state, event, "it does not start where the impression stands")
    if event.reason is not (state.scored.reasons[0] if state.scored.reasons else None):
        raise ImpossibleTransition(state, event, "its reason is not the first that holds")
    if event.verdict is not event.after.verdict or event.reason is not event.after.reason:
        raise ImpossibleTransition(state, event, "its answer is not where the impression stands")
    return _first_decision(state, event, event.cut, event.after)


def _completed(state: Impression, event: ImpressionReconciled) -> Decided:
    if not isinstance(state, Judged) or not isinstance(state.prior, Decided):
        raise ImpossibleTransition(state, event, "no render brought evidence")
    prior = state.prior
    if not lacks_proof(prior) or not proves_begin(state.scored) or conflicts(prior.cut, state.rendered):
        raise ImpossibleTransition(state, event, "it brings nothing that was missing")
    if event.before != prior.standing or event.cut != prior.cut or not event.accepted:
        raise ImpossibleTransition(state, event, "it does not start where the impression stands")
    if event.after.reason is not (state.scored.reasons[0] if state.scored.reasons else None):
        raise ImpossibleTransition(state, event, "its reason is not the first that holds")
    return _first_decision(state, event, prior.cut, event.after)


def _first_decision(
    state: Judged, event: ImpressionDeduped | ImpressionReconciled, cut: Cut, after: Standing
) -> Decided:
    """The decision that renders alone led to; a later render of an impression that did not count replaces it."""
    prior, rendered = state.prior, state.rendered
    if event.cause != rendered.cause or event.digest != rendered.digest:
        raise ImpossibleTransition(state, event, "it decides another render")
    known = prior if isinstance(prior, Decided) else None
    if known is not None and merge_views(known.standing.viewability, after.viewability) != after.viewability:
        raise ImpossibleTransition(state, event, "viewability moved back")
    moved = Decided(
        cut=cut,
        terms=terms_of(rendered),
        first=after,
        standing=after,
        repricing=None if known is None else known.repricing,
        repeats=0 if known is None else known.repeats,
        absorbed=_absorb({} if known is None else known.absorbed, event, after),
    )
    if after != settle(moved):
        raise ImpossibleTransition(state, event, f"{after} does not follow from its reason")
    return moved


def _repeated(state: Impression, event: ImpressionDeduped) -> Decided:
    known = _known(state, event)
    if event.uniqueness is not Uniqueness.DUPLICATE or event.reason not in REPEATS or event.renders < 1:
        raise ImpossibleTransition(state, event, "it is no repeat")
    if not event.before == event.after == known.standing:
        raise ImpossibleTransition(state, event, "a repeat changes nothing")
    answer = Answer(event.digest, event.verdict, event.reason)
    return replace(known, repeats=known.repeats + event.renders, absorbed={**known.absorbed, event.cause: answer})


def _reconciled(state: Impression, event: ImpressionReconciled) -> Decided:
    known = _known(state, event)
    if event.kind is CorrectionKind.VERDICT and not edge_is_legal(known.first, event.asked):
        raise ImpossibleTransition(state, event, f"no edge from {known.first} to {event.asked}")
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
    return replace(state, absorbed=_absorb(state.absorbed, event, state.standing))


def _known(state: Impression, event: ImpressionDeduped | ImpressionReconciled | ImpressionViewed) -> Decided:
    if not isinstance(state, Decided):
        raise ImpossibleTransition(state, event, "nothing is known of the impression")
    _is_news(state, event)
    if event.cut != state.cut:
        raise ImpossibleTransition(state, event, "it is cut otherwise than before")
    return state


def _is_news(state: Decided, event: ImpressionEvent) -> None:
    if event.cause in state.absorbed:
        raise ImpossibleTransition(state, event, f"its cause {event.cause} is absorbed already")


def _absorb(absorbed: dict[CauseId, Answer], event: ImpressionEvent, standing: Standing) -> dict[CauseId, Answer]:
    return {**absorbed, event.cause: Answer(event.digest, standing.verdict, standing.reason)}
