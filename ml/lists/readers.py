"""Reads list files; what is wrong with one is said with its line."""

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from ml.lists.ranges import IPV4_BITS, Ranges, block_of, family_of, ranges_of
from ml.lists.sources import Part

FILE_BYTES_MAX = 33_554_432
RANGES_MAX = 1_000_000
EXPRESSIONS_MAX = 50_000
EXPRESSION_CHARS_MAX = 500
RELEASES_MAX = 50_000
_SHORTEST_PREFIX = {IPV4_BITS: 8}
_SHORTEST_PREFIX_IPV6 = 16
"""Broader ranges are slips: no provider has one, and it would speak for half the world."""
_HEADER = re.compile(r"#\s*(version|date):\s*(\S+)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_NESTED = re.compile(r"\((?:[^()\\]|\\.)*[+*](?:[^()\\]|\\.)*\)[+*{]")
"""A repetition of a repetition may take time without end on a hostile agent."""
_EPOCH = date(1970, 1, 1)
_ERROR_AT = re.compile(r"\(byte (\d+)\)")


class ListsRefused(Exception):
    """A list cannot be used: which file, at which line (0: the file as a whole), and why."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}:{line}: {reason}" if line else f"{file}: {reason}")
        self.file, self.line, self.reason = file, line, reason


class Line(NamedTuple):
    number: int
    text: str


class _Bot(Struct):
    pattern: str
    tags: list[str] = []
    addition_date: str = ""


def read_ranges(name: str, data: bytes, *, file: str = "") -> tuple[Part, Ranges]:
    """
    Read one address or range a line; `#` begins a comment, `# version:` and `# date:` say what it is.

    Without *file*, the list is one that comes with the program.

    Raises:
        ListsRefused: a line is no range, or too broad a one; or there are too many.
    """
    head, lines = _lines(data, file)
    cidrs = [_range(line, file) for line in lines]
    if not cidrs:
        raise ListsRefused(file, 0, "has no range")
    if len(cidrs) > RANGES_MAX:
        raise ListsRefused(file, 0, f"has {len(cidrs)} ranges, more than {RANGES_MAX}")
    return _part(name, len(cidrs), head, file), ranges_of(cidrs)


def read_expressions(name: str, data: bytes, *, file: str) -> tuple[Part, tuple[str, ...]]:
    """
    Read one regular expression a line, as crawlerdetect publishes them.

    Raises:
        ListsRefused: a line is no expression that can be used.
    """
    head, lines = _lines(data, file, comments=False)
    for line in lines:
        _check_expression(line.text, file, line.number)
    if len(lines) > EXPRESSIONS_MAX or not lines:
        raise ListsRefused(file, 0, f"has {len(lines)} expressions, not 1 to {EXPRESSIONS_MAX}")
    return _part(name, len(lines), head, file), tuple(line.text for line in lines)


def read_bots(name: str, data: bytes, *, file: str) -> tuple[Part, list[tuple[str, list[str]]]]:
    """
    Read crawler-user-agents' JSON: return its patterns, each with its tags.

    Raises:
        ListsRefused: it is not that, or has a pattern that cannot be used.
    """
    _check_size(data, file)
    try:
        bots = msgspec.json.decode(data, type=list[_Bot])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        at = _ERROR_AT.search(str(error))
        raise ListsRefused(file, data.count(b"\n", 0, int(at[1])) + 1 if at else 0, str(error)) from error
    if len(bots) > EXPRESSIONS_MAX or not bots:
        raise ListsRefused(file, 0, f"has {len(bots)} patterns, not 1 to {EXPRESSIONS_MAX}")
    for bot in bots:
        _check_expression(bot.pattern, file, line_of(bot.pattern, data))
    date = max(bot.addition_date for bot in bots).replace("/", "-")
    head = {"date": date} if _DATE.fullmatch(date) else {}
    return _part(name, len(bots), head, file), [(bot.pattern, bot.tags) for bot in bots]


def read_releases(name: str, data: bytes, *, file: str = "") -> tuple[Part, dict[str, int]]:
    """
    Read one version and the day of its release a line, such as `chrome/147 2026-04-07`; the days count from 1970.

    Raises:
        ListsRefused: a line is not that, or names a version again; or there are too many.
    """
    head, lines = _lines(data, file)
    released: dict[str, int] = {}
    for line in lines:
        version, day = _release(line, file)
        if version in released:
            raise ListsRefused(file, line.number, f"{version[:60]!r} stands here a second time")
        released[version] = day
    if len(released) > RELEASES_MAX or not released:
        raise ListsRefused(file, 0, f"has {len(released)} releases, not 1 to {RELEASES_MAX}")
    return _part(name, len(released), head, file), released


def line_of(expression: str, data: bytes) -> int:
    """Return the line of *data* on which *expression* stands, as it is or as JSON writes it; 0 if on none."""
    for written in (expression.encode(), msgspec.json.encode(expression)[1:-1]):
        at = data.find(written)
        if at >= 0:
            return data.count(b"\n", 0, at) + 1
    return 0


def line_with(address: str, data: bytes) -> int:
    """Return the line of *data* whose range has *address*; 0 if none has."""
    family, sought = family_of(address), block_of(address).first
    for line in _lines(data, "")[1]:
        first, last = block_of(line.text)
        if family_of(line.text) == family and first <= sought <= last:
            return line.number
    return 0


def _lines(data: bytes, file: str, *, comments: bool = True) -> tuple[dict[str, str], list[Line]]:
    """Return what the leading comments say, and the lines that have content."""
    _check_size(data, file)
    head: dict[str, str] = {}
    lines: list[Line] = []
    for number, raw in enumerate(data.split(b"\n"), 1):
        try:
            text = raw.decode("ascii").strip()
        except UnicodeDecodeError as error:
            raise ListsRefused(file, number, "is not ASCII") from error
        if text.startswith("#") and (comments or not lines):
            head.update(_header(text, file, number))
            continue
        content = text.partition("#")[0].strip() if comments else text
        if content:
            lines.append(Line(number, content))
    return head, lines


def _header(text: str, file: str, number: int) -> Iterator[tuple[str, str]]:
    if said := _HEADER.fullmatch(text):
        if said[1] == "date" and not _DATE.fullmatch(said[2]):
            raise ListsRefused(file, number, f"{said[2]!r} is no date such as 2026-11-01")
        yield said[1], said[2][:40]


def _release(line: Line, file: str) -> tuple[str, int]:
    try:
        version, day = line.text.split()
        return version, (date.fromisoformat(day) - _EPOCH).days
    except ValueError as error:
        raise ListsRefused(file, line.number, f"{line.text[:60]!r} is no version and day of its release") from error


def _range(line: Line, file: str) -> str:
    try:
        block = block_of(line.text)
    except ValueError as error:
        raise ListsRefused(file, line.number, f"{line.text[:60]!r} is no address or range of addresses") from error
    bits = family_of(line.text)
    shortest = _SHORTEST_PREFIX.get(bits, _SHORTEST_PREFIX_IPV6)
    if block.last - block.first >= 1 << (bits - shortest):
        raise ListsRefused(file, line.number, f"{line.text} is broader than /{shortest}, which nobody has")
    return line.text


def _check_expression(expression: str, file: str, line: int) -> None:
    reason = _wrong_with(expression)
    if reason:
        raise ListsRefused(file, line, f"{expression[:60]!r} {reason}")


def _wrong_with(expression: str) -> str:
    if not expression.isascii() or len(expression) > EXPRESSION_CHARS_MAX:
        return f"is not ASCII of at most {EXPRESSION_CHARS_MAX} characters"
    try:
        compiled = re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        return f"is no regular expression: {error}"
    if compiled.search(""):
        return "is found in every agent"
    return "repeats a repetition, which can take for ever" if _NESTED.search(expression) else ""


def _check_size(data: bytes, file: str) -> None:
    if len(data) > FILE_BYTES_MAX:
        raise ListsRefused(file, 0, f"has {len(data)} bytes, more than {FILE_BYTES_MAX}")


def _part(name: str, entries: int, head: dict[str, str], file: str) -> Part:
    version = head.get("version") or head.get("date") or "unversioned"
    origin = Path(file).name or "program"
    return Part(name=name, version=version, entries=entries, origin=origin, date=head.get("date", ""))
