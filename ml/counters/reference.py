"""
The counters in plain Python: what the kernels must equal on any history. Slow, and meant to be read.

A key's rows are dictionaries of buckets; only what a kernel keeps is kept.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from itertools import pairwise
from math import nan, sqrt
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from ml.counters.features import Column, Status
from ml.counters.tables import (
    COUNT_MAX,
    HOUR_MS,
    HOURS,
    MINUTE_MS,
    MINUTES,
    TEN_S_MS,
    TENS,
    TIMES_KEPT,
    Capacities,
)

_DAY_RINGS = ((TENS, TEN_S_MS), (MINUTES, MINUTE_MS), (HOURS, HOUR_MS))
_WINDOWS = ((0, 1), (0, TENS), (1, MINUTES), (2, HOURS))
"""Ring and number of buckets of a day ring's four columns."""

Value: TypeAlias = tuple[float, Status]
Key: TypeAlias = tuple[str, ...]


class Seen(NamedTuple):
    """One render: its time (epoch ms) and the pseudonyms and names of its keys, empty where there is none."""

    time: int
    device: str = ""
    network: str = ""
    user: str = ""
    placement: str = ""
    creative: str = ""
    ad: str = ""
    other_device: str = ""
    other_network: str = ""
    other_user: str = ""


class _Ring:
    def __init__(self, length: int, width: int) -> None:
        self.length, self.width = length, width
        self.counts: dict[int, int] = {}
        self.head = -1

    def add(self, time: int) -> None:
        bucket = time // self.width
        if bucket > self.head - self.length:
            self.head = max(self.head, bucket)
            self.counts[bucket] = min(self.counts.get(bucket, 0) + 1, COUNT_MAX)
            self.counts = {at: n for at, n in self.counts.items() if at > self.head - self.length}

    def window(self, length: int, time: int, known: int, *, own: bool) -> Value:
        bucket = time // self.width
        start = bucket - length + 1
        counted = [n for at, n in self.counts.items() if start <= at <= bucket]
        total = sum(counted) + (own and bucket <= self.head - self.length)
        if COUNT_MAX in counted:
            return total, Status.AT_LEAST
        whole = known <= start * self.width and start > self.head - self.length
        return total, Status.FRESH if whole else Status.COLD


class _Counts:
    """What is kept of one key of a count table."""

    def __init__(self, known: int, rings: Sequence[tuple[int, int]], kept: int) -> None:
        self.known = known
        self.rings = [_Ring(length, width) for length, width in rings]
        self.times: list[int] = []
        self.kept = kept

    @property
    def last(self) -> int:
        return self.times[-1] if self.times else -1

    def add(self, time: int) -> None:
        for ring in self.rings:
            ring.add(time)
        self.times = sorted([*self.times, time])[-self.kept :]


class _Set:
    """What is kept of one key of a set table."""

    def __init__(self, known: int, bound: int, width: int) -> None:
        self.known, self.bound, self.width = known, bound, width
        self.members: dict[str, int] = {}
        self.last = self.lost = -1

    def add(self, one: str, time: int) -> None:
        bucket = time // self.width
        self.last = max(self.last, time)
        if not one:
            self.lost = max(self.lost, bucket)
            return
        self.members[one] = max(self.members.get(one, -1), bucket)
        if len(self.members) > self.bound:
            first = min(self.members, key=lambda name: (self.members[name], _words(name)))
            self.lost = max(self.lost, self.members.pop(first))

    def live(self, start: int, bucket: int) -> set[str]:
        return {name for name, seen in self.members.items() if start <= seen <= bucket}

    def trust(self, start: int, bucket: int) -> Status:
        if self.lost >= start:
            return Status.AT_LEAST
        late = bucket < self.last // self.width
        return Status.COLD if late or self.known > start * self.width else Status.FRESH


def _words(name: str) -> tuple[int, ...]:
    packed = bytes.fromhex(name)
    return tuple(int.from_bytes(packed[at : at + 4], "little") for at in (0, 4, 8))


R = TypeVar("R", bound=_Counts | _Set)


class _Table(Generic[R]):
    """Rows by key, as many as *capacity*; *fresh* makes one that is known since a time."""

    def __init__(self, capacity: int, floor: int, fresh: Callable[[int], R]) -> None:
        self.capacity, self.floor, self.fresh = capacity, floor, fresh
        self.places: list[Key] = []
        self.rows: dict[Key, R] = {}
        self.active: dict[Key, bool] = {}
        self.hand = 0
        self.evicted = 0

    def row(self, key: Key, held: set[Key]) -> R:
        if key not in self.rows:
            if len(self.places) < self.capacity:
                self.places.append(key)
            else:
                self.places[self._evict(held)] = key
            self.rows[key] = self.fresh(self.floor)
        self.active[key] = True
        return self.rows[key]

    def _evict(self, held: set[Key]) -> int:
        while True:
            place, key = self.hand, self.places[self.hand]
            self.hand = (place + 1) % self.capacity
            if key in held:
                continue
            if not self.active[key]:
                break
            self.active[key] = False
        self.floor = max(self.floor, self.rows.pop(key).last + 1)
        self.evicted += 1
        return place


class _Room(Generic[R]):
    """Copies of the rows that a batch looks at."""

    def __init__(self, table: _Table[R]) -> None:
        self.table = table
        self.rows: dict[Key, R] = {}

    def row(self, key: Key) -> R | None:
        if not all(key):
            return None
        if key not in self.rows:
            known = self.table.rows.get(key)
            self.rows[key] = deepcopy(known) if known is not None else self.table.fresh(self.table.floor)
        return self.rows[key]


class Reference:
    """As `Counters`, one render at a time."""

    def __init__(self, capacities: Capacities, watched_since: int) -> None:
        c, since = capacities, watched_since
        day = _DAY_RINGS
        self.counts: dict[str, _Table[_Counts]] = {
            "device": _Table(c.devices, since, lambda known: _Counts(known, day, TIMES_KEPT)),
            "person": _Table(c.people, since, lambda known: _Counts(known, day, TIMES_KEPT)),
            "network": _Table(c.networks, since, lambda known: _Counts(known, day, 1)),
            "placement": _Table(c.placements, since, lambda known: _Counts(known, day, 1)),
            "pair": _Table(c.device_creatives, since, lambda known: _Counts(known, day[1:2], 1)),
        }
        self.sets: dict[str, _Table[_Set]] = {
            "users": _Table(c.device_users, since, lambda known: _Set(known, c.users_per_device, MINUTE_MS)),
            "ads": _Table(c.device_ads, since, lambda known: _Set(known, c.ads_per_device, TEN_S_MS)),
            "devices": _Table(c.network_devices, since, lambda known: _Set(known, c.devices_per_network, MINUTE_MS)),
        }

    def look(self, batch: Sequence[Seen]) -> list[dict[Column, Value]]:
        counts = {name: _Room(table) for name, table in self.counts.items()}
        sets = {name: _Room(table) for name, table in self.sets.items()}
        return [_looked(counts, sets, seen) for seen in batch]

    def commit(self, batch: Iterable[Seen]) -> None:
        batch = list(batch)
        for name, counts in self.counts.items():
            held = {_count_keys(seen)[name] for seen in batch}
            for seen in batch:
                if all(key := _count_keys(seen)[name]):
                    counts.row(key, held).add(seen.time)
        for name, sets in self.sets.items():
            held = {_set_keys(seen)[name][0] for seen in batch}
            for seen in batch:
                key, member, _, _ = _set_keys(seen)[name]
                if all(key):
                    sets.row(key, held).add(member, seen.time)


def _person(user: str, users: str, devices: str) -> Key:
    return ("user", users) if user else ("device", devices)


def _count_keys(seen: Seen) -> dict[str, Key]:
    return {
        "device": (seen.device,),
        "person": _person(seen.user, seen.user, seen.device),
        "network": (seen.network,),
        "placement": (seen.placement,),
        "pair": (seen.device, seen.creative),
    }


def _other_keys(seen: Seen) -> dict[str, Key]:
    return {
        "device": (seen.other_device,),
        "person": _person(seen.user, seen.other_user, seen.other_device),
        "network": (seen.other_network,),
        "placement": ("",),
        "pair": (seen.other_device, seen.creative),
    }


def _set_keys(seen: Seen) -> dict[str, tuple[Key, str, Key, str]]:
    """Return key and member, and both under the other day's key."""
    device, other = (seen.device,), (seen.other_device,)
    return {
        "users": (device, seen.user, other, seen.other_user),
        "ads": (device, seen.ad, other, seen.ad),
        "devices": ((seen.network,), seen.device, (seen.other_network,), seen.other_device),
    }


def _looked(counts: dict[str, _Room[_Counts]], sets: dict[str, _Room[_Set]], seen: Seen) -> dict[Column, Value]:
    values: dict[Column, Value] = dict.fromkeys(Column, (nan, Status.MISSING))
    for name, room in counts.items():
        row, other = room.row(_count_keys(seen)[name]), room.row(_other_keys(seen)[name])
        if row is None:
            continue
        row.add(seen.time)
        if name == "pair":
            values[Column.DEVICE_CREATIVE_HOUR] = _window(row, other, 0, MINUTES, seen.time)
            continue
        for window, (ring, length) in zip(("10s", "min", "hour", "day"), _WINDOWS, strict=True):
            values[Column(f"{name}_{window}")] = _window(row, other, ring, length, seen.time)
        if row.kept > 1:
            gap, variation = _gaps(row, other, seen.time)
            values[Column(f"{name}_gap_ms")], values[Column(f"{name}_gap_variation")] = gap, variation
    for name, room_of_sets in sets.items():
        key, member, other_key, alias = _set_keys(seen)[name]
        one, there = room_of_sets.row(key), room_of_sets.row(other_key)
        if one is None:
            continue
        one.add(member, seen.time)
        column, length = _SET_COLUMNS[name]
        values[column] = _distinct(one, there, member, alias, (length, seen.time, name == "ads"))
    if seen.user:
        values[Column.USER_MIN], values[Column.USER_HOUR] = values[Column.PERSON_MIN], values[Column.PERSON_HOUR]
    return values


_SET_COLUMNS = {
    "users": (Column.DEVICE_USERS_HOUR, MINUTES),
    "ads": (Column.DEVICE_ADS_MIN, TENS),
    "devices": (Column.NETWORK_DEVICES_HOUR, MINUTES),
}


def _window(row: _Counts, other: _Counts | None, ring: int, length: int, time: int) -> Value:
    total, status = row.rings[ring].window(length, time, row.known, own=True)
    if other is not None:
        more, trust = other.rings[ring].window(length, time, other.known, own=False)
        total, status = total + more, max(status, trust)
    return total, status


def _gaps(row: _Counts, other: _Counts | None, time: int) -> tuple[Value, Value]:
    """Only as far back as nothing is forgotten in either row."""
    rows = [row] if other is None else [row, other]
    since = max([one.times[0] for one in rows if len(one.times) == one.kept], default=0)
    times = sorted([at for one in rows for at in one.times if at <= time], reverse=True)
    if time < since or time not in row.times:
        return (nan, Status.COLD), (nan, Status.COLD)
    latest = _unbroken(rows, times)[:TIMES_KEPT]
    known = max(one.known for one in rows)
    if len(latest) < 2:
        return (nan, Status.COLD), (nan, Status.COLD)
    gap = float(latest[0] - latest[1]), Status.FRESH if known <= latest[1] else Status.COLD
    if len(latest) < TIMES_KEPT:
        return gap, (nan, Status.COLD)
    gaps = [later - earlier for later, earlier in pairwise(latest)]
    mean = (latest[0] - latest[-1]) / len(gaps)
    if mean == 0:
        return gap, (nan, Status.MISSING)
    squares = 0.0
    for one_gap in gaps:
        squares += (one_gap - mean) * (one_gap - mean)
    trust = Status.FRESH if known <= latest[-1] else Status.COLD
    return gap, (sqrt(squares / len(gaps)) / mean, trust)


def _unbroken(rows: Sequence[_Counts], times: list[int]) -> list[int]:
    """Cut *times*, latest first, off where a full row ends: what came before may be forgotten."""
    ends = [one.times[0] for one in rows if len(one.times) == one.kept]
    return [at for at in times if at >= max(ends, default=0)]


def _distinct(one: _Set, other: _Set | None, member: str, alias: str, ring: tuple[int, int, bool]) -> Value:
    length, time, same_names = ring
    bucket = time // one.width
    start = bucket - length + 1
    here = one.live(start, bucket) | ({member} if member else set())
    trust = one.trust(start, bucket)
    if other is None:
        return len(here), trust
    trust = max(trust, other.trust(start, bucket))
    there = other.live(start, bucket)
    if same_names:
        return len(here | there), trust
    shared = 1 if member and alias else 0
    there -= {alias}
    if there and len(here) > shared:
        trust = Status.AT_LEAST
    return shared + max(len(here) - shared, len(there)), trust
