"""
Who sees ads: people, the odd ones among them too, and bots. `ACTORS` is the table; another kind of actor is another
function and another line.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from msgspec import Struct

from domain.vocabulary import Surface
from ml.traffic import habits
from ml.traffic.addresses import Addresses
from ml.traffic.browsers import Browser, Browsers, in_app
from ml.traffic.draw import Span, pick
from ml.traffic.market import SURFACES

DESKTOPS = 0.19
CARRIER_SHARED = 0.11
"""Share of a phone's sessions away from home; those on a shared address have a kind of their own."""
OFFICE_ADDRESSES = 14
DEVICES_OF_ONE_BOT = Span(40, 700, by_size=True)
RELAYED = 0.61
"""Share of private people's sessions that come through a relay."""
_APPS = {Surface.FEED: "facebook", Surface.INSTAGRAM: "instagram", Surface.REELS: "instagram"}


class Person(Struct, kw_only=True):
    """
    Somebody, or something, with one device. None is what they do not tell.

    `agents` holds the agent per surface, as apps have web views of their own. `devices` are those it claims to be.
    """

    actor: str
    human: bool
    browser: Browser
    agents: dict[Surface, str | None]
    user: str | None
    devices: list[str | None]
    networks: list[str]
    country: str
    skew_ms: int
    gap: Span
    web_only: bool = False
    views: bool = True


class Scenery(NamedTuple):
    """What actors are made of."""

    rng: Random
    browsers: Browsers
    addresses: Addresses
    offices: dict[str, list[str]]


class Actor(NamedTuple):
    """A kind of actor, its share of all sessions, and how one is made in a country."""

    name: str
    human: bool
    share: Span
    make: Callable[[Scenery, str], Person]


def someone(scenery: Scenery, country: str) -> Person:
    """A person at home or under way."""
    rng = scenery.rng
    browser = scenery.browsers.desktop(rng) if rng.random() < DESKTOPS else scenery.browsers.phone(rng)
    home = scenery.addresses.home(country, rng)
    away = [scenery.addresses.carrier(country, rng)] if rng.random() < CARRIER_SHARED else []
    return _person("person", scenery, country, browser, [home, *away])


def behind_carrier(scenery: Scenery, country: str) -> Person:
    """Thousands of these share a dozen addresses."""
    browser = scenery.browsers.phone(scenery.rng)
    return _person("carrier_nat", scenery, country, browser, [scenery.addresses.carrier(country, scenery.rng)])


def in_office(scenery: Scenery, country: str) -> Person:
    """Hundreds of these share one address and look alike."""
    rng = scenery.rng
    offices = scenery.offices.setdefault(country, [])
    if len(offices) < OFFICE_ADDRESSES:
        offices.append(scenery.addresses.home(country, rng))
    person = _person("office", scenery, country, scenery.browsers.desktop(rng), [pick(offices, rng)])
    person.web_only = True
    return person


def private(scenery: Scenery, country: str) -> Person:
    """No user, a new device each time, and often a relay."""
    rng = scenery.rng
    relayed = rng.random() < RELAYED
    network = scenery.addresses.relay(rng) if relayed else scenery.addresses.home(country, rng)
    browser = scenery.browsers.phone(rng) if relayed else scenery.browsers.desktop(rng)
    person = _person("privacy_browser", scenery, country, browser, [network])
    person.user, person.web_only = None, True
    person.devices = [_device(rng) for _ in range(4)]
    return person


def crawler(scenery: Scenery, country: str) -> Person:
    """Says what it is."""
    rng = scenery.rng
    agent = scenery.browsers.bot(rng)[:1_024]
    person = _person(
        "declared_crawler", scenery, country, scenery.browsers.desktop(rng), [scenery.addresses.cloud(rng)]
    )
    person.agents = dict.fromkeys(SURFACES, agent)
    person.user, person.devices, person.views = None, [None], False
    person.gap, person.human, person.web_only = habits.GAP_CRAWLER_MS, False, True
    return person


def cloud_bot(scenery: Scenery, country: str) -> Person:
    """Says that it is a browser, and a new one every few ads, out of a rented machine."""
    rng = scenery.rng
    networks = [scenery.addresses.cloud(rng) for _ in range(3)]
    person = _person("cloud_bot", scenery, country, scenery.browsers.desktop(rng), networks)
    person.devices = [_device(rng) for _ in range(DEVICES_OF_ONE_BOT.whole(rng))]
    person.gap, person.human, person.web_only = habits.GAP_BOT_MS, False, True
    return person


ACTORS: tuple[Actor, ...] = (
    Actor("person", True, Span(0.77, 0.83), someone),
    Actor("carrier_nat", True, Span(0.055, 0.085), behind_carrier),
    Actor("office", True, Span(0.027, 0.045), in_office),
    Actor("privacy_browser", True, Span(0.018, 0.034), private),
    Actor("declared_crawler", False, Span(0.013, 0.029), crawler),
    Actor("cloud_bot", False, Span(0.019, 0.043), cloud_bot),
)


def _person(actor: str, scenery: Scenery, country: str, browser: Browser, networks: list[str]) -> Person:
    rng = scenery.rng
    strong = rng.random() < habits.STRONGLY_SKEWED
    skew_ms = (habits.SKEW_STRONG_MS if strong else habits.SKEW_SLIGHT_MS).whole(rng)
    return Person(
        actor=actor,
        human=True,
        browser=browser,
        agents=_agents(browser, rng),
        user=f"u{rng.getrandbits(52)}",
        devices=[_device(rng)],
        networks=networks,
        country=country,
        skew_ms=-skew_ms if rng.random() < 0.43 else skew_ms,
        gap=habits.GAP_FAST_SCROLLER_MS if rng.random() < habits.FAST_SCROLLERS else habits.GAP_MS,
    )


def _agents(browser: Browser, rng: Random) -> dict[Surface, str | None]:
    agents: dict[Surface, str | None] = dict.fromkeys(SURFACES, browser.agent)
    if browser.system != "desktop":
        agents |= {surface: in_app(browser, app, rng) for surface, app in _APPS.items()}
    return agents


def _device(rng: Random) -> str:
    return f"{rng.getrandbits(64):016x}"
