"""Histories of renders for the counters, and the kernels' answers in the reference's words."""

from math import isnan

import numpy as np
from builders import PACK
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.rates import NetworkShare, RateLimits
from ml.counters.counters import Counters
from ml.counters.features import FEATURES, Status
from ml.counters.keys import NO_KEYS, Batch, keys_of
from ml.counters.reference import Reference, Seen
from ml.counters.tables import HOUR_MS, MINUTE_MS, TEN_S_MS, Capacities

RATE_RULES = PACK.rates
RULES_OF_ONE_WORKER = replace(
    RATE_RULES,
    device=RateLimits(per_10s=120, per_min=480, per_hour=7_200),
    network=NetworkShare(per_device_hour=1_800, devices_min=4),
)
NOW = 1_790_000_000_000
BATCH_MAX = 6
ROOMY = Capacities(*[64] * 8, users_per_device=3, ads_per_device=3, devices_per_network=3)
TIGHT = Capacities(*[BATCH_MAX + 1] * 8, users_per_device=2, ads_per_device=2, devices_per_network=2)


def key(kind: int, number: int) -> str:
    """Return a pseudonym of 24 hex characters; close ones share words, so that comparing too little is noticed."""
    return f"{number % 3:08x}{kind:08x}{number:08x}"


def seen(time, device=1, network=1, user=1, **more) -> Seen:
    """A render at *time* ms after NOW; numbers name the keys, 0 nobody."""
    numbers = {"placement": 1, "creative": 1, "ad": 1, "other_device": 0, "other_network": 0, "other_user": 0, **more}
    numbers |= {"device": device, "network": network, "user": user}
    return Seen(time=NOW + time, **{name: key(1, number) if number else "" for name, number in numbers.items()})


def batch_of(renders) -> Batch:
    columns = [keys_of([one[at] for one in renders]) for at in range(1, 10)]
    others = [column if column.any() else NO_KEYS for column in columns[6:]]
    return Batch(np.array([one.time for one in renders], np.int64), *columns[:6], *others)


def looked(counters: Counters, renders) -> list[dict]:
    features = counters.look(batch_of(renders))
    return [
        {column: plain(value, status) for column, value, status in zip(FEATURES, values, statuses, strict=True)}
        for values, statuses in zip(features.values.tolist(), features.status.tolist(), strict=True)
    ]


def expected(reference: Reference, renders) -> list[dict]:
    return [{column: plain(*row[column]) for column in FEATURES} for row in reference.look(renders)]


def plain(value, status):
    """Comparable: NaN is None."""
    return (None if isnan(value) else float(value), Status(status).name)


def gaps():
    """Between two renders: moments, borders of buckets, a long time, and backwards."""
    return st.one_of(
        st.integers(0, 3_000),
        st.sampled_from([TEN_S_MS, MINUTE_MS - 1, MINUTE_MS, HOUR_MS - 1, HOUR_MS, 25 * HOUR_MS, 40 * 24 * HOUR_MS]),
        st.sampled_from([-1, -TEN_S_MS, -2 * MINUTE_MS, -HOUR_MS, -30 * HOUR_MS]),
    )


@st.composite
def histories(draw, *, others=True):
    """Batches of renders, each batch with the places that became durable."""
    time, batches = 30 * 24 * HOUR_MS, []
    names = st.integers(0, 12) if draw(st.booleans()) else st.integers(0, 3)
    for _ in range(draw(st.integers(1, 14))):
        renders = []
        for _ in range(draw(st.integers(1, BATCH_MAX))):
            time = max(0, time + draw(gaps()))
            numbers = draw(st.tuples(*[names] * 6))
            more = dict(zip(("device", "network", "user", "placement", "creative", "ad"), numbers, strict=True))
            if others and draw(st.booleans()):
                more |= zip(("other_device", "other_network", "other_user"), draw(st.tuples(*[names] * 3)), strict=True)
            renders.append(seen(time, **more))
        kept = sorted(draw(st.sets(st.integers(0, len(renders) - 1))))
        batches.append((renders, kept if draw(st.booleans()) else list(range(len(renders)))))
    return batches
