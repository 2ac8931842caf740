"""Renders that no schema allows, as broken clients send them: always JSON objects, never what a render is."""

from collections.abc import Callable
from random import Random
from typing import Any, TypeAlias

import msgspec

from ml.traffic.draw import pick

_Fields: TypeAlias = dict[str, Any]


def _set(**wrong: Any) -> Callable[[_Fields], _Fields]:
    return lambda fields: {**fields, **wrong}


def _without(name: str) -> Callable[[_Fields], _Fields]:
    return lambda fields: {key: value for key, value in fields.items() if key != name}


SPOILERS: tuple[Callable[[_Fields], _Fields], ...] = (
    _without("token"),
    _without("event_id"),
    _set(event_id="not-a-uuid"),
    _set(width=-320),
    _set(height="250px"),
    _set(visible_ratio=1.73),
    _set(visible_ms=-4),
    _set(client_at="yesterday"),
    _set(country="DEU"),
    _set(omid_type="rendered"),
    _set(kind="click"),
    _set(sdk="x" * 300),
    _set(sdk_seq=None, token=17),
    _set(impression="00000000-0000-0000-0000-000000000000"),
)
"""One way of being wrong each."""


def spoil(head: bytes, rng: Random) -> bytes:
    """Return *head*, the JSON of an event without its closing brace, with one thing wrong."""
    return msgspec.json.encode(pick(SPOILERS, rng)(msgspec.json.decode(head + b"}")))[:-1]
