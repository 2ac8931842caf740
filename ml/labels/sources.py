"""
What labels may teach: which sources are a target of which stage, and how long their labels take.

The list of sources, what each may say and how far it is trusted is `domain/feedback.py`'s. A label stands in the ledger
as `ImpressionLabelled`; nothing else is one, and the system's own verdict has no source.
"""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from domain.placement_events import Stage
from domain.vocabulary import LabelSource

SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000


class Sight(StrEnum):
    """What a source looks at when it makes up its mind: of what it sees it labels all, or a share that is all alike."""

    IMPRESSION = "impression"
    ACCOUNT = "account"
    PUBLISHER = "publisher"


class Lesson(Struct, frozen=True):
    """The stages that may take labels of a source as their target; most labels arrive between the two of `delay_ms`."""

    stages: frozenset[Stage]
    delay_ms: tuple[int, int]
    sight: Sight = Sight.IMPRESSION


_ALL, _NONE = frozenset(Stage), frozenset[Stage]()

LESSONS: Mapping[LabelSource, Lesson] = {
    LabelSource.HONEYPOT: Lesson(_ALL, (MINUTE_MS, HOUR_MS)),
    # which version of an SDK errs is nothing that a visitor does
    LabelSource.SDK_BUG: Lesson(_NONE, (HOUR_MS, 4 * DAY_MS)),
    # the screen settles those; as a target they would hide what other bots do
    LabelSource.DECLARED_BOT: Lesson(_NONE, (SECOND_MS, MINUTE_MS)),
    LabelSource.HUMAN_REVIEW: Lesson(_ALL, (HOUR_MS, 4 * DAY_MS)),
    LabelSource.ACCOUNT_ACTION: Lesson(_ALL, (HOUR_MS, 4 * DAY_MS), Sight.ACCOUNT),
    LabelSource.THIRD_PARTY: Lesson(_ALL, (HOUR_MS, 4 * DAY_MS)),
    LabelSource.HUMAN_SIGNAL: Lesson(_ALL, (MINUTE_MS, 6 * HOUR_MS)),
    LabelSource.DISPUTE: Lesson(_ALL, (2 * DAY_MS, 28 * DAY_MS)),
    LabelSource.PUBLISHER_BAN: Lesson(_ALL, (2 * DAY_MS, 28 * DAY_MS), Sight.PUBLISHER),
    LabelSource.VIEW: Lesson(_NONE, (SECOND_MS, 6 * HOUR_MS)),
}
"""Of every source there is; each delay spans nine of ten labels. Source: semantics 18 of the design."""
