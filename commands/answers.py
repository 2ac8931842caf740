"""What the caller is told, per outcome of one render."""

from uuid import UUID

from commands.items import Answer, Fault, Malformed, Ready, Status
from domain.decide import CommandRefused, Refusal
from domain.ids import ImpressionId
from domain.reasons import Reason, Verdict
from domain.render import Kind


def decided(item: Ready, verdict: Verdict | None, reason: Reason | None) -> Answer:
    return Answer(
        event_id=item.claim.cause,
        impression_id=item.impression,
        status=Status.DECIDED if item.kind is Kind.RENDER else Status.RECORDED,
        verdict=verdict,
        reason=reason,
        provisional=verdict is Verdict.UNCERTAIN,
        rung=item.rung,
    )


def refused(event_id: UUID, impression: ImpressionId | None, reason: Reason) -> Answer:
    return Answer(event_id=event_id, impression_id=impression, status=Status.REFUSED, reason=reason)


def not_taken(item: Ready, error: CommandRefused) -> Answer:
    if error.refusal is Refusal.EVENT_ID_REUSED:
        return refused(item.claim.cause, item.impression, Reason.EVENT_ID_REUSED)
    return Answer(event_id=item.claim.cause, impression_id=item.impression, status=Status.PARKED)


def quarantined(item: Malformed) -> Answer:
    fault = item.fault
    return Answer(
        event_id=item.event_id, status=Status.QUARANTINED, errors=(f"{fault.code} at {fault.path}: {fault.detail}",)
    )


def reused(item: Ready) -> Malformed:
    fault = Fault(code="event_id_reused", detail="the event id came before with another content", path="$.event_id")
    return Malformed(item.raw, fault, item.claim.received_at, item.claim.cause)
