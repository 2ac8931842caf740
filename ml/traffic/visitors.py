"""Who comes, and what they are shown: people with their sessions, schemes of bots when their share is due."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from itertools import count
from random import Random

from msgspec import Struct

from domain.ids import shard_of_person
from domain.vocabulary import Surface
from ml.traffic import habits
from ml.traffic.addresses import UTC_OFFSET_H, Addresses, countries_of
from ml.traffic.bots import Scheme, member, schemes_of, wait_for_turn
from ml.traffic.browsers import Browser, load_browsers, updated
from ml.traffic.draw import Weighted, pick
from ml.traffic.drills import NEW_FACES, Days
from ml.traffic.fingerprints import Screen
from ml.traffic.market import WEB_SDK, Market, Placement, Sdk
from ml.traffic.people import ACTORS, Person, Scenery, agents_of
from ml.traffic.shot import Minter, Rig, Session, Slot

_COUNTRIES_FOR_MS = 240_000
"""How long the mix of countries stands before it follows the hour again."""
_REGULARS = 0.42
_WEB_SURFACES = Weighted({Surface.FEED: 0.61, Surface.AUDIENCE_NETWORK: 0.39}.items())
_RIGS = 13


class Guests(Struct, frozen=True):
    """How many *people* there are, where tokens come from, and which *families* take part."""

    people: int
    minter: Minter
    families: Collection[str]


class Visitors:
    """Makes sessions for *market*; *days* says what is unusual, once it is known when the run begins."""

    def __init__(self, rng: Random, guests: Guests, market: Market) -> None:
        self._rng, self._guests, self._market = rng, guests, market
        self.scenery = Scenery(rng, load_browsers(), Addresses(rng), {}, {}, count(1))
        self.rigs = [_rig(self.scenery) for _ in range(_RIGS if "replay_same_id" in guests.families else 0)]
        self._schemes = schemes_of(market, guests.families, rng)
        self._actors = Weighted((actor, actor.share.draw(rng) / actor.shots.mean) for actor in ACTORS)
        self._homes = countries_of(guests.minter.region)
        self._crowds: dict[tuple[str, str], list[Person]] = {}
        self._countries = Weighted(self._homes.items())
        self._countries_until = 0
        self.cut_off = ""
        """The country that an outage cuts off."""

    def open(self, days: Days, start_ms: int) -> None:
        """Begin a run at *start_ms*."""
        self._days, self._start_ms = days, start_ms
        self.cut_off = self._countries.draw(self._rng)
        surface = self._market.surfaces.draw(self._rng)
        self._flash = surface, pick(self._market.visited[surface], self._rng)

    def arrive(self, now: int, shown: int) -> Iterator[Session]:
        """Yield the sessions that begin now, after *shown* ads in all: somebody's, or those of one wave of bots."""
        country = self._country(now)
        scheme = next((scheme for scheme in self._schemes if scheme.is_due(shown)), None)
        if scheme is None:
            yield self.session(self._person(now, country), now)
            return
        wave = [self.session(member(scheme, self.scenery, country), now) for _ in range(_wave(scheme, self._rng))]
        wait_for_turn(scheme, sum(session.left for session in wave), self._rng)
        yield from wave

    def slot(self, session: Session) -> Slot:
        """Return where the next ad of *session* stands, and which it is."""
        rng = self._rng
        campaigns = session.person.campaigns or self._market.campaigns
        campaign = campaigns[session.surface].draw(rng)
        placement = session.placements[session.left % len(session.placements)]
        return Slot(
            campaign,
            pick(campaign.creatives, rng),
            placement,
            placement.banner or _card(session.person.browser, session.surface, rng),
            self._start_ms + campaign.flight_from_ms,
            self._start_ms + campaign.flight_to_ms,
        )

    def _person(self, now: int, country: str) -> Person:
        """A regular who was away for a while, or a new face while there is room for one."""
        rng, actor = self._rng, self._actors.draw(self._rng)
        crowd = self._crowds.setdefault((actor.name, country), [])
        room = self._guests.people * self._homes[country] * actor.share.high
        regulars = 1 - NEW_FACES if self._days.surge.has(now) else _REGULARS
        if crowd and (len(crowd) >= room or rng.random() < regulars):
            regular = pick(crowd, rng)
            if len(crowd) >= room or regular.away_until <= now:
                regular.away_until = now + habits.AWAY_MS.whole(rng)
                return regular
        person = actor.make(self.scenery, country)
        person.actor, person.away_until = actor.name, now + habits.AWAY_MS.whole(rng)
        crowd.append(person)
        return person

    def session(self, person: Person, now: int) -> Session:
        """Return a visit of *person* that begins now."""
        rng = self._rng
        if person.human and person.eager < self._days.updated(now):
            _update(person, self.scenery)
        surface, placements = self._place(person, now)
        user, device, network = pick(person.users, rng), pick(person.devices, rng), pick(person.networks, rng)
        sdk = WEB_SDK if person.browser.system == "desktop" else self._market.sdks[surface].draw(rng)
        return Session(
            person=person,
            surface=surface,
            placements=placements,
            sdk=sdk,
            user=user,
            device=device,
            network=network,
            agent=person.agents[surface],
            clock_ms=_clock_ms(person, sdk),
            shard=shard_of_person(user or device or network, self._guests.minter.shard_key),
            name=f"s{rng.getrandbits(48):012x}",
            left=len(person.takes) or person.shots.whole(rng),
        )

    def _place(self, person: Person, now: int) -> tuple[Surface, list[Placement]]:
        rng = self._rng
        if person.haunt is not None:
            return person.haunt
        if person.human and self._days.flash.has(now):
            return self._flash
        surface = (_WEB_SURFACES if person.web_only else self._market.surfaces).draw(rng)
        return surface, pick(self._market.visited[surface], rng)

    def _country(self, now: int) -> str:
        if now >= self._countries_until:
            shares = {country: share * level(now, UTC_OFFSET_H[country]) for country, share in self._homes.items()}
            self._countries = Weighted(shares.items())
            self._countries_until = now + _COUNTRIES_FOR_MS
        return self._countries.draw(self._rng)


def level(at_ms: float, offset_h: float) -> int:
    """Return how many people are there at *at_ms*, by the clock of who is *offset_h* ahead."""
    hour = datetime.fromtimestamp(at_ms / 1e3 + offset_h * 3_600, UTC).hour
    return habits.DAY_CURVE[hour]


def _wave(scheme: Scheme, rng: Random) -> int:
    return max(scheme.trade.wave.whole(rng), 1)


def _update(person: Person, scenery: Scenery) -> None:
    """Take the next version of the browser, once."""
    person.eager = 1.0
    person.browser = updated(person.browser, scenery.browsers.next_chrome)
    person.agents = agents_of(person.browser, scenery.rng)
    if person.browser.system == "desktop":
        person.fingerprint = person.browser.fingerprint


def _clock_ms(person: Person, sdk: Sdk) -> int:
    return person.skew_ms + int(UTC_OFFSET_H[person.country] * 3_600_000) if sdk.local_time else person.skew_ms


def _rig(scenery: Scenery) -> Rig:
    rng = scenery.rng
    browser, names = scenery.browsers.desktop(rng), (f"{rng.getrandbits(64):016x}" for _ in range(2))
    return Rig(next(scenery.numbers), f"u{next(names)}", next(names), scenery.addresses.cloud(rng), browser.agent)


def _card(browser: Browser, surface: Surface, rng: Random) -> Screen:
    """An ad as wide as the feed's column or the phone; on Reels as tall as the screen allows."""
    screen = browser.screen
    width = int(screen.width * habits.WEB_COLUMN.draw(rng)) if browser.system == "desktop" else screen.width
    if surface is Surface.REELS:
        return Screen(width, min(width * 16 // 9, screen.height))
    return Screen(width, int(width * habits.CARD_SHAPE.draw(rng)))
