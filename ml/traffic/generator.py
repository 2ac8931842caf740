"""
Seeded traffic: who comes when, what they are shown, and what is told about it.

The same plan, keys and start give the same bytes. Sessions take turns by their own pace; whatever follows on a shot
(views, retries, repeats) has its own time, and both together make the rate of the plan.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count
from random import Random

from msgspec import Struct

from domain.ids import shard_of_person
from domain.vocabulary import Surface
from ml.traffic import habits
from ml.traffic.addresses import UTC_OFFSET_H, Addresses, countries_of
from ml.traffic.browsers import Browser, Screen, load_browsers
from ml.traffic.deeds import DEEDS, PLAYS
from ml.traffic.draw import Weighted, pick
from ml.traffic.events import Event, Sending, Truth, TruthSink
from ml.traffic.market import WEB_SDK, Market
from ml.traffic.people import ACTORS, Person, Scenery
from ml.traffic.shot import Minter, Session, Shot, Slot

_COUNTRIES_FOR_MS = 240_000
"""How long the mix of countries stands before it follows the hour again."""
_REGULARS = 0.42
_PLANNING_MS_PER_EVENT = 0.026
_CAMPAIGNS_MIN = 4
_WEB_SURFACES = Weighted({Surface.FEED: 0.61, Surface.AUDIENCE_NETWORK: 0.39}.items())


class Plan(Struct, frozen=True, kw_only=True):
    """
    What to generate: *rate* events per second for *seconds*; retries and views are events too.

    With *day_curve*, *rate* is the mean of a day and each moment has its share of it.
    """

    seed: int
    rate: float
    seconds: float
    campaigns: int = 40
    people: int = 20_000
    day_curve: bool = False


class Traffic:
    """
    The traffic of one plan. Building it reads the packages' data (0.4 s), so build first and then choose the start.

    *truth* is told about every event when it is sent for the first time.
    """

    def __init__(self, plan: Plan, minter: Minter, truth: TruthSink) -> None:
        if plan.campaigns < _CAMPAIGNS_MIN or plan.rate <= 0 or plan.people < 1:
            raise ValueError(f"a plan needs a rate, people, and at least {_CAMPAIGNS_MIN} campaigns")
        rng = Random(plan.seed)
        self._rng, self._plan, self._minter, self._truth = rng, plan, minter, truth
        self._scenery = Scenery(rng, load_browsers(), Addresses(rng), {})
        self.market = Market(rng, plan.campaigns, [(deed.name, deed.share) for deed in DEEDS])
        self._actors = Weighted((actor, actor.share.draw(rng)) for actor in ACTORS)
        self._homes = countries_of(minter.region)
        self._crowds: dict[tuple[str, str], list[Person]] = {}
        self._ticket = count()
        self._later: list[tuple[int, int, int, Event, Truth | None]] = []
        self._sessions: list[tuple[int, int, Session]] = []
        self._countries = Weighted(self._homes.items())
        self._countries_until = 0
        self._start_ms = 0

    def sendings(self, start_ms: int) -> Iterator[Sending]:
        """Yield what is to be sent, in order of time, from *start_ms* (epoch ms) on. To be iterated once."""
        plan, rng = self._plan, self._rng
        self._start_ms = start_ms
        clock, end = float(start_ms), start_ms + plan.seconds * 1e3
        mean = sum(habits.DAY_CURVE) / len(habits.DAY_CURVE)
        while True:
            busy = _level(clock, 0) / mean if plan.day_curve else 1.0
            clock += rng.expovariate(plan.rate * busy) * 1e3
            if clock >= end:
                return
            yield self._next(int(clock))

    def planned(self, clock: Callable[[], int]) -> list[Sending]:
        """
        Return all that is to be sent, beginning when this is done; *clock* gives epoch ms. The truth is told now.

        Costs 25 us an event here and 70 while a run is on and caches are cold, which then delays answers too: for runs
        up to some 200,000 events (1.3 kB each) this is the way to go.
        """
        start_ms = clock() + int(self._plan.rate * self._plan.seconds * _PLANNING_MS_PER_EVENT)
        sendings = list(self.sendings(start_ms))
        # where it took longer, everything is sent a little later than it says it happened, as clients do anyway
        behind_ms = clock() - start_ms
        if behind_ms > 0:
            return [Sending(sending.at_ms + behind_ms, sending.event, sending.attempt) for sending in sendings]
        return sendings

    def _next(self, now: int) -> Sending:
        later, sessions = self._later, self._sessions
        while not later or later[0][0] > now:
            if sessions and sessions[0][0] <= now:
                _, _, session = heappop(sessions)
            else:
                session = self._arrive(now)
            self._shoot(session, now)
        _, _, again, event, truth = heappop(later)
        if truth is not None:
            self._truth(truth)
        return Sending(now, event, again)

    def _shoot(self, session: Session, now: int) -> None:
        rng = self._rng
        shot = Shot(rng, self._minter, session, self._slot(session), now)
        if rng.random() < shot.slot.campaign.habits.unreached:
            shot.ad()
        else:
            shot.deed = "double_fire" if rng.random() < session.sdk.fires_twice else shot.slot.campaign.deeds.draw(rng)
            PLAYS[shot.deed](shot)
        for at, again, event, truth in shot.sent:
            heappush(self._later, (at, next(self._ticket), again, event, truth))
        session.left -= 1
        if session.left > 0:
            heappush(self._sessions, (now + session.person.gap.whole(rng), next(self._ticket), session))

    def _slot(self, session: Session) -> Slot:
        rng = self._rng
        campaign = self.market.campaigns[session.surface].draw(rng)
        placement = session.placements[session.left % len(session.placements)]
        return Slot(
            campaign,
            pick(campaign.creatives, rng),
            placement,
            placement.banner or _card(session.person.browser, session.surface, rng),
            self._start_ms + campaign.flight_from_ms,
            self._start_ms + campaign.flight_to_ms,
        )

    def _arrive(self, now: int) -> Session:
        """Somebody comes: a regular, or a new face while there is room for one."""
        rng = self._rng
        actor, country = self._actors.draw(rng), self._country(now)
        crowd = self._crowds.setdefault((actor.name, country), [])
        room = self._plan.people * self._homes[country] * actor.share.high
        if crowd and (len(crowd) >= room or rng.random() < _REGULARS):
            return self._session(pick(crowd, rng))
        person = actor.make(self._scenery, country)
        crowd.append(person)
        return self._session(person)

    def _session(self, person: Person) -> Session:
        rng = self._rng
        surface = (_WEB_SURFACES if person.web_only else self.market.surfaces).draw(rng)
        desktop = person.browser.system == "desktop"
        device, network = pick(person.devices, rng), pick(person.networks, rng)
        return Session(
            person=person,
            surface=surface,
            placements=pick(self.market.visited[surface], rng),
            sdk=WEB_SDK if desktop else self.market.sdks[surface].draw(rng),
            device=device,
            network=network,
            agent=person.agents[surface],
            shard=shard_of_person(person.user or device or network, self._minter.shard_key),
            name=f"s{rng.getrandbits(48):012x}",
            left=habits.SHOTS_PER_SESSION.whole(rng),
        )

    def _country(self, now: int) -> str:
        if now >= self._countries_until:
            shares = {country: share * _level(now, UTC_OFFSET_H[country]) for country, share in self._homes.items()}
            self._countries = Weighted(shares.items())
            self._countries_until = now + _COUNTRIES_FOR_MS
        return self._countries.draw(self._rng)


def _level(at_ms: float, offset_h: float) -> int:
    hour = datetime.fromtimestamp(at_ms / 1e3 + offset_h * 3_600, UTC).hour
    return habits.DAY_CURVE[hour]


def _card(browser: Browser, surface: Surface, rng: Random) -> Screen:
    """An ad as wide as the feed's column or the phone; on Reels as tall as the screen allows."""
    screen = browser.screen
    width = int(screen.width * habits.WEB_COLUMN.draw(rng)) if browser.system == "desktop" else screen.width
    if surface is Surface.REELS:
        return Screen(width, min(width * 16 // 9, screen.height))
    return Screen(width, int(width * habits.CARD_SHAPE.draw(rng)))
