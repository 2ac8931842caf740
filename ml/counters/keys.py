"""From pseudonyms and names to arrays of exact 96-bit keys."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from ml.counters.tables import Ints, Words

KEY_CHARS = 24
KEY_WORDS = 3
_NOBODY = "0" * KEY_CHARS
_LENGTHS = {0, KEY_CHARS}
_NAMES_REMEMBERED = 65_536
NO_KEYS: Words = np.zeros((0, KEY_WORDS), np.uint32)


class Batch(NamedTuple):
    """
    Renders by column, in order of arrival: times (epoch ms) and keys, (n, 3) each, zero where there is none.

    The `other_*` are the same persons' pseudonyms under the other day's key, or `NO_KEYS`: what was counted under them
    is added when looking. They are never counted under.
    """

    times: Ints
    device: Words
    network: Words
    user: Words
    placement: Words
    creative: Words
    ad: Words
    other_device: Words = NO_KEYS
    other_network: Words = NO_KEYS
    other_user: Words = NO_KEYS

    def take(self, kept: Ints) -> "Batch":
        """Return the renders at the places *kept*."""
        times, *columns = self
        return Batch(times[kept], *[column[kept] if len(column) else column for column in columns])


def keys_of(pseudonyms: Sequence[str]) -> Words:
    """
    Return the keys (n, 3) of *pseudonyms*, 24 hex characters each; an empty one is nobody, and not counted.

    Raises:
        ValueError: one is neither.
    """
    if not pseudonyms:
        return NO_KEYS
    packed = bytearray.fromhex("".join([pseudonym or _NOBODY for pseudonym in pseudonyms]))
    if not set(map(len, pseudonyms)) <= _LENGTHS or len(packed) * 2 != len(pseudonyms) * KEY_CHARS:
        raise ValueError(f"a pseudonym has {KEY_CHARS} hex characters or none")
    return np.frombuffer(packed, np.uint32).reshape(-1, KEY_WORDS)


def names_of(names: Sequence[str]) -> Words:
    """Return the keys (n, 3) of *names* of placements, creatives or ads, which are no pseudonyms; zero for none."""
    if not names:
        return NO_KEYS
    found = [_known.get(name) for name in names]
    if None in found:
        found = [_key_of(name) for name in names]
    return np.frombuffer(bytearray().join(found), np.uint32).reshape(-1, KEY_WORDS)  # type: ignore[arg-type]


_known: dict[str, bytes] = {}


def _key_of(name: str) -> bytes:
    key = _known.get(name)
    if key is None:
        if len(_known) >= _NAMES_REMEMBERED:
            _known.clear()
        key = blake2b(name.encode(), digest_size=KEY_CHARS // 2).digest() if name else bytes(KEY_CHARS // 2)
        _known[name] = key
    return key
