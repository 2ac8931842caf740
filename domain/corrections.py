"""Corrections: which may be asked for, and who may overrule whom."""

from collections.abc import Iterator

from msgspec import Struct

from domain.events import CorrectionKind, ImpressionReconciled
from domain.reasons import CLASS_OF, Reason, ReasonClass
from domain.standing import Dropped, Duplicate, Standing, Uncertain
from domain.vocabulary import Authority

REPEATS = frozenset({Reason.DUPLICATE_RENDER, Reason.DUPLICATE_CONFLICT})
"""Reasons of a render that repeats one; no impression stands by them."""


class Ruling(Struct, frozen=True, order=True):
    """A correction in force. Order is who may overrule whom: authority, then later observation, then id."""

    authority: Authority
    observed_at: int
    correction: str


class VerdictInForce(Struct, frozen=True):
    """The verdict correction in force: its rank and the reason that it asked for (None: valid)."""

    rank: Ruling
    reason: Reason | None
    expiry: bool = False


class PriceInForce(Struct, frozen=True):
    """The price correction in force."""

    rank: Ruling
    price_micros: int


def edge_is_legal(first: Standing, asked: Reason | None) -> bool:
    """
    Tell whether a correction may lead from the decision *first* to the reason *asked* (None: valid).

    What *first* says already may be asked for: so does a higher authority overrule the correction of a lower one.
    """
    cls = None if asked is None else CLASS_OF[asked]
    if cls in {ReasonClass.REQUEST, ReasonClass.UNDECIDED} or asked in REPEATS:
        return False
    match first:
        case Duplicate():
            return cls in {None, ReasonClass.DUPLICATE}
        case Dropped(reason_class=ReasonClass.POLICY):
            return cls not in {None, ReasonClass.DUPLICATE}
        case Dropped():
            return cls is not ReasonClass.DUPLICATE
        case _:
            return True


def flaw_of(first: Standing, correction: ImpressionReconciled) -> str | None:
    """Say why *correction* may not be asked for after the decision *first*; None if it may."""
    return next(_flaws(first, correction), None)


def _flaws(first: Standing, correction: ImpressionReconciled) -> Iterator[str]:
    kind, authority, price_micros = correction.kind, correction.authority, correction.asked_price_micros
    if authority is None or (kind is CorrectionKind.EXPIRY) is not (authority is Authority.EXPIRY):
        yield "an expiry, and nothing else, has the authority of one"
    if (kind is CorrectionKind.REPRICE) is not (price_micros is not None) or (price_micros or 0) < 0:
        yield "a reprice, and nothing else, asks for a price"
    if kind is not CorrectionKind.VERDICT and correction.asked is not None:
        yield "a correction of the verdict, and nothing else, asks for a reason"
    if kind is CorrectionKind.VERDICT and not edge_is_legal(first, correction.asked):
        yield f"no edge from {first} to {correction.asked or 'valid'}"
    if kind is CorrectionKind.EXPIRY and not _is_due(first, correction.decided_at):
        yield "what is decided, or has time left, does not expire"


def _is_due(first: Standing, at: int) -> bool:
    return isinstance(first, Uncertain) and first.resolve_by is not None and first.resolve_by <= at
