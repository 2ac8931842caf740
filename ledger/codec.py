"""
How events are written down: one JSON array per commit, `[schema version, event, ...]`.

A new meaning is a new schema version and an upcaster from the one before; what is stored is never rewritten.
"""

import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from struct import pack
from typing import Any, TypeAlias

import msgspec

from domain.aggregates import LedgerEvent
from domain.events import ImpressionEvent
from ledger.store import Append

SCHEMA_VERSION = 2

Upcaster: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns one event, as plain JSON, of a schema version into the next one."""

_FLOAT32_MAX = 3.4028234663852886e38


def _features_as_bytes(event: dict[str, Any]) -> dict[str, Any]:
    """In version 1 a score had its features as a list of numbers, null where one was unknown."""
    listed = event.get("features")
    if event["type"] != "ImpressionScored" or listed is None:
        return event
    values = [math.nan if value is None else max(-_FLOAT32_MAX, min(value, _FLOAT32_MAX)) for value in listed]
    return event | {"features": b64encode(pack(f"<{len(values)}f", *values)).decode()}


UPCASTERS: Mapping[int, Upcaster] = {1: _features_as_bytes}
"""Schema version -> what turns its events into the next version's."""


class UnreadableCommit(ValueError):
    """Stored bytes are not events of a schema version that this program knows."""


_UNREADABLE = b"unreadable: "
_ENCODER = msgspec.json.Encoder()
_RAW = msgspec.json.Decoder(list[msgspec.Raw])
_EVENT = msgspec.json.Decoder(LedgerEvent)
_PREFIX = f"[{SCHEMA_VERSION},".encode()
_IMPRESSION = msgspec.json.Decoder(list[int | ImpressionEvent])


def encode(events: Iterable[LedgerEvent]) -> bytes:
    """Return *events* as they are stored."""
    return _ENCODER.encode((SCHEMA_VERSION, *events))


def unreadable(why: str) -> bytes:
    """Return data in the place of what a store has and cannot read: whoever decodes it is told *why*."""
    return _UNREADABLE + why.encode()


def is_unreadable(data: bytes) -> bool:
    """Tell whether *data* stand in the place of what the store cannot read."""
    return data.startswith(_UNREADABLE)


def written(append: Append) -> bytes:
    """Return the events of *append* as they are stored."""
    return append.data or encode(append.events)


def decode(
    data: bytes, *, current: int = SCHEMA_VERSION, upcasters: Mapping[int, Upcaster] = UPCASTERS
) -> tuple[LedgerEvent, ...]:
    """
    Return the events in *data*, brought up to schema version *current*.

    Raises:
        UnreadableCommit: the bytes are damaged or of a newer version.
    """
    if is_unreadable(data):
        raise UnreadableCommit(data.removeprefix(_UNREADABLE).decode())
    try:
        version, raw_events = split(data)
        if version > current:
            raise UnreadableCommit(f"stored by a newer program: schema version {version}, this one knows {current}")
        if version == current:
            return tuple([_EVENT.decode(raw) for raw in raw_events])
        return tuple([_upcast(raw, version, current, upcasters) for raw in raw_events])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError) as error:
        raise UnreadableCommit(f"cannot read stored events: {error!r}") from error


def decode_impression(data: bytes) -> tuple[ImpressionEvent, ...]:
    """
    Return the events in *data*, which is a commit of an impression's stream.

    Raises:
        UnreadableCommit: the bytes are damaged, of a newer version, or of another stream.
    """
    try:
        _, *events = _IMPRESSION.decode(as_written_today(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableCommit(f"cannot read stored events of an impression: {error!r}") from error
    if int in map(type, events):
        raise UnreadableCommit("a number stands where an event should")
    return tuple(events)  # type: ignore[arg-type]  # checked in the line before


def decode_readable(data: bytes) -> tuple[ImpressionEvent, ...] | None:
    """Return the events in *data*, a commit of an impression's stream; None where they cannot be read."""
    try:
        return decode_impression(data)
    except UnreadableCommit:
        return None


def as_written_today(data: bytes) -> bytes:
    """
    Return *data* in the current schema version, for those who read no more of it than they need.

    Raises:
        UnreadableCommit: it is of another version, and damaged or newer.
    """
    return data if data.startswith(_PREFIX) else encode(decode(data))


def split(data: bytes) -> tuple[int, list[msgspec.Raw]]:
    """Return schema version and raw events of *data*; raises `msgspec.DecodeError` on damaged bytes."""
    items = _RAW.decode(data)
    if not items:
        raise msgspec.DecodeError("no schema version")
    return msgspec.json.decode(items[0], type=int), items[1:]


def _upcast(raw: msgspec.Raw, version: int, current: int, upcasters: Mapping[int, Upcaster]) -> LedgerEvent:
    plain = msgspec.json.decode(raw, type=dict[str, Any])
    for step in range(version, current):
        plain = upcasters[step](plain)
    event: LedgerEvent = msgspec.convert(plain, LedgerEvent)
    return event
