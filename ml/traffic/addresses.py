"""
Network addresses: of people, out of what registries allocated to access providers, and of data centres, out of the
cloud providers' own lists. No address of a person is in a cloud range; some are of relays that people use.
"""

import socket
from functools import cache
from random import Random
from typing import NamedTuple

from ml.lists.packaged import cloud_cidrs, relay_cidrs
from ml.lists.ranges import block_of
from ml.traffic.draw import Span, pick

_POOL = Span(9, 23)
"""Addresses behind which one carrier puts all its phones (RFC 6888: many subscribers share one)."""
_RENTED_PREFIX_MAX = 24


class Access(NamedTuple):
    """An access provider's allocation (RIPE NCC, ARIN, APNIC and LACNIC databases)."""

    cidr: str
    country: str
    holder: str


HOMES = (
    Access("79.192.0.0/10", "DE", "Deutsche Telekom"),
    Access("87.128.0.0/10", "DE", "Deutsche Telekom"),
    Access("2003::/19", "DE", "Deutsche Telekom"),
    Access("90.0.0.0/9", "FR", "Orange"),
    Access("82.64.0.0/14", "FR", "Free"),
    Access("2a01:c000::/19", "FR", "Orange"),
    Access("86.128.0.0/10", "GB", "BT"),
    Access("88.0.0.0/11", "ES", "Telefonica"),
    Access("79.0.0.0/10", "IT", "Telecom Italia"),
    Access("73.0.0.0/8", "US", "Comcast"),
    Access("108.192.0.0/11", "US", "AT&T"),
    Access("2601::/20", "US", "Comcast"),
    Access("122.160.0.0/12", "IN", "Bharti Airtel"),
    Access("126.0.0.0/8", "JP", "SoftBank"),
    Access("1.120.0.0/13", "AU", "Telstra"),
    Access("177.32.0.0/11", "BR", "Claro"),
    Access("187.128.0.0/10", "MX", "Uninet"),
)
CARRIERS = (
    Access("109.40.0.0/13", "DE", "Vodafone"),
    Access("37.160.0.0/12", "FR", "Free Mobile"),
    Access("31.112.0.0/13", "GB", "EE"),
    Access("172.32.0.0/11", "US", "T-Mobile"),
    Access("174.192.0.0/10", "US", "Verizon Wireless"),
    Access("49.32.0.0/13", "IN", "Reliance Jio"),
)
"""Providers that put many phones behind one address."""

COUNTRIES = {
    "eu": {"DE": 0.31, "FR": 0.24, "GB": 0.22, "IT": 0.12, "ES": 0.11},
    "us": {"US": 0.94, "MX": 0.06},
    "apac": {"IN": 0.66, "JP": 0.21, "AU": 0.13},
    "latam": {"BR": 0.72, "MX": 0.28},
}
"""Countries of a region, with their shares of its people. A region that is not named here has all of them."""

UTC_OFFSET_H = {
    "DE": 1,
    "FR": 1,
    "GB": 0,
    "IT": 1,
    "ES": 1,
    "US": -6,
    "MX": -6,
    "IN": 5.5,
    "JP": 9,
    "AU": 10,
    "BR": -3,
}


def countries_of(region: str) -> dict[str, float]:
    return COUNTRIES.get(region) or dict.fromkeys(UTC_OFFSET_H, 1 / len(UTC_OFFSET_H))


class Space(NamedTuple):
    """Addresses to draw from: *size* of them from *first* on, of IPv4 or IPv6 by *bits*."""

    first: int
    size: int
    bits: int

    def draw(self, rng: Random) -> str:
        number = (
            self.first + int(rng.random() * self.size)
            if self.bits == 32
            else self.first + rng.getrandbits(128) % self.size
        )
        family = socket.AF_INET if self.bits == 32 else socket.AF_INET6
        return socket.inet_ntop(family, number.to_bytes(self.bits // 8))


def space_of(cidr: str) -> Space:
    block = block_of(cidr)
    return Space(block.first, block.last - block.first + 1, 128 if ":" in cidr else 32)


class Addresses:
    """Draws addresses as text; building the first of a process reads the clouds' lists, 0.3 s."""

    def __init__(self, rng: Random) -> None:
        self._homes = _by_country(HOMES)
        self._carriers = {
            country: [pick(spaces, rng).draw(rng) for _ in range(_POOL.whole(rng))]
            for country, spaces in _by_country(CARRIERS).items()
        }
        self._relays = [space_of(cidr) for cidr in relay_cidrs()]
        self._clouds = _rentable()

    def home(self, country: str, rng: Random) -> str:
        """Return an address of a household or an office."""
        return pick(self._homes[country], rng).draw(rng)

    def carrier(self, country: str, rng: Random) -> str:
        """Return one of the few addresses that all phones of a carrier share; a household's where none is known."""
        pool = self._carriers.get(country)
        return pick(pool, rng) if pool else self.home(country, rng)

    def relay(self, rng: Random) -> str:
        """Return an address of a privacy relay: a person on purpose behind it."""
        return pick(self._relays, rng).draw(rng)

    def cloud(self, rng: Random) -> str:
        """Return an address of a rented machine."""
        return pick(self._clouds, rng).draw(rng)


def _by_country(table: tuple[Access, ...]) -> dict[str, list[Space]]:
    spaces: dict[str, list[Space]] = {}
    for access in table:
        spaces.setdefault(access.country, []).append(space_of(access.cidr))
    return spaces


@cache
def _rentable() -> list[Space]:
    """The clouds' IPv4 ranges that are large enough to be rented out; smaller ones are endpoints of services."""
    cidrs = sorted({cidr for cidr in cloud_cidrs() if ":" not in cidr})
    spaces = [space_of(cidr) for cidr in cidrs if int(cidr.partition("/")[2]) <= _RENTED_PREFIX_MAX]
    relays = [space_of(cidr) for cidr in relay_cidrs()]
    return [space for space in spaces if not any(_overlap(space, relay) for relay in relays)]


def _overlap(one: Space, other: Space) -> bool:
    return one.bits == other.bits and one.first < other.first + other.size and other.first < one.first + one.size
