"""How an ad is looked at, or said to have been."""

from random import Random
from typing import NamedTuple

from ml.traffic.draw import Span


class Look(NamedTuple):
    """How the ad was looked at: the share of it that was visible, for how many ms, and whether it was clicked."""

    ratio: float
    ms: int
    clicked: bool


class Gaze(NamedTuple):
    """Looks that do not follow the campaign's; `clicks` is the share that clicks."""

    ratio: Span
    ms: Span
    clicks: float

    def look(self, rng: Random) -> Look:
        return Look(round(min(self.ratio.draw(rng), 1.0), 3), self.ms.whole(rng), rng.random() < self.clicks)


class Take(NamedTuple):
    """One ad of a recorded session: how it was looked at, and how many ms later the next one came."""

    look: Look
    gap_ms: int
