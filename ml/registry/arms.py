"""Which impressions a canary decides: always the same ones for the same model, and others for another."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from domain.ids import ImpressionId

_WORD = (1 << 64) - 1
_STEPS = 1 << 32
_MIX = (0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB)
"""The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the id moves half of the bits of the hash."""


def in_share(impressions: Sequence[ImpressionId], model: str, share: float) -> NDArray[np.bool_]:
    """Tell of each of *impressions* whether it is among the *share* (0 to 1) that *model* decides as a canary."""
    words = np.fromiter((one.int & _WORD for one in impressions), np.uint64, len(impressions))
    mixed = words ^ np.uint64(_salt(model))
    for shift, factor in zip((30, 27), _MIX, strict=True):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    chosen: NDArray[np.bool_] = (mixed >> np.uint64(32)) < np.uint64(round(share * _STEPS))
    return chosen


@lru_cache(maxsize=64)
def _salt(model: str) -> int:
    return int.from_bytes(blake2b(model.encode(), digest_size=8).digest(), "big")
