"""
The small language in which docs/requirements.md writes its worked cases.

A story is steps parted by `;`, a step a verb with words in brackets. Nothing is guessed: a verb, word or value that is
not listed here fails.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from builders import MINTED

from domain.reasons import Reason
from domain.vocabulary import (
    AgentClass,
    Authority,
    BillingEvent,
    Format,
    Label,
    LabelSource,
    NetworkClass,
    OmidType,
    Surface,
)

SUMS = ("gross", "net", "givt", "sivt", "undecided")
COLUMNS = (
    *("case", "given", "when", "answer", "events", "standing", *SUMS),
    *("billable_micros", "reserved_micros", "views", "provisional"),
)
NONE = "-"
UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class CaseError(ValueError):
    """A case is not written in the language."""


class Step(NamedTuple):
    verb: str
    words: dict[str, Any]


def read_cases(text: str) -> list[dict[str, str]]:
    """Return the rows of every table in *text* (Markdown) whose first column is `case`."""
    cases: list[dict[str, str]] = []
    reading = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if not line.startswith("|"):
            reading = False
        elif cells[0] == COLUMNS[0]:
            reading = True
            if tuple(cells) != COLUMNS:
                raise CaseError(f"columns are {cells}")
        elif reading and set(line) - set("|-: "):
            if len(cells) != len(COLUMNS):
                raise CaseError(f"{len(cells)} cells, not {len(COLUMNS)}: {line}")
            cases.append(dict(zip(COLUMNS, cells, strict=True)))
    return cases


def read_story(text: str) -> list[Step]:
    """Return the steps of a cell; `-` is none."""
    text = text.strip("`")
    return [] if text == NONE else [_read_step(step.strip()) for step in text.split(";")]


def _read_step(text: str) -> Step:
    match = _STEP.fullmatch(text)
    if match is None or match[1] not in _WORDS:
        raise CaseError(f"no step: {text!r}")
    verb, known, words = match[1], _WORDS[match[1]], {}
    for item in filter(None, (item.strip() for item in match[2].split(","))):
        word, is_pair, value = item.partition("=")
        if verb != "ad" and item[0] in "+-":
            name, read = "at", _offset(item)
        elif verb == "ad" and not is_pair and item in _KINDS:
            name, read = _KINDS[item]
        elif word in known and is_pair == ("" if known[word] is _flag else "="):
            name, read = word, _value(known[word], value, item)
        else:
            raise CaseError(f"{verb} knows no {item!r}")
        if name in words:
            raise CaseError(f"{item!r} comes twice in {text!r}")
        words[name] = read
    if missing := [word for word in _NEEDED.get(verb, ()) if word not in words]:
        raise CaseError(f"{text!r} lacks {missing}")
    if "flight" in words:
        words["flight_start"], words["flight_end"] = words.pop("flight")
    return Step(verb, words)


def _value(read: Callable[[str], Any], value: str, item: str) -> Any:
    try:
        return read(value)
    except (ValueError, KeyError) as error:
        raise CaseError(f"no value: {item!r}") from error


def _offset(text: str) -> int:
    """`+1h30m` in ms."""
    if text[:1] not in {"+", "-"}:
        raise CaseError(f"no time after minting: {text!r}")
    return _duration(text[1:]) * (1 if text[0] == "+" else -1)


def _duration(text: str) -> int:
    if not _DURATION.fullmatch(text):
        raise CaseError(f"no duration: {text!r}")
    return sum(int(number) * UNIT_MS[unit] for number, unit in _PART.findall(text))


def _flight(text: str) -> tuple[int, int]:
    start, _, end = text.partition("..")
    return MINTED + _offset(start), MINTED + _offset(end)


def _size(text: str) -> tuple[int, int] | tuple[None, None]:
    if text == "unknown":
        return None, None
    width, height = text.split("x")
    return int(width), int(height)


def _reason(text: str) -> Reason | None:
    return None if text == "valid" else Reason(text)


def _also(text: str) -> tuple[Reason, ...]:
    return tuple(Reason(name) for name in text.split("+"))


def _authority(text: str) -> Authority:
    return Authority[text.upper()]


def _flag(_: str) -> bool:
    return True


_STEP = re.compile(r"(\w+)\((.*)\)")
_DURATION = re.compile(r"(?:\d+(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+)(ms|s|m|h|d)")
_KINDS = {kind.value: (name, kind) for name, kinds in (("surface", Surface), ("format", Format)) for kind in kinds}
_CORRECTION = {"id": str, "by": _authority, "observed": _offset}
_WORDS: dict[str, dict[str, Callable[[str], Any]]] = {
    "ad": {"billing_event": BillingEvent, "price_micros": int, "viewability_pack": str, "flight": _flight},
    "render": {
        "id": str,
        "omid": OmidType,
        "on_screen": {"yes": True, "no": False}.__getitem__,
        "prefetched": _flag,
        "background": _flag,
        "clicked": _flag,
        "size": _size,
        "ratio": float,
        "visible": _duration,
        "agent": AgentClass,
        "network": NetworkClass,
        "client": _offset,
        "sent": _offset,
        "also": _also,
        "creative": str,
        "placement": str,
        "publisher": str,
        "surface": Surface,
        "format": Format,
    },
    "view": {
        "id": str,
        "size": _size,
        "ratio": float,
        "visible": _duration,
        "duration": _duration,
        "clicked": _flag,
    },
    "correct": {**_CORRECTION, "to": _reason, "original_out": _flag},
    "reprice": {**_CORRECTION, "to": int},
    "expire": {"id": str},
    "label": {"id": str, "from": LabelSource, "says": Label, "weight": float},
    "again": {"id": str},
}
_NEEDED = {"correct": ("by", "to"), "reprice": ("by", "to"), "label": ("from", "says", "weight")}
