"""
Ranges of network addresses as disjoint blocks of numbers, IPv4 and IPv6 apart.

An IPv4 address written as IPv6 (`::ffff:1.2.3.4`) is the IPv4 address.
"""

import heapq
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

IPV4_BITS, IPV6_BITS = 32, 128
FAMILIES = (IPV4_BITS, IPV6_BITS)
TEXT_CHARS_MAX = 45
"""Longer text is no address."""
_MAPPED = bytes(10) + b"\xff\xff"
"""What an IPv4 address written as IPv6 begins with (RFC 4291, 2.5.5.2)."""
_RUN = 4_096
"""Sorted at once: one call of `sorted` over all clouds would hold the interpreter, and a gate with it, for 0.1 s."""


class Block(NamedTuple):
    """The addresses *first* to *last*, both in it."""

    first: int
    last: int


Blocks: TypeAlias = tuple[Block, ...]
Ranges: TypeAlias = dict[int, Blocks]
"""By bits of the family: disjoint blocks in order."""


def pack_address(address: str) -> bytes | None:
    """Return the 4 or 16 bytes of *address*, or None if it is none."""
    if len(address) > TEXT_CHARS_MAX or not address.isascii() or "\0" in address:
        return None
    try:
        if ":" not in address:
            return socket.inet_pton(socket.AF_INET, address)
        packed = socket.inet_pton(socket.AF_INET6, address)
    except OSError:
        return None
    return packed.removeprefix(_MAPPED)


def block_of(cidr: str) -> Block:
    """
    Return the addresses of *cidr*, such as `104.28.0.0/16`, or of a single address.

    Raises:
        ValueError: it is neither.
    """
    base, slash, length = cidr.partition("/")
    packed = pack_address(base)
    if packed is None or (slash and not (length.isascii() and length.isdigit())):
        raise ValueError(f"{cidr!r} is no range of addresses")
    bits = len(packed) * 8
    fixed = int(length) if slash else bits
    if ":" in base and bits == IPV4_BITS and slash:
        fixed -= IPV6_BITS - IPV4_BITS
    if not 0 <= fixed <= bits:
        raise ValueError(f"{cidr!r} is no range of addresses")
    size = 1 << (bits - fixed)
    first = int.from_bytes(packed) & -size
    return Block(first, first + size - 1)


def family_of(cidr: str) -> int:
    """Return the bits of the family that *cidr* belongs to."""
    packed = pack_address(cidr.partition("/")[0])
    return IPV6_BITS if packed is None or len(packed) * 8 == IPV6_BITS else IPV4_BITS


def ranges_of(cidrs: Iterable[str]) -> Ranges:
    """
    Return *cidrs* as disjoint blocks.

    Raises:
        ValueError: one of them is no range.
    """
    found: dict[int, list[Block]] = {bits: [] for bits in FAMILIES}
    for cidr in cidrs:
        found[family_of(cidr)].append(block_of(cidr))
    return {bits: merged(blocks) for bits, blocks in found.items()}


def merged(blocks: Sequence[Block]) -> Blocks:
    """Return *blocks* in order, those that touch or overlap as one."""
    joined: list[Block] = []
    runs = [sorted(blocks[at : at + _RUN]) for at in range(0, len(blocks), _RUN)]
    for block in heapq.merge(*runs):
        if joined and block.first <= joined[-1].last + 1:
            joined[-1] = Block(joined[-1].first, max(joined[-1].last, block.last))
        else:
            joined.append(block)
    return tuple(joined)


def bounds_of(blocks: Blocks) -> list[int]:
    """Return first, last + 1, first, last + 1, ...: an odd number of bounds at or before an address means inside."""
    return [bound for block in blocks for bound in (block.first, block.last + 1)]
