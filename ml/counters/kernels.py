"""
The compiled kernels: `look_*` say what each render of a batch would be if all were counted, `commit_*` count.

Looking works on copies of the rows it needs, so it changes no table. Everything stands in this one file, because
numba's cache notices changes of the file of a kernel only, not of those from which it calls. Inside, arrays and
numbers are passed, no tuples and no views of rows: each of those counts references. A table comes in as a plain tuple,
which is taken apart faster than a named one.
"""

from typing import Any

import numba
import numpy as np

from ml.compiled import inner, kernel
from ml.counters.keys import NO_KEYS
from ml.counters.tables import (
    ACTIVE,
    COUNT_MAX,
    EVICTED,
    FIRST,
    FLOOR,
    HAND,
    HELD,
    HOUR_MS,
    HOURS,
    IDLE,
    KNOWN,
    LOST,
    MINUTE_MS,
    MINUTES,
    SIZE,
    TEN_S_MS,
    TENS,
    TIMES_KEPT,
    Capacities,
    Ints,
    Words,
    allocate,
)

_typeof: Any = numba.typeof

FRESH, COLD, AT_LEAST, MISSING = range(4)
DAY_COLUMNS = 4
_GAPS = TIMES_KEPT - 1
_MIX_1, _MIX_2, _MIX_3 = 0x1E3779B97F4A7C15, 0x3F58476D1CE4E5B9, 0x14D049BB133111EB
_WORD, _LOW, _POSITIVE = 32, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF

_TABLES = allocate(Capacities(*[1] * 11), 0)
_COUNT_TYPE = _typeof(tuple(_TABLES.devices))
_SET_TYPE = _typeof(tuple(_TABLES.device_users))
_INTS, _KEYS, _NAMES = numba.int64[::1], numba.int64[:, ::1], _typeof(NO_KEYS)
_OUT = (numba.float64[:, ::1], numba.uint8[:, ::1], numba.int64)


# Keys and the index


@inner
def _hash(a: int, b: int, c: int) -> Any:
    mixed: Any = np.int64(a) ^ (np.int64(b) * np.int64(_MIX_1)) ^ (np.int64(c) * np.int64(_MIX_2))
    mixed = (mixed ^ (mixed >> 29)) * np.int64(_MIX_3)
    return (mixed ^ (mixed >> _WORD)) & np.int64(_POSITIVE)


@inner
def _find(index: Ints, keys: Ints, a: int, b: int, c: int) -> Any:
    """Return the row of a key, -1 if it has none."""
    hashed = _hash(a, b, c)
    mask = len(index) - 1
    at = hashed & mask
    while index[at] != 0:
        if index[at] >> _WORD == hashed >> _WORD:
            row = (index[at] & _LOW) - 1
            if keys[row, 0] == a and keys[row, 1] == b and keys[row, 2] == c:
                return row
        at = (at + 1) & mask
    return -1


@inner
def _enter(index: Ints, keys: Ints, row: int, a: int, b: int, c: int) -> None:
    hashed = _hash(a, b, c)
    mask = len(index) - 1
    at = hashed & mask
    while index[at] != 0:
        at = (at + 1) & mask
    index[at] = (hashed >> _WORD) << _WORD | (row + 1)
    keys[row, 0], keys[row, 1], keys[row, 2] = a, b, c


@inner
def _place(index: Ints, keys: Ints, row: int) -> Any:
    mask = len(index) - 1
    at = _hash(keys[row, 0], keys[row, 1], keys[row, 2]) & mask
    while index[at] & _LOW != row + 1:
        at = (at + 1) & mask
    return at


@inner
def _leave(index: Ints, keys: Ints, row: int) -> None:
    """Take *row* out of the index and close the gap, so that every key is still found from its own place."""
    mask = len(index) - 1
    hole = _place(index, keys, row)
    at = (hole + 1) & mask
    while index[at] != 0:
        moved = (index[at] & _LOW) - 1
        home = _hash(keys[moved, 0], keys[moved, 1], keys[moved, 2]) & mask
        if (at - home) & mask >= (at - hole) & mask:
            index[hole] = index[at]
            hole = at
        at = (at + 1) & mask
    index[hole] = 0


@inner
def _evict(index: Ints, used: Any, state: Ints, times: Ints) -> Any:
    """Free the first row, from the hand on, that was not active since the hand passed; one is always not held."""
    row = state[HAND]
    while used[row] != IDLE:
        if used[row] == ACTIVE:
            used[row] = IDLE
        row = row + 1 if row + 1 < len(used) else 0
    state[HAND] = row + 1 if row + 1 < len(used) else 0
    _leave(index, times, row)
    state[EVICTED] += 1
    state[FLOOR] = max(state[FLOOR], times[row, times.shape[1] - 1] + 1)
    return row


@inner
def _begin(times: Ints, row: int, known: int) -> None:
    for k in range(FIRST, times.shape[1]):
        times[row, k] = -1
    times[row, KNOWN] = known


@inner
def _row_for(index: Ints, used: Any, state: Ints, times: Ints, data: Any, a: int, b: int, c: int) -> Any:
    """Return the row of a key, a fresh one if it has none; one that was never used is as it was allocated, zero."""
    row = _find(index, times, a, b, c)
    if row < 0:
        if state[SIZE] < len(used):
            row = state[SIZE]
            state[SIZE] += 1
        else:
            row = _evict(index, used, state, times)
            data[row] = 0
        _begin(times, row, state[FLOOR])
        _enter(index, times, row, a, b, c)
    return row


@inner
def _hold(index: Ints, heads: Ints, used: Any, own: Ints) -> None:
    for i in range(len(own)):
        if own[i, 0] | own[i, 1]:
            row = _find(index, heads, own[i, 0], own[i, 1], own[i, 2])
            if row >= 0:
                used[row] = HELD


@inner
def _release(index: Ints, heads: Ints, used: Any, own: Ints) -> None:
    for i in range(len(own)):
        if own[i, 0] | own[i, 1]:
            used[_find(index, heads, own[i, 0], own[i, 1], own[i, 2])] = ACTIVE


@inner
def _copy(times: Ints, data: Any, source: int, known: int, s_times: Ints, s_data: Any, row: int) -> None:
    """Copy row *source*, -1 for a fresh one known since *known*, to *row* of the scratch."""
    if source < 0:
        _begin(s_times, row, known)
        s_data[row] = 0
        return
    for k in range(times.shape[1]):
        s_times[row, k] = times[source, k]
    for k in range(data.shape[1]):
        s_data[row, k] = data[source, k]


@inner
def _borrow_all(table: Any, scratch: Any, own: Ints, rows: Ints) -> None:
    """
    Copy the rows of the keys in *own* to *scratch*, and put their places in *rows*, -1 for nobody.

    In loops apart, so that the misses of one key overlap with those of the next.
    """
    index, _, state, times, data = table
    s_index, _, s_state, s_times, s_data = scratch
    size = s_state[SIZE]
    for i in range(len(own)):
        rows[i] = _find(index, times, own[i, 0], own[i, 1], own[i, 2]) if own[i, 0] | own[i, 1] else -1
    for i in range(len(own)):
        a, b, c = own[i, 0], own[i, 1], own[i, 2]
        if a | b:
            row = _find(s_index, s_times, a, b, c)
            if row < 0:
                row = size
                size += 1
                _copy(times, data, rows[i], state[FLOOR], s_times, s_data, row)
                _enter(s_index, s_times, row, a, b, c)
            rows[i] = row
    s_state[SIZE] = size


@inner
def _borrow_others(table: Any, scratch: Any, others: Ints, rows: Ints) -> None:
    """Do the same for the keys of the other day, if there are any."""
    rows[:] = -1
    if len(others):
        _borrow_all(table, scratch, others, rows)


@inner
def _give_back(scratch: Any) -> None:
    """Empty *scratch*, last in first out, so that no entry of its index is cut off from its place."""
    index, _, state, keys, _ = scratch
    for row in range(state[SIZE] - 1, -1, -1):
        index[_place(index, keys, row)] = 0
    state[SIZE] = 0


# Rings: `length` buckets from column `offset` on; a bucket's number is its time over its width


@inner
def _ring_add(counts: Any, row: int, offset: int, length: int, bucket: int, head: int) -> None:
    """Count one in *bucket*, unless the ring, which is at *head*, is past it."""
    if bucket <= head - length:
        return
    if bucket > head:
        if bucket - head >= length:
            for at in range(offset, offset + length):
                counts[row, at] = 0
        else:
            for passed in range(head + 1, bucket + 1):
                counts[row, offset + passed % length] = 0
    at = offset + bucket % length
    if counts[row, at] < COUNT_MAX:
        counts[row, at] += 1


@inner
def _ring_sum(counts: Any, row: int, offset: int, length: int, window: int, bucket: int, head: int) -> tuple[int, int]:
    """Return the sum over the *window* buckets up to *bucket*, and its status."""
    total, most = 0, np.int64(0)
    if head == bucket and window == length:
        for at in range(offset, offset + length):
            total += counts[row, at]
            most = max(most, np.int64(counts[row, at]))
        return total, AT_LEAST if most == COUNT_MAX else FRESH
    first = max(bucket - window + 1, head - length + 1, 0)
    at = first % length
    for _ in range(first, min(bucket, head) + 1):
        total += counts[row, offset + at]
        most = max(most, np.int64(counts[row, offset + at]))
        at = at + 1 if at + 1 < length else 0
    if most == COUNT_MAX:
        return total, AT_LEAST
    return total, COLD if bucket - window < head - length else FRESH


@inner
def _window(
    counts: Any, times: Ints, row: int, other: int, offset: int, length: int, window: int, width: int, time: int
) -> tuple[int, int]:
    """Return the renders of the key, under both days' keys, in the window that ends at *time*, and the status."""
    last, bucket = times.shape[1] - 1, time // width
    start = (bucket - window + 1) * width
    head = times[row, last] // width
    total, status = _ring_sum(counts, row, offset, length, window, bucket, head)
    if bucket <= head - length:
        total += 1
    if times[row, KNOWN] > start:
        status = max(status, COLD)
    if other >= 0:
        more, trust = _ring_sum(counts, other, offset, length, window, bucket, times[other, last] // width)
        total, status = total + more, max(status, trust, COLD if times[other, KNOWN] > start else FRESH)
    return total, status


@inner
def _keep_time(times: Ints, row: int, time: int) -> None:
    """Keep *time* in its order among the latest ones."""
    if time < times[row, FIRST]:
        return
    at = times.shape[1] - 1
    while at > FIRST and times[row, at] > time:
        at -= 1
    for k in range(FIRST, at):
        times[row, k] = times[row, k + 1]
    times[row, at] = time


@inner
def _add(times: Ints, counts: Any, row: int, time: int) -> None:
    last = times[row, times.shape[1] - 1]
    if counts.shape[1] == MINUTES:
        _ring_add(counts, row, 0, MINUTES, time // MINUTE_MS, last // MINUTE_MS)
    else:
        _ring_add(counts, row, 0, TENS, time // TEN_S_MS, last // TEN_S_MS)
        _ring_add(counts, row, TENS, MINUTES, time // MINUTE_MS, last // MINUTE_MS)
        _ring_add(counts, row, TENS + MINUTES, HOURS, time // HOUR_MS, last // HOUR_MS)
    _keep_time(times, row, time)


@inner
def _latest(times: Ints, row: int, other: int, time: int, latest: Ints) -> int:
    """
    Put the latest times up to *time*, under both days' keys, latest first, in *latest*; return how many.

    Before the first time of a full row there may be others, which are forgotten.
    """
    i = times.shape[1] - 1
    if other < 0 and times[row, i] == time and times[row, FIRST] >= 0:
        for k in range(len(latest)):
            latest[k] = times[row, i - k]
        return len(latest)
    j, n = i if other >= 0 else FIRST - 1, 0
    forgotten = max(times[row, FIRST], times[other, FIRST] if other >= 0 else -1, 0)
    while n < len(latest):
        while i >= FIRST and times[row, i] > time:
            i -= 1
        while j >= FIRST and times[other, j] > time:
            j -= 1
        own, others_own = (times[row, i] if i >= FIRST else -1), (times[other, j] if j >= FIRST else -1)
        latest[n] = max(own, others_own)
        if latest[n] < forgotten:
            break
        if own >= others_own:
            i -= 1
        else:
            j -= 1
        n += 1
    return n


@inner
def _gaps(times: Ints, row: int, other: int, time: int, latest: Ints) -> tuple[float, int, float, int]:
    """Return gap and variation with the status of each; *latest* is room for `TIMES_KEPT` times."""
    n = _latest(times, row, other, time, latest)
    known = max(times[row, KNOWN], times[other, KNOWN]) if other >= 0 else times[row, KNOWN]
    if n < 2 or latest[0] != time:
        return np.nan, COLD, np.nan, COLD
    gap, gap_status = float(time - latest[1]), FRESH if known <= latest[1] else COLD
    if n < TIMES_KEPT:
        return gap, gap_status, np.nan, COLD
    mean = (latest[0] - latest[_GAPS]) / _GAPS
    if mean == 0:
        return gap, gap_status, np.nan, MISSING
    squares = 0.0
    for k in range(_GAPS):
        off = (latest[k] - latest[k + 1]) - mean
        squares += off * off
    return gap, gap_status, np.sqrt(squares / _GAPS) / mean, FRESH if known <= latest[_GAPS] else COLD


# Sets: a member is three words and the bucket in which it was last seen, plus one; the first 0 ends them


@inner
def _same(data: Any, row: int, at: int, names: Words, i: int) -> bool:
    return bool(data[row, at] == names[i, 0] and data[row, at + 1] == names[i, 1] and data[row, at + 2] == names[i, 2])


@inner
def _nobody(names: Words, i: int) -> bool:
    return bool(names[i, 0] == 0 and names[i, 1] == 0 and names[i, 2] == 0)


@inner
def _sooner(a: int, b: int, c: int, seen: int, data: Any, row: int, at: int) -> bool:
    """Tell whether *a b c* is forgotten before the member: last seen earlier, then by name; never by arrival."""
    if seen != data[row, at + 3]:
        return bool(seen < data[row, at + 3])
    if a != data[row, at]:
        return bool(a < data[row, at])
    if b != data[row, at + 1]:
        return bool(b < data[row, at + 1])
    return bool(c < data[row, at + 2])


@inner
def _put(data: Any, row: int, at: int, names: Words, i: int, seen: Any) -> None:
    data[row, at], data[row, at + 1], data[row, at + 2], data[row, at + 3] = names[i, 0], names[i, 1], names[i, 2], seen


@inner
def _join(times: Ints, data: Any, row: int, names: Words, i: int, bucket: int, time: int) -> None:
    """Note that *names[i]* was seen in *bucket*; who is nobody, or one too many, is lost."""
    seen, first = bucket + 1, 0
    times[row, LOST + 1] = max(times[row, LOST + 1], time)
    if _nobody(names, i):
        times[row, LOST] = max(times[row, LOST], bucket)
        return
    for at in range(0, data.shape[1], 4):
        if data[row, at + 3] == 0 or _same(data, row, at, names, i):
            _put(data, row, at, names, i, max(np.int64(data[row, at + 3]), np.int64(seen)))
            return
        if _sooner(data[row, at], data[row, at + 1], data[row, at + 2], data[row, at + 3], data, row, first):
            first = at
    if _sooner(names[i, 0], names[i, 1], names[i, 2], seen, data, row, first):
        times[row, LOST] = max(times[row, LOST], bucket)
        return
    times[row, LOST] = max(times[row, LOST], np.int64(data[row, first + 3]) - 1)
    _put(data, row, first, names, i, seen)


@inner
def _is_live(data: Any, row: int, at: int, start: int, bucket: int) -> bool:
    return bool(start < data[row, at + 3] <= bucket + 1)


@inner
def _others(data: Any, row: int, names: Words, i: int, start: int, bucket: int) -> int:
    """Return how many but *names[i]* were seen in the buckets *start* to *bucket*."""
    live = 0
    for at in range(0, data.shape[1], 4):
        if data[row, at + 3] == 0:
            break
        if _is_live(data, row, at, start, bucket) and not _same(data, row, at, names, i):
            live += 1
    return live


@inner
def _strangers(data: Any, row: int, other: int, names: Words, i: int, start: int, bucket: int) -> int:
    """Return how many but *names[i]* were seen in row *other* and not in *row*, where a name is one under all keys."""
    strangers = 0
    for at in range(0, data.shape[1], 4):
        if data[other, at + 3] == 0:
            break
        if not _is_live(data, other, at, start, bucket) or _same(data, other, at, names, i):
            continue
        known = False
        for k in range(0, data.shape[1], 4):
            same = data[row, k] == data[other, at] and data[row, k + 1] == data[other, at + 1]
            if same and data[row, k + 2] == data[other, at + 2] and _is_live(data, row, k, start, bucket):
                known = True
        strangers += 0 if known else 1
    return strangers


@inner
def _trust(times: Ints, row: int, start: int, bucket: int, width: int) -> int:
    if times[row, LOST] >= start:
        return AT_LEAST
    return COLD if bucket < times[row, LOST + 1] // width or times[row, KNOWN] > start * width else FRESH


# Kernels


@inner
def _key(keys: Ints, kind: int, i: int, names: Words, third: int) -> None:
    if len(names):
        keys[kind, i, 0] = np.int64(names[i, 0]) | np.int64(names[i, 1]) << _WORD
        keys[kind, i, 1], keys[kind, i, 2] = names[i, 2], third


@inner
def _pair(keys: Ints, kind: int, i: int, first: Words, second: Words) -> None:
    if len(first) and not _nobody(first, i) and not _nobody(second, i):
        keys[kind, i, 0] = np.int64(first[i, 0]) | np.int64(first[i, 1]) << _WORD
        keys[kind, i, 1] = np.int64(first[i, 2]) | np.int64(second[i, 0]) << _WORD
        keys[kind, i, 2] = np.int64(second[i, 1]) | np.int64(second[i, 2]) << _WORD


@kernel(numba.void(numba.int64[:, :, ::1], *[_NAMES] * 6))
def fill_keys(
    keys: Ints, user: Words, device: Words, users: Words, network: Words, placement: Words, creative: Words
) -> None:
    """
    Fill *keys* (5, n, 3), which are zero, with those of device, person, network, placement and pair.

    All but *user* and *creative* may be of the other day, or none; zero stays for nobody. A person is one of *users*
    where the render names a *user*.
    """
    for i in range(len(user)):
        _key(keys, 0, i, device, 0)
        if _nobody(user, i):
            _key(keys, 1, i, device, 1)
        else:
            _key(keys, 1, i, users, 0)
        _key(keys, 2, i, network, 0)
        _key(keys, 3, i, placement, 0)
        _pair(keys, 4, i, device, creative)


@kernel(numba.boolean(_INTS, numba.int64))
def are_times(times: Ints, end: int) -> bool:
    """Tell whether all *times* are in 0 to *end*, which is none."""
    outside = 0
    for i in range(len(times)):
        outside += not 0 <= times[i] < end
    return outside == 0


@kernel(numba.void(numba.float64[:, ::1], _INTS, numba.float64[::1], numba.int64, numba.float64, numba.boolean[::1]))
def stand_out(values: Any, columns: Ints, limits: Any, gaps: int, even: float, found: Any) -> None:
    """Say in *found* of each row whether one of *columns* is over its limit, or column *gaps* below *even*."""
    for i in range(len(values)):
        hit = values[i, gaps] < even
        for k in range(len(columns)):
            hit |= values[i, columns[k]] > limits[k]
        found[i] = hit


@kernel(numba.void(_NAMES, *_OUT, numba.int64))
def copy_of_users(user: Words, values: Any, status: Any, source: int, column: int) -> None:
    """Copy column *source* to *column* for the renders that name a *user*; the rest stays as it was."""
    for i in range(len(user)):
        if not _nobody(user, i):
            values[i, column], status[i, column] = values[i, source], status[i, source]


@kernel(numba.void(_COUNT_TYPE, _COUNT_TYPE, _KEYS, _KEYS, _INTS, *_OUT))
def look_counts(
    table: Any, scratch: Any, own: Ints, others: Ints, when: Ints, values: Any, status: Any, column: int
) -> None:
    """
    Fill *values* and *status* of each key of *own* from *column* on: minute rings give one column, day rings four,
    and two more where the times are kept. *others* (or none) are the keys of the other day; *scratch* is empty.
    """
    rows, other_rows, latest = (
        np.empty(len(own), np.int64),
        np.empty(len(own), np.int64),
        np.empty(TIMES_KEPT, np.int64),
    )
    times, counts = scratch[3], scratch[4]
    _borrow_all(table, scratch, own, rows)
    _borrow_others(table, scratch, others, other_rows)
    for i in range(len(own)):
        row, other, time, c = rows[i], other_rows[i], when[i], column
        if row < 0:
            continue
        _add(times, counts, row, time)
        if counts.shape[1] == MINUTES:
            values[i, c], status[i, c] = _window(counts, times, row, other, 0, MINUTES, MINUTES, MINUTE_MS, time)
            continue
        values[i, c], status[i, c] = _window(counts, times, row, other, 0, TENS, 1, TEN_S_MS, time)
        values[i, c + 1], status[i, c + 1] = _window(counts, times, row, other, 0, TENS, TENS, TEN_S_MS, time)
        values[i, c + 2], status[i, c + 2] = _window(counts, times, row, other, TENS, MINUTES, MINUTES, MINUTE_MS, time)
        values[i, c + 3], status[i, c + 3] = _window(
            counts, times, row, other, TENS + MINUTES, HOURS, HOURS, HOUR_MS, time
        )
        if times.shape[1] > FIRST + 1:
            gap = c + DAY_COLUMNS
            values[i, gap], status[i, gap], values[i, gap + 1], status[i, gap + 1] = _gaps(
                times, row, other, time, latest
            )
    _give_back(scratch)


@kernel(numba.void(_SET_TYPE, _SET_TYPE, _KEYS, _KEYS, _NAMES, _NAMES, _INTS, _INTS, *_OUT))
def look_sets(
    table: Any,
    scratch: Any,
    own: Ints,
    others: Ints,
    names: Words,
    aliases: Words,
    when: Ints,
    ring: Ints,
    values: Any,
    status: Any,
    column: int,
) -> None:
    """
    Fill *column* with how many members were seen in the last *ring[0]* buckets of *ring[1]* ms, this render's of
    *names* included.

    Under the other day's key the same members have other names, of which one is known: this render's, of *aliases*.
    Where two may be the same under two names, the value is what there are at least. *ring[2]*: no name changes.
    """
    rows, other_rows, nobody = np.empty(len(own), np.int64), np.empty(len(own), np.int64), np.zeros((1, 3), np.uint32)
    times, data, length, width = scratch[3], scratch[4], ring[0], ring[1]
    _borrow_all(table, scratch, own, rows)
    _borrow_others(table, scratch, others, other_rows)
    for i in range(len(own)):
        row, other, time = rows[i], other_rows[i], when[i]
        if row < 0:
            continue
        bucket, start = time // width, time // width - length + 1
        _join(times, data, row, names, i, bucket, time)
        named = 0 if _nobody(names, i) else 1
        total = named + _others(data, row, names, i, start, bucket)
        trust = _trust(times, row, start, bucket, width)
        if other >= 0:
            trust = max(trust, _trust(times, other, start, bucket, width))
            if ring[2]:
                total += _strangers(data, row, other, names, i, start, bucket)
            else:
                aliased = len(aliases) > 0 and not _nobody(aliases, i)
                there = _others(data, other, aliases if aliased else nobody, i if aliased else 0, start, bucket)
                shared = named if aliased else 0
                if there > 0 and total > shared:
                    trust = AT_LEAST
                total = shared + max(total - shared, there)
        values[i, column], status[i, column] = total, trust
    _give_back(scratch)


@kernel(numba.void(_COUNT_TYPE, _KEYS, _INTS))
def commit_counts(table: Any, own: Ints, when: Ints) -> None:
    """Count one for each key of *own*; there are fewer of them than the table has rows."""
    index, used, state, times, counts = table
    full = state[SIZE] + len(own) > len(used)
    if full:
        _hold(index, times, used, own)
    for i in range(len(own)):
        if own[i, 0] | own[i, 1]:
            row = _row_for(index, used, state, times, counts, own[i, 0], own[i, 1], own[i, 2])
            used[row] = HELD if full else ACTIVE
            _add(times, counts, row, when[i])
    if full:
        _release(index, times, used, own)


@kernel(numba.void(_SET_TYPE, _KEYS, _NAMES, _INTS, numba.int64))
def commit_sets(table: Any, own: Ints, names: Words, when: Ints, width: int) -> None:
    """Note each of *names* in the set of its key of *own*, seen in the bucket of *width* ms."""
    index, used, state, times, members = table
    full = state[SIZE] + len(own) > len(used)
    if full:
        _hold(index, times, used, own)
    for i in range(len(own)):
        if own[i, 0] | own[i, 1]:
            row = _row_for(index, used, state, times, members, own[i, 0], own[i, 1], own[i, 2])
            used[row] = HELD if full else ACTIVE
            _join(times, members, row, names, i, when[i] // width, when[i])
    if full:
        _release(index, times, used, own)
