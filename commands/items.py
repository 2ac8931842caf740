"""What becomes of one render on its way through the gate: off the wire, prepared, answered."""

from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from msgspec import Raw, Struct

from domain.ids import ImpressionId
from domain.reasons import Reason, Verdict
from domain.screen import Observation
from domain.vocabulary import Rung


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
    ACCEPTED = "accepted"
    """What callers without the `decide` scope are told of all that was taken in."""


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """What the caller is told about one render. `provisional`: uncertain, so it may yet change."""

    event_id: UUID | None = None
    impression_id: ImpressionId | None = None
    status: Status
    verdict: Verdict | None = None
    reason: Reason | None = None
    provisional: bool = False
    rung: Rung | None = None
    errors: tuple[str, ...] = ()


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


Slot: TypeAlias = tuple[str, str, str]
"""Placement, person as the client names it, creative. Lives in memory alone and is never logged."""


class Malformed(Struct, frozen=True):
    """Cannot be read; goes to quarantine. `caller` is who sent it: a replay is screened as it would have been."""

    raw: bytes | Raw
    fault: Fault
    received_at: int
    event_id: UUID | None = None
    caller: Caller | None = None


class Refused(Struct, frozen=True):
    """A reason of class request holds."""

    event_id: UUID
    reason: Reason
    impression_id: ImpressionId | None = None


class Ready(Struct, frozen=True, gc=False):
    """Read, checked and screened: `reasons` hold against it, in order of precedence; `slot` is where it was shown."""

    seen: Observation
    reasons: tuple[Reason, ...]
    slot: Slot | None
    raw: bytes | Raw


Item: TypeAlias = Malformed | Refused | Ready
