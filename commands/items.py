"""What becomes of one render on its way through the gate: off the wire, prepared, answered."""

from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from msgspec import Raw, Struct

from domain.cells import Cell
from domain.events import ImpressionRendered, Versions
from domain.ids import ImpressionId
from domain.reasons import Reason, Verdict
from domain.render import Kind
from domain.vocabulary import DataSet, Rung


class Status(StrEnum):
    DECIDED = "decided"
    """A render has its verdict."""
    RECORDED = "recorded"
    """A view was taken in."""
    PARKED = "parked"
    """A view came before its render and waits for it."""
    REFUSED = "refused"
    """A reason of class request: counted, but never touches the impression's stream."""
    QUARANTINED = "quarantined"
    """It cannot be read; kept, encrypted, until it is looked at or its time is up."""
    DEFERRED = "deferred"
    """
    Nothing of it was taken: the key of its day could not be had in time, or there is no room for other regions', for
    another view that waits for its render, or for another event that cannot be read. Send the same event again.
    """
    ACCEPTED = "accepted"
    """What callers without the `decide` scope are told of all that was taken in."""


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """
    What the caller is told about one render. `provisional`: uncertain, so it may yet change.

    `rung` is the worst that it was decided on; the event has those beside it.
    """

    event_id: UUID | None = None
    impression_id: ImpressionId | None = None
    status: Status
    verdict: Verdict | None = None
    reason: Reason | None = None
    provisional: bool = False
    rung: Rung | None = None
    errors: tuple[str, ...] = ()


class Elsewhere(Answer, frozen=True, kw_only=True, gc=False):
    """The answer about a render that another cell owns; both are None where this cell does not know which."""

    cell: str | None = None
    address: str | None = None


class Caller(Struct, frozen=True):
    """
    Who sent a request, as far as it matters: scopes, and what HTTP says of agent and network address.

    `received_at` (epoch ms) is set where the gate itself hands in again what it received before.
    """

    scopes: frozenset[str]
    agent: str | None = None
    network: str | None = None
    received_at: int | None = None


class Fault(Struct, frozen=True, kw_only=True):
    """Why a render cannot be read: a code, a sentence without any of its values, and where in the document."""

    code: str
    detail: str
    path: str = "$"


Slot: TypeAlias = str
"""Pseudonym of a person, placement and creative, in one text: among hundreds of thousands one object is cheaper."""


def slots_of(data_set: DataSet, placement: str, creative: str, *names: str) -> tuple[Slot, ...]:
    """Return the slot of each of *names* that there is, which all are pseudonyms of one person. History has its own."""
    # With its length the placement ends where it ends, whatever is in it.
    of = " " if data_set is DataSet.LIVE else f" {data_set} "
    return tuple([f"{name}{of}{len(placement)} {placement}{creative}" for name in names if name])


class Malformed(Struct, frozen=True):
    """Cannot be read; goes to quarantine. `caller` is who sent it: a replay is screened as it would have been."""

    raw: bytes | Raw
    fault: Fault
    received_at: int
    event_id: UUID | None = None
    caller: Caller | None = None


class Refused(Struct, frozen=True):
    """A reason of class request holds. `home` is the cell that owns a misdirected one, if a cell map says so."""

    event_id: UUID
    reason: Reason
    impression_id: ImpressionId | None = None
    home: Cell | None = None


class Deferred(Struct, frozen=True):
    """It cannot be taken now: the key of its day is not at hand, without which nobody can recognise it, or *why*."""

    event_id: UUID
    impression_id: ImpressionId
    why: str = ""


class Ready(Struct, frozen=True, kw_only=True, gc=False):
    """
    Read, checked and screened: `reasons` hold against it, in order of precedence.

    `slots` is where it was shown to whom, empty if nothing names one; in the hour after midnight also as the day before
    would name the person, which is `alias`. A view claims in `claim` what a render would.
    """

    impression: ImpressionId
    kind: Kind
    claim: ImpressionRendered
    reasons: tuple[Reason, ...]
    slots: tuple[Slot, ...]
    versions: Versions
    rung: Rung = Rung.FULL
    data_set: DataSet = DataSet.LIVE
    raw: bytes | Raw
    alias: str = ""


Item: TypeAlias = Malformed | Refused | Deferred | Ready
