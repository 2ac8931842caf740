"""The counters of one worker: look before deciding, commit what became durable."""

from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from ml.counters import kernels
from ml.counters.features import FEATURES, PLACE, Column, Features, Status
from ml.counters.keys import NO_KEYS, Batch
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
_USERS, _ADS = PLACE[Column.DEVICE_USERS_HOUR], PLACE[Column.DEVICE_ADS_MIN]
_DEVICES = PLACE[Column.NETWORK_DEVICES_HOUR]


class _Keys(NamedTuple):
    """The keys of a batch by table, (n, 3) each, zero for nobody."""

    device: Ints
    person: Ints
    network: Ints
    placement: Ints
    pair: Ints


_NO_OTHERS = _Keys(*[_NO_KEYS] * 5)


class TableUse(Struct, frozen=True):
    """How full a table is. *evicted* keys are counted since the start."""

    rows: int
    capacity: int
    evicted: int
    bytes_max: int


class Counters:
    """
    Sliding-window counters in bounded memory. Belongs to one thread.

    `watched_since` is the time (epoch ms) from which on every render of this worker is committed here: windows that
    begin before it are `COLD`. Time never comes from a clock: each render brings its own, in any order. A render
    counts in the buckets of its own time, as long as the key's ring still has them.
    """

    def __init__(self, capacities: Capacities, watched_since: int, *, batch_max: int = BATCH_MAX) -> None:
        if min(capacities[: len(Tables._fields)]) <= batch_max:
            raise ValueError(f"every table must have more rows than a batch has renders ({batch_max})")
        if min(capacities) < 1 or batch_max < 1 or not 0 <= watched_since < TIME_MAX:
            raise ValueError("bounds and times are positive")
        self._tables = allocate(capacities, watched_since)
        self._rows = Tables(*map(tuple, self._tables))  # type: ignore[arg-type]
        self._room = Tables(*map(tuple, scratch(capacities, batch_max)))  # type: ignore[arg-type]
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
        t, s, k, o, when = self._rows, self._room, _keys(b), _other_keys(b), b.times
        out = values, status
        look, look_set = kernels.look_counts, kernels.look_sets
        look(t.devices, s.devices, k.device, o.device, when, *out, PLACE[Column.DEVICE_10S])
        look(t.people, s.people, k.person, o.person, when, *out, PLACE[Column.PERSON_10S])
        look(t.networks, s.networks, k.network, o.network, when, *out, PLACE[Column.NETWORK_10S])
        look(t.placements, s.placements, k.placement, o.placement, when, *out, PLACE[Column.PLACEMENT_10S])
        look(t.device_creatives, s.device_creatives, k.pair, o.pair, when, *out, PLACE[Column.DEVICE_CREATIVE_HOUR])
        for table, room, own, others, names, aliases, ring, column in (
            (t.device_users, s.device_users, k.device, o.device, b.user, b.other_user, _HOUR, _USERS),
            (t.device_ads, s.device_ads, k.device, o.device, b.ad, b.ad, _MINUTE, _ADS),
            (t.network_devices, s.network_devices, k.network, o.network, b.device, b.other_device, _HOUR, _DEVICES),
        ):
            look_set(table, room, own, others, names, aliases, when, ring, *out, column)

    def _commit(self, b: Batch) -> None:
        t, k, when = self._rows, _keys(b), b.times
        kernels.commit_counts(t.devices, k.device, when)
        kernels.commit_counts(t.people, k.person, when)
        kernels.commit_counts(t.networks, k.network, when)
        kernels.commit_counts(t.placements, k.placement, when)
        kernels.commit_counts(t.device_creatives, k.pair, when)
        kernels.commit_sets(t.device_users, k.device, b.user, when, MINUTE_MS)
        kernels.commit_sets(t.device_ads, k.device, b.ad, when, TEN_S_MS)
        kernels.commit_sets(t.network_devices, k.network, b.device, when, MINUTE_MS)

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
