"""
What devices say of themselves beside their agent, out of measured fingerprints; and what spoofed ones give away.

Measured agents have the values that were measured with them (apify-fingerprint-datapoints), others those of their
system. Apps send no client hints.
"""

import re
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from domain.render import Fingerprint
from ml.traffic.draw import pick, weighted

STRINGIFIED = "*STRINGIFIED*"
_MISSING = "*MISSING_VALUE*"
_CHROME = re.compile(r" Chrome/(\d+)")
_TOUCH = 5
_PLATFORMS = {
    "ios": ("iPhone",),
    "android": ("Linux armv81", "Linux aarch64"),
    "desktop": ("Win32", "MacIntel", "Linux x86_64"),
}
_DESKTOPS = (("Windows", "Win32", "Windows"), ("Macintosh", "MacIntel", "macOS"), ("", "Linux x86_64", "Linux"))
_RENTED_SCREENS = ((1_280, 720), (800, 600), (1_024, 768), (1_920, 1_200))


class Screen(NamedTuple):
    """Width and height in CSS px."""

    width: int
    height: int


class _Brand(Struct):
    brand: str
    version: str


class _Hints(Struct):
    brands: list[_Brand]
    mobile: bool
    platform: str


Below = dict[str, dict[str, float]]
"""Probabilities of what follows on an agent: agent -> value -> probability."""


class Fingerprints:
    """Draws fingerprints; *hints*, *platforms* and *touch* are what was measured, by agent."""

    def __init__(self, hints: Below, platforms: Below, touch: Below) -> None:
        self._hints = {agent: weighted(shares) for agent, shares in hints.items()}
        self._platforms = {agent: weighted(shares) for agent, shares in platforms.items()}
        self._touch = {agent: weighted(shares) for agent, shares in touch.items()}

    def of(self, agent: str, system: str, screen: Screen, rng: Random) -> Fingerprint:
        """Return the fingerprint of a browser; `system` is `ios`, `android` or `desktop`."""
        if agent not in self._platforms:
            return _made(agent, system, screen, rng)
        hints = _hints(self._hints[agent].draw(rng))
        touch = _read(self._touch[agent].draw(rng))
        return Fingerprint(
            platform=_read(self._platforms[agent].draw(rng)),
            hint_brands=_brands(hints) if hints else None,
            hint_platform=hints.platform if hints and hints.platform else None,
            hint_mobile=hints.mobile if hints and hints.brands else None,
            touch_points=touch,
            screen_width=screen.width,
            screen_height=screen.height,
        )


def in_app(system: str, screen: Screen, rng: Random) -> Fingerprint:
    """Return what an app's SDK says of the phone it runs on."""
    return Fingerprint(
        platform=pick(_PLATFORMS[system], rng),
        touch_points=_TOUCH,
        screen_width=screen.width,
        screen_height=screen.height,
    )


LEAKS: tuple[Callable[[Fingerprint, Random], Fingerprint], ...] = (
    lambda said, _: replace(said, platform="Linux x86_64"),
    lambda said, _: replace(said, hint_platform="Linux") if said.hint_platform else said,
    lambda said, rng: replace(said, hint_brands=_other_engine(said.hint_brands, rng)) if said.hint_brands else said,
    lambda said, _: replace(said, touch_points=0),
    lambda said, rng: _on_screen(said, pick(_RENTED_SCREENS, rng)),
)
"""What a rented machine gives away about itself, each by itself."""


def leaking(said: Fingerprint, chance: float, rng: Random) -> Fingerprint:
    """Return *said* with each of `LEAKS` by *chance*."""
    for leak in LEAKS:
        if rng.random() < chance:
            said = leak(said, rng)
    return said


def _other_engine(brands: str, rng: Random) -> str:
    """The engine is another one than the agent says: newer or older."""
    major = rng.randint(118, 152)
    return re.sub(r'(Chrome|Chromium|Edge)";v="\d+', rf'\1";v="{major}', brands)


def _on_screen(said: Fingerprint, screen: tuple[int, int]) -> Fingerprint:
    return replace(said, screen_width=screen[0], screen_height=screen[1])


def _made(agent: str, system: str, screen: Screen, rng: Random) -> Fingerprint:
    """What nobody measured with this agent is put together as its system would."""
    chrome = _CHROME.search(agent)
    hints: dict[str, Any] = {}
    if system == "desktop":
        _, platform, hinted = next(row for row in _DESKTOPS if row[0] in agent)
        touch = 0
    else:
        platform, hinted, touch = pick(_PLATFORMS[system], rng), "Android", _TOUCH
    if chrome and system != "ios":
        make = "Microsoft Edge" if "Edg/" in agent else "Opera" if "OPR/" in agent else "Google Chrome"
        brands = f'"Chromium";v="{chrome[1]}", "{make}";v="{chrome[1]}", "Not_A Brand";v="24"'
        hints = {"hint_brands": brands, "hint_platform": hinted, "hint_mobile": "Mobile" in agent}
    return Fingerprint(
        platform=platform, touch_points=touch, screen_width=screen.width, screen_height=screen.height, **hints
    )


@cache
def _hints(value: str) -> _Hints | None:
    read = _read(value)
    return msgspec.convert(read, _Hints) if read else None


def _brands(hints: _Hints) -> str | None:
    return ", ".join([f'"{one.brand}";v="{one.version}"' for one in hints.brands]) or None


@cache
def _read(value: str) -> Any:
    if value == _MISSING:
        return None
    return msgspec.json.decode(value.removeprefix(STRINGIFIED)) if value.startswith(STRINGIFIED) else value
