"""
Where the counters stand: preallocated arrays, addressed by an open hash index over exact 192-bit keys.

A row of a `CountTable` has rings of buckets, a row of a `SetTable` the members of a set with the bucket in which each
was last seen. Rows never move; a table that is full evicts by second chance. Times are epoch ms.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint32]
Bytes: TypeAlias = NDArray[np.uint8]
Counts: TypeAlias = NDArray[np.uint16]

TEN_S_MS, MINUTE_MS, HOUR_MS = 10_000, 60_000, 3_600_000
TENS, MINUTES, HOURS = 6, 60, 24
"""Buckets per ring: a minute in tens of seconds, an hour in minutes, a day in hours."""
TIMES_KEPT = 17
"""Their differences are the last 16 gaps."""

SIZE, HAND, EVICTED, FLOOR = range(4)
"""
Places in a table's state: rows in use, where the eviction's hand stands, rows evicted so far, the time from which on
every render of a key that has no row would be known.
"""
STATE_LEN = 4
COUNT_MAX = 65_535
"""The greatest count of a bucket; a window with such a bucket has at least that many."""
IDLE, ACTIVE, HELD = range(3)
"""What `used` says of a row. A held one belongs to the batch at hand and is not evicted."""
KEY_COLUMNS, KNOWN, FIRST = 3, 3, 4
"""Columns of `heads`: the key, since when every render of it is known, the first of the times (-1: none)."""
LOST = FIRST
"""Column of a set's `heads`: the latest bucket in which somebody was seen who is no member (-1: nobody)."""

_INDEX_PER_ROW = 2


class CountTable(NamedTuple):
    """
    Rings of counts by key.

    `slots` (a power of two of them) has `tag << 32 | row + 1` or 0; `heads` (capacity, 4 + kept) the key, `KNOWN`, and
    the latest times of renders, ascending; `counts` (capacity, buckets) saturates at `COUNT_MAX`.
    """

    slots: Ints
    used: Bytes
    state: Ints
    heads: Ints
    counts: Counts


class SetTable(NamedTuple):
    """
    Sets by key. `heads` (capacity, 6) has the key, `KNOWN`, `LOST` and the latest time.

    `members` is (capacity, 4 * bound): three words of a member, then the bucket in which it was last seen, plus one.
    """

    slots: Ints
    used: Bytes
    state: Ints
    heads: Ints
    members: Words


class Tables(NamedTuple):
    """All that is counted. A person is the user where one is known, else the device: what routes to a worker."""

    devices: CountTable
    people: CountTable
    networks: CountTable
    placements: CountTable
    device_creatives: CountTable
    device_users: SetTable
    device_ads: SetTable
    network_devices: SetTable


class Capacities(NamedTuple):
    """Rows per table, and how many members a set counts exactly. Memory per row: benchmarks/results/counters.json."""

    devices: int = 262_144
    people: int = 262_144
    networks: int = 65_536
    placements: int = 16_384
    device_creatives: int = 262_144
    device_users: int = 131_072
    device_ads: int = 65_536
    network_devices: int = 16_384
    users_per_device: int = 8
    ads_per_device: int = 32
    devices_per_network: int = 64


def allocate(capacities: Capacities, watched_since: int) -> Tables:
    """Return empty tables that have been watching since *watched_since*; memory is taken as rows are used."""
    c, since, day = capacities, watched_since, TENS + MINUTES + HOURS
    return Tables(
        devices=_counts(c.devices, since, day, TIMES_KEPT),
        people=_counts(c.people, since, day, TIMES_KEPT),
        networks=_counts(c.networks, since, day, 1),
        placements=_counts(c.placements, since, day, 1),
        device_creatives=_counts(c.device_creatives, since, MINUTES, 1),
        device_users=_sets(c.device_users, since, c.users_per_device),
        device_ads=_sets(c.device_ads, since, c.ads_per_device),
        network_devices=_sets(c.network_devices, since, c.devices_per_network),
    )


def scratch(capacities: Capacities, batch_max: int) -> Tables:
    """Return room for all rows that one batch may look at: its own keys and those of the other day."""
    return allocate(capacities._replace(**dict.fromkeys(Tables._fields, 2 * batch_max)), 0)


def row_bytes(table: CountTable | SetTable) -> float:
    """Return the memory per row, its share of the index included."""
    return sum(array.nbytes for array in table) / len(table.used)


def _counts(capacity: int, since: int, buckets: int, kept: int) -> CountTable:
    return CountTable(
        *_head(capacity, since),
        heads=np.zeros((capacity, FIRST + kept), np.int64),
        counts=np.zeros((capacity, buckets), np.uint16),
    )


def _sets(capacity: int, since: int, bound: int) -> SetTable:
    return SetTable(
        *_head(capacity, since),
        heads=np.zeros((capacity, LOST + 2), np.int64),
        members=np.zeros((capacity, 4 * bound), np.uint32),
    )


def _head(capacity: int, since: int) -> tuple[Ints, Bytes, Ints]:
    state = np.zeros(STATE_LEN, np.int64)
    state[FLOOR] = since
    size = 1 << (_INDEX_PER_ROW * capacity - 1).bit_length()
    return np.zeros(size, np.int64), np.zeros(capacity, np.uint8), state
