"""
What differs from campaign to campaign, from surface to surface and from person to person: spans to draw from.

No number here equals a threshold of a rule pack (a test says so), so that nothing can learn the rules from the traffic.
Times in ms unless the name says otherwise.
"""

from random import Random

from msgspec import Struct

from ml.traffic.draw import Span

DAY_CURVE = (31, 19, 12, 8, 7, 11, 24, 43, 54, 57, 58, 61, 68, 66, 61, 62, 66, 73, 82, 93, 104, 102, 81, 53)
"""How many people are there in each hour of their local day, relative to each other."""

SHOTS_PER_SESSION = Span(3, 41, by_size=True)
AWAY_MS = Span(310_000, 5_400_000, by_size=True)
"""From the beginning of a session until whoever had it may come again."""
GAP_MS = Span(1_230, 17_400, by_size=True)
"""Between two ads of a session, for people."""
GAP_FAST_SCROLLER_MS = Span(390, 1_370)
GAP_OLD_PHONE_MS = Span(2_900, 31_000, by_size=True)
GAP_TESTER_MS = Span(730, 4_300)
SHOTS_FAST_SCROLLER = Span(23, 270, by_size=True)
SHOTS_TESTER = Span(17, 83)
CLICKS_HARDLY = 0.0014
RESISTS_FINGERPRINTING = 0.37

SERVED_BEFORE_MS = Span(90, 2_700, by_size=True)
UPLOAD_AFTER_MS = Span(15, 870, by_size=True)
SKEW_SLIGHT_MS = Span(-1_900, 1_900)
SKEW_STRONG_MS = Span(97_000, 41_000_000, by_size=True)
STRONGLY_SKEWED = 0.021

RETRY_AFTER_MS = Span(1_700, 23_000, by_size=True)
DUPLICATE_AFTER_MS = Span(140, 9_400, by_size=True)
SHOWN_AFTER_MS = Span(840, 11_700, by_size=True)
BEGUN_AFTER_MS = Span(65, 2_300, by_size=True)
COMPLETED_AFTER_MS = Span(2_900, 19_000)
VIEW_EARLY_MS = Span(110, 3_400, by_size=True)
REPLAYED_AFTER_MS = Span(1_300, 41_000, by_size=True)
REPLAYS = Span(3, 19)
LATE_BY_MS = Span(140_000, 113_000_000, by_size=True)
EXPIRED_BY_MS = Span(640_000_000, 910_000_000)
FLIGHT_BEFORE_MS = Span(190_000_000, 2_400_000_000)
FLIGHT_AFTER_MS = Span(170_000_000, 3_900_000_000)
FLIGHT_OVER_MS = Span(130_000, 31_000_000)

PRICE_MICROS = Span(1_830, 17_400, by_size=True)
"""Per impression: a CPM of 1.83 to 17.40."""
VIDEO_MS = Span(6_300, 37_000)
WEB_COLUMN = Span(0.31, 0.43)
"""Width of a feed's column on a desktop, as a share of the screen's."""
CARD_SHAPE = Span(0.53, 1.23)
"""Height of a card as a share of its width."""


class Habits(Struct, frozen=True, kw_only=True):
    """How one campaign's ads are looked at."""

    views: float
    """Share of renders that a view event follows."""
    measured: float
    """Share of renders that carry their measures themselves."""
    views_early: float
    """Share of views that overtake their render."""
    seen_whole: float
    """Share of views during which the whole ad was on screen."""
    ratio_bend: float
    """Above 1, most of the others saw much of it; below, little."""
    look_ms: float
    look_spread: float
    clicks: float
    lost: float
    """Share of events that a device never sends (closed apps, dead batteries); their sequence numbers are missing."""
    unreached: float
    """Share of served ads that nobody scrolls to."""


HABITS = {
    "views": Span(0.34, 0.63),
    "measured": Span(0.07, 0.23),
    "views_early": Span(0.004, 0.017),
    "seen_whole": Span(0.33, 0.71),
    "ratio_bend": Span(0.7, 1.9),
    "look_ms": Span(1_450, 4_300, by_size=True),
    "look_spread": Span(0.55, 0.95),
    "clicks": Span(0.003, 0.016),
    "lost": Span(0.002, 0.011),
    "unreached": Span(0.011, 0.043),
}


def draw_habits(rng: Random) -> Habits:
    return Habits(**{name: span.draw(rng) for name, span in HABITS.items()})
