"""Laws of the counters: the kernels equal the reference on any history, and what they call fresh is the truth."""

import numpy as np
import pytest
from counterskit import BATCH_MAX, NOW, ROOMY, TIGHT, batch_of, expected, histories, looked
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.counters.counters import Counters
from ml.counters.features import Column
from ml.counters.reference import Reference
from ml.counters.tables import HOUR_MS, MINUTE_MS, TEN_S_MS

SINCE = NOW - HOUR_MS

law = settings(max_examples=50)


@pytest.mark.parametrize("capacities", [ROOMY, TIGHT], ids=["roomy", "evicting"])
@given(history=histories())
@law
def test_the_kernels_equal_the_reference_on_any_history(capacities, history):
    counters = Counters(capacities, SINCE, batch_max=BATCH_MAX)
    reference = Reference(capacities, SINCE)
    for renders, kept in history:
        assert looked(counters, renders) == expected(reference, renders)
        counters.commit(batch_of(renders), np.array(kept, np.int64))
        reference.commit([renders[at] for at in kept])
    tables = {**reference.counts, **reference.sets}
    assert [(use.rows, use.evicted) for use in counters.use().values()] == [
        (len(table.rows), table.evicted) for table in tables.values()
    ]


@given(history=histories(), again=histories())
@law
def test_looking_changes_nothing(history, again):
    looking, never = (Counters(TIGHT, SINCE, batch_max=BATCH_MAX) for _ in range(2))
    for renders, kept in history:
        for others, _ in again:
            looking.look(batch_of(others))
        assert looked(looking, renders) == looked(looking, renders) == looked(never, renders)
        for counters in (looking, never):
            counters.commit(batch_of(renders), np.array(kept, np.int64))


@given(history=histories(others=False), seed=st.randoms(use_true_random=False))
@law
def test_in_which_order_a_history_is_counted_changes_nothing(history, seed):
    committed = [renders[at] for renders, kept in history for at in kept]
    shuffled = list(committed)
    seed.shuffle(shuffled)
    one, other = (
        Counters(
            ROOMY._replace(users_per_device=16, ads_per_device=16, devices_per_network=16), SINCE, batch_max=BATCH_MAX
        )
        for _ in range(2)
    )
    for counters, order in ((one, committed), (other, shuffled)):
        for at in range(0, len(order), BATCH_MAX):
            counters.commit(batch_of(order[at : at + BATCH_MAX]))
    for renders, _ in history:
        assert looked(one, renders) == looked(other, renders)


COUNTED = {
    Column.DEVICE_10S: ("device", TEN_S_MS, 1),
    Column.DEVICE_MIN: ("device", TEN_S_MS, 6),
    Column.DEVICE_HOUR: ("device", MINUTE_MS, 60),
    Column.DEVICE_DAY: ("device", HOUR_MS, 24),
    Column.NETWORK_HOUR: ("network", MINUTE_MS, 60),
    Column.PLACEMENT_MIN: ("placement", TEN_S_MS, 6),
    Column.USER_HOUR: ("user", MINUTE_MS, 60),
}
DISTINCT = {
    Column.DEVICE_USERS_HOUR: ("device", "user", MINUTE_MS, 60),
    Column.DEVICE_ADS_MIN: ("device", "ad", TEN_S_MS, 6),
    Column.NETWORK_DEVICES_HOUR: ("network", "device", MINUTE_MS, 60),
}


@pytest.mark.parametrize("capacities", [ROOMY, TIGHT], ids=["roomy", "evicting"])
@given(history=histories(others=False))
@law
def test_what_is_fresh_is_the_count_over_all_that_happened_and_nothing_is_ever_more(capacities, history):
    counters = Counters(capacities, 0, batch_max=BATCH_MAX)
    past = []
    for renders, kept in history:
        for at, row in enumerate(looked(counters, renders)):
            one, known = renders[at], [*past, *renders[: at + 1]]
            for column, (kind, width, length) in COUNTED.items():
                _check(row[column], getattr(one, kind), len(_in_window(known, one, (kind,), width, length)))
            for column, (kind, member, width, length) in DISTINCT.items():
                within = _in_window(known, one, (kind,), width, length)
                _check(row[column], getattr(one, kind), len({getattr(other, member) for other in within} - {""}))
            within = _in_window(known, one, ("device", "creative"), MINUTE_MS, 60)
            _check(row[Column.DEVICE_CREATIVE_HOUR], one.device and one.creative, len(within))
            earlier = [other.time for other in known[:-1] if other.device == one.device and other.time <= one.time]
            value, status = row[Column.DEVICE_GAP_MS]
            if status == "FRESH":
                assert value == one.time - max(earlier)
        counters.commit(batch_of(renders), np.array(kept, np.int64))
        past += [renders[at] for at in kept]


def _in_window(known, one, kinds, width, length):
    bucket = one.time // width
    return [
        other
        for other in known
        if all(getattr(other, kind) == getattr(one, kind) for kind in kinds)
        and bucket - length < other.time // width <= bucket
    ]


def _check(said, name, truth):
    value, status = said
    if not name:
        assert said == (None, "MISSING")
    elif status == "FRESH":
        assert value == truth
    else:
        assert value <= truth


@given(history=histories(others=False), cut=st.integers(0, 40))
@law
def test_counters_built_again_from_what_was_committed_say_the_same(history, cut):
    died, lived = (Counters(ROOMY, SINCE, batch_max=BATCH_MAX) for _ in range(2))
    durable = []
    for number, (renders, kept) in enumerate(history):
        if number == cut:
            died = Counters(ROOMY, SINCE, batch_max=BATCH_MAX)
            for at in range(0, len(durable), BATCH_MAX):
                died.commit(batch_of(durable[at : at + BATCH_MAX]))
        assert looked(died, renders) == looked(lived, renders)
        for counters in (died, lived):
            counters.commit(batch_of(renders), np.array(kept, np.int64))
        durable += [renders[at] for at in kept]
