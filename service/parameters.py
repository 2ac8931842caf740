"""Reads the query strings of both APIs. Times are epoch ms or RFC 3339 in, RFC 3339 UTC out."""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from starlette.datastructures import QueryParams

from service.problems import BadParameter

E = TypeVar("E", bound=StrEnum)

_TIME_MAX = 1 << 47


def time_of(parameters: QueryParams, name: str) -> int | None:
    """Return a time in epoch ms; None if it is not given."""
    text = parameters.get(name)
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        at = int(text[:20])
    else:
        try:
            moment = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign that was not escaped
        except ValueError as error:
            raise BadParameter(f"{name}: must be epoch milliseconds or RFC 3339") from error
        if moment.tzinfo is None:
            raise BadParameter(f"{name}: must say its offset from UTC")
        at = int(moment.timestamp() * 1_000)
    if not 0 <= at < _TIME_MAX:
        raise BadParameter(f"{name}: is out of range")
    return at


def number_of(parameters: QueryParams, name: str, default: int | None = None) -> int | None:
    text = parameters.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise BadParameter(f"{name}: must be a whole number")
    return int(text)


def members_of(parameters: QueryParams, name: str, kind: type[E]) -> tuple[E, ...]:
    """Return the members of *kind* that are named, apart by commas or in repeated parameters."""
    named = [part for text in parameters.getlist(name) for part in text.split(",") if part]
    return tuple(member_of(name, part, kind) for part in named)


def member_of(name: str, text: str, kind: type[E]) -> E:
    try:
        return kind(text)
    except ValueError as error:
        raise BadParameter(f"{name}: must be of {', '.join(member.value for member in kind)}") from error


def rfc3339(at: int) -> str:
    """Return epoch ms as RFC 3339, UTC, with milliseconds."""
    return datetime.fromtimestamp(at / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def only_known(parameters: QueryParams, known: Iterable[str]) -> None:
    """Raise `BadParameter` where *parameters* has another than the *known* ones."""
    for name in parameters:
        if name not in set(known):
            raise BadParameter(f"{name[:64]}: is not a parameter")
