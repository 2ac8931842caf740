"""
What the lists say of a network address: of a data centre, of a VPN or a relay of people, or of people at home.

All lists together cut the address space into intervals of one meaning, kept as one sorted array of bounds per family
and found by one bisection.
"""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from domain.vocabulary import NetworkClass
from ml.lists.ranges import FAMILIES, Ranges, bounds_of, pack_address
from ml.lists.sources import Sources


class NetworkSaid(NamedTuple):
    """What is said of an address, and by which list; no list speaks of those at home."""

    network_class: NetworkClass
    list: str


_WORD_BITS = 32
NOBODY = NetworkSaid(NetworkClass.EYEBALL, "")
NO_ADDRESS = NetworkSaid(NetworkClass.ABSENT, "special")
SPEAKERS = (
    NO_ADDRESS,
    NetworkSaid(NetworkClass.RELAY, "relays"),
    NetworkSaid(NetworkClass.VPN, "vpns"),
    NetworkSaid(NetworkClass.DATA_CENTRE, "clouds"),
    NetworkSaid(NetworkClass.DATA_CENTRE, "hosting"),
)
"""The first that has an address speaks: people's ways out of a cloud go before the cloud."""


class _Partition(NamedTuple):
    """`said[n]` is of the addresses from `bounds[n - 1]` to before `bounds[n]`; those of IPv4 fit an array."""

    bounds: Sequence[int]
    said: list[NetworkSaid]


class NetworkLists:
    """Classifies network addresses; compiled once, remembers nothing."""

    def __init__(self, sources: Sources) -> None:
        lists: list[Ranges] = [getattr(sources, speaker.list) for speaker in SPEAKERS]
        self._by_length = {
            bits // 8: _partition([bounds_of(ranges[bits]) for ranges in lists], bits) for bits in FAMILIES
        }

    @property
    def intervals(self) -> int:
        return sum(len(partition.said) for partition in self._by_length.values())

    def say(self, address: str) -> NetworkSaid:
        """Return what the lists say of *address*; what is no address, or no public one, is absent."""
        packed = pack_address(address)
        if packed is None:
            return NO_ADDRESS
        bounds, said = self._by_length[len(packed)]
        return said[bisect_right(bounds, int.from_bytes(packed))]


def _partition(lists: Sequence[list[int]], bits: int) -> _Partition:
    """Lay the bounds of all *lists* over one another; an earlier list hides later ones."""
    cut, said = [], [NOBODY]
    for bound in sorted({bound for bounds in lists for bound in bounds}):
        inside = (speaker for speaker, bounds in zip(SPEAKERS, lists, strict=True) if bisect_right(bounds, bound) % 2)
        speaks = next(inside, NOBODY)
        if speaks is not said[-1]:
            cut.append(bound)
            said.append(speaks)
    return _Partition(array("Q", cut) if bits <= _WORD_BITS else cut, said)
