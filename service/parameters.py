"""Reads the query strings of both APIs. Times are epoch ms or RFC 3339 in, RFC 3339 UTC out."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from starlette.datastructures import QueryParams

from domain.ids import TIME_MAX_MS
from service.problems import BadParameter

E = TypeVar("E", bound=StrEnum)

_TIME_MAX = 1 << 47
_EPOCH = datetime.fromtimestamp(0, UTC)
_RFC3339_MIN = -62_135_596_800_000
_AFTER_DIGITS_MAX = 15


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


def page_limit(parameters: QueryParams, default: int, most: int) -> int:
    """Return `limit`, which is in 1 to *most*."""
    limit = number_of(parameters, "limit", default) or 0
    if not 1 <= limit <= most:
        raise BadParameter(f"limit: must be 1 to {most}")
    return limit


def flag_of(parameters: QueryParams, name: str) -> bool:
    """Return whether it is `true`; not given is `false`."""
    text = parameters.get(name, "false")
    if text not in {"true", "false"}:
        raise BadParameter(f"{name}: must be true or false")
    return text == "true"


def uuid_of(text: str, name: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise BadParameter(f"{name}: must be a UUID") from error


def after_of(parameters: QueryParams) -> tuple[int, UUID] | None:
    """Return the last one seen, as `{epoch ms}_{id}` in `after`; None if it is not given."""
    text = parameters.get("after")
    if text is None:
        return None
    at, _, id_ = text.partition("_")
    if not (at.isascii() and at.isdigit() and len(at) <= _AFTER_DIGITS_MAX):
        raise BadParameter("after: must be what an answer before gave")
    return int(at), uuid_of(id_, "after")


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
    """Return epoch ms as RFC 3339, UTC, with milliseconds; of years that it has no digits for, the nearest time."""
    moment = _EPOCH + timedelta(milliseconds=min(max(at, _RFC3339_MIN), TIME_MAX_MS))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def only_known(parameters: QueryParams, known: Iterable[str]) -> None:
    """Raise `BadParameter` where *parameters* has another than the *known* ones."""
    for name in parameters:
        if name not in set(known):
            raise BadParameter(f"{name[:64]}: is not a parameter")
