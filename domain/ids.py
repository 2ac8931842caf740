"""Ids: UUIDv7 impression ids that carry mint time and shard, and event ids that follow from their cause."""

from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import TypeAlias
from uuid import UUID, uuid5

import msgspec

ImpressionId: TypeAlias = UUID
CauseId: TypeAlias = UUID
"""Id of what made somebody append: a client's `event_id`, a correction id, a label id."""

SHARDS = 4_096
TIME_MAX_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z: later times cannot be written as RFC 3339, and have no day."""
_RANDOM_BITS = 62
_VERSION_7 = 0x7 << 76
_VARIANT = 0x2 << _RANDOM_BITS
_TIME_MAX = 1 << 48
_DIGEST_BYTES = 12


def mint(at: int, shard: int, entropy: int) -> ImpressionId:
    """
    Return the id of an ad instance minted at *at* (epoch ms) for a person of *shard* (0 to 4095).

    The low 62 bits of *entropy* make it unique.

    Raises:
        ValueError: *at* or *shard* does not fit (RFC 9562, 5.7).
    """
    if not 0 <= at < _TIME_MAX or not 0 <= shard < SHARDS:
        raise ValueError(f"time {at} or shard {shard} does not fit a UUIDv7")
    return UUID(int=at << 80 | _VERSION_7 | shard << 64 | _VARIANT | entropy & ((1 << _RANDOM_BITS) - 1))


def is_impression_id(value: UUID) -> bool:
    """Tell whether *value* is a UUIDv7."""
    bits = value.int
    return bits >> 76 & 0xF == 0x7 and bits >> _RANDOM_BITS & 0x3 == 0x2


def minted_at(impression: ImpressionId) -> int:
    """Return when delivery minted the ad instance, in epoch ms: the impression's `served_at`."""
    return impression.int >> 80


def shard(impression: ImpressionId) -> int:
    """Return the shard, 0 to 4095, that routes the impression to its cell and worker."""
    return impression.int >> 64 & 0xFFF


def shard_of_person(person: str, key: bytes) -> int:
    """Return the shard of a *person* (user, else device, else network): a keyed hash, 0 to 4095."""
    return int.from_bytes(blake2b(person.encode(), key=key, digest_size=2).digest(), "big") & 0xFFF


def event_id(cause: CauseId, index: int) -> UUID:
    """Return the id of the event at *index* of the append that *cause* made; the same at every retry."""
    return uuid5(cause, str(index))


def day_of(at: int) -> date:
    """Return the UTC day of *at* (epoch ms)."""
    return datetime.fromtimestamp(at / 1_000, UTC).date()


def digest_of(*content: object) -> str:
    """Return the digest by which a repeated command is recognised. Nothing in it is personal, so it has no key."""
    return blake2b(msgspec.json.encode(content, order="deterministic"), digest_size=_DIGEST_BYTES).hexdigest()
