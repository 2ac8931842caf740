"""
Who is nobody: bots and farms. `TRADES` is the table; another is another function and another line.

Each trade is plied by a few schemes. A scheme has its own campaigns, rhythm, devices and addresses, drawn for it, and
its devices come back, so that counters have something to count.
"""

from collections.abc import Callable, Collection, Iterator
from random import Random
from typing import NamedTuple

from msgspec import Struct

from domain.vocabulary import Surface
from ml.traffic.browsers import Browser, moved
from ml.traffic.draw import Span, Weighted, pick
from ml.traffic.fingerprints import leaking
from ml.traffic.looks import Gaze, Look, Take
from ml.traffic.market import SURFACES, Campaign, Market, Placement
from ml.traffic.people import Person, Scenery, device, person

SCHEMES = Span(1, 4)
AIMED_AT = Span(0.11, 0.47)
"""Share of the campaigns of a surface that one scheme is after."""
EARLY = 0.27
"""A session begins before all of its ads are due, as it takes a while to show them."""
RETURNS = 0.63
"""Share of a scheme's sessions by devices that were there before."""
TAPE = Span(13, 39)
TAPE_GAP_MS = Span(1_310, 12_700, by_size=True)
TAPE_LOOK_MS = Span(410, 6_300, by_size=True)
DEVICES_OF_ONE_BOT = Span(40, 700, by_size=True)
PHONES_PER_USER = 0.31
"""Share of a mixed bot's accounts that use another one's phone."""


class Trade(NamedTuple):
    """
    A family of actors: its share of all ads shown, what a session of it is like, and how one is made.

    `gap` in ms is drawn once per scheme, `jitter` is how far single gaps are from it, `lag` how many versions behind
    its browsers are, `leaks` the chance of each thing that gives a device away, `per_address` devices at one address.
    """

    name: str
    share: Span
    make: "Callable[[Scenery, Scheme, str], Person]"
    shots: Span
    gap: Span
    jitter: Span
    look_ms: Span
    crew: Span
    wave: Span = Span(1, 1)
    per_address: Span = Span(1, 1)
    lag: Span = Span(0, 0)
    leaks: Span = Span(0, 0)


class Scheme(Struct, kw_only=True):
    """One operation of a trade, with what was drawn for it. `given` ads were shown to it so far."""

    trade: Trade
    share: float
    gap: Span
    gaze: Gaze
    lag: Span
    leaks: float
    per_address: int
    crew_max: int
    campaigns: dict[Surface, Weighted[Campaign]]
    takes: tuple[Take, ...]
    haunt: tuple[Surface, list[Placement]]
    addresses: list[str]
    crew: list[Person]
    given: float = 0.0
    due: float = 0.0

    def is_due(self, shown: int) -> bool:
        """Tell whether its share of *shown* ads is more than it had, give or take half a session."""
        return shown * self.share >= self.given + self.due


def crawler(scenery: Scenery, scheme: Scheme, country: str) -> Person:
    """Says what it is."""
    rng = scenery.rng
    made = person(scenery, country, scenery.browsers.desktop(rng), [scenery.addresses.cloud(rng)])
    made.agents = dict.fromkeys(SURFACES, scenery.browsers.bot(rng)[:1_024])
    made.users, made.devices, made.views, made.web_only = [None], [None], False, True
    made.gap, made.gaze = scheme.gap, scheme.gaze
    return made


def cloud_bot(scenery: Scenery, scheme: Scheme, country: str) -> Person:
    """Says that it is a browser, and a new one every few ads, out of a rented machine."""
    rng = scenery.rng
    made = _spoofed(scenery, scheme, country, [scenery.addresses.cloud(rng) for _ in range(3)])
    made.devices = [device(rng) for _ in range(DEVICES_OF_ONE_BOT.whole(rng))]
    return made


def farm_phone(scenery: Scenery, scheme: Scheme, country: str) -> Person:
    """One of a wall of phones behind a few addresses, all tapped by one clock."""
    rng = scenery.rng
    made = person(
        scenery, country, _behind(scenery.browsers.phone(rng), scheme, rng), [_shared(scenery, scheme, country)]
    )
    made.gap, made.gaze, made.campaigns = scheme.gap, scheme.gaze, scheme.campaigns
    made.fingerprint = leaking(made.fingerprint, scheme.leaks, rng)
    return made


def residential_bot(scenery: Scenery, scheme: Scheme, country: str) -> Person:
    """A browser in a rented machine, let out through the homes of people who do not know it."""
    homes = [scenery.addresses.home(country, scenery.rng) for _ in range(scheme.per_address)]
    return _spoofed(scenery, scheme, country, homes)


def mixed_bot(scenery: Scenery, scheme: Scheme, country: str) -> Person:
    """Comes to one honest publisher's app among its people, from homes, some accounts on one phone."""
    rng = scenery.rng
    made = farm_phone(scenery, scheme, country)
    made.networks = [scenery.addresses.home(country, rng)]
    made.haunt, made.campaigns = scheme.haunt, None
    if scheme.crew and rng.random() < PHONES_PER_USER:
        made.devices = pick(scheme.crew, rng).devices
    return made


def player(scenery: Scenery, scheme: Scheme, country: str) -> Person:
    """Plays one recorded session of a person again and again, for new ads, as other people."""
    made = person(scenery, country, scenery.browsers.phone(scenery.rng), [_shared(scenery, scheme, country)])
    made.takes, made.campaigns = scheme.takes, scheme.campaigns
    return made


TRADES: tuple[Trade, ...] = (
    Trade(
        "declared_crawler",
        Span(0.014, 0.027),
        crawler,
        shots=Span(3, 41, by_size=True),
        gap=Span(370, 2_430),
        jitter=Span(0.21, 0.83),
        look_ms=Span(90, 730),
        crew=Span(7, 70),
    ),
    Trade(
        "cloud_bot",
        Span(0.019, 0.034),
        cloud_bot,
        shots=Span(9, 130, by_size=True),
        gap=Span(77, 4_900, by_size=True),
        jitter=Span(0.11, 0.71),
        look_ms=Span(1_010, 3_700),
        crew=Span(3, 37, by_size=True),
        lag=Span(0, 34),
        leaks=Span(0.07, 0.57),
    ),
    Trade(
        "device_farm",
        Span(0.013, 0.024),
        farm_phone,
        shots=Span(61, 97),
        gap=Span(71, 390, by_size=True),
        jitter=Span(0.004, 0.033),
        look_ms=Span(1_010, 2_300),
        crew=Span(11, 170, by_size=True),
        wave=Span(2, 4),
        per_address=Span(4, 37, by_size=True),
        lag=Span(0, 23),
        leaks=Span(0.01, 0.13),
    ),
    Trade(
        "residential_bot",
        Span(0.009, 0.019),
        residential_bot,
        shots=Span(7, 53, by_size=True),
        gap=Span(1_700, 11_300, by_size=True),
        jitter=Span(0.31, 0.69),
        look_ms=Span(1_010, 4_700),
        crew=Span(70, 1_900, by_size=True),
        per_address=Span(2, 9),
        lag=Span(0, 13),
        leaks=Span(0.03, 0.23),
    ),
    Trade(
        "slow_farm",
        Span(0.007, 0.017),
        farm_phone,
        shots=Span(11, 47),
        gap=Span(13_000, 71_000, by_size=True),
        jitter=Span(0.37, 0.79),
        look_ms=Span(1_010, 7_900),
        crew=Span(23, 310, by_size=True),
        per_address=Span(3, 19),
        lag=Span(0, 17),
        leaks=Span(0.01, 0.07),
    ),
    Trade(
        "replay_new_ids",
        Span(0.006, 0.013),
        player,
        shots=TAPE,
        gap=TAPE_GAP_MS,
        jitter=Span(0.11, 0.33),
        look_ms=TAPE_LOOK_MS,
        crew=Span(17, 230, by_size=True),
        per_address=Span(3, 23),
    ),
    Trade(
        "mixed_bot",
        Span(0.007, 0.015),
        mixed_bot,
        shots=Span(5, 43, by_size=True),
        gap=Span(1_900, 9_700),
        jitter=Span(0.27, 0.67),
        look_ms=Span(1_010, 5_300),
        crew=Span(40, 700, by_size=True),
        lag=Span(0, 11),
        leaks=Span(0.02, 0.14),
    ),
)


def schemes_of(market: Market, families: Collection[str], rng: Random) -> list[Scheme]:
    """Return the schemes of all trades among *families*, with what is drawn for each."""
    return [scheme for trade in TRADES if trade.name in families for scheme in _schemes(trade, market, rng)]


def _schemes(trade: Trade, market: Market, rng: Random) -> Iterator[Scheme]:
    parts = [0.3 + rng.random() for _ in range(SCHEMES.whole(rng))]
    share = trade.share.draw(rng)
    for part in parts:
        gap, jitter = trade.gap.draw(rng), trade.jitter.draw(rng)
        look_ms = trade.look_ms.draw(rng)
        scheme = Scheme(
            trade=trade,
            share=share * part / sum(parts),
            gap=Span(gap * (1 - jitter), gap * (1 + jitter)),
            gaze=Gaze(
                Span(0.61 + 0.38 * rng.random(), 1.03), Span(look_ms * 0.93, look_ms * 1.19), 0.021 * rng.random()
            ),
            lag=Span(0, trade.lag.draw(rng)),
            leaks=trade.leaks.draw(rng),
            per_address=max(trade.per_address.whole(rng), 1),
            crew_max=max(trade.crew.whole(rng), 1),
            campaigns={surface: _aimed_at(market.campaigns[surface], rng) for surface in SURFACES},
            takes=tuple(_tape(rng)),
            haunt=_honest(market, rng),
            addresses=[],
            crew=[],
        )
        wait_for_turn(scheme, 0, rng)
        yield scheme


def wait_for_turn(scheme: Scheme, shown: int, rng: Random) -> None:
    """Note that *shown* more ads are for it; its next session is due when it has its share, or thereabouts."""
    scheme.given += shown
    scheme.due = (rng.random() - EARLY) * scheme.trade.shots.mean * scheme.trade.wave.mean


def member(scheme: Scheme, scenery: Scenery, country: str) -> Person:
    """Return one of the scheme's devices, a new one while there is room."""
    rng = scenery.rng
    if scheme.crew and (len(scheme.crew) >= scheme.crew_max or rng.random() < RETURNS):
        return pick(scheme.crew, rng)
    made = scheme.trade.make(scenery, scheme, country)
    made.actor, made.human, made.shots = scheme.trade.name, False, scheme.trade.shots
    scheme.crew.append(made)
    return made


def _spoofed(scenery: Scenery, scheme: Scheme, country: str, networks: list[str]) -> Person:
    rng = scenery.rng
    made = person(scenery, country, _behind(scenery.browsers.desktop(rng), scheme, rng), networks)
    made.fingerprint = leaking(made.fingerprint, scheme.leaks, rng)
    made.gap, made.gaze, made.campaigns, made.web_only = scheme.gap, scheme.gaze, scheme.campaigns, True
    return made


def _behind(browser: Browser, scheme: Scheme, rng: Random) -> Browser:
    return moved(browser, -scheme.lag.whole(rng))


def _shared(scenery: Scenery, scheme: Scheme, country: str) -> str:
    """Return an address of the scheme; there are as many as its devices need."""
    if len(scheme.crew) >= len(scheme.addresses) * scheme.per_address:
        scheme.addresses.append(scenery.addresses.home(country, scenery.rng))
    return pick(scheme.addresses, scenery.rng)


def _aimed_at(campaigns: Weighted[Campaign], rng: Random) -> Weighted[Campaign]:
    """Return some of *campaigns*, each with a weight of its own: what befalls one does not befall the next."""
    chosen = [campaign for campaign in campaigns.values if rng.random() < AIMED_AT.draw(rng)]
    return Weighted((campaign, 0.2 + rng.random()) for campaign in chosen or [pick(campaigns.values, rng)])


def _honest(market: Market, rng: Random) -> tuple[Surface, list[Placement]]:
    apps = [slots for slots in market.visited[Surface.AUDIENCE_NETWORK] if not any(slot.cheats for slot in slots)]
    return Surface.AUDIENCE_NETWORK, pick(apps, rng)


def _tape(rng: Random) -> Iterator[Take]:
    for _ in range(TAPE.whole(rng)):
        look = Look(round(rng.random() ** 0.43, 3), TAPE_LOOK_MS.whole(rng), rng.random() < 0.009)
        yield Take(look, TAPE_GAP_MS.whole(rng))
