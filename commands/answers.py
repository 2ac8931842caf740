"""What the caller is told, per outcome of one render."""

from uuid import UUID

from commands.items import Answer, Deferred, Elsewhere, Fault, Malformed, Ready, Status
from domain.cells import Cell
from domain.decide import CommandRefused, Refusal
from domain.ids import ImpressionId
from domain.reasons import Reason, Verdict
from domain.render import Kind
from domain.vocabulary import Rung


def decided(
    item: Ready, verdict: Verdict | None, reason: Reason | None, rung: Rung | None = None, *, is_stored: bool = False
) -> Answer:
    """Answer *item*; where its decision *is_stored*, it is provisional only as far as it is uncertain."""
    return Answer(
        event_id=item.claim.cause,
        impression_id=item.impression,
        status=Status.DECIDED if item.kind is Kind.RENDER else Status.RECORDED,
        verdict=verdict,
        reason=reason,
        provisional=verdict is Verdict.UNCERTAIN or (rung is Rung.SPOOLED and not is_stored),
        rung=item.rung if rung is None else rung,
    )


def refused(event_id: UUID, impression: ImpressionId | None, reason: Reason) -> Answer:
    return Answer(event_id=event_id, impression_id=impression, status=Status.REFUSED, reason=reason)


def elsewhere(event_id: UUID, impression: ImpressionId | None, home: Cell | None) -> Elsewhere:
    """Return the answer about a render that *home* owns, None where the map does not know who does."""
    return Elsewhere(
        event_id=event_id,
        impression_id=impression,
        status=Status.REFUSED,
        reason=Reason.REGION_MISDIRECTED,
        cell=None if home is None else home.name,
        address=None if home is None else home.address,
    )


def not_taken(item: Ready, error: CommandRefused) -> Answer:
    if error.refusal is Refusal.EVENT_ID_REUSED:
        return refused(item.claim.cause, item.impression, Reason.EVENT_ID_REUSED)
    return Answer(event_id=item.claim.cause, impression_id=item.impression, status=Status.PARKED)


def deferred(item: Deferred) -> Answer:
    errors = (item.why,) if item.why else ()
    return Answer(event_id=item.event_id, impression_id=item.impression_id, status=Status.DEFERRED, errors=errors)


def quarantined(item: Malformed) -> Answer:
    fault = item.fault
    return Answer(
        event_id=item.event_id, status=Status.QUARANTINED, errors=(f"{fault.code} at {fault.path}: {fault.detail}",)
    )


def reused(item: Ready) -> Malformed:
    fault = Fault(code="event_id_reused", detail="the event id came before with another content", path="$.event_id")
    return Malformed(item.raw, fault, item.claim.received_at, item.claim.cause)
