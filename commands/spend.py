"""
What a commit of the ledger takes from budgets, read no further than that needs.

Decisions take money when they are made, corrections give some back or take more. What a proof changes in the very
commit that it proves belongs to the decision: nobody spent it before. Replayed history takes none.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from commands.budget_store import Holder
from ledger.codec import UnreadableCommit, as_written_today
from ledger.store import Commit

_LIVE = "live"


class Spend(NamedTuple):
    """
    Micros that one event takes from a campaign (below zero: gives back). `event_at` (epoch ms) is when the render that
    takes them happened: of what was fetched ahead, that is later than the impression's own.

    `is_decision`: a gate decided it, reports it under the label `lease`, and knew the campaign at `registry_version`.
    Everything else is a correction.
    """

    campaign: str
    event_at: int
    micros: int
    is_decision: bool
    lease: str
    registry_version: int


class _Cut(Struct, gc=False):
    campaign: str
    event_at: int
    data_set: str = _LIVE


class _Standing(Struct, gc=False):
    billable_micros: int = 0
    reserved_micros: int = 0


class _Funding(Struct, gc=False):
    registry_version: int = 0
    lease: str = ""


class _Mover(Struct, gc=False):
    cut: _Cut
    after: _Standing
    before: _Standing | None = None


class _Deduped(_Mover, tag_field="type", tag="ImpressionDeduped", gc=False):
    funding: _Funding | None = None


class _Reconciled(_Mover, tag_field="type", tag="ImpressionReconciled", gc=False):
    pass


class _Viewed(_Mover, tag_field="type", tag="ImpressionViewed", gc=False):
    pass


class _Rendered(Struct, tag_field="type", tag="ImpressionRendered", gc=False):
    event_at: int


class _Scored(Struct, tag_field="type", tag="ImpressionScored", gc=False):
    pass


class _Labelled(Struct, tag_field="type", tag="ImpressionLabelled", gc=False):
    pass


class _Answered(Struct, tag_field="type", tag="ImpressionAnswered", gc=False):
    pass


_Event: TypeAlias = _Deduped | _Reconciled | _Viewed | _Rendered | _Scored | _Labelled | _Answered
_decode = msgspec.json.Decoder(list[int | _Event]).decode
_NOTHING = _Standing()
_UNFUNDED = _Funding()


def spends(commit: Commit) -> Sequence[Spend]:
    """
    Return what *commit* takes from budgets; nothing if it is no impression's.

    Raises:
        UnreadableCommit: its bytes are damaged or written by a newer program.
    """
    if isinstance(commit.stream, str):
        return ()
    data = as_written_today(commit.data)
    try:
        events = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableCommit(f"cannot read the events at position {commit.position}: {error}") from error
    found: list[Spend] = []
    rendered: _Rendered | None = None
    decision: Spend | None = None
    for event in events:
        if isinstance(event, _Rendered):
            rendered = event
        elif isinstance(event, _Mover) and event.cut.data_set == _LIVE:
            spend = _decided(event, rendered) if isinstance(event, _Deduped) else _moved(event, decision)
            if rendered is not None and isinstance(event, _Deduped):
                decision = spend
            rendered = None
            if spend.micros:
                found.append(spend)
    return found


def belongs_to(lease: str, holder: Holder) -> bool:
    """Tell whether *lease* labels a period of *holder* that the holder did not report."""
    if lease == holder.name:
        return True
    name, _, number = lease.rpartition(".")
    return name == holder.name and number.isdigit() and int(number) > holder.reported


def _decided(event: _Deduped, rendered: _Rendered | None) -> Spend:
    at = event.cut.event_at if rendered is None else rendered.event_at
    funding = event.funding or _UNFUNDED
    return Spend(event.cut.campaign, at, _micros(event), True, funding.lease, funding.registry_version)


def _moved(event: _Mover, decision: Spend | None) -> Spend:
    """Return what *event* changes, as part of the *decision* before it in its commit, if there is one."""
    if decision is not None:
        return decision._replace(micros=_micros(event))
    return Spend(event.cut.campaign, event.cut.event_at, _micros(event), False, "", 0)


def _micros(event: _Mover) -> int:
    before, after = event.before or _NOTHING, event.after
    return after.billable_micros + after.reserved_micros - before.billable_micros - before.reserved_micros
