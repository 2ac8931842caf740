"""
From renders to the matrix that models read: the one way to fill it, for the gate, data sets and monitors.

Values are rounded to float32, which is what is logged, so that what is read again is what was scored.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from domain.events import ImpressionRendered
from domain.vocabulary import AgentClass, Format, NetworkClass, OmidType, Surface
from ml.counters.features import PLACE as COUNTED_PLACE
from ml.counters.features import Column, Features
from ml.features import kernel
from ml.features.publishers import NO_HISTORY, History, PublisherHistory
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
    values, status = np.empty((len(claims), len(SCHEMA))), np.empty((len(claims), len(SCHEMA)), np.uint8)
    said = _NO_COUNTS if counted is None else counted
    to = _NOWHERE if counted is None else _COUNTED
    kernel.fill(_read(claims), _PLUS, _MINUS, *said, _COUNTED_FROM, to, _COUNTED_STATUS, values, status)
    if counted is None:
        status[:, _COUNTED] = TIMEOUT
    if history.publishers:
        _look_up(values, status, claims, history)
    for group in masked:
        values[:, _COLUMNS[group]] = np.nan
        status[:, _COLUMNS[group]] = MISSING
    return Vectors(values, status)


_COLUMNS = {group: np.array(columns_of(group)) for group in Group}

# What a render says of itself

_CODES: Mapping[str | None, float] = {
    **dict(zip((Surface.FEED, Surface.INSTAGRAM, Surface.REELS, Surface.AUDIENCE_NETWORK), range(4), strict=True)),
    Surface.PIXEL: 4,
    Format.DISPLAY: 0,
    Format.VIDEO: 1,
    AgentClass.BROWSER: 0,
    AgentClass.NOT_A_BROWSER: 1,
    AgentClass.DECLARED_BOT: 2,
    AgentClass.ABSENT: np.nan,
    NetworkClass.EYEBALL: 0,
    NetworkClass.RELAY: 1,
    NetworkClass.VPN: 2,
    NetworkClass.DATA_CENTRE: 3,
    NetworkClass.ABSENT: np.nan,
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
"""By word, which no two lists have with different codes."""
_CODED = {
    "surface": "surface",
    "is_video": "format",
    "agent_class": "agent_class",
    "network_class": "network_class",
    "omid_strength": "omid_type",
}
"""Feature -> the field of a render that it is the code of."""
_NUMBERS = (
    *("agent_age_days", "sdk_age_days", "fingerprint_inconsistencies"),
    *("prefetched", "background", "auto_refresh", "clicked"),
    *("area_px", "stack_depth", "visible_ratio", "visible_ms", "skew_ms"),
    *("served_at", "received_at", "event_at", "client_at", "sent_at", "on_screen_at"),
)
"""Fields of a render that are numbers; those that are features have their names."""
_OPEN_MS, _ABSENT = "open_ms", "absent_fields"
_READ = (*_NUMBERS, *_CODED, _OPEN_MS, _ABSENT)
_AT = {name: column for column, name in enumerate(_READ)}
_LESS = {
    "visible_excess_ms": ("visible_ms", _OPEN_MS),
    "serve_to_render_ms": ("event_at", "served_at"),
    "render_to_receipt_ms": ("received_at", "event_at"),
    "upload_wait_ms": ("sent_at", "client_at"),
    "begin_wait_ms": ("on_screen_at", "client_at"),
}
"""Features that are the difference of two."""

_numbers, _coded, _missing = attrgetter(*_NUMBERS), attrgetter(*_CODED.values()), attrgetter("missing")
_code = _CODES.__getitem__


def _read(claims: Sequence[ImpressionRendered]) -> Matrix:
    """Return what the renders say (renders, `_READ`), NaN where they do not."""
    n, numbers, coded = len(claims), len(_NUMBERS), len(_CODED)
    read = np.empty((n, len(_READ)))
    said = np.fromiter(chain.from_iterable(map(_numbers, claims)), np.float64, n * numbers)
    read[:, :numbers] = said.reshape(n, numbers)
    codes = np.fromiter(map(_code, chain.from_iterable(map(_coded, claims))), np.float64, n * coded)
    read[:, numbers : numbers + coded] = codes.reshape(n, coded)
    read[:, _AT[_OPEN_MS]] = read[:, _AT["received_at"]] - read[:, _AT["served_at"]]
    read[:, _AT[_ABSENT]] = np.fromiter(map(len, map(_missing, claims)), np.float64, n)
    return read


_PLUS = np.array([_AT.get(_LESS.get(one.name, (one.name, ""))[0], -1) for one in SCHEMA])
_MINUS = np.array([_AT[_LESS[one.name][1]] if one.name in _LESS else -1 for one in SCHEMA])

# What counters say: a count that may be too low is none, for models are trained on windows that were watched whole

_COUNTED = np.array([column for feature, column in PLACE.items() if feature in set(Column)])
_COUNTED_FROM = np.array([COUNTED_PLACE[Column(SCHEMA[column].name)] for column in _COUNTED])
_COUNTED_STATUS = np.array([FRESH, COLD, AT_LEAST, MISSING], np.uint8)
"""By `ml.counters.features.Status`."""
_NO_COUNTS = Features(np.empty((0, 0)), np.empty((0, 0), np.uint8))
_NOWHERE = np.empty(0, np.int64)

# What is known of publishers


def _look_up(values: Matrix, status: NDArray[np.uint8], claims: Sequence[ImpressionRendered], history: History) -> None:
    columns = _COLUMNS[Group.ASYNC]
    known = np.array([history.publishers.get(claim.publisher, _UNKNOWN_PUBLISHER) for claim in claims], np.float32)
    is_old = [[claim.received_at - history.computed_at > STALE_AFTER_MS] for claim in claims]
    values[:, columns] = known.reshape(len(claims), len(columns))
    status[:, columns] = np.where(np.isnan(known), MISSING, np.where(is_old, STALE, FRESH))


_UNKNOWN_PUBLISHER = PublisherHistory(np.nan, np.nan, np.nan)
