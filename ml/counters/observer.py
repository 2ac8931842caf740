"""The counters in the gate's words: renders in, activities out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from domain.events import ImpressionRendered
from domain.ids import CauseId
from domain.rates import Activity
from ml.counters.counters import Counters
from ml.counters.features import PLACE, STATUS_LETTERS, Column, Features, Status
from ml.counters.keys import Batch, keys_of, names_of


class OtherDay(NamedTuple):
    """The same person's pseudonyms under the key of the day before or after, empty where there is none."""

    device: str = ""
    network: str = ""
    user: str = ""


NO_OTHER_DAY = OtherDay()

_COUNTS = [
    PLACE[column]
    for column in (
        Column.PERSON_10S,
        Column.PERSON_MIN,
        Column.PERSON_HOUR,
        Column.DEVICE_10S,
        Column.DEVICE_MIN,
        Column.DEVICE_HOUR,
        Column.NETWORK_HOUR,
    )
]
_UNKNOWN = -1


class Looked(Struct, frozen=True):
    """What was seen of each render looked at, in order."""

    activities: list[Activity]
    features: Features

    def recorded(self) -> list[tuple[tuple[float | None, ...], str]]:
        """Return values (None for unknown) and status letters of each render, as `ImpressionScored` keeps them."""
        letters = np.array(list(STATUS_LETTERS))[self.features.status].tolist()
        return [
            (tuple([None if value != value else value for value in values]), "".join(status))  # noqa: PLR0124 (NaN)
            for values, status in zip(self.features.values.tolist(), letters, strict=True)
        ]


class Observer:
    """
    Looks at renders before they are decided, and counts those whose `ImpressionRendered` became durable.

    A render counts at its `event_at`: within [served_at, received_at], so that an upload after hours offline is no
    burst, and a client that lies about it can at most spread what delivery has served it over the time it was served.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def look(self, claims: Sequence[ImpressionRendered], others: Sequence[OtherDay] = ()) -> Looked:
        """
        Return the activity behind each of *claims*; *others*, if given, has one for each.

        An event id that comes twice is looked at once: a retry moves nothing.

        Raises:
            ValueError: there are more than a batch of the counters may have.
        """
        at: dict[CauseId, int] = {}
        for place, claim in enumerate(claims):
            at.setdefault(claim.cause, place)
        if len(at) == len(claims):
            return _looked(claims, self._counters.look(_batch(claims, others)))
        first = list(at.values())
        features = self._counters.look(
            _batch([claims[place] for place in first], [others[place] for place in first] if others else ())
        )
        row = {cause: number for number, cause in enumerate(at)}
        rows = [row[claim.cause] for claim in claims]
        return _looked(claims, Features(features.values[rows], features.status[rows]))

    def keep(self, claims: Sequence[ImpressionRendered]) -> None:
        """
        Count *claims*, each of which is in the ledger now; to be called once for each, in any order.

        Raises:
            ValueError: there are more than a batch of the counters may have.
        """
        self._counters.commit(_batch(claims, ()))


def _batch(claims: Sequence[ImpressionRendered], others: Sequence[OtherDay]) -> Batch:
    batch = Batch(
        times=np.array([claim.event_at for claim in claims], np.int64),
        device=keys_of([claim.device for claim in claims]),
        network=keys_of([claim.network for claim in claims]),
        user=keys_of([claim.user for claim in claims]),
        placement=names_of([claim.placement for claim in claims]),
        creative=names_of([claim.creative for claim in claims]),
        ad=names_of([claim.ad for claim in claims]),
    )
    if not any(other is not NO_OTHER_DAY for other in others):
        return batch
    return batch._replace(
        other_device=keys_of([other.device for other in others]),
        other_network=keys_of([other.network for other in others]),
        other_user=keys_of([other.user for other in others]),
    )


def _looked(claims: Sequence[ImpressionRendered], features: Features) -> Looked:
    counts = np.nan_to_num(features.values[:, _COUNTS], nan=_UNKNOWN).astype(np.int64).tolist()
    variation = _where_fresh(features, Column.PERSON_GAP_VARIATION)
    devices = _where_fresh(features, Column.NETWORK_DEVICES_HOUR)
    activities = [
        _activity(*row, even, None if among is None else int(among), claim.auto_refresh)
        for row, even, among, claim in zip(counts, variation, devices, claims, strict=True)
    ]
    return Looked(activities, features)


def _activity(  # noqa: PLR0913, PLR0917 (one row of the matrix)
    person_10s: int,
    person_min: int,
    person_hour: int,
    device_10s: int,
    device_min: int,
    device_hour: int,
    network_hour: int,
    variation: float | None,
    devices: int | None,
    auto_refresh: bool,  # noqa: FBT001
) -> Activity:
    person, device = person_10s != _UNKNOWN, device_10s != _UNKNOWN
    return Activity(
        person_10s=person_10s if person else None,
        person_min=person_min if person else None,
        person_hour=person_hour if person else None,
        person_gap_variation=variation,
        device_10s=device_10s if device else None,
        device_min=device_min if device else None,
        device_hour=device_hour if device else None,
        network_hour=None if network_hour == _UNKNOWN else network_hour,
        network_devices_hour=devices,
        auto_refresh=auto_refresh,
    )


def _where_fresh(features: Features, column: Column) -> list[float | None]:
    fresh = (features.status_of(column) == Status.FRESH).tolist()
    return [value if known else None for value, known in zip(features.column(column).tolist(), fresh, strict=True)]
