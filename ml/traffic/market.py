"""
What is for sale and who buys: surfaces, placements, SDK versions, campaigns. Bugs of versions and frauds of publishers
are there only where their family takes part (`ml/traffic/families.py`).
"""

from collections.abc import Collection, Iterable
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from domain.vocabulary import BillingEvent, Format, Surface
from ml.traffic import habits
from ml.traffic.draw import Span, Weighted, pick
from ml.traffic.fingerprints import Screen
from ml.traffic.habits import Habits, draw_habits
from ml.traffic.looks import Look

CURRENCIES = ("EUR", "USD")
CREATIVES = Span(2, 7)
ENDED_CAMPAIGNS = 0.045
"""Share of campaigns whose flight is over while stale caches still show them."""
VIDEO_PACKS = ("mrc", "mrc_cross_media")
AUTO_REFRESHED = 0.22
"""Share of Audience Network placements whose ad changes by itself."""
FIRST_PARTY = ("facebook", "instagram")
"""Publishers of the surfaces that are our own."""
PUBLISHERS = 27
CHEATING_PUBLISHERS = {
    "hidden": Span(0.057, 0.093),
    "ad_stacking": Span(0.013, 0.024),
    "falsified_view": Span(0.017, 0.031),
}
"""Share of publishers that cheat in a way of each family; at least one does, in one slot or more."""
CHEATING_SLOTS = 0.57
OFF_SCREEN = 0.48
"""Share of hidden slots that have a size, but lie where nobody scrolls to."""
STACK = Span(2, 4.7)
"""Ads in one place of a slot that stacks them."""
PERFECT_MS = Span(1_040, 4_700, by_size=True)
"""What a slot that falsifies says of every view: all of it, for so long."""
POSITIONS = 9
BANNERS = (
    *(Screen(320, 50), Screen(300, 250), Screen(336, 280), Screen(300, 600), Screen(728, 90), Screen(970, 90)),
    *(Screen(320, 480), Screen(320, 100), Screen(930, 180)),
)
HIDDEN = (Screen(1, 1), Screen(0, 0), Screen(1, 0), Screen(0, 320))


class Sdk(Struct, frozen=True):
    """
    A version of the client. `tells_sent` is false where it does not send its own clock, `tells_device` and
    `tells_depth` where it does not know the device or how many ads lie in one place.

    `fault` is the family of its bug: it fires twice that often, within `again_ms`; `loses` that share of its events;
    writes local time for UTC; measures in seconds.
    """

    name: str
    weight: float
    tells_sent: bool = True
    tells_device: bool = False
    tells_depth: bool = False
    fault: str = ""
    fires_twice: float = 0.0
    again_ms: Span = Span(0, 0)
    loses: float = 0.0
    local_time: bool = False
    in_seconds: bool = False


SDKS: dict[Surface, tuple[Sdk, ...]] = {
    Surface.FEED: (
        Sdk("fb-501.2", 0.41, tells_device=True),
        Sdk("fb-502.0", 0.29, tells_device=True),
        Sdk("fb-494.3", 0.06, tells_device=True, fault="unit_change_sdk", in_seconds=True),
        Sdk("fb-487.0", 0.16),
        Sdk("fb-466.1", 0.08, tells_sent=False),
    ),
    Surface.INSTAGRAM: (
        Sdk("ig-375.2", 0.51, tells_device=True),
        Sdk("ig-376.0", 0.31, tells_device=True),
        Sdk("ig-362.0", 0.03, tells_sent=False, fault="clock_skewed_sdk", local_time=True),
        Sdk("ig-350.1", 0.15, fault="incomplete_logs", loses=0.13),
    ),
    Surface.REELS: (
        Sdk("reels-375.2", 0.55, tells_device=True),
        Sdk("reels-376.0", 0.27, tells_device=True),
        Sdk("reels-358.0", 0.06, fault="double_fire_sdk_other", fires_twice=0.23, again_ms=Span(310, 4_700)),
        Sdk("reels-341.0", 0.12, tells_sent=False),
    ),
    Surface.AUDIENCE_NETWORK: (
        Sdk("an-6.17.0", 0.44, tells_device=True, tells_depth=True),
        Sdk("an-6.16.0", 0.33, tells_device=True, tells_depth=True),
        Sdk("an-6.12.3", 0.09, fault="double_fire_sdk", fires_twice=0.37, again_ms=Span(25, 870)),
        Sdk("an-6.8.0", 0.14, tells_sent=False),
    ),
}
WEB_SDK = Sdk("web-4.2", 0.0, tells_device=True)
SURFACES: dict[Surface, float] = {
    Surface.FEED: 0.36,
    Surface.INSTAGRAM: 0.23,
    Surface.REELS: 0.17,
    Surface.AUDIENCE_NETWORK: 0.24,
}
_VIDEO_SHARE: dict[Surface, float] = {
    Surface.FEED: 0.27,
    Surface.INSTAGRAM: 0.31,
    Surface.REELS: 0.88,
    Surface.AUDIENCE_NETWORK: 0.21,
}


class Placement(Struct, frozen=True):
    """
    A slot. `banner` is its size where it does not follow from the screen; `cheats` the family of what is wrong with it,
    `stack` how many ads lie there, `look` what is said of every view.
    """

    name: str
    publisher: str
    surface: Surface
    banner: Screen | None = None
    auto_refresh: bool = False
    cheats: str = ""
    stack: int = 1
    look: Look | None = None


class Creative(Struct, frozen=True):
    name: str
    ad: str
    format: Format
    duration_ms: int | None


class Campaign(Struct, frozen=True, kw_only=True):
    """Price in micros of `currency` per impression; the flight is relative to the start of the traffic, in ms."""

    name: str
    advertiser: str
    surface: Surface
    creatives: list[Creative]
    price_micros: int
    currency: str
    billing_event: BillingEvent
    viewability_pack: str
    flight_from_ms: int
    flight_to_ms: int
    habits: Habits
    deeds: Weighted[str]


class Market:
    """
    The campaigns and placements of one run; *deeds* gives the share of each kind of trouble, drawn per campaign.

    Only *families* have their bugs and frauds. Names of what is its own begin with *brand*.
    """

    def __init__(
        self,
        rng: Random,
        campaigns: int,
        deeds: Iterable[tuple[str, Span]],
        families: Collection[str],
        brand: str = "",
    ) -> None:
        shares = tuple(deeds)
        surfaces = Weighted(SURFACES.items())
        made = [_campaign(rng, number, _surface(number, surfaces, rng), shares) for number in range(campaigns)]
        self.all = made
        self.campaigns = {surface: _by_budget([c for c in made if c.surface is surface], rng) for surface in SURFACES}
        self.visited = {surface: _visited(surface, rng, families, brand) for surface in SURFACES}
        self.surfaces = surfaces
        self.sdks = {
            surface: Weighted((sdk if sdk.fault in families else _mended(sdk), sdk.weight) for sdk in sdks)
            for surface, sdks in SDKS.items()
        }


def _mended(sdk: Sdk) -> Sdk:
    return replace(sdk, fault="", fires_twice=0.0, loses=0.0, local_time=False, in_seconds=False)


def _surface(number: int, surfaces: Weighted[Surface], rng: Random) -> Surface:
    """The first campaigns see to it that no surface is without one."""
    return tuple(SURFACES)[number] if number < len(SURFACES) else surfaces.draw(rng)


def _by_budget(campaigns: list[Campaign], rng: Random) -> Weighted[Campaign]:
    return Weighted((campaign, 0.15 + rng.random() ** 3) for campaign in campaigns)


def _campaign(rng: Random, number: int, surface: Surface, shares: tuple[tuple[str, Span], ...]) -> Campaign:
    fmt = Format.VIDEO if rng.random() < _VIDEO_SHARE[surface] else Format.DISPLAY
    over = number >= len(SURFACES) and rng.random() < ENDED_CAMPAIGNS
    end_ms = -habits.FLIGHT_OVER_MS.whole(rng) if over else habits.FLIGHT_AFTER_MS.whole(rng)
    troubles = [(name, share.draw(rng)) for name, share in shares]
    plain = 1 - sum(share for _, share in troubles)
    return Campaign(
        name=f"campaign-{number:03}",
        advertiser=f"advertiser-{int(number * rng.random()):02}",
        surface=surface,
        creatives=[
            Creative(f"creative-{number:03}-{n}", f"ad-{number:03}-{n}", fmt, _duration_ms(fmt, rng))
            for n in range(CREATIVES.whole(rng))
        ],
        price_micros=habits.PRICE_MICROS.whole(rng),
        currency=pick(CURRENCIES, rng),
        billing_event=pick((BillingEvent.IMPRESSION, BillingEvent.VIEWABLE), rng),
        viewability_pack=pick(VIDEO_PACKS, rng) if fmt is Format.VIDEO else "mrc",
        flight_from_ms=min(end_ms, 0) - habits.FLIGHT_BEFORE_MS.whole(rng),
        flight_to_ms=end_ms,
        habits=draw_habits(rng),
        deeds=Weighted([("plain", plain), *troubles]),
    )


def _duration_ms(fmt: Format, rng: Random) -> int | None:
    return habits.VIDEO_MS.whole(rng) if fmt is Format.VIDEO else None


def _visited(surface: Surface, rng: Random, families: Collection[str], brand: str) -> list[list[Placement]]:
    """What one visit to *surface* can come across: the positions of a feed, or the slots of one publisher's app."""
    if surface is not Surface.AUDIENCE_NETWORK:
        publisher = FIRST_PARTY[surface is not Surface.FEED]
        return [[Placement(f"{surface.value}-{n}", publisher, surface) for n in range(POSITIONS)]]
    cheating = _cheating(rng, families)
    return [
        _app(f"{brand}app-{number:02}", 1 + number % 3, cheating.get(number, ""), rng) for number in range(PUBLISHERS)
    ]


def _cheating(rng: Random, families: Collection[str]) -> dict[int, str]:
    """Return which publisher cheats, and how: none in two ways."""
    numbers = list(range(PUBLISHERS))
    rng.shuffle(numbers)
    return {
        numbers.pop(): family
        for family, share in CHEATING_PUBLISHERS.items()
        for _ in range(max(1, round(share.draw(rng) * PUBLISHERS)))
        if family in families
    }


def _app(name: str, size: int, cheats: str, rng: Random) -> list[Placement]:
    slots = [
        Placement(
            f"{name}-{slot}",
            name,
            Surface.AUDIENCE_NETWORK,
            banner=pick(BANNERS, rng),
            auto_refresh=rng.random() < AUTO_REFRESHED,
        )
        for slot in range(size)
    ]
    if not cheats:
        return slots
    first = int(rng.random() * len(slots))
    return [
        _crooked(slot, cheats, rng) if at == first or rng.random() < CHEATING_SLOTS else slot
        for at, slot in enumerate(slots)
    ]


def _crooked(slot: Placement, cheats: str, rng: Random) -> Placement:
    match cheats:
        case "hidden" if rng.random() < OFF_SCREEN:
            return replace(slot, cheats=cheats, look=Look(0.0, 0, clicked=False))
        case "hidden":
            return replace(slot, cheats=cheats, banner=pick(HIDDEN, rng))
        case "ad_stacking":
            return replace(slot, cheats=cheats, stack=STACK.whole(rng))
        case _:
            return replace(slot, cheats=cheats, look=Look(1.0, PERFECT_MS.whole(rng), clicked=False))
