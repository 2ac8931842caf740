"""
Masks: which groups of features a row is scored without. Each has its own calibration and its own bands.

The mask of a row follows from the status of its features alone, so that a logged vector scores as it did.
"""

from collections.abc import Collection
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ml.features.schema import PLACE, Group, columns_of
from ml.models import rows_kernel

FULL = "full"
_PARTS: dict[str, frozenset[Group]] = {
    "no_async": frozenset({Group.ASYNC}),
    "no_shared": frozenset({Group.SHARED}),
    "partial_client": frozenset({Group.GEOMETRY}),
    "partial_counters": frozenset({Group.COUNTERS, Group.SHARED}),
}
"""In order of their names."""


def _masks() -> dict[str, frozenset[Group]]:
    found = {FULL: frozenset[Group]()}
    for size in range(1, len(_PARTS) + 1):
        for names in combinations(_PARTS, size):
            if {"no_shared", "partial_counters"} <= set(names):
                continue
            found["+".join(names)] = frozenset[Group]().union(*(_PARTS[name] for name in names))
    return found


MASKS: dict[str, frozenset[Group]] = _masks()
"""Name -> the groups that are left out. Of one that leaves out what another does, only the wider stands in a name."""
MASK_NAMES: tuple[str, ...] = tuple(MASKS)
"""By number, as `masks_of` gives them."""


def mask_of(groups: Collection[Group]) -> str:
    """
    Return the mask that leaves out all of *groups* and as little else as can be.

    Raises:
        ValueError: no mask leaves out one of them.
    """
    wanted = set(groups)
    wide = [name for name, masked in MASKS.items() if wanted <= masked]
    if not wide:
        raise ValueError(f"no mask leaves out {', '.join(sorted(wanted))}")
    return min(wide, key=lambda name: len(MASKS[name]))


def masks_of(status: NDArray[np.uint8]) -> NDArray[np.int64]:
    """
    Return the number of each row's mask, by the *status* (rows, features) of its features.

    Counters are out where the last hour was not watched whole or they did not answer; those of keys that workers share,
    history and what a client measures also where nothing is known of them.
    """
    masks = np.empty(len(status), np.int64)
    rows_kernel.number_masks(np.ascontiguousarray(status), _WATCHED, _HISTORY, _MEASURED, _NUMBER_OF_BITS, masks)
    return masks


def without(values: NDArray[np.float64], masks: NDArray[np.int64], columns: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return *values* (rows, features), NaN in the *columns* (masks, features) that the mask of each row leaves out."""
    kept = np.empty(values.shape)
    rows_kernel.leave_out(np.ascontiguousarray(values), masks, columns, kept)
    return kept


_WATCHED = np.array([PLACE[name] for name in ("person_hour", "device_hour", "network_hour")])
_HISTORY, _MEASURED = (np.array(columns_of(group)) for group in (Group.ASYNC, Group.GEOMETRY))


def _numbers() -> NDArray[np.int64]:
    numbers = np.zeros(1 << len(_PARTS), np.int64)
    for bits in range(len(numbers)):
        names = [name for at, name in enumerate(_PARTS) if bits >> at & 1]
        numbers[bits] = MASK_NAMES.index("+".join(names) or FULL) if "+".join(names) in {"", *MASKS} else -1
    return numbers


_NUMBER_OF_BITS = _numbers()
