"""The rules: state and command in, events out. What cannot be done is `CommandRefused`, never an event."""

from enum import StrEnum
from typing import TypeAlias, assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.corrections import flaw_of
from domain.events import (
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
    Versions,
)
from domain.funding import Funding
from domain.ids import CauseId, ImpressionId
from domain.impression import (
    Decided,
    ImpossibleTransition,
    Impression,
    Unseen,
    begins,
    completes,
    conflicts,
    corrected,
    counts_again,
    lacks_proof,
    settle,
    terms_of,
)
from domain.pack import Measures, Pack, judge_view, merge_views
from domain.reasons import Reason, Verdict
from domain.standing import Duplicate, Standing, Viewabilities, Viewability, standing_for
from domain.vocabulary import Authority, Label, LabelSource


class Refusal(StrEnum):
    EVENT_ID_REUSED = "EVENT_ID_REUSED"
    """The id came before with another content."""
    NOT_RENDERED = "NOT_RENDERED"
    """No render of the impression has arrived; the command can be parked."""
    ILLEGAL_EDGE = "ILLEGAL_EDGE"
    """No correction leads from the decision to what is asked."""
    ORIGINAL_COUNTS = "ORIGINAL_COUNTS"
    """A double fire is promoted only when its original does not count."""


class CommandRefused(Exception):
    """The command cannot be done on the impression as it stands; nothing was changed."""

    def __init__(self, refusal: Refusal, why: str) -> None:
        super().__init__(f"{refusal.value}: {why}")
        self.refusal = refusal


class AdmitRender(Struct, frozen=True, gc=False):
    """A checked, screened and scored render. `scored.reasons` stand in order of precedence; `cut` is its own."""

    rendered: ImpressionRendered
    scored: ImpressionScored
    cut: Cut
    pack: Pack
    decided_at: int
    duplicate_of: ImpressionId | None = None
    funding: Funding | None = None


class RecordView(Struct, frozen=True, kw_only=True, gc=False):
    cause: CauseId
    digest: str
    measures: Measures
    viewed_at: int
    received_at: int
    pack: Pack
    decided_at: int


class CountRepeats(Struct, frozen=True):
    """So many renders were answered as repeats (`reason` says of which kind) beyond those that the stream keeps."""

    cause: CauseId
    reason: Reason
    renders: int
    decided_at: int


class Reconcile(Struct, frozen=True, kw_only=True):
    """A correction. `asked` is the reason asked for (None: valid); `asked_price_micros` belongs to a reprice."""

    correction: CauseId
    digest: str
    kind: CorrectionKind
    authority: Authority
    asked: Reason | None = None
    asked_price_micros: int | None = None
    original_is_out: bool = False
    evidence: str = ""
    observed_at: int
    deadline_met: bool = True
    versions: Versions
    decided_at: int


class AttachLabel(Struct, frozen=True, kw_only=True):
    cause: CauseId
    digest: str
    source: LabelSource
    label: Label
    weight: float
    observed_at: int
    received_at: int


class NoteAnswer(Struct, frozen=True, kw_only=True):
    """A client was told this about its render `of`, while the ledger did not answer."""

    cause: CauseId
    digest: str
    of: CauseId
    verdict: Verdict
    reason: Reason | None
    answered_at: int


Command: TypeAlias = AdmitRender | RecordView | CountRepeats | Reconcile | AttachLabel | NoteAnswer


def decide(state: Impression, command: Command) -> tuple[ImpressionEvent, ...]:
    """
    Return the events that *command* leads to in *state*; none if its cause is absorbed or it changes nothing.

    Raises:
        CommandRefused: with the reason; nothing happened.
        ImpossibleTransition: *state* is inside an append.
    """
    if not isinstance(state, Unseen | Decided):
        raise ImpossibleTransition(state, command, "the append before it is not whole")
    match command:
        case AdmitRender():
            return _admit(state, command)
        case RecordView():
            return _view(state, command)
        case CountRepeats():
            return _count_repeats(state, command)
        case Reconcile():
            return _reconcile(state, command)
        case AttachLabel():
            return _label(state, command)
        case NoteAnswer():
            return _note(state, command)
        case _:
            assert_never(command)


def _admit(state: Unseen | Decided, command: AdmitRender) -> tuple[ImpressionEvent, ...]:
    rendered, scored = command.rendered, command.scored
    if isinstance(state, Unseen):
        after = _stands(command, _seen(command), None)
        return rendered, scored, _deduped(command, command.cut, None, after)
    if _is_known(state, rendered.cause, rendered.digest):
        return ()
    if not conflicts(state.cut, rendered):
        after = _stands(command, merge_views(state.standing.viewability, _seen(command)), state)
        if counts_again(state) and begins(rendered, scored):
            return rendered, scored, _deduped(command, state.cut, state.standing, after)
        if lacks_proof(state) and completes(rendered, scored):
            return rendered, scored, _completes(command, state, after)
    return (_repeat(command, state),) if state.repeats < command.pack.repeats_kept_max else ()


def _view(state: Unseen | Decided, command: RecordView) -> tuple[ImpressionEvent, ...]:
    known = _rendered(state)
    if _is_known(known, command.cause, command.digest):
        return ()
    said = judge_view(_of_the_ad(command.measures, known), command.pack)
    if command.received_at - known.begun_at > command.pack.view_money_max_ms:
        return _late_view(known, command, said)
    after = settle(known, merge_views(known.standing.viewability, said))
    if after == known.standing:
        return ()
    measures = command.measures
    return (
        ImpressionViewed(
            cause=command.cause,
            digest=command.digest,
            viewed_at=command.viewed_at,
            received_at=command.received_at,
            area_px=measures.area_px,
            visible_ratio=measures.visible_ratio,
            visible_ms=measures.visible_ms,
            duration_ms=measures.duration_ms,
            clicked=measures.clicked,
            said=said,
            cut=known.cut,
            before=known.standing,
            after=after,
            decided_at=command.decided_at,
        ),
    )


def _count_repeats(state: Unseen | Decided, command: CountRepeats) -> tuple[ImpressionEvent, ...]:
    known = _rendered(state)
    if _is_known(known, command.cause, ""):
        return ()
    return (
        ImpressionDeduped(
            cause=command.cause,
            digest="",
            uniqueness=Uniqueness.DUPLICATE,
            verdict=Verdict.DUPLICATE,
            reason=command.reason,
            renders=command.renders,
            counted=True,
            cut=known.cut,
            before=known.standing,
            after=known.standing,
            decided_at=command.decided_at,
        ),
    )


def _reconcile(state: Unseen | Decided, command: Reconcile) -> tuple[ImpressionEvent, ...]:
    known = _rendered(state)
    if _is_known(known, command.correction, command.digest):
        return ()
    if command.kind is CorrectionKind.EVIDENCE:
        raise CommandRefused(Refusal.ILLEGAL_EDGE, "evidence comes with a render")
    event = ImpressionReconciled(
        cause=command.correction,
        digest=command.digest,
        kind=command.kind,
        authority=command.authority,
        asked=command.asked,
        asked_price_micros=command.asked_price_micros,
        evidence=command.evidence,
        observed_at=command.observed_at,
        deadline_met=command.deadline_met,
        versions=command.versions,
        cut=known.cut,
        before=known.standing,
        after=known.standing,
        decided_at=command.decided_at,
    )
    if flaw := flaw_of(known.first, event):
        raise CommandRefused(Refusal.ILLEGAL_EDGE, flaw)
    promotes = isinstance(known.first, Duplicate) and event.kind is CorrectionKind.VERDICT and event.asked is None
    if promotes and not command.original_is_out:
        raise CommandRefused(Refusal.ORIGINAL_COUNTS, "the original of the double fire is in gross")
    moved, accepted = corrected(known, event)
    return (replace(event, accepted=accepted, after=moved.standing),)


def _note(state: Unseen | Decided, command: NoteAnswer) -> tuple[ImpressionEvent, ...]:
    known = _rendered(state)
    stored = known.absorbed.get(command.of)
    if stored is None:
        raise CommandRefused(Refusal.NOT_RENDERED, "no such render of the impression has arrived")
    told = command.verdict, command.reason
    if _is_known(known, command.cause, command.digest) or (stored.verdict, stored.reason) == told:
        return ()
    return (
        ImpressionAnswered(
            cause=command.cause,
            digest=command.digest,
            of=command.of,
            verdict=command.verdict,
            reason=command.reason,
            answered_at=command.answered_at,
        ),
    )


def _label(state: Unseen | Decided, command: AttachLabel) -> tuple[ImpressionEvent, ...]:
    known = _rendered(state)
    if _is_known(known, command.cause, command.digest):
        return ()
    return (
        ImpressionLabelled(
            cause=command.cause,
            digest=command.digest,
            source=command.source,
            label=command.label,
            weight=command.weight,
            observed_at=command.observed_at,
            received_at=command.received_at,
        ),
    )


def _seen(command: AdmitRender) -> Viewabilities:
    """What the render's own measures say."""
    rendered = command.rendered
    if rendered.visible_ratio is None and not rendered.clicked:
        return {}
    return judge_view(rendered, command.pack)


def _of_the_ad(measures: Measures, known: Decided) -> Measures:
    """Add what a view does not say of the ad itself, but its render said."""
    area_px = known.area_px if measures.area_px is None else measures.area_px
    duration_ms = known.duration_ms if measures.duration_ms is None else measures.duration_ms
    return replace(measures, area_px=area_px, duration_ms=duration_ms)


def measures_of(rendered: ImpressionRendered) -> Measures:
    """Return what a client says that it measured."""
    return Measures(
        format=rendered.format,
        area_px=rendered.area_px,
        visible_ratio=rendered.visible_ratio,
        visible_ms=rendered.visible_ms,
        duration_ms=rendered.duration_ms,
        clicked=rendered.clicked,
    )


def _stands(command: AdmitRender, viewability: Viewabilities, known: Decided | None) -> Standing:
    """Where the impression stands if this render decides; a price correction before it stays in force."""
    reasons = command.scored.reasons
    reason = reasons[0] if reasons else None
    within_ms = None if reason is None else command.pack.resolve_within_ms.get(reason)
    terms = terms_of(command.rendered)
    if known is not None and known.price_in_force is not None:
        terms = replace(terms, price_micros=known.price_in_force.price_micros)
    resolve_by = None if within_ms is None else command.rendered.received_at + within_ms
    return standing_for(reason, terms, viewability, resolve_by)


def _deduped(command: AdmitRender, cut: Cut, before: Standing | None, after: Standing) -> ImpressionDeduped:
    is_double = isinstance(after, Duplicate)
    return ImpressionDeduped(
        cause=command.rendered.cause,
        digest=command.rendered.digest,
        uniqueness=Uniqueness.DUPLICATE if is_double else Uniqueness.UNIQUE,
        verdict=after.verdict,
        reason=after.reason,
        duplicate_of=command.duplicate_of if is_double else None,
        funding=command.funding,
        cut=cut,
        before=before,
        after=after,
        decided_at=command.decided_at,
    )


def _completes(command: AdmitRender, state: Decided, after: Standing) -> ImpressionReconciled:
    is_double = isinstance(after, Duplicate) and command.duplicate_of is not None
    return ImpressionReconciled(
        cause=command.rendered.cause,
        digest=command.rendered.digest,
        kind=CorrectionKind.EVIDENCE,
        evidence=f"double fire of {command.duplicate_of}" if is_double else "",
        observed_at=command.rendered.received_at,
        versions=command.scored.versions,
        cut=state.cut,
        before=state.standing,
        after=after,
        decided_at=command.decided_at,
    )


def _repeat(command: AdmitRender, state: Decided) -> ImpressionDeduped:
    differs = conflicts(state.cut, command.rendered)
    return ImpressionDeduped(
        cause=command.rendered.cause,
        digest=command.rendered.digest,
        uniqueness=Uniqueness.DUPLICATE,
        verdict=Verdict.DUPLICATE,
        reason=Reason.DUPLICATE_CONFLICT if differs else Reason.DUPLICATE_RENDER,
        cut=state.cut,
        before=state.standing,
        after=state.standing,
        decided_at=command.decided_at,
    )


def _late_view(known: Decided, command: RecordView, said: Viewabilities) -> tuple[ImpressionEvent, ...]:
    """
    A view past the money window is a label: it moves neither viewability nor money.

    Only what is news becomes one, as with views in time: whoever sends them without end fills no stream.
    """
    view = said.get(known.terms.viewability_pack)
    if view is None or known.seen_late in {view, Viewability.VIEWABLE}:
        return ()
    return (
        ImpressionLabelled(
            cause=command.cause,
            digest=command.digest,
            source=LabelSource.VIEW,
            label=Label.VIEWABLE if view is Viewability.VIEWABLE else Label.NOT_VIEWABLE,
            weight=0.0,
            observed_at=command.viewed_at,
            received_at=command.received_at,
        ),
    )


def _rendered(state: Unseen | Decided) -> Decided:
    if isinstance(state, Unseen):
        raise CommandRefused(Refusal.NOT_RENDERED, "no render of the impression has arrived")
    return state


def _is_known(state: Decided, cause: CauseId, digest: str) -> bool:
    answer = state.absorbed.get(cause)
    if answer is not None and answer.digest != digest:
        raise CommandRefused(Refusal.EVENT_ID_REUSED, f"{cause} came before with another content")
    return answer is not None
