"""
From renders to the matrix that models read: the one way to fill it, for the gate, data sets and monitors.

Values are rounded to float32, which is what is logged, so that what is read again is what was scored.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import NamedTuple, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from domain.events import ImpressionRendered
from domain.vocabulary import AgentClass, Format, NetworkClass, OmidType, Surface
from ml.counters.features import PLACE as COUNTED_PLACE
from ml.counters.features import Column, Features
from ml.features.schema import PLACE, SCHEMA, Group, columns_of

Matrix: TypeAlias = NDArray[np.float64]

FRESH, COLD, STALE, MISSING, TIMEOUT, AT_LEAST = range(6)
"""
How far a value is to be trusted: right; NaN, for the window was not watched whole; of an older look-up; NaN, for there
is none; NaN, for counters did not answer; at least so much, for a bound was reached.
"""
STATUS_LETTERS = "fcs-t+"
"""By status, for `ImpressionScored.feature_status`."""
STALE_AFTER_MS = 3_600_000
"""History that was computed longer ago is `STALE`."""


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


class Vectors(NamedTuple):
    """`values` (renders, features), each a float32 in float64, NaN where unknown; `status` says why, or how good."""

    values: Matrix
    status: NDArray[np.uint8]

    def take(self, rows: Sequence[int]) -> "Vectors":
        return Vectors(self.values[rows], self.status[rows])


def vectors(
    claims: Sequence[ImpressionRendered],
    counted: Features | None,
    history: History = NO_HISTORY,
    masked: Collection[Group] = (),
) -> Vectors:
    """
    Return what is known of each of *claims*, of which *counted* says what counters do; None if they did not answer.

    Groups that are *masked* are left out, as if nobody knew.
    """
    values = np.full((len(claims), len(SCHEMA)), np.nan)
    _fill_claimed(values, claims)
    if history.publishers:
        _fill_history(values, claims, history)
    status = np.where(np.isnan(values), np.uint8(MISSING), np.uint8(FRESH))
    _fill_counted(values, status, counted)
    if history.publishers:
        _mark_stale(status, claims, history)
    for group in masked:
        values[:, _COLUMNS[group]] = np.nan
        status[:, _COLUMNS[group]] = MISSING
    return Vectors(values.astype(np.float32).astype(np.float64), status)


_COLUMNS = {group: np.array(columns_of(group)) for group in Group}

# What a render says of itself

_SURFACES = dict(
    zip(
        (Surface.FEED, Surface.INSTAGRAM, Surface.REELS, Surface.AUDIENCE_NETWORK, Surface.PIXEL), range(5), strict=True
    )
)
_AGENTS = {
    AgentClass.BROWSER: 0,
    AgentClass.NOT_A_BROWSER: 1,
    AgentClass.DECLARED_BOT: 2,
    AgentClass.ABSENT: np.nan,
}
_NETWORKS = {
    NetworkClass.EYEBALL: 0,
    NetworkClass.RELAY: 1,
    NetworkClass.VPN: 2,
    NetworkClass.DATA_CENTRE: 3,
    NetworkClass.ABSENT: np.nan,
}
_OMID = {
    None: np.nan,
    OmidType.UNSPECIFIED: 0,
    OmidType.OTHER: 1,
    OmidType.DEFINED_BY_JAVASCRIPT: 2,
    OmidType.LOADED: 3,
    OmidType.BEGIN_TO_RENDER: 4,
    OmidType.ONE_PIXEL: 5,
    OmidType.VIEWABLE: 6,
    OmidType.AUDIBLE: 7,
}

_DIRECT = (
    "agent_age_days",
    "sdk_age_days",
    "fingerprint_inconsistencies",
    "prefetched",
    "background",
    "auto_refresh",
    "clicked",
    "area_px",
    "stack_depth",
    "visible_ratio",
    "visible_ms",
    "skew_ms",
)
"""Fields of a render that are features as they stand."""
_TIMES = ("served_at", "received_at", "event_at", "client_at", "sent_at", "on_screen_at")
_numbers = attrgetter(*_DIRECT, *_TIMES)
_READ = len(_DIRECT) + len(_TIMES)
_DIRECT_COLUMNS = np.array([PLACE[name] for name in _DIRECT])


def _fill_claimed(values: Matrix, claims: Sequence[ImpressionRendered]) -> None:
    n = len(claims)
    read = np.fromiter(chain.from_iterable(map(_numbers, claims)), np.float64, n * _READ).reshape(n, _READ)
    values[:, _DIRECT_COLUMNS] = read[:, : len(_DIRECT)]
    served, received, event, client, sent, shown = read[:, len(_DIRECT) :].T
    values[:, PLACE["visible_excess_ms"]] = values[:, PLACE["visible_ms"]] - (received - served)
    values[:, PLACE["serve_to_render_ms"]] = event - served
    values[:, PLACE["render_to_receipt_ms"]] = received - event
    values[:, PLACE["upload_wait_ms"]] = sent - client
    values[:, PLACE["begin_wait_ms"]] = shown - client
    values[:, PLACE["surface"]] = [_SURFACES[claim.surface] for claim in claims]
    values[:, PLACE["is_video"]] = [claim.format is Format.VIDEO for claim in claims]
    values[:, PLACE["agent_class"]] = [_AGENTS[claim.agent_class] for claim in claims]
    values[:, PLACE["network_class"]] = [_NETWORKS[claim.network_class] for claim in claims]
    values[:, PLACE["omid_strength"]] = [_OMID[claim.omid_type] for claim in claims]
    values[:, PLACE["absent_fields"]] = [len(claim.missing) for claim in claims]


# What counters say

_COUNTED = np.array([column for feature, column in PLACE.items() if feature in set(Column)])
_COUNTED_FROM = np.array([COUNTED_PLACE[Column(SCHEMA[column].name)] for column in _COUNTED])
_COUNTED_STATUS = np.array([FRESH, COLD, AT_LEAST, MISSING], np.uint8)
"""By `ml.counters.features.Status`."""


def _fill_counted(values: Matrix, status: NDArray[np.uint8], counted: Features | None) -> None:
    """A count that may be too low is none: models are trained on windows that were watched whole."""
    if counted is None:
        status[:, _COUNTED] = TIMEOUT
        return
    said = _COUNTED_STATUS[counted.status[:, _COUNTED_FROM]]
    values[:, _COUNTED] = np.where(said == COLD, np.nan, counted.values[:, _COUNTED_FROM])
    status[:, _COUNTED] = said


# What is known of publishers


def _fill_history(values: Matrix, claims: Sequence[ImpressionRendered], history: History) -> None:
    known = [history.publishers.get(claim.publisher, _UNKNOWN_PUBLISHER) for claim in claims]
    values[:, _COLUMNS[Group.ASYNC]] = known


def _mark_stale(status: NDArray[np.uint8], claims: Sequence[ImpressionRendered], history: History) -> None:
    columns = _COLUMNS[Group.ASYNC]
    is_old = np.array([claim.received_at - history.computed_at > STALE_AFTER_MS for claim in claims])
    status[:, columns] = np.where((status[:, columns] == FRESH) & is_old[:, None], STALE, status[:, columns])


_UNKNOWN_PUBLISHER = PublisherHistory(np.nan, np.nan, np.nan)
