"""
What is known of an impression some time after its decision: columns behind those of the decision's own vector.

Labels of the impression itself are none of them: what they say is combined with the model's word afterwards, by how far
they are trusted (`ml/models/s3.py`), so that the model cannot learn to repeat its own target.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import astuple
from numpy.typing import NDArray

from domain.events import ImpressionEvent, ImpressionRendered, ImpressionViewed
from domain.signals import Family
from ml.features.publishers import PublisherHistory
from ml.features.schema import SCHEMA, Feature, Group, schema_id

HOUR_S = 3_600
UNKNOWN_PUBLISHER = PublisherHistory(np.nan, np.nan, np.nan)

_NO_VIEW = "no view has arrived"
_NO_NEXT = "none was, or of nobody"
_NOBODY = "of nobody"


def _later(name: str, unit: str, source: str, missing: str, family: Family | None = None) -> Feature:
    return Feature(name, unit, source, Group.ASYNC, missing, family)


LATER: tuple[Feature, ...] = (
    _later("age_ms", "ms", "time since the decision", "never"),
    _later("view_wait_ms", "ms", "first view - event time", _NO_VIEW),
    _later("view_ratio", "ratio", "first view that has it", _NO_VIEW, Family.GEOMETRY),
    _later("view_ms", "ms", "longest view", _NO_VIEW, Family.GEOMETRY),
    _later("view_clicked", "flag", "any view", "never"),
    _later("next_gap_ms", "ms", "time to the person's next render that was recorded", _NO_NEXT, Family.SEQUENCE),
    Feature("next_hour", "count", "renders of the person in the hour after", Group.ASYNC, _NOBODY, Family.RATE, HOUR_S),
    _later("others_invalid", "trust", "labels `invalid` of the person's others of the day", _NOBODY, Family.LABEL),
    _later("others_human", "trust", "labels `human` of the person's others of the day", _NOBODY, Family.LABEL),
    _later("later_duplicate_rate", "ratio", "repeats / renders of the publisher", "nothing is known of it"),
    _later("later_invisible_share", "ratio", "invisible / measured of the publisher", "nothing is known of it"),
    _later("later_click_z", "deviations", "click rate of the publisher against its peers'", "nothing is known of it"),
)
"""In order of their columns, which follow on those of `SCHEMA`."""

LATER_SCHEMA = (*SCHEMA, *LATER)
LATER_SCHEMA_ID = schema_id(LATER_SCHEMA)
WIDTH = len(LATER_SCHEMA)
LATER_NAMES = tuple(feature.name for feature in LATER)


class Context(Struct, frozen=True, kw_only=True):
    """
    What the stream of an impression does not say and a store does, as known at *at* (epoch ms).

    The person's next render and those of the hour after count as recorded in the ledger, up to *at*. `others_*` are
    sums of trust over the labels of the person's other impressions that had arrived. NaN where nothing is known.
    `is_served`: delivery has reported to have served it.
    """

    at: int
    next_gap_ms: float = np.nan
    next_hour: float = np.nan
    others_invalid: float = np.nan
    others_human: float = np.nan
    publisher: PublisherHistory = UNKNOWN_PUBLISHER
    is_served: bool = False


class Later(Struct, frozen=True, kw_only=True):
    """One row of LATER, in order."""

    age_ms: float
    view_wait_ms: float
    view_ratio: float
    view_ms: float
    view_clicked: float
    next_gap_ms: float
    next_hour: float
    others_invalid: float
    others_human: float
    later_duplicate_rate: float
    later_invisible_share: float
    later_click_z: float


def later_of(
    rendered: ImpressionRendered, decided_at: int, events: Sequence[ImpressionEvent], context: Context
) -> Later:
    """
    Return what is known of *rendered* at `context.at`, *events* being its stream.

    Views that arrived later than that are not known yet.
    """
    views = [event for event in events if isinstance(event, ImpressionViewed) and event.received_at <= context.at]
    return Later(
        age_ms=float(context.at - decided_at),
        view_wait_ms=float(min((view.viewed_at for view in views), default=np.nan) - rendered.event_at),
        view_ratio=next((view.visible_ratio for view in views if view.visible_ratio is not None), np.nan),
        view_ms=float(max((view.visible_ms for view in views if view.visible_ms is not None), default=np.nan)),
        view_clicked=float(any(view.clicked for view in views)),
        next_gap_ms=context.next_gap_ms,
        next_hour=context.next_hour,
        others_invalid=context.others_invalid,
        others_human=context.others_human,
        later_duplicate_rate=context.publisher.duplicate_rate,
        later_invisible_share=context.publisher.invisible_share,
        later_click_z=context.publisher.click_z,
    )


def widened(values: NDArray[np.float64], later: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows of the decisions' *values* with their columns of *later* behind them, rounded to float32."""
    return np.concatenate([values, later.astype(np.float32).astype(np.float64)], axis=1)


def columns(later: Sequence[Later]) -> NDArray[np.float64]:
    """Return *later* as rows of LATER."""
    return np.array([astuple(one) for one in later], np.float64).reshape(len(later), len(LATER))
