"""
Days that are not like others. A drill changes how many come, what they come to, or what their browsers are; nobody in
it does anything wrong. That a tier of the gate is away is no drill of the traffic's: `impledger drill` does that.
"""

from collections.abc import Iterable
from enum import StrEnum
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from ml.traffic.draw import Span

BEGINS = Span(0.23, 0.37)
"""When it begins, as a share of the run."""
SURGE_LASTS = Span(0.41, 0.57)
SURGE_TIMES = Span(1.7, 2.7)
NEW_FACES = 0.83
"""Share of a holiday's sessions by people who were not there before."""
FLASH_LASTS = Span(0.09, 0.17)
FLASH_TIMES = Span(3.1, 5.7)
ADOPTED = Span(0.37, 0.63)
"""Share of browsers that have the new version by the end of a release day."""
OUTAGE_LASTS = Span(0.13, 0.27)
FLOOD_LASTS = 0.19
"""How long the flood after an outage takes, as a share of the outage."""
DRAINING = 0.07
"""How long a device takes to send what it kept, as a share of that."""


class Drill(StrEnum):
    BROWSER_RELEASE = "browser_release"
    """A new version of the most used browser: in one run as many take it as on the days after a release."""
    HOLIDAY = "holiday"
    """Twice the traffic for half of the run, most of it by people who are seldom there."""
    FLASH_CROWD = "flash_crowd"
    """Everybody goes to one place at once, for some minutes."""


def days(names: Iterable[str]) -> tuple[Drill, ...]:
    """
    Return the drills of these names.

    Raises:
        ValueError: there is no such drill.
    """
    chosen = tuple(names)
    if unknown := set(chosen) - set(Drill):
        raise ValueError(f"no day is called {', '.join(sorted(unknown))}; there are {', '.join(Drill)}")
    return tuple(map(Drill, chosen))


class Window(Struct, frozen=True):
    """From when to when, ms."""

    begins: float
    ends: float

    def has(self, now: float) -> bool:
        return self.begins <= now < self.ends

    def from_(self, start_ms: int) -> "Window":
        return Window(self.begins + start_ms, self.ends + start_ms)


class Days(Struct, frozen=True):
    """What was drawn of the drills of one run. A window of nothing never comes."""

    surge: Window
    surge_times: float
    flash: Window
    flash_times: float
    release: Window
    adopted: float
    outage: Window

    def busy(self, now: float) -> float:
        """Return by how much more comes now than on other days."""
        surge = self.surge_times if self.surge.has(now) else 1.0
        return surge * (self.flash_times if self.flash.has(now) else 1.0)

    def updated(self, now: float) -> float:
        """Return the share of browsers that have the new version by now."""
        if not self.release.has(now):
            return 0.0
        return self.adopted * (now - self.release.begins) / (self.release.ends - self.release.begins)

    def flood_at(self, at: int, patience: float) -> int:
        """
        Return when what would have been sent at *at*, in the outage, gets through; what comes first, first.

        *patience* in [0, 1] is how late the device tries again.
        """
        lasts = self.outage.ends - self.outage.begins
        return int(self.outage.ends + FLOOD_LASTS * (lasts * patience + DRAINING * (at - self.outage.begins)))

    def from_(self, start_ms: int) -> "Days":
        """Return the same of a run that begins at *start_ms*."""
        windows = {name: getattr(self, name) for name in ("surge", "flash", "release", "outage")}
        return replace(self, **{name: window.from_(start_ms) for name, window in windows.items()})


_NEVER = Window(0.0, 0.0)


def draw_days(drills: frozenset[Drill], seconds: float, rng: Random, *, outage: bool) -> Days:
    """Draw when each of *drills* is, and the *outage* of a region, within a run that begins at 0."""
    lasts_ms = seconds * 1e3

    def window(lasts: Span, *, happens: bool) -> Window:
        begins, share = BEGINS.draw(rng), lasts.draw(rng)
        return Window(begins * lasts_ms, (begins + share) * lasts_ms) if happens else _NEVER

    return Days(
        surge=window(SURGE_LASTS, happens=Drill.HOLIDAY in drills),
        surge_times=SURGE_TIMES.draw(rng),
        flash=window(FLASH_LASTS, happens=Drill.FLASH_CROWD in drills),
        flash_times=FLASH_TIMES.draw(rng),
        release=Window(0.0, lasts_ms) if Drill.BROWSER_RELEASE in drills else _NEVER,
        adopted=ADOPTED.draw(rng),
        outage=window(OUTAGE_LASTS, happens=outage),
    )
