"""What is for sale and who buys: surfaces, placements, SDK versions, campaigns."""

from collections.abc import Iterable
from random import Random

from msgspec import Struct

from domain.vocabulary import BillingEvent, Format, Surface
from ml.traffic import habits
from ml.traffic.browsers import Screen
from ml.traffic.draw import Span, Weighted, pick
from ml.traffic.habits import Habits, draw_habits

CURRENCIES = ("EUR", "USD")
CREATIVES = Span(2, 7)
ENDED_CAMPAIGNS = 0.045
"""Share of campaigns whose flight is over while stale caches still show them."""
VIDEO_PACKS = ("mrc", "mrc_cross_media")
AUTO_REFRESHED = 0.22
"""Share of Audience Network placements whose ad changes by itself."""
HIDDEN_PLACEMENTS = 0.06
PUBLISHERS = 27
POSITIONS = 9
BANNERS = (
    *(Screen(320, 50), Screen(300, 250), Screen(336, 280), Screen(300, 600), Screen(728, 90), Screen(970, 90)),
    *(Screen(320, 480), Screen(320, 100), Screen(930, 180)),
)
HIDDEN = (Screen(1, 1), Screen(0, 0), Screen(1, 0), Screen(0, 320))


class Sdk(Struct, frozen=True):
    """
    A version of the client. `fires_twice` and `loses` (events that it never sends) are bugs; `tells_sent` is false
    where it does not send its own clock.
    """

    name: str
    weight: float
    fires_twice: float = 0.0
    loses: float = 0.0
    tells_sent: bool = True


SDKS: dict[Surface, tuple[Sdk, ...]] = {
    Surface.FEED: (
        Sdk("fb-501.2", 0.43),
        Sdk("fb-502.0", 0.31),
        Sdk("fb-487.0", 0.18),
        Sdk("fb-466.1", 0.08, tells_sent=False),
    ),
    Surface.INSTAGRAM: (Sdk("ig-375.2", 0.52), Sdk("ig-376.0", 0.33), Sdk("ig-350.1", 0.15, loses=0.13)),
    Surface.REELS: (Sdk("reels-375.2", 0.57), Sdk("reels-376.0", 0.28), Sdk("reels-341.0", 0.15, tells_sent=False)),
    Surface.AUDIENCE_NETWORK: (
        Sdk("an-6.17.0", 0.44),
        Sdk("an-6.16.0", 0.33),
        Sdk("an-6.12.3", 0.09, fires_twice=0.37),
        Sdk("an-6.8.0", 0.14, tells_sent=False),
    ),
}
WEB_SDK = Sdk("web-4.2", 0.0)
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
    """A slot. `banner` is its size where it does not follow from the screen."""

    name: str
    publisher: str
    surface: Surface
    banner: Screen | None = None
    hidden: bool = False
    auto_refresh: bool = False


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
    """The campaigns and placements of one run; *deeds* gives the share of each kind of trouble, drawn per campaign."""

    def __init__(self, rng: Random, campaigns: int, deeds: Iterable[tuple[str, Span]]) -> None:
        shares = tuple(deeds)
        surfaces = Weighted(SURFACES.items())
        made = [_campaign(rng, number, _surface(number, surfaces, rng), shares) for number in range(campaigns)]
        self.all = made
        self.campaigns = {surface: _by_budget([c for c in made if c.surface is surface], rng) for surface in SURFACES}
        self.visited = {surface: _visited(surface, rng) for surface in SURFACES}
        self.surfaces = surfaces
        self.sdks = {surface: Weighted((sdk, sdk.weight) for sdk in sdks) for surface, sdks in SDKS.items()}


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


def _visited(surface: Surface, rng: Random) -> list[list[Placement]]:
    """What one visit to *surface* can come across: the positions of a feed, or the slots of one publisher's app."""
    if surface is not Surface.AUDIENCE_NETWORK:
        publisher = "facebook" if surface is Surface.FEED else "instagram"
        return [[Placement(f"{surface.value}-{n}", publisher, surface) for n in range(POSITIONS)]]
    return [
        [_app_slot(f"app-{number:02}", slot, rng) for slot in range(1 + number % 3)] for number in range(PUBLISHERS)
    ]


def _app_slot(publisher: str, slot: int, rng: Random) -> Placement:
    hidden = rng.random() < HIDDEN_PLACEMENTS
    return Placement(
        f"{publisher}-{slot}",
        publisher,
        Surface.AUDIENCE_NETWORK,
        banner=pick(HIDDEN if hidden else BANNERS, rng),
        hidden=hidden,
        auto_refresh=rng.random() < AUTO_REFRESHED,
    )
