"""What callers are told about renders that another cell owns: per render its cell and address, or 421 for a request."""

from collections.abc import Sequence
from typing import Any

from commands.answers import elsewhere
from commands.items import Answer, Elsewhere, Item, Refused
from domain.reasons import Reason
from service.problems import REFUSALS, Reply, document

UNKNOWN = "no cell of this map owns it; ask again with the newest map"


def with_homes(items: Sequence[Item], answers: list[Answer]) -> list[Answer]:
    """Return *answers*, in order, with the right cell in those that tell of a misdirected one of *items*."""
    if Refused not in map(type, items):
        return answers
    return [
        elsewhere(item.event_id, item.impression_id, item.home)
        if isinstance(item, Refused) and item.reason is Reason.REGION_MISDIRECTED
        else answer
        for item, answer in zip(items, answers, strict=True)
    ]


def misdirected(answers: Sequence[Answer], request_id: str, *, is_single: bool) -> Reply | None:
    """Return the problem document for a request whose renders all belong elsewhere, None for any other."""
    if not answers or not all(isinstance(answer, Elsewhere) for answer in answers):
        return None
    homes = {(answer.cell, answer.address) for answer in answers if isinstance(answer, Elsewhere)}
    facts: dict[str, Any] = {"outcome": answers[0]} if is_single else {"outcomes": answers}
    if len(homes) > 1:
        detail = "several cells own these renders; each outcome names its own"
    else:
        [(cell, address)] = homes
        facts = {"cell": cell, "address": address, **facts}
        detail = UNKNOWN if cell is None else f"send it to {cell} at {address}"
    return document(REFUSALS[Reason.REGION_MISDIRECTED], request_id, detail=detail, **facts)
