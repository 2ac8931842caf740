"""What is known of publishers at a moment."""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct


class PublisherHistory(NamedTuple):
    """A publisher's traffic: shares in [0, 1], and standard deviations from its peers' click rate."""

    duplicate_rate: float
    invisible_share: float
    click_z: float


class History(Struct, frozen=True):
    """What was known of publishers at *computed_at* (epoch ms). Never changed: a newer one takes its place."""

    computed_at: int = 0
    publishers: Mapping[str, PublisherHistory] = {}


NO_HISTORY = History()
