"""A request of which some renders went to the shelter: their answers put back in their places, or 503 for all."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from commands.items import Answer, Status
from service.problems import RETRY_AFTER_S, SHELTER_BUSY, Reply, document

_T = TypeVar("_T")


def others(raws: Sequence[_T], kept: Mapping[int, Answer]) -> Sequence[_T]:
    """Return those of *raws* that the shelter did not answer for, in order."""
    return [raw for at, raw in enumerate(raws) if at not in kept] if kept else raws


def merged(kept: Mapping[int, Answer], answers: Sequence[Answer]) -> list[Answer]:
    """Return *answers*, those of the others, with those of the shelter between them in their places."""
    rest = iter(answers)
    return [kept[at] if at in kept else next(rest) for at in range(len(kept) + len(answers))]


def all_busy(answers: Sequence[Answer], request_id: str, *, is_single: bool) -> Reply | None:
    """Return the problem document for a request of which nothing could be kept, None for any other."""
    if not answers or any(answer.status is not Status.DEFERRED for answer in answers):
        return None
    facts: dict[str, Any] = {"outcome": answers[0]} if is_single else {"outcomes": answers}
    headers = (("retry-after", str(RETRY_AFTER_S)),)
    return document(
        SHELTER_BUSY,
        request_id,
        detail=next((why for answer in answers for why in answer.errors), ""),
        headers=headers,
        **facts,
    )
