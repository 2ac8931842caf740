"""
Browsers of real people, drawn from published measurements; and what real bots say they are.

Desktops come from the Bayesian network of apify-fingerprint-datapoints (what a browser says of itself given its user
agent), phones from the usage shares of fake-useragent with the screens that the network gives to phones. Bots come
from the sightings of crawler-user-agents. All is read out of the installed packages.
"""

import re
import zipfile
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import NamedTuple, TypeAlias

import apify_fingerprint_datapoints
import crawleruseragents
import msgspec
from fake_useragent.utils import load
from msgspec import Raw, Struct

from ml.traffic.draw import Weighted, pick, weighted

_STRINGIFIED = "*STRINGIFIED*"
_DESKTOP_FROM_NETWORK = 0.83
"""The other desktops come from fake-useragent: its older and rarer browsers are in nobody's fresh measurements."""
_LIBRARY_TAG = "http-library"
_LIBRARIES_SHARE = 0.14


class Screen(NamedTuple):
    """Width and height in CSS px."""

    width: int
    height: int


class Browser(NamedTuple):
    """What a device says it is. `system` is `ios`, `android` or `desktop`."""

    agent: str
    system: str
    screen: Screen


class _Node(Struct, rename="camel"):
    name: str
    parent_names: list[str]
    conditional_probabilities: Raw


class _Network(Struct):
    nodes: list[_Node]


class _Below(Struct):
    """Probabilities of a node with one parent: value of the parent -> value -> probability."""

    deeper: dict[str, dict[str, float]]


_Shares: TypeAlias = dict[str, float]


class Browsers:
    """Draws browsers; `load_browsers` gives the one of this process, as reading takes 0.2 s."""

    def __init__(self) -> None:
        agents, screens = _read_network()
        self._screens = {agent: weighted(shares) for agent, shares in screens.items()}
        self._measured = weighted({agent: share for agent, share in agents.items() if _system_of(agent) == "desktop"})
        self._phone_screens = {system: _pool(screens, agents, system) for system in ("ios", "android")}
        self._desktop_screens = _pool(screens, agents, "desktop")
        rows = [(row["useragent"].strip('"'), row["percent"], row["type"] == "desktop") for row in load()]
        self._phones = Weighted((agent, share) for agent, share, desktop in rows if not desktop)
        self._desktops = Weighted((agent, share) for agent, share, desktop in rows if desktop)
        libraries, crawlers = _read_bots()
        self._crawlers, self._libraries = crawlers, libraries

    def desktop(self, rng: Random) -> Browser:
        if rng.random() < _DESKTOP_FROM_NETWORK:
            agent = self._measured.draw(rng)
            return Browser(agent, "desktop", _screen(self._screens[agent].draw(rng)))
        return Browser(self._desktops.draw(rng), "desktop", _screen(self._desktop_screens.draw(rng)))

    def phone(self, rng: Random) -> Browser:
        agent = self._phones.draw(rng)
        system = _system_of(agent)
        return Browser(agent, system, _screen(self._phone_screens.get(system, self._desktop_screens).draw(rng)))

    def bot(self, rng: Random) -> str:
        """Return the user agent of a bot that says what it is."""
        return pick(self._libraries if rng.random() < _LIBRARIES_SHARE else self._crawlers, rng)


@cache
def load_browsers() -> Browsers:
    return Browsers()


_APP_VERSIONS = {
    "facebook": ("501.2.0.65.109", "502.0.0.51.73", "499.1.0.58.106", "487.0.0.44.98", "466.1.0.56.87"),
    "instagram": ("375.2.0.33.77", "376.0.0.18.84", "371.0.0.27.90", "350.1.0.46.93", "309.1.0.41.113"),
}
_IOS_TAIL = re.compile(r" Version/.*?(?= Mobile/)| Safari/.*$")
_IOS_VERSION = re.compile(r"OS (\d+_\d+(?:_\d+)?)")
_ANDROID_VERSION = re.compile(r"Android (\d+)")


def in_app(browser: Browser, app: str, rng: Random) -> str:
    """Return the agent that *browser*'s system web view has inside *app*, written as these apps write it."""
    version = pick(_APP_VERSIONS[app], rng)
    if browser.system == "ios":
        base = _IOS_TAIL.sub("", browser.agent)
        found = _IOS_VERSION.search(base)
        system = found[1] if found else "18_3_2"
        if app == "facebook":
            return (
                f"{base} [FBAN/FBIOS;FBAV/{version};FBDV/iPhone14,7;FBSN/iOS;FBSV/{system.replace('_', '.')};FBOP/80]"
            )
        return f"{base} Instagram {version} (iPhone14,7; iOS {system}; en_US; en; scale=3.00; 1170x2532)"
    base = browser.agent.replace(" Chrome/", " Version/4.0 Chrome/", 1).replace(")", "; wv)", 1)
    if app == "facebook":
        return f"{base} [FB_IAB/FB4A;FBAV/{version};]"
    found = _ANDROID_VERSION.search(base)
    return f"{base} Instagram {version} Android ({found[1] if found else '14'}; 420dpi; 1080x2340; samsung; en_US)"


def _read_network() -> tuple[_Shares, dict[str, _Shares]]:
    """Return the shares of user agents, and per user agent the shares of screens."""
    with zipfile.ZipFile(apify_fingerprint_datapoints.get_fingerprint_network()) as archive:
        network = msgspec.json.decode(archive.read(archive.namelist()[0]), type=_Network)
    nodes = {node.name: node for node in network.nodes}
    agents = msgspec.json.decode(nodes["userAgent"].conditional_probabilities, type=_Shares)
    assert nodes["screen"].parent_names == ["userAgent"]
    return agents, msgspec.json.decode(nodes["screen"].conditional_probabilities, type=_Below).deeper


def _pool(screens: dict[str, _Shares], agents: _Shares, system: str) -> Weighted[str]:
    """Return the screens of all agents of *system*, each with the share of its agent."""

    def shares() -> Iterator[tuple[str, float]]:
        for agent, below in screens.items():
            if _system_of(agent) == system:
                for screen, share in below.items():
                    yield screen, share * agents[agent]

    return Weighted(shares())


def _read_bots() -> tuple[list[str], list[str]]:
    libraries: list[str] = []
    crawlers: list[str] = []
    for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA:
        (libraries if _LIBRARY_TAG in entry["tags"] else crawlers).extend(entry["instances"])
    return libraries, crawlers


def _system_of(agent: str) -> str:
    if "iPhone" in agent or "iPad" in agent:
        return "ios"
    return "android" if "Android" in agent else "desktop"


@cache
def _screen(value: str) -> Screen:
    return msgspec.convert(
        [msgspec.json.decode(value.removeprefix(_STRINGIFIED))[side] for side in ("width", "height")], Screen
    )
