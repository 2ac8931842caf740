"""
Which rows train, calibrate and test: by time, with an embargo between, and a second test on those nobody has seen.

What is near in time is alike (one session, one window of a counter), so rows next to a border are nobody's.
"""

from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Places = NDArray[np.intp]
_HASH_MAX = float(1 << 64)


class SplitRules(Struct, frozen=True, kw_only=True):
    """
    Shares of the rows by time, oldest first: what is left over trains. *publishers*: the share of publishers that is
    kept for the second test. The embargo is as long as the longest window of a counter, where the span allows.
    """

    calibrate: float = 0.2
    test: float = 0.2
    publishers: float = 0.15
    embargo_ms: int = 3_600_000
    embargo_share_max: float = 0.02


class Entities(NamedTuple):
    """By row: publisher (name), person and device (group numbers, 0 for nobody)."""

    publisher: NDArray[np.object_]
    person: NDArray[np.uint64]
    device: NDArray[np.uint64]


class Split(NamedTuple):
    """
    Places of rows, each in at most one of the first three. `unseen` are those of the test's time whose publisher,
    person and device stand in no row of `train` and `calibrate`.
    """

    train: Places
    calibrate: Places
    test: Places
    unseen: Places


def split(decided_at: NDArray[np.int64], entities: Entities, rules: SplitRules, seed: int) -> Split:
    """Return the split of rows that were decided at *decided_at* (epoch ms)."""
    if len(decided_at) == 0:
        nothing = np.zeros(0, np.intp)
        return Split(nothing, nothing, nothing, nothing)
    first, second = np.quantile(decided_at, [1 - rules.calibrate - rules.test, 1 - rules.test], method="lower")
    gap = min(rules.embargo_ms, int((decided_at.max() - decided_at.min()) * rules.embargo_share_max))
    is_kept = held_out(entities.publisher, rules.publishers, seed)
    train = np.flatnonzero((decided_at < first) & ~is_kept)
    calibrate = np.flatnonzero((decided_at >= first + gap) & (decided_at < second) & ~is_kept)
    late = decided_at >= second + gap
    used = np.concatenate([train, calibrate])
    unseen = late & is_kept & ~_among(entities.person, used) & ~_among(entities.device, used)
    return Split(train, calibrate, np.flatnonzero(late & ~is_kept), np.flatnonzero(unseen))


def held_out(names: NDArray[np.object_], share: float, seed: int) -> NDArray[np.bool_]:
    """Tell of each name whether it belongs to the *share* that is kept for the second test; by hash, so it stays so."""
    chosen = {name: _hash_of(str(name), seed) < share for name in set(names.tolist())}
    return np.array([chosen[name] for name in names.tolist()], np.bool_)


def _hash_of(name: str, seed: int) -> float:
    digest = blake2b(name.encode(), digest_size=8, key=seed.to_bytes(8, "big", signed=True)).digest()
    return int.from_bytes(digest, "big") / _HASH_MAX


def _among(keys: NDArray[np.uint64], used: Places) -> NDArray[np.bool_]:
    """Tell of each row whether its key, unless it is nobody's, stands in a row of *used*."""
    found: NDArray[np.bool_] = np.isin(keys, keys[used]) & (keys != 0)
    return found
