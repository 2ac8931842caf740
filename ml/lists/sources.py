"""
What one version of the lists consists of, before anything is compiled: patterns, ranges, and where each comes from.

A version is named by the newest date among its parts and a digest of its content, so that the same content has the same
name wherever it came from, and a decision that names it can be made again.
"""

from collections.abc import Iterator
from hashlib import sha256

import msgspec
from msgspec import Struct

from ml.lists.ranges import FAMILIES, Ranges

LOGIC = 3
"""Version of the order in which the lists are asked. A change of what it says is a new version."""
_DIGEST_CHARS = 12
_UNDATED = "undated"


class Part(Struct, frozen=True, kw_only=True):
    """One list: `entries` patterns or ranges as they were given; `date` is of its data, ISO 8601, empty if unknown."""

    name: str
    version: str
    entries: int
    origin: str
    date: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"


class Sources(Struct, frozen=True, kw_only=True):
    """
    Expressions are ASCII regular expressions.

    `bots` and `libraries` are crawler-user-agents', `suspects` crawlerdetect's once `exclusions` are cut out, `own` our
    own. Of networks, the first list of `special`, `relays`, `vpns`, `clouds`, `hosting` that has an address speaks.
    `browsers` and `sdks` have the day of each version's release, counted from 1970.
    """

    parts: dict[str, Part]
    bots: tuple[str, ...]
    libraries: tuple[str, ...]
    suspects: tuple[str, ...]
    exclusions: tuple[str, ...]
    own: dict[str, str]
    special: Ranges
    relays: Ranges
    vpns: Ranges
    clouds: Ranges
    hosting: Ranges
    browsers: dict[str, int]
    sdks: dict[str, int]

    @property
    def version(self) -> str:
        """Short enough to stand in every decision: date, dash, digest."""
        dates = [part.date for part in self.parts.values() if part.date]
        return f"{max(dates, default=_UNDATED)}-{self.digest()[:_DIGEST_CHARS]}"

    def digest(self) -> str:
        """Return the SHA-256 of the content, in hexadecimal; parts' names, versions and dates are not in it."""
        hashed = sha256(b"%d" % LOGIC)
        for name, content in self._content():
            hashed.update(msgspec.json.encode((name, content)))
        return hashed.hexdigest()

    def _content(self) -> Iterator[tuple[str, object]]:
        for name in ("bots", "libraries", "suspects", "exclusions"):
            yield name, getattr(self, name)
        yield "own", sorted(self.own.items())
        for name in ("special", "relays", "vpns", "clouds", "hosting"):
            yield name, written(getattr(self, name))
        for name in ("browsers", "sdks"):
            yield name, sorted(getattr(self, name).items())


def written(ranges: Ranges) -> list[list[str]]:
    """Return *ranges* as text, per family the hexadecimal ends of its blocks: JSON has no numbers of 128 bits."""
    return [[f"{block.first:x}-{block.last:x}" for block in ranges[bits]] for bits in FAMILIES]
