"""
What is wrong with a body that cannot be read as a render, and how it can be mended.

A fix may change only what cannot be read. What the client said readably stays as it said it, and which event it is
about and which ad instance is no operator's to say.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias
from uuid import UUID, uuid5

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import FieldInfo

from commands.quarantine_entries import FixRefused, NotReplayable
from domain.render import RENDER_MAX_BYTES, Render

MEMBERS_MAX = 200

IDENTIFIERS = frozenset({"token", "user", "device", "network", "agent", "session"})
"""Fields that can name a person, or are worth money to a forger."""

Patch: TypeAlias = Mapping[str, Any]
"""A JSON merge patch (RFC 7386): null removes."""
Document: TypeAlias = Mapping[str, Raw]

_OPERATOR_FREE = frozenset({"event_id", "token", "received_at"})
_SAYS_BY_ABSENCE = frozenset({"agent", "network"})
"""Without them, those of the HTTP request count."""
_HARMLESS = frozenset({"attempt"})
_FIELDS: Mapping[str, FieldInfo] = {field.name: field for field in msgspec.structs.fields(Render)}
_RENDER = msgspec.json.Decoder(Render)
_DOCUMENT = msgspec.json.Decoder(dict[str, Raw])
_ENCODER = msgspec.json.Encoder()
_READABLE_ALONE = {"event_id": UUID(int=0), "token": ""}
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NAME_MAX = 64


class Flaw(Struct, frozen=True, kw_only=True):
    """
    One field that cannot be read: `says` what is expected, `found` the type of what stands there, never its value.

    `suggested` is a value that says the same readably; `removable` that it may be left out, which says less.
    """

    field: str
    says: str
    found: str
    suggested: Any = None
    removable: bool = False

    @property
    def path(self) -> str:
        return f"$.{self.field[:_NAME_MAX]}"

    @property
    def is_mendable(self) -> bool:
        return self.suggested is not None or self.removable


def read(body: bytes) -> Document:
    """
    Return the members of *body*; of one that stands twice the last, as in a render.

    Raises:
        NotReplayable: it is no JSON object, or far too large for a render.
    """
    if len(body) > RENDER_MAX_BYTES:
        raise NotReplayable(f"it has more than {RENDER_MAX_BYTES} bytes, as no render has; its beginning is kept")
    try:
        document = _DOCUMENT.decode(body)
    except msgspec.ValidationError as error:
        raise NotReplayable(f"it is JSON, but no object: {says(error)}") from error
    except RecursionError as error:
        raise NotReplayable("it is nested too deeply to be read") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotReplayable(f"it is not JSON, so no field of it can be mended: {_where(error)}") from error
    if len(document) > MEMBERS_MAX:
        raise NotReplayable(f"it has {len(document)} members; no render has more than {MEMBERS_MAX}")
    return document


def flaws(document: Document, *, may_be_history: bool) -> list[Flaw]:
    """Return what cannot be read of *document*, field by field; *may_be_history*: its sender may state received_at."""
    found = [_flaw(name, raw) for name, raw in document.items() if name not in _FIELDS or _error(name, raw)]
    if not may_be_history and "received_at" in document and _error("received_at", document["received_at"]) is None:
        stated = Flaw(
            field="received_at",
            says="its sender may not say when it was received",
            found=type_of(document["received_at"]),
            removable=True,
        )
        found.append(stated)
    found += [
        Flaw(field=name, says="it is missing", found="nothing")
        for name, field in _FIELDS.items()
        if field.required and name not in document
    ]
    return found


def derived(found: list[Flaw]) -> tuple[dict[str, Any], list[str]] | None:
    """
    Return the patch that mends all that was *found*, and the known fields that it leaves out; None if there is none.

    A missing event id is no flaw here: `mend` gives one that follows from the entry.
    """
    patch: dict[str, Any] = {}
    for flaw in found:
        if flaw.field == "event_id":
            continue
        if not flaw.is_mendable:
            return None
        patch[flaw.field] = flaw.suggested
    return patch, [name for name, value in patch.items() if value is None and name in _FIELDS]


def mend(document: Document, patch: Patch, name: str, *, may_be_history: bool) -> tuple[bytes, tuple[str, ...]]:
    """
    Return *document*, an entry's body of that *name*, with *patch* applied, and the fields that this changes.

    Of those that no render has, only that they were `unknown` is told: their names are the client's words.

    Raises:
        FixRefused: it changes what can be read, or what only the client or delivery can say, or mends not enough.
        NotReplayable: its token cannot be read.
    """
    broken = {flaw.field for flaw in flaws(document, may_be_history=may_be_history)}
    if "token" in broken:
        raise NotReplayable("it has no readable token; only delivery can say which ad instance was shown")
    changed = [field for field, value in patch.items() if _changes(document.get(field), value)]
    for field in changed:
        if field in _OPERATOR_FREE and not (field == "received_at" and patch[field] is None):
            raise FixRefused(f"$.{field} is not an operator's to say")
        if field not in broken:
            why = "can be read as it is" if field in document else "was not said by the client"
            raise FixRefused(f"$.{field[:_NAME_MAX]} {why}; a fix changes only what cannot be read")
    mended = merge_patch(document, patch)
    if "event_id" in broken:
        mended["event_id"] = str(uuid5(UUID(hex=name), "event_id"))
        changed.append("event_id")
    body = _ENCODER.encode(mended)
    left = flaws(_DOCUMENT.decode(body), may_be_history=may_be_history)
    if left:
        wrong = "; ".join(f"{flaw.path}: {flaw.says}" for flaw in left[:5])
        raise FixRefused(f"it still cannot be read. {wrong}")
    return body, tuple(field if field in _FIELDS else "unknown" for field in changed)


def merge_patch(target: Any, patch: Any) -> Any:
    """Return *target* with the JSON merge *patch* applied (RFC 7386, 2)."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(_opened(target))
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def masked(document: Document, found: list[Flaw]) -> dict[str, Any]:
    """Return *document* for a look at it: identifiers, and texts that nobody knows the meaning of, stay hidden."""
    broken = {flaw.field for flaw in found}
    shown = {}
    for name, raw in document.items():
        kind = type_of(raw)
        hides = name in IDENTIFIERS or name not in _FIELDS or kind in {"object", "array"}
        hides |= name in broken and kind == "string"
        shown[name[:_NAME_MAX]] = f"<{_sized(raw, kind)}, hidden>" if hides else _value(raw)
    return shown


def type_of(raw: Raw) -> str:
    """Return the JSON type of *raw*."""
    first = bytes(raw).lstrip()[:1]
    return {b'"': "string", b"{": "object", b"[": "array", b"t": "boolean", b"f": "boolean", b"n": "null"}.get(
        first, "number"
    )


def says(error: Exception) -> str:
    """Return what *error* expected, without the value that it found."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = str(error).partition(" - at `")[0]
    return "it is none of its closed list" if text.startswith("Invalid enum value") else text


def _flaw(name: str, raw: Raw) -> Flaw:
    found = type_of(raw)
    if name not in _FIELDS:
        return Flaw(field=name, says="no field of a render has this name", found=found, removable=True)
    error = _error(name, raw)
    assert error is not None, "called for what cannot be read"
    field = _FIELDS[name]
    is_optional = field.default is None or name in _HARMLESS
    return Flaw(
        field=name,
        says=says(error),
        found=found,
        suggested=None if name in _OPERATOR_FREE else _same_but_readable(name, raw),
        removable=is_optional and name not in _SAYS_BY_ABSENCE,
    )


def _error(name: str, value: Any) -> Exception | None:
    """Return why *value* cannot be read as field *name* of a render, None if it can."""
    try:
        _RENDER.decode(_ENCODER.encode({**_READABLE_ALONE, name: value}))
    except _ERRORS as error:
        return error
    return None


def _same_but_readable(name: str, raw: Raw) -> Any:
    """Return a value that says what *raw* says in the field's own type, None if there is no doubtless one."""
    text = bytes(raw).strip()
    candidates: list[Any] = []
    try:
        value = msgspec.json.decode(text)
        if isinstance(value, str):
            candidates = [
                _scalar(value.strip()),
                value.strip(),
                *(word for word in _words(name) if _alike(word, value)),
            ]
        elif isinstance(value, float):
            candidates = [int(value) if value.is_integer() else None, text.decode()]
        elif isinstance(value, int) and not isinstance(value, bool):
            candidates = [text.decode()]
    except _ERRORS:
        return None
    return next((one for one in candidates if one is not None and _error(name, one) is None), None)


def _scalar(text: str) -> Any:
    """Return the number or the boolean that *text* spells, None if it spells none."""
    try:
        value = msgspec.json.decode(text.encode())
    except _ERRORS:
        return None
    return value if isinstance(value, bool | int | float) else None


def _words(name: str) -> list[str]:
    """Return the closed list of field *name*; empty if it has none."""
    kind = msgspec.inspect.type_info(_FIELDS[name].type)
    kinds = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    return [str(one.value) for sort in kinds if isinstance(sort, msgspec.inspect.EnumType) for one in sort.cls]


def _alike(word: str, text: str) -> bool:
    return word.casefold() == text.strip().casefold()


def _changes(raw: Raw | None, value: Any) -> bool:
    if raw is None or value is None:
        return (raw is None) != (value is None)
    try:
        return _ENCODER.encode(msgspec.json.decode(raw)) != _ENCODER.encode(value)
    except _ERRORS:
        return True


def _opened(target: Any) -> Mapping[str, Any]:
    if isinstance(target, Raw):
        try:
            target = msgspec.json.decode(target)
        except _ERRORS:
            return {}
    return target if isinstance(target, Mapping) else {}


def _value(raw: Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except _ERRORS:  # a number that no computer has
        return "<number, out of range>"


def _sized(raw: Raw, kind: str) -> str:
    if kind == "string":
        return f"string of {len(bytes(raw).strip()) - 2} bytes"
    return kind


def _where(error: Exception) -> str:
    """Return at which byte a document stops being JSON; msgspec's own words for it name the byte, no value."""
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
