"""
Who sees ads: people, the odd ones among them too. `ACTORS` is the table; another kind is another function and another
line. Bots are in `ml/traffic/bots.py`.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from msgspec import Struct

from domain.render import Fingerprint
from domain.vocabulary import Surface
from ml.traffic import habits
from ml.traffic.addresses import Addresses
from ml.traffic.browsers import Browser, Browsers, in_app
from ml.traffic.draw import Span, Weighted, pick
from ml.traffic.fingerprints import LEAKS
from ml.traffic.fingerprints import in_app as phone_fingerprint
from ml.traffic.looks import Gaze, Take
from ml.traffic.market import SURFACES, Campaign, Placement

DESKTOPS = 0.19
CARRIER_SHARED = 0.11
"""Share of a phone's sessions away from home; those on a shared address have a kind of their own."""
MOVES_IN = 0.37
"""Share of people who live where somebody else does."""
HOUSEHOLDS_REMEMBERED = 4_096
OFFICE_ADDRESSES = 14
RELAYED = 0.21
"""Share of those without a user who come through a relay as well."""
TEST_ACCOUNTS = Span(11, 37)
TEST_PHONES = Span(3, 9)
EMULATED = 0.44
_APPS = {Surface.FEED: "facebook", Surface.INSTAGRAM: "instagram", Surface.REELS: "instagram"}


class Person(Struct, kw_only=True):
    """
    Somebody, or something, with one device. None is what they do not tell.

    `agents` holds the agent per surface, as apps have web views of their own. `devices` and `users` are those it claims
    to be. `gaze`, `takes`, `campaigns` and `haunt` are set where looks, the rhythm with the looks, the ads or the
    places are not those of people. `eager` in [0, 1] is how late it takes an update. `away_until` (epoch ms) is when it
    may come again.
    """

    who: int
    actor: str
    human: bool
    browser: Browser
    agents: dict[Surface, str | None]
    fingerprint: Fingerprint
    users: list[str | None]
    devices: list[str | None]
    networks: list[str]
    country: str
    skew_ms: int
    gap: Span
    shots: Span
    eager: float
    away_until: int = 0
    web_only: bool = False
    views: bool = True
    gaze: Gaze | None = None
    takes: tuple[Take, ...] = ()
    campaigns: dict[Surface, Weighted[Campaign]] | None = None
    haunt: tuple[Surface, list[Placement]] | None = None


class Scenery(NamedTuple):
    """What actors are made of. `offices` and `households` are addresses by country."""

    rng: Random
    browsers: Browsers
    addresses: Addresses
    offices: dict[str, list[str]]
    households: dict[str, list[str]]
    numbers: Iterator[int]


class Actor(NamedTuple):
    """A kind of person, its share of all ads that people are shown, and how one is made in a country."""

    name: str
    share: Span
    make: Callable[[Scenery, str], Person]
    shots: Span = habits.SHOTS_PER_SESSION


def someone(scenery: Scenery, country: str) -> Person:
    """A person at home or under way."""
    rng = scenery.rng
    browser = scenery.browsers.desktop(rng) if rng.random() < DESKTOPS else scenery.browsers.phone(rng)
    away = [scenery.addresses.carrier(country, rng)] if rng.random() < CARRIER_SHARED else []
    return person(scenery, country, browser, [_home(scenery, country), *away])


def fast_scroller(scenery: Scenery, country: str) -> Person:
    """A thumb that never rests: a few ads a second, hardly looked at, for minutes."""
    scrolling = person(scenery, country, scenery.browsers.phone(scenery.rng), [_home(scenery, country)])
    scrolling.gap, scrolling.shots = habits.GAP_FAST_SCROLLER_MS, habits.SHOTS_FAST_SCROLLER
    scrolling.gaze = Gaze(Span(0.17, 0.99), Span(190, 1_240), habits.CLICKS_HARDLY)
    return scrolling


def on_old_phone(scenery: Scenery, country: str) -> Person:
    """A phone without updates for years: slow, and behind in every version."""
    rng = scenery.rng
    owner = person(scenery, country, scenery.browsers.old_phone(rng), [_home(scenery, country)])
    owner.gap = habits.GAP_OLD_PHONE_MS
    return owner


def behind_carrier(scenery: Scenery, country: str) -> Person:
    """Thousands of these share a dozen addresses."""
    rng = scenery.rng
    return person(scenery, country, scenery.browsers.phone(rng), [scenery.addresses.carrier(country, rng)])


def in_office(scenery: Scenery, country: str) -> Person:
    """Hundreds of these share one address and look alike."""
    worker = person(scenery, country, scenery.browsers.desktop(scenery.rng), [_office(scenery, country)])
    worker.web_only = True
    return worker


def private(scenery: Scenery, country: str) -> Person:
    """No user, a new device each time, a browser that says what all others say."""
    rng = scenery.rng
    relayed = rng.random() < RELAYED
    network = scenery.addresses.relay(rng) if relayed else _home(scenery, country)
    hidden = person(scenery, country, scenery.browsers.desktop(rng), [network])
    hidden.users, hidden.web_only = [None], True
    hidden.devices = [device(rng) for _ in range(4)]
    if rng.random() < habits.RESISTS_FINGERPRINTING:
        hidden.fingerprint = pick(LEAKS, rng)(hidden.fingerprint, rng)
    return hidden


def relayed(scenery: Scenery, country: str) -> Person:
    """A phone whose owner is known, behind a relay that its maker sells."""
    rng = scenery.rng
    return person(
        scenery, country, scenery.browsers.phone(rng), [scenery.addresses.relay(rng), _home(scenery, country)]
    )


def tester(scenery: Scenery, country: str) -> Person:
    """Somebody whose work it is to see ads again and again, as other people, on other phones, some of them made up."""
    rng = scenery.rng
    testing = person(scenery, country, scenery.browsers.phone(rng), [_office(scenery, country)])
    testing.users = [_user(rng) for _ in range(TEST_ACCOUNTS.whole(rng))]
    testing.devices = [device(rng) for _ in range(TEST_PHONES.whole(rng))]
    testing.gap, testing.shots = habits.GAP_TESTER_MS, habits.SHOTS_TESTER
    if rng.random() < EMULATED:
        testing.fingerprint = pick(LEAKS, rng)(testing.fingerprint, rng)
    return testing


ACTORS: tuple[Actor, ...] = (
    Actor("person", Span(0.71, 0.77), someone),
    Actor("carrier_nat", Span(0.055, 0.085), behind_carrier),
    Actor("office", Span(0.027, 0.045), in_office),
    Actor("fast_scroller", Span(0.021, 0.042), fast_scroller, habits.SHOTS_FAST_SCROLLER),
    Actor("old_phone", Span(0.022, 0.047), on_old_phone),
    Actor("privacy_browser", Span(0.018, 0.034), private),
    Actor("relay", Span(0.013, 0.029), relayed),
    Actor("qa_tester", Span(0.0017, 0.0044), tester, habits.SHOTS_TESTER),
)


def person(scenery: Scenery, country: str, browser: Browser, networks: list[str]) -> Person:
    """Return an ordinary person; who makes another kind of it changes what is special."""
    rng = scenery.rng
    strong = rng.random() < habits.STRONGLY_SKEWED
    skew_ms = (habits.SKEW_STRONG_MS if strong else habits.SKEW_SLIGHT_MS).whole(rng)
    desktop = browser.system == "desktop"
    return Person(
        who=next(scenery.numbers),
        actor="person",
        human=True,
        browser=browser,
        agents=agents_of(browser, rng),
        fingerprint=browser.fingerprint if desktop else phone_fingerprint(browser.system, browser.screen, rng),
        users=[_user(rng)],
        devices=[device(rng)],
        networks=networks,
        country=country,
        skew_ms=-skew_ms if rng.random() < 0.43 else skew_ms,
        gap=habits.GAP_MS,
        shots=habits.SHOTS_PER_SESSION,
        eager=rng.random(),
    )


def agents_of(browser: Browser, rng: Random) -> dict[Surface, str | None]:
    agents: dict[Surface, str | None] = dict.fromkeys(SURFACES, browser.agent)
    if browser.system != "desktop":
        agents |= {surface: in_app(browser, app, rng) for surface, app in _APPS.items()}
    return agents


def device(rng: Random) -> str:
    return f"{rng.getrandbits(64):016x}"


def _user(rng: Random) -> str:
    return f"u{rng.getrandbits(52)}"


def _home(scenery: Scenery, country: str) -> str:
    """Return the address of a household, its own or somebody's."""
    rng = scenery.rng
    known = scenery.households.setdefault(country, [])
    if known and rng.random() < MOVES_IN:
        return pick(known, rng)
    address = scenery.addresses.home(country, rng)
    if len(known) < HOUSEHOLDS_REMEMBERED:
        known.append(address)
    else:
        known[int(rng.random() * HOUSEHOLDS_REMEMBERED)] = address
    return address


def _office(scenery: Scenery, country: str) -> str:
    offices = scenery.offices.setdefault(country, [])
    if len(offices) < OFFICE_ADDRESSES:
        offices.append(scenery.addresses.home(country, scenery.rng))
    return pick(offices, scenery.rng)
