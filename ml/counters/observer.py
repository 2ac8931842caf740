"""The counters in the gate's words: renders in, activities out."""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from domain.events import ImpressionRendered
from domain.rates import Activity, RateRules
from ml.counters import kernels
from ml.counters.counters import BATCH_MAX, Counters
from ml.counters.features import PLACE, STATUS_LETTERS, Column, Features, Status
from ml.counters.keys import KEY_WORDS, Batch, keys_of, names_of
from ml.counters.tables import Ints

Floats: TypeAlias = NDArray[np.float64]


class OtherDay(NamedTuple):
    """The same person's pseudonyms under the key of the day before or after, empty where there is none."""

    device: str = ""
    network: str = ""
    user: str = ""


NO_OTHER_DAY = OtherDay()
_NEVER = (0, None)
_HOUR, _GAPS, _COLD = PLACE[Column.PERSON_HOUR], PLACE[Column.PERSON_GAP_VARIATION], int(Status.COLD)


class Looked(Struct, frozen=True):
    """What was seen of *claims*, in order."""

    claims: Sequence[ImpressionRendered]
    features: Features

    def activity(self, place: int) -> Activity:
        """Return what the rules read of the render at *place*."""
        row, status = self.features.values[place].tolist(), self.features.status[place].tolist()
        return Activity(
            person_10s=_count(row, Column.PERSON_10S),
            person_min=_count(row, Column.PERSON_MIN),
            person_hour=_count(row, Column.PERSON_HOUR),
            person_gap_variation=_fresh(row, status, Column.PERSON_GAP_VARIATION),
            device_10s=_count(row, Column.DEVICE_10S),
            device_min=_count(row, Column.DEVICE_MIN),
            device_hour=_count(row, Column.DEVICE_HOUR),
            network_hour=_count(row, Column.NETWORK_HOUR),
            network_devices_hour=_whole(_fresh(row, status, Column.NETWORK_DEVICES_HOUR)),
            auto_refresh=self.claims[place].auto_refresh,
        )

    def outstanding(self, rules: RateRules) -> list[int]:
        """Return the places where any of *rules* may hold: few, so that only they are judged one by one."""
        found = np.empty(len(self.claims), np.bool_)
        kernels.stand_out(self.features.values, *_limits(rules), _GAPS, rules.even_gap_variation, found)
        places: list[int] = found.nonzero()[0].tolist()
        return places

    def cold(self) -> list[int]:
        """Return the places whose person was not watched for the whole hour before: what is known may be too little."""
        places: list[int] = (self.features.status[:, _HOUR] == _COLD).nonzero()[0].tolist()
        return places

    def recorded(self) -> list[tuple[tuple[float | None, ...], str]]:
        """Return values (None for unknown) and status letters of each render, as `ImpressionScored` keeps them."""
        known = self.features.values.astype(object)
        known[np.isnan(self.features.values)] = None
        letters = np.array(list(STATUS_LETTERS))[self.features.status]
        return [
            (tuple(values), "".join(status)) for values, status in zip(known.tolist(), letters.tolist(), strict=True)
        ]


class Observer:
    """
    Looks at renders before they are decided, and counts those whose `ImpressionRendered` became durable.

    A render counts at its `event_at`: within [served_at, received_at], so that an upload after hours offline is no
    burst, and a client that lies about it can at most spread what delivery has served it over the time it was served.
    What an app fetched ahead and did not begin to show is nobody's activity: it has no features and counts nothing.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._looked: dict[int, tuple[int, ImpressionRendered]] = {}
        self._batch = _batch((), (), counters.reads)

    def look(self, claims: Sequence[ImpressionRendered], others: Sequence[OtherDay] = ()) -> Looked:
        """
        Return the activity behind each of *claims*; *others*, if given, has one for each. Nothing is counted.

        An event id that comes twice is looked at once: a retry moves nothing.

        Raises:
            ValueError: there are more than a batch of the counters may have.
        """
        first: dict[int, tuple[int, ImpressionRendered]] = {}
        rows = [first.setdefault(claim.cause.int, (len(first), claim))[0] for claim in claims]
        self._looked = first
        if len(first) == len(claims):
            self._batch = _batch(claims, others, self._counters.reads)
            return Looked(claims, self._counters.look(self._batch))
        once = [rows.index(number) for number in range(len(first))]
        self._batch = _batch(
            [claims[place] for place in once],
            [others[place] for place in once] if others else (),
            self._counters.reads,
        )
        features = self._counters.look(self._batch)
        return Looked(claims, Features(features.values[rows], features.status[rows]))

    def keep(self, claims: Sequence[ImpressionRendered]) -> None:
        """Count *claims*, each of which is in the ledger now; to be called once for each, in any order."""
        known = [self._looked.get(claim.cause.int, _NEVER) for claim in claims]
        if all(one is claim for (_, one), claim in zip(known, claims, strict=True)):
            rows = [row for row, _ in known]
            is_whole = rows == list(range(len(self._batch.times)))
            self._counters.commit(self._batch, None if is_whole else np.array(rows, np.int64))
            return
        for at in range(0, len(claims), BATCH_MAX):
            self._counters.commit(_batch(claims[at : at + BATCH_MAX], (), self._counters.reads))


def _batch(claims: Sequence[ImpressionRendered], others: Sequence[OtherDay], reads: Collection[str]) -> Batch:
    if any(claim.prefetched and not claim.begun for claim in claims):
        claims = [_of_nobody(claim) if claim.prefetched and not claim.begun else claim for claim in claims]
    unread = np.zeros((len(claims), KEY_WORDS), np.uint32)
    batch = Batch(
        times=np.array([claim.event_at for claim in claims], np.int64),
        device=keys_of([claim.device for claim in claims]) if "device" in reads else unread,
        network=keys_of([claim.network for claim in claims]) if "network" in reads else unread,
        user=keys_of([claim.user for claim in claims]) if "user" in reads else unread,
        placement=names_of([claim.placement for claim in claims]) if "placement" in reads else unread,
        creative=names_of([claim.creative for claim in claims]) if "creative" in reads else unread,
        ad=names_of([claim.ad for claim in claims]) if "ad" in reads else unread,
    )
    if not any(any(other) for other in others):
        return batch
    return batch._replace(
        other_device=keys_of([other.device for other in others]),
        other_network=keys_of([other.network for other in others]),
        other_user=keys_of([other.user for other in others]),
    )


def _of_nobody(claim: ImpressionRendered) -> ImpressionRendered:
    return replace(claim, device="", user="", network="", placement="")


@lru_cache(maxsize=8)
def _limits(rules: RateRules) -> tuple[Ints, Floats]:
    """Return columns, and what speaks against a render beyond it."""
    limits = [
        (Column.PERSON_10S, rules.unusual.per_10s),
        (Column.PERSON_MIN, rules.unusual.per_min),
        (Column.PERSON_HOUR, rules.unusual.per_hour),
    ]
    if (device := rules.device) is not None:
        limits += [
            (Column.DEVICE_10S, device.per_10s),
            (Column.DEVICE_MIN, device.per_min),
            (Column.DEVICE_HOUR, device.per_hour),
        ]
    if (network := rules.network) is not None:
        limits.append((Column.NETWORK_HOUR, network.per_device_hour * network.devices_min))
    return np.array([PLACE[column] for column, _ in limits]), np.array([limit for _, limit in limits], np.float64)


def _count(row: list[float], column: Column) -> int | None:
    value = row[PLACE[column]]
    return None if np.isnan(value) else int(value)


def _fresh(row: list[float], status: list[int], column: Column) -> float | None:
    place = PLACE[column]
    return row[place] if status[place] == Status.FRESH else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
