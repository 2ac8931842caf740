"""
Where an impression stands: one small type per verdict, so that a standing that cannot be cannot be written down.

On the wire each is one flat object whose `verdict` tells the type.
"""

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from domain.reasons import CLASS_OF, Reason, ReasonClass, Verdict
from domain.vocabulary import BillingEvent


class Viewability(StrEnum):
    """What is known of one impression under one viewability pack; absence means undetermined."""

    NOT_VIEWABLE = "not_viewable"
    VIEWABLE = "viewable"


Viewabilities: TypeAlias = dict[str, Viewability]
"""Name of viewability pack -> what it says. A pack that says nothing yet is absent: undetermined."""


class _Standing(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="verdict", gc=False):
    viewability: Viewabilities = {}

    @property
    def verdict(self) -> Verdict:
        return _VERDICTS[type(self)]


class Valid(_Standing, frozen=True, tag="valid"):
    """Counts. What is not billable yet (awaiting a view) is reserved."""

    billable_micros: int = 0
    reserved_micros: int = 0

    @property
    def reason(self) -> None:
        return None

    @property
    def reason_class(self) -> None:
        return None


class _Unbilled(_Standing, frozen=True):
    reason: Reason
    reason_class: ReasonClass

    @property
    def billable_micros(self) -> int:
        return 0


class Dropped(_Unbilled, frozen=True, tag="dropped"):
    """Does not count; the class tells whether it is invalid traffic (gross) or outside gross."""

    @property
    def reserved_micros(self) -> int:
        return 0


class Duplicate(_Unbilled, frozen=True, tag="duplicate"):
    """A double fire: another ad instance for what was shown once."""

    @property
    def reserved_micros(self) -> int:
        return 0


class Uncertain(_Unbilled, frozen=True, tag="uncertain"):
    """Not decided yet; after `resolve_by` (epoch ms) it expires: still uncertain, final, nothing reserved."""

    reserved_micros: int = 0
    resolve_by: int | None = None
    expired: bool = False


Standing: TypeAlias = Valid | Dropped | Duplicate | Uncertain

_VERDICTS: dict[type, Verdict] = {
    Valid: Verdict.VALID,
    Dropped: Verdict.DROPPED,
    Duplicate: Verdict.DUPLICATE,
    Uncertain: Verdict.UNCERTAIN,
}

GROSS_CLASSES = frozenset({ReasonClass.GIVT, ReasonClass.SIVT, ReasonClass.UNDECIDED})


def in_gross(standing: Standing) -> bool:
    """Tell whether the impression is gross: gross = net + givt + sivt + undecided."""
    return standing.reason_class is None or standing.reason_class in GROSS_CLASSES


class Terms(Struct, frozen=True, gc=False):
    """How an impression is billed: its price, whether only when viewable, and by which viewability pack."""

    price_micros: int
    billing_event: BillingEvent
    viewability_pack: str


def standing_for(
    reason: Reason | None, terms: Terms, viewability: Viewabilities, resolve_by: int | None = None
) -> Standing:
    """
    Return the standing that *reason* (None: nothing speaks against it) gives an impression.

    *resolve_by* is the deadline of an uncertain impression in epoch ms.
    """
    price_micros = terms.price_micros
    if reason is None:
        on_view = terms.billing_event is BillingEvent.VIEWABLE
        waits = on_view and viewability.get(terms.viewability_pack) is not Viewability.VIEWABLE
        return Valid(
            viewability=viewability,
            billable_micros=0 if waits else price_micros,
            reserved_micros=price_micros if waits else 0,
        )
    cls = CLASS_OF[reason]
    if cls is ReasonClass.UNDECIDED:
        return Uncertain(
            reason=reason,
            reason_class=cls,
            viewability=viewability,
            reserved_micros=price_micros,
            resolve_by=resolve_by,
        )
    if cls is ReasonClass.DUPLICATE:
        return Duplicate(reason=reason, reason_class=cls, viewability=viewability)
    return Dropped(reason=reason, reason_class=cls, viewability=viewability)
