"""
Lists out of a folder that somebody keeps up to date: what is there goes before what is packaged.

Every file is optional. A new one is tried on agents and addresses that are known for certain before it may speak: a
list to which every iPhone is a robot, or Googlebot a person, is refused with the line that says so.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from domain.vocabulary import AgentClass
from ml.lists.agents import BOTS, SUSPECTS
from ml.lists.packaged import split_bots
from ml.lists.readers import (
    ListsRefused,
    line_of,
    line_with,
    read_bots,
    read_expressions,
    read_ranges,
    read_releases,
)
from ml.lists.screen_lists import Lists
from ml.lists.sources import Sources

BOTS_FILE, SUSPECTS_FILE = "crawler-user-agents.json", "crawlerdetect-crawlers.txt"
EXCLUSIONS_FILE = "crawlerdetect-exclusions.txt"
RANGE_FILES = {f"{name}.txt": name for name in ("clouds", "hosting", "vpns", "relays")}
RELEASE_FILES = {f"{name}.txt": name for name in ("browsers", "sdks")}
FILES = (BOTS_FILE, SUSPECTS_FILE, EXCLUSIONS_FILE, *RANGE_FILES, *RELEASE_FILES)
_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
_ANDROID = "Mozilla/5.0 (Linux; Android 14; SM-S926U Build/UP1A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0"

PEOPLE = (
    f"{_WINDOWS} Chrome/147.0.0.0 Safari/537.36",
    f"{_WINDOWS} Chrome/147.0.0.0 Safari/537.36 Edg/147.0.0.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18 Safari/605.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/147.0.0.0 Mobile Safari/537.36",
    f"{_IPHONE} Version/18.5 Mobile/15E148 Safari/604.1",
    f"{_IPHONE} Mobile/15E148 [FBAN/FBIOS;FBAV/501.2.0.65.109;FBDV/iPhone14,7;FBSN/iOS;FBSV/18.5;FBOP/80]",
    f"{_IPHONE} Mobile/15E148 Instagram 375.2.0.33.77 (iPhone14,7; iOS 18_5; en_US; en; scale=3.00; 1170x2532)",
    f"{_ANDROID} Chrome/147.0.7390.43 Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/501.0.0.51.73;]",
    f"{_ANDROID} Chrome/147.0.7390.43 Mobile Safari/537.36[FBAN/EMA;FBLC/fr_FR;FBAV/444.2.0.9.110;]",
    f"{_ANDROID} Chrome/147.0.7390.43 Mobile Safari/537.36 Barcelona 448.0.0.54.85 Android (36/16; 540dpi; samsung)",
    "Dalvik/2.1.0 (Linux; U; Android 12; SM-A217F) [FBAN/AudienceNetworkForAndroid;FBSN/Android;FBAB/com.game]",
)
"""Agents of people on the four surfaces; a list that takes one of them for anything else is wrong."""
ROBOTS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    f"{_WINDOWS} HeadlessChrome/147.0.0.0 Safari/537.36",
    "curl/8.5.0",
    "python-requests/2.31.0",
)
"""What no version of the lists may let pass."""
HOMES = ("79.231.131.169", "73.12.34.56", "90.63.1.1", "86.130.1.1", "122.161.1.1", "2003:c1:1::1", "2601:646::1")
"""Addresses of large access providers; a list that takes one for a machine's is wrong."""


class Folder(NamedTuple):
    """What a folder holds: `refreshed_ms` is when its newest list was written, None without any."""

    sources: Sources
    refreshed_ms: int | None


def signature(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """
    Return name, time and size of every list in *folder*: what is the same did not change.

    Raises:
        ListsRefused: the folder cannot be read.
    """
    try:
        stats = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if not _is_passing(path.name)]
    except OSError as error:
        raise ListsRefused(str(folder), 0, f"cannot be read: {error.strerror}") from error
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


def read_folder(folder: Path, base: Sources, *, in_force: Sources | None = None) -> Folder:
    """
    Return the lists of *folder*, those of *base* where it has none, tried out.

    With *in_force*, a file that lost half of its entries since is refused, as one cut short would be.

    Raises:
        ListsRefused: a file is no list of ours or cannot be used.
    """
    files = {name: _bytes(folder / name) for name, _, _ in signature(folder)}
    for name in files:
        if name not in FILES:
            raise ListsRefused(str(folder / name), 0, f"is no list; the lists are {', '.join(FILES)}")
    sources = _over(base, files, folder)
    if in_force is not None:
        _check_kept(sources, in_force, folder)
    _try_out(Lists(sources), files, folder)
    times = [mtime for name, mtime, _ in signature(folder) if name in files]
    return Folder(sources, max(times) // 1_000_000 if times else None)


def _is_passing(name: str) -> bool:
    """What editors and copiers leave beside a file while they write it."""
    return name.startswith(".") or name.endswith(("~", ".tmp", ".part"))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ListsRefused(str(path), 0, f"cannot be read: {error.strerror}") from error


def _over(base: Sources, files: Mapping[str, bytes], folder: Path) -> Sources:
    parts, changed = dict(base.parts), dict[str, object]()
    if BOTS_FILE in files:
        parts["bots"], entries = read_bots(BOTS, files[BOTS_FILE], file=str(folder / BOTS_FILE))
        changed["bots"], changed["libraries"] = split_bots(entries)
    for name, field in ((SUSPECTS_FILE, "suspects"), (EXCLUSIONS_FILE, "exclusions")):
        if name in files:
            parts[field], changed[field] = read_expressions(SUSPECTS, files[name], file=str(folder / name))
    for name, field in RANGE_FILES.items():
        if name in files:
            parts[field], changed[field] = read_ranges(field, files[name], file=str(folder / name))
    for name, field in RELEASE_FILES.items():
        if name in files:
            parts[field], changed[field] = read_releases(field, files[name], file=str(folder / name))
    return msgspec.structs.replace(base, parts=parts, **changed)


def _check_kept(new: Sources, in_force: Sources, folder: Path) -> None:
    for name, part in new.parts.items():
        old = in_force.parts[name]
        if part.origin == old.origin and part.entries * 2 < old.entries:
            reason = f"has {part.entries} entries, under half of the {old.entries} in force; is it cut short?"
            raise ListsRefused(str(folder / part.origin), 0, f"{reason} A restart takes it as it is.")


def _try_out(lists: Lists, files: Mapping[str, bytes], folder: Path) -> None:
    for agent in PEOPLE:
        said, part = lists.explain_agent(agent)
        if said.agent_class is not AgentClass.BROWSER:
            line = line_of(said.matched, files.get(part.origin, b""))
            reason = f"{said.matched!r} takes a person for a {said.agent_class.value}: {agent}"
            raise ListsRefused(str(folder / part.origin), line, reason)
    for agent in ROBOTS:
        if lists.agent(agent) is AgentClass.BROWSER:
            raise ListsRefused(str(folder), 0, f"these lists let a robot pass: {agent}")
    for address in HOMES:
        said_of, whose = lists.explain_network(address)
        if whose is not None:
            line = line_with(address, files.get(whose.origin, b""))
            reason = f"takes a home for a {said_of.network_class.value}: {address}"
            raise ListsRefused(str(folder / whose.origin), line, reason)
