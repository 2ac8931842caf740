"""What the numbers that SDKs give their events say of lost events: counts, in bounded space and without sessions."""

from msgspec import Struct

from domain.ids import CauseId
from domain.vocabulary import Surface

STREAM_PREFIX = "sequences-"
"""Streams of counts, one per gate process; they grow by themselves for a while after the last event came."""
OTHER_SDKS = "~"
"""Stands for the SDK versions beyond the limit of one event."""


class SequenceCount(Struct, frozen=True, array_like=True, gc=False):
    """
    Of one SDK version on one surface, over numbers that were settled in the minute that began `at` (epoch ms).

    `numbers` had to come, `missing` of them had not when they were settled; `filled` of those came later, and are taken
    back from `missing`, which may so be negative. `repeats` were given to two events, `restarts` count sessions whose
    numbers jumped too far.
    """

    at: int
    surface: Surface
    sdk: str
    numbers: int
    missing: int
    filled: int
    repeats: int
    restarts: int


class SequencesCounted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="SequencesCounted"):
    """What one gate found in the numbers since it last said so. The counts are of a sample of sessions."""

    cause: CauseId
    digest: str
    counted_at: int
    counts: tuple[SequenceCount, ...]
