"""
Reads access logs of Apache and nginx in the combined format, plain or gzipped, with or without the virtual host in
front, a line at a time.

What does not parse is counted, never fatal: logs of real servers hold binary junk, cut lines and hostile requests.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import IO, TypeAlias, cast
from urllib.parse import urlsplit

from msgspec import Struct

LINE_BYTES_MAX = 65_536
"""Longer lines are malformed: servers refuse requests long before."""
_GZIP_MAGIC = b"\x1f\x8b"
_LINE_ENDS = b"\r\n"
_YEAR_MAX = 2_105
"""The last whole year in which an event may be received."""

_LINE = re.compile(
    rb"(?:[\w.-]+:\d{1,5} (?=[\w.:]\S* \S+ \S+ \[))?"  # Apache's vhost_combined has the site before whoever asks
    rb"(?P<host>\S+) \S+ .{0,256}?"
    rb"\[(?P<day>\d{2}/[A-Z][a-z]{2}/\d{4}):(?P<clock>\d{2}:\d{2}:\d{2}) (?P<zone>[+-]\d{4})\] "
    rb'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?:\d+|-) '
    rb'"(?P<referrer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"'
)
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))")
_NAMED_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"v": b"\v", b"f": b"\f"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".svg", ".bmp", ".apng")
_DELIVERED = frozenset({200, 206, 304})
"""Sent whole, in part, or known to be in the browser's cache: the page had its image."""


class LogUnreadable(OSError):
    """The log cannot be read, or not to its end; the text says which file and why."""


class Request(Struct, frozen=True):
    """One line. `at` is epoch ms; `referrer` and `agent` are None where the log has `-`; `target` has its query."""

    host: str
    at: int
    method: str
    target: str
    status: int
    referrer: str | None
    agent: str | None

    @property
    def path(self) -> str:
        """The path of the target, without query, fragment and, where a proxy was asked, origin."""
        target = self.target
        if "://" in target[:9]:
            target = "/" + target.split("/", 3)[3] if target.count("/") > 2 else "/"
        return re.split("[?#;]", target, maxsplit=1)[0]

    @property
    def is_image(self) -> bool:
        """Whether it asks for an image that a page shows. Icons are none: browsers fetch them for themselves."""
        return self.method == "GET" and self.path.lower().endswith(_IMAGES)

    @property
    def is_delivered(self) -> bool:
        return self.status in _DELIVERED


class Malformed(Struct, frozen=True):
    """A line that is not in the combined format."""


class Blank(Struct, frozen=True):
    """A line with nothing on it."""


Line: TypeAlias = Request | Malformed | Blank
MALFORMED, BLANK = Malformed(), Blank()


def read_access_log(path: Path) -> Iterator[Line]:
    """
    Yield one `Line` per line of *path*, in order; memory does not grow with the file.

    Raises:
        LogUnreadable: the file cannot be read, or is gzip that ends or breaks in the middle.
    """
    return (line for line, _ in read_digested_log(path))


def read_digested_log(path: Path) -> Iterator[tuple[Line, bytes]]:
    """
    Yield each `Line` with the SHA-256 of all lines up to it, itself among them, whatever they end in; as above.

    What the log begins with has the same digests in a gzipped copy, and once the log has grown.
    """
    digest = sha256()
    with _open(path) as file:
        while line := file.readline(LINE_BYTES_MAX + 1):
            parsed = MALFORMED if len(line) > LINE_BYTES_MAX else parse_line(line)
            digest.update(line.rstrip(_LINE_ENDS))
            while not line.endswith(b"\n") and (line := file.readline(LINE_BYTES_MAX)):
                digest.update(line.rstrip(_LINE_ENDS))
            digest.update(b"\n")
            yield parsed, digest.digest()


def parse_line(line: bytes) -> Line:
    if not line.strip():
        return BLANK
    found = _LINE.match(line)
    if found is None:
        return MALFORMED
    at = _time(found["day"], found["clock"], found["zone"])
    if at is None:
        return MALFORMED
    method, _, rest = _text(found["request"]).partition(" ")
    return Request(
        host=_text(found["host"]),
        at=at,
        method=method,
        target=rest.rpartition(" HTTP/")[0] or rest,
        status=int(found["status"]),
        referrer=_or_none(found["referrer"]),
        agent=_or_none(found["agent"]),
    )


def referrer_parts(referrer: str | None) -> tuple[str, str]:
    """Return host and path of *referrer*, both empty where it is none or cannot be read."""
    try:
        parts = urlsplit(referrer or "")
        host = parts.hostname or ""
    except ValueError:
        return "", ""
    return (host, parts.path) if parts.scheme in {"http", "https"} else ("", "")


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """Open *path*, gzipped or not, as its first bytes say. It may be a pipe: those bytes are read once."""
    try:
        with path.open("rb") as file:
            zipped = file.peek(len(_GZIP_MAGIC))[: len(_GZIP_MAGIC)] == _GZIP_MAGIC
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if zipped else file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LogUnreadable(f"{path}: the gzip ends or breaks in the middle") from error
    except OSError as error:
        raise LogUnreadable(f"{path}: cannot be read: {error.strerror}") from error


def _time(day: bytes, clock: bytes, zone: bytes) -> int | None:
    """Return epoch ms, None where there is no such time."""
    midnight = _midnight(day, zone)
    hour, minute, second = int(clock[:2]), int(clock[3:5]), int(clock[6:])
    if midnight is None or hour > 23 or minute > 59 or second > 60:
        return None
    return (midnight + hour * 3_600 + minute * 60 + second) * 1_000


@lru_cache(maxsize=1_024)
def _midnight(day: bytes, zone: bytes) -> int | None:
    """The epoch second at which *day* began, None if it did not, or not in 1970 to 2105."""
    try:
        # month names are English in logs, whatever the locale
        began = datetime(int(day[7:]), _MONTHS[day[3:6]], int(day[:2]), tzinfo=UTC)
    except (ValueError, KeyError):
        return None
    offset_s = int(zone[1:3]) * 3_600 + int(zone[3:]) * 60
    seconds = int(began.timestamp()) - (offset_s if zone.startswith(b"+") else -offset_s)
    return seconds if seconds >= 0 and began.year <= _YEAR_MAX else None


_MONTHS = {
    name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)
}


def _or_none(field: bytes) -> str | None:
    return None if field in {b"-", b""} else _text(field)


def _text(field: bytes) -> str:
    r"""Return what the server wrote as `\"`, `\\`, `\n` or `\xhh`, in text that every store can keep."""
    if b"\\" in field:
        field = _ESCAPE.sub(_unescaped, field)
    return _CONTROL.sub("\ufffd", field.decode("utf-8", "replace"))


def _unescaped(found: re.Match[bytes]) -> bytes:
    if found[1]:
        return bytes.fromhex(found[1].decode())
    return _NAMED_ESCAPES.get(found[2], found[2])
