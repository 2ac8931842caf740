"""
Browsers of real people, drawn from published measurements; and what real bots say they are.

Desktops come from the Bayesian network of apify-fingerprint-datapoints (what a browser says of itself given its user
agent), phones from the usage shares of fake-useragent with the screens that the network gives to phones. Bots come
from the sightings of crawler-user-agents. All is read out of the installed packages.

Versions can be moved: back, as spoofed agents and old phones are behind, or on, as browsers update themselves.
"""

import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import NamedTuple

import apify_fingerprint_datapoints
import crawleruseragents
import msgspec
from fake_useragent.utils import load
from msgspec import Raw, Struct
from msgspec.structs import replace

from domain.render import Fingerprint
from ml.traffic.draw import Weighted, pick, weighted
from ml.traffic.fingerprints import STRINGIFIED, Below, Fingerprints, Screen

_DESKTOP_FROM_NETWORK = 0.83
"""The other desktops come from fake-useragent: its older and rarer browsers are in nobody's fresh measurements."""
_LIBRARY_TAG = "http-library"
_LIBRARIES_SHARE = 0.14


OLD_CHROME, OLD_IOS = 97, 15
"""The last major versions of what counts as an old phone."""
AGENT_CHROME_MIN = 101
"""From here on agents say no more than the major version, so that one can be written for another."""


class Browser(NamedTuple):
    """What a device says it is. `system` is `ios`, `android` or `desktop`."""

    agent: str
    system: str
    screen: Screen
    fingerprint: Fingerprint


class _Node(Struct, rename="camel"):
    name: str
    parent_names: list[str]
    conditional_probabilities: Raw


class _Network(Struct):
    nodes: list[_Node]


class _Deeper(Struct):
    deeper: Below


_Shares = dict[str, float]
_SAID = ("userAgentData", "platform", "maxTouchPoints", "screen")


class Browsers:
    """Draws browsers; `load_browsers` gives the one of this process, as reading takes 0.2 s."""

    def __init__(self) -> None:
        agents, said = _read_network()
        screens = said["screen"]
        self._screens = {agent: weighted(shares) for agent, shares in screens.items()}
        self._fingerprints = Fingerprints(said["userAgentData"], said["platform"], said["maxTouchPoints"])
        self._measured = weighted({agent: share for agent, share in agents.items() if _system_of(agent) == "desktop"})
        self._phone_screens = {system: _pool(screens, agents, system) for system in ("ios", "android")}
        self._desktop_screens = _pool(screens, agents, "desktop")
        self.next_chrome = 1 + _most_used(agents)
        """The version after the one that most have."""
        rows = [(row["useragent"].strip('"'), row["percent"], row["type"] == "desktop") for row in load()]
        self._phones = Weighted((agent, share) for agent, share, desktop in rows if not desktop)
        self._old_phones = Weighted((agent, share) for agent, share, desktop in rows if not desktop and _is_old(agent))
        self._desktops = Weighted((agent, share) for agent, share, desktop in rows if desktop)
        libraries, crawlers = _read_bots()
        self._crawlers, self._libraries = crawlers, libraries

    def desktop(self, rng: Random) -> Browser:
        if rng.random() < _DESKTOP_FROM_NETWORK:
            agent = self._measured.draw(rng)
            return self._browser(agent, "desktop", self._screens[agent], rng)
        return self._browser(self._desktops.draw(rng), "desktop", self._desktop_screens, rng)

    def phone(self, rng: Random) -> Browser:
        return self._phone(self._phones.draw(rng), rng)

    def old_phone(self, rng: Random) -> Browser:
        """Return a phone that has had no new version for years."""
        return self._phone(self._old_phones.draw(rng), rng)

    def _phone(self, agent: str, rng: Random) -> Browser:
        system = _system_of(agent)
        return self._browser(agent, system, self._phone_screens.get(system, self._desktop_screens), rng)

    def _browser(self, agent: str, system: str, screens: Weighted[str], rng: Random) -> Browser:
        screen = _screen(screens.draw(rng))
        return Browser(agent, system, screen, self._fingerprints.of(agent, system, screen, rng))

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
_CHROME = re.compile(r"(?<= Chrome/)\d+")


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


_BRANDS = re.compile(r'((?:Chromium|Google Chrome|Microsoft Edge|Opera)";v=")(\d+)')


def moved(browser: Browser, majors: int) -> Browser:
    """Return *browser* with a Chrome that is *majors* versions newer (older if below 0); others stay as they are."""
    known = _major(browser)
    return browser if known is None else _with_major(browser, max(known + majors, AGENT_CHROME_MIN))


def updated(browser: Browser, major: int) -> Browser:
    """Return *browser* with Chrome *major*, if it is a Chrome that is older."""
    known = _major(browser)
    return browser if known is None or known >= major else _with_major(browser, major)


def _major(browser: Browser) -> int | None:
    """Return the version of a Chrome whose agent can be written for another version."""
    found = _CHROME.search(browser.agent)
    if not found or browser.system == "ios" or int(found[0]) < AGENT_CHROME_MIN:
        return None
    return int(found[0])


def _with_major(browser: Browser, major: int) -> Browser:
    brands = browser.fingerprint.hint_brands
    said = replace(browser.fingerprint, hint_brands=_BRANDS.sub(rf"\g<1>{major}", brands)) if brands else None
    agent = _CHROME.sub(str(major), browser.agent, count=1)
    return browser._replace(agent=agent, fingerprint=said or browser.fingerprint)


def _most_used(agents: _Shares) -> int:
    used: defaultdict[int, float] = defaultdict(float)
    for agent, share in agents.items():
        if found := _CHROME.search(agent):
            used[int(found[0])] += share
    return max(used, key=used.__getitem__)


def _is_old(agent: str) -> bool:
    if found := _IOS_VERSION.search(agent):
        return int(found[1].partition("_")[0]) <= OLD_IOS
    chrome = _CHROME.search(agent)
    return chrome is not None and int(chrome[0]) <= OLD_CHROME


def _read_network() -> tuple[_Shares, dict[str, Below]]:
    """Return the shares of user agents, and by name what else is said with them."""
    with zipfile.ZipFile(apify_fingerprint_datapoints.get_fingerprint_network()) as archive:
        network = msgspec.json.decode(archive.read(archive.namelist()[0]), type=_Network)
    nodes = {node.name: node for node in network.nodes}
    agents = msgspec.json.decode(nodes["userAgent"].conditional_probabilities, type=_Shares)
    assert all(nodes[name].parent_names == ["userAgent"] for name in _SAID)
    decoder = msgspec.json.Decoder(_Deeper)
    return agents, {name: decoder.decode(nodes[name].conditional_probabilities).deeper for name in _SAID}


def _pool(screens: Below, agents: _Shares, system: str) -> Weighted[str]:
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
        [msgspec.json.decode(value.removeprefix(STRINGIFIED))[side] for side in ("width", "height")], Screen
    )
