"""The counters of one worker: look before deciding, commit what became durable."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from ml.counters import kernels
from ml.counters.features import FEATURES, PLACE, Column, Features, Status
from ml.counters.keys import NO_KEYS, Batch
from ml.counters.memory import take_memory
from ml.counters.tables import (
    EVICTED,
    FLOOR,
    MINUTE_MS,
    MINUTES,
    SIZE,
    TEN_S_MS,
    TENS,
    Capacities,
    CountTable,
    Ints,
    SetTable,
    Tables,
    allocate,
    row_bytes,
    scratch,
)

BATCH_MAX = 512
TIME_MAX = 1 << 45
"""Epoch ms; bucket numbers of the shortest ring then fit 32 bits."""
_NO_KEYS: Ints = np.zeros((0, 3), np.int64)
_HOUR: Ints = np.array([MINUTES, MINUTE_MS, 0])
_MINUTE: Ints = np.array([TENS, TEN_S_MS, 1])
_OF_USERS = [
    (PLACE[Column.USER_MIN], PLACE[Column.PERSON_MIN]),
    (PLACE[Column.USER_HOUR], PLACE[Column.PERSON_HOUR]),
]


class _Keys(NamedTuple):
    """The keys of a batch by table, (n, 3) each, zero for nobody."""

    device: Ints
    person: Ints
    network: Ints
    placement: Ints
    pair: Ints


_NO_OTHERS = _Keys(*[_NO_KEYS] * 5)


class _Counted(NamedTuple):
    """Which table counts by which of `_Keys`, from what a batch names, and its first column."""

    table: str
    key: str
    reads: tuple[str, ...]
    column: Column


class _Distinct(NamedTuple):
    """As `_Counted`, of sets: their members are *names* of a batch, *aliases* under the other day's key."""

    table: str
    key: str
    names: str
    aliases: str
    ring: Ints
    column: Column


_COUNTS = (
    _Counted("devices", "device", ("device",), Column.DEVICE_10S),
    _Counted("people", "person", ("user", "device"), Column.PERSON_10S),
    _Counted("networks", "network", ("network",), Column.NETWORK_10S),
    _Counted("placements", "placement", ("placement",), Column.PLACEMENT_10S),
    _Counted("device_creatives", "pair", ("device", "creative"), Column.DEVICE_CREATIVE_HOUR),
)
_SETS = (
    _Distinct("device_users", "device", "user", "other_user", _HOUR, Column.DEVICE_USERS_HOUR),
    _Distinct("device_ads", "device", "ad", "ad", _MINUTE, Column.DEVICE_ADS_MIN),
    _Distinct("network_devices", "network", "device", "other_device", _HOUR, Column.NETWORK_DEVICES_HOUR),
)


class TableUse(Struct, frozen=True):
    """How full a table is. *evicted* keys are counted since the start."""

    rows: int
    capacity: int
    evicted: int
    bytes_max: int


class Counters:
    """
    Sliding-window counters in bounded memory. Belongs to one thread.

    Only the tables named in *kept* count; features of others are `MISSING`, and columns of a batch that are not in
    `reads` are not looked at. `watched_since` is the time (epoch ms) from which on every render of this worker is
    committed here: windows that begin before it are `COLD`. Time never comes from a clock: each render brings its own,
    in any order. A render counts in the buckets of its own time, as long as the key's ring still has them.
    """

    def __init__(
        self,
        capacities: Capacities,
        watched_since: int,
        *,
        kept: Collection[str] = Tables._fields,
        batch_max: int = BATCH_MAX,
    ) -> None:
        if min(capacities[: len(Tables._fields)]) <= batch_max:
            raise ValueError(f"every table must have more rows than a batch has renders ({batch_max})")
        if min(capacities) < 1 or batch_max < 1 or not 0 <= watched_since < TIME_MAX:
            raise ValueError("bounds and times are positive")
        self._tables = allocate(capacities, watched_since)
        self._rows = Tables(*map(tuple, self._tables))  # type: ignore[arg-type]
        self._room = Tables(*map(tuple, scratch(capacities, batch_max)))  # type: ignore[arg-type]
        self._counts = [use for use in _COUNTS if use.table in kept]
        self._sets = [use for use in _SETS if use.table in kept]
        read = [name for use in self._counts for name in use.reads] + [n for s in self._sets for n in (s.key, s.names)]
        self.reads = frozenset(read)
        self._batch_max = batch_max
        self.watched_since = watched_since

    def watch_from(self, since: int) -> None:
        """
        Say that the watch began at *since* (epoch ms), as after a restart, when the ledger tells what was before.

        Raises:
            ValueError: something was counted already.
        """
        if any(use.rows for use in self.use().values()):
            raise ValueError("the watch begins before the first render is counted")
        for table in self._tables:
            table.state[FLOOR] = since
        self.watched_since = since

    def take_memory(self) -> bool:
        """Take the memory that the tables need once they are full; tell whether the system can do that."""
        names = [use.table for use in self._counts] + [use.table for use in self._sets]
        return take_memory(array for name in names for array in getattr(self._tables, name))

    def look(self, batch: Batch) -> Features:
        """
        Return what each render of *batch* would see if all of it were counted, in order. Nothing is counted.

        Raises:
            ValueError: the batch is too large, its columns differ in length, or a time is out of range.
        """
        self._check(batch)
        shape = len(batch.times), len(FEATURES)
        values, status = np.full(shape, np.nan), np.full(shape, Status.MISSING, np.uint8)
        self._look(batch, values, status)
        for user, person in _OF_USERS:
            kernels.copy_of_users(batch.user, values, status, person, user)
        return Features(values, status)

    def commit(self, batch: Batch, kept: Ints | None = None) -> None:
        """
        Count the renders of *batch* at the places *kept* (all of them without), once for each that became durable.

        Their order matters to nothing but which keys a full table forgets.

        Raises:
            ValueError: as for `look`.
        """
        self._check(batch)
        self._commit(batch if kept is None else batch.take(kept))

    def use(self) -> dict[str, TableUse]:
        """Return how full each table is, for metrics."""
        return {name: _use(table) for name, table in self._tables._asdict().items()}

    def _look(self, b: Batch, values: NDArray[np.float64], status: NDArray[np.uint8]) -> None:
        keys, others, when = _keys(b), _other_keys(b), b.times
        for use in self._counts:
            table, room = getattr(self._rows, use.table), getattr(self._room, use.table)
            own, other = getattr(keys, use.key), getattr(others, use.key)
            kernels.look_counts(table, room, own, other, when, values, status, PLACE[use.column])
        for one in self._sets:
            table, room = getattr(self._rows, one.table), getattr(self._room, one.table)
            own, other = getattr(keys, one.key), getattr(others, one.key)
            names, aliases, column = getattr(b, one.names), getattr(b, one.aliases), PLACE[one.column]
            kernels.look_sets(table, room, own, other, names, aliases, when, one.ring, values, status, column)

    def _commit(self, b: Batch) -> None:
        keys, when = _keys(b), b.times
        for use in self._counts:
            kernels.commit_counts(getattr(self._rows, use.table), getattr(keys, use.key), when)
        for one in self._sets:
            table, own, width = getattr(self._rows, one.table), getattr(keys, one.key), one.ring[1]
            kernels.commit_sets(table, own, getattr(b, one.names), when, width)

    def _check(self, batch: Batch) -> None:
        times, n = batch.times, len(batch.times)
        if n > self._batch_max:
            raise ValueError(f"a batch of {n} renders is over {self._batch_max}")
        if set(map(len, batch[1:7])) != {n} or not set(map(len, batch[7:])) <= {0, n}:
            raise ValueError("the columns of a batch have one length")
        if not kernels.are_times(times, TIME_MAX):
            raise ValueError(f"a time is not in 0 to {TIME_MAX} ms")


def _keys(b: Batch) -> _Keys:
    keys = np.zeros((len(_Keys._fields), len(b.times), 3), np.int64)
    kernels.fill_keys(keys, b.user, b.device, b.user, b.network, b.placement, b.creative)
    return _Keys(*keys)


def _other_keys(b: Batch) -> _Keys:
    """Return the keys of the other day; a placement has none."""
    if not any(map(len, b[7:])):
        return _NO_OTHERS
    keys = np.zeros((len(_Keys._fields), len(b.times), 3), np.int64)
    kernels.fill_keys(keys, b.user, b.other_device, b.other_user, b.other_network, NO_KEYS, b.creative)
    return _Keys(*keys)


def _use(table: CountTable | SetTable) -> TableUse:
    capacity = len(table.used)
    return TableUse(
        rows=int(table.state[SIZE]),
        capacity=capacity,
        evicted=int(table.state[EVICTED]),
        bytes_max=round(row_bytes(table) * capacity),
    )
