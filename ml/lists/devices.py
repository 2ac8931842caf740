"""
What agent, SDK and fingerprint say of a device: how old their versions are, and what does not fit together.

Nothing here is a verdict. Real devices contradict themselves too: browsers that ask for the desktop's page, people who
change their agent, an update between two start-ups (docs/lists.md says how often).
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from domain.render import Fingerprint
from domain.screen import UNKNOWN_DEVICE, Traits
from ml.lists.agents import AGENT_CHARS_MAX

DEVICES_CACHED_MAX = 16_384
DAY_MS = 86_400_000
PHONE_SIDE_MAX = 1_000
"""The shorter side of a phone's screen, CSS px: the widest foldable ones have under 900."""
DESKTOP_SIDE_MIN = 600
"""The longer side of a desktop's screen, CSS px."""

_SYSTEMS = (
    ("ios", re.compile(r"\((?:iPhone|iPad|iPod)|Instagram [^(]*\(iP|FBIOS")),
    ("android", re.compile("Android")),
    ("windows", re.compile("Windows NT")),
    ("chromeos", re.compile("CrOS")),
    ("mac", re.compile("Macintosh")),
    ("linux", re.compile("Linux|X11")),
)
_PLATFORMS = (
    ("ios", re.compile(r"^(?:iPhone|iPad|iPod|iOS)")),
    ("android", re.compile("Android")),
    ("windows", re.compile("^Win")),
    ("chromeos", re.compile("CrOS|Chrom(?:e|ium) ?OS")),
    ("mac", re.compile(r"^(?:Mac|macOS)")),
    ("linux", re.compile("Linux")),
)
_LINUX = frozenset({"linux", "android", "chromeos"})
"""`navigator.platform` names the kernel, which is the same."""
_ENGINES = (
    ("chrome", re.compile(r"\b(?:CriOS|(?:Headless)?Chrome)/(\d+)")),
    ("firefox", re.compile(r"\b(?:FxiOS|Firefox)/(\d+)")),
    ("ios", re.compile(r"\(iP[^)]* OS (\d+(?:_\d+)?)")),
    ("safari", re.compile(r"\bVersion/(\d+(?:\.\d+)?)[^(]*Safari/")),
)
_BRAND = re.compile(r'"?(Chromium|HeadlessChrome|Microsoft Edge|Opera)"?\s*;\s*v="?(\d+)')
_NAMED = (("Edg/", "Microsoft Edge"), ("OPR/", "Opera"))


class Said(NamedTuple):
    """What an agent says: `system` is empty where none is known, `engine` too; `version` is of the engine."""

    system: str
    engine: str
    version: str
    mobile: bool


def read_agent(agent: str) -> Said:
    engine, version = next(((name, found[1]) for name, sign in _ENGINES if (found := sign.search(agent))), ("", ""))
    return Said(_named(_SYSTEMS, agent), engine, version.replace("_", "."), "Mobile" in agent)


def inconsistencies(agent: str, fingerprint: Fingerprint) -> int:
    """Return how many things that *fingerprint* says do not fit *agent*, or each other."""
    said = read_agent(agent)
    return sum((_systems_differ(said, fingerprint), _hints_differ(said, agent, fingerprint), _body(said, fingerprint)))


def _systems_differ(said: Said, fingerprint: Fingerprint) -> int:
    """Count names of other systems than the agent's; an app may name the system only."""
    platform, hinted = fingerprint.platform, fingerprint.hint_platform
    own = _named(_PLATFORMS, platform) if platform else ""
    kernel = own in _LINUX and said.system in _LINUX
    differs = bool(own and said.system and own != said.system and not kernel)
    meant = _named(_PLATFORMS, hinted) if hinted else ""
    return differs + bool(meant and said.system and meant != said.system)


def _hints_differ(said: Said, agent: str, fingerprint: Fingerprint) -> int:
    """Count what the client hints contradict: a browser that sends none, its kind, its version, its make."""
    if not fingerprint.hint_brands:
        return 0
    if said.engine != "chrome" or "CriOS/" in agent:
        return 1
    named = dict(_BRAND.findall(fingerprint.hint_brands))
    mobile, version = fingerprint.hint_mobile, named.get("Chromium")
    wrong = int(mobile is not None and mobile is not said.mobile)
    wrong += version is not None and version != said.version
    # not the other way round: on phones the agent says no more than Chrome
    wrong += any(sign in agent and brand not in named for sign, brand in _NAMED)
    return wrong + ("HeadlessChrome" in named)


def _body(said: Said, fingerprint: Fingerprint) -> int:
    """Count what no such device has: a phone without touch, or as wide as a desk; a desktop as small as a phone."""
    width, height, touch = fingerprint.screen_width, fingerprint.screen_height, fingerprint.touch_points
    phone = said.mobile and said.system in {"ios", "android"}
    wrong = int(phone and touch == 0)
    if width and height:
        desktop = not phone and said.system in {"windows", "mac", "linux"}
        wrong += (phone and min(width, height) > PHONE_SIDE_MAX) or (desktop and max(width, height) < DESKTOP_SIDE_MIN)
    return wrong


def _named(table: tuple[tuple[str, re.Pattern[str]], ...], text: str) -> str:
    return next((name for name, sign in table if sign.search(text)), "")


class Devices:
    """
    Answers for one version of the lists: `browsers` (such as `chrome/147`) and `sdks` with the days of their release,
    counted from 1970. Remembers the devices asked for last.
    """

    def __init__(self, browsers: Mapping[str, int], sdks: Mapping[str, int]) -> None:
        self._browsers = browsers
        self._sdks = sdks
        self._released = lru_cache(DEVICES_CACHED_MAX)(self._released_uncached)
        self._inconsistencies = lru_cache(DEVICES_CACHED_MAX)(inconsistencies)

    def traits(self, agent: str | None, sdk: str | None, fingerprint: Fingerprint | None, at: int) -> Traits:
        """Return what is known at *at* (epoch ms); of an agent, only its first characters are read."""
        released = self._sdks.get(sdk) if sdk else None
        day = at // DAY_MS
        sdk_age = None if released is None else day - released
        if not agent:
            return UNKNOWN_DEVICE if sdk_age is None else Traits(sdk_age_days=sdk_age)
        if len(agent) > AGENT_CHARS_MAX:
            agent = agent[:AGENT_CHARS_MAX]
        released = self._released(agent)
        return Traits(
            None if released is None else day - released,
            sdk_age,
            None if fingerprint is None else self._inconsistencies(agent, fingerprint),
        )

    def _released_uncached(self, agent: str) -> int | None:
        """Return the day on which the agent's browser was released; where a minor version is unknown, the major's."""
        said = read_agent(agent)
        if not said.engine:
            return None
        day = self._browsers.get(f"{said.engine}/{said.version}")
        return self._browsers.get(f"{said.engine}/{said.version.partition('.')[0]}") if day is None else day
