"""
Versions of the lists, kept by name: what a decision names can be asked again, and the last good version outlives a
folder that was spoilt.
"""

import gzip
import os
import re
from pathlib import Path

import msgspec
from msgspec import Struct

from ml.lists.ranges import FAMILIES, Block, Ranges
from ml.lists.readers import ListsRefused
from ml.lists.sources import LOGIC, Part, Sources, written

RANGES = ("special", "relays", "vpns", "clouds", "hosting")
VERSION = re.compile(r"(?:\d{4}-\d\d-\d\d|undated)-[0-9a-f]{12}")
_IN_FORCE = "in-force"
_SUFFIX = ".json.gz"


class _Stored(Struct, frozen=True, kw_only=True):
    logic: int
    version: str
    parts: dict[str, Part]
    bots: tuple[str, ...]
    libraries: tuple[str, ...]
    suspects: tuple[str, ...]
    exclusions: tuple[str, ...]
    own: dict[str, str]
    ranges: dict[str, list[list[str]]]
    browsers: dict[str, int]
    sdks: dict[str, int]


def keep(folder: Path, sources: Sources, refreshed_ms: int) -> str:
    """
    Keep *sources* in *folder* under their version, note them as the last in force, and return the version.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    version = sources.version
    path = folder / (version + _SUFFIX)
    if not path.exists():
        _write(path, gzip.compress(msgspec.json.encode(_stored(sources, version)), mtime=0))
    _write(folder / _IN_FORCE, f"{version} {refreshed_ms}\n".encode())
    return version


def load(folder: Path, version: str) -> Sources:
    """
    Return the lists named *version*.

    Raises:
        ListsRefused: they are not kept there, are not what their name says, or are of a program with other rules.
    """
    path = folder / (version + _SUFFIX)
    if not VERSION.fullmatch(version) or not path.is_file():
        raise ListsRefused(str(path), 0, "is not kept")
    try:
        stored = msgspec.json.decode(gzip.decompress(path.read_bytes()), type=_Stored)
        sources = _sources(stored)
    except (OSError, EOFError, ValueError, msgspec.MsgspecError) as error:
        raise ListsRefused(str(path), 0, f"cannot be read: {error}") from error
    if stored.logic != LOGIC:
        raise ListsRefused(str(path), 0, f"was made by rules {stored.logic}; this program has rules {LOGIC}")
    if sources.version != version:
        raise ListsRefused(str(path), 0, f"its content is of version {sources.version}")
    return sources


def last_in_force(folder: Path) -> tuple[Sources, int] | None:
    """Return the version that was in force last, and when it was refreshed; None if none can be had."""
    try:
        version, refreshed_ms = (folder / _IN_FORCE).read_text("ascii").split()
        return load(folder, version), int(refreshed_ms)
    except (OSError, ValueError, ListsRefused):
        return None


def _stored(sources: Sources, version: str) -> _Stored:
    return _Stored(
        logic=LOGIC,
        version=version,
        parts=sources.parts,
        bots=sources.bots,
        libraries=sources.libraries,
        suspects=sources.suspects,
        exclusions=sources.exclusions,
        own=sources.own,
        ranges={name: written(getattr(sources, name)) for name in RANGES},
        browsers=sources.browsers,
        sdks=sources.sdks,
    )


def _sources(stored: _Stored) -> Sources:
    return Sources(
        parts=stored.parts,
        bots=stored.bots,
        libraries=stored.libraries,
        suspects=stored.suspects,
        exclusions=stored.exclusions,
        own=stored.own,
        browsers=stored.browsers,
        sdks=stored.sdks,
        **{name: _ranges(stored.ranges[name]) for name in RANGES},
    )


def _ranges(texts: list[list[str]]) -> Ranges:
    return {
        bits: tuple([Block(*(int(end, 16) for end in text.split("-"))) for text in family])
        for bits, family in zip(FAMILIES, texts, strict=True)
    }


def _write(path: Path, data: bytes) -> None:
    """Write *data* so that whoever reads sees all of it or nothing."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
