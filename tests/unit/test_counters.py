"""The counters at their bounds: what saturates says so, what is too much is refused, and imports stay light."""

import os
import subprocess
import sys

import numpy as np
import pytest
from counterskit import NOW, batch_of, looked, seen

from ml.counters.counters import BATCH_MAX, TIME_MAX, Counters
from ml.counters.features import Column
from ml.counters.keys import KEY_CHARS, Batch, keys_of, names_of
from ml.counters.tables import COUNT_MAX, HOUR_MS, MINUTE_MS, Capacities

SMALL = Capacities(*[BATCH_MAX + 1] * 8)


def counters(**bounds) -> Counters:
    return Counters(SMALL._replace(**bounds), NOW - 30 * HOUR_MS)


def test_a_bucket_that_is_full_says_at_least():
    crowd = counters()
    batch = batch_of([seen(0)] * BATCH_MAX)
    for _ in range(COUNT_MAX // BATCH_MAX):
        crowd.commit(batch)
    rest = COUNT_MAX - COUNT_MAX // BATCH_MAX * BATCH_MAX
    crowd.commit(batch_of([seen(0)] * (rest - 2)))
    exact, full, beyond = looked(crowd, [seen(0)] * 3)
    assert exact[Column.DEVICE_10S] == (COUNT_MAX - 1, "FRESH")
    assert full[Column.DEVICE_10S] == (COUNT_MAX, "AT_LEAST")
    assert beyond[Column.DEVICE_10S] == (COUNT_MAX, "AT_LEAST")


def test_members_are_counted_exactly_up_to_the_bound_and_at_least_beyond_it():
    house = counters(devices_per_network=4)
    rows = looked(house, [seen(n, device=n + 1) for n in range(6)])
    values, statuses = zip(*[row[Column.NETWORK_DEVICES_HOUR] for row in rows], strict=True)
    assert (values[:4], statuses) == ((1, 2, 3, 4), ("FRESH",) * 4 + ("AT_LEAST",) * 2)
    assert 4 <= values[4] <= 5
    assert 4 <= values[5] <= 6


def test_members_that_were_lost_are_forgotten_when_their_hour_is_over():
    house = counters(devices_per_network=4)
    house.commit(batch_of([seen(n, device=n + 1) for n in range(6)]))
    [row] = looked(house, [seen(61 * MINUTE_MS, device=9)])
    assert row[Column.NETWORK_DEVICES_HOUR] == (1, "FRESH")


def test_a_render_without_a_device_leaves_open_how_many_devices_a_network_has():
    named, unnamed = looked(counters(), [seen(0), seen(1, device=0)])
    assert named[Column.NETWORK_DEVICES_HOUR] == (1, "FRESH")
    assert unnamed[Column.NETWORK_DEVICES_HOUR] == (1, "AT_LEAST")


def test_the_key_that_was_active_least_recently_is_evicted_and_what_comes_back_is_cold():
    few = Counters(Capacities(*[3] * 8), NOW - 30 * HOUR_MS, batch_max=2)
    for time, device in enumerate((1, 2, 3)):
        few.commit(batch_of([seen(time, device=device)]))
    few.commit(batch_of([seen(3, device=4)]))
    few.commit(batch_of([seen(4, device=2)]))
    few.commit(batch_of([seen(5, device=5)]))
    assert few.use()["devices"].evicted == 2
    second, first = (looked(few, [seen(6, device=device)])[0][Column.DEVICE_HOUR] for device in (2, 1))
    assert second == (3, "FRESH")
    assert first == (1, "COLD")


def test_an_evicted_key_leaves_no_window_fresh_that_its_last_render_may_have_been_in():
    few = Counters(Capacities(*[3] * 8), NOW - 30 * HOUR_MS, batch_max=2)
    start = -(NOW % MINUTE_MS)
    for device in (1, 2, 3, 4):
        few.commit(batch_of([seen(start, device=device)]))
    within, after = (start + 59 * MINUTE_MS, start + 60 * MINUTE_MS)
    statuses = [looked(few, [seen(time, device=1)])[0][Column.DEVICE_HOUR] for time in (within, after)]
    assert statuses == [(1, "COLD"), (1, "FRESH")]


def test_a_full_table_never_evicts_a_key_of_the_batch_that_it_counts():
    few = Counters(Capacities(*[4] * 8), NOW - 30 * HOUR_MS, batch_max=3)
    for device in (1, 2, 3, 4, 5):
        few.commit(batch_of([seen(0, device=device)]))
    batch = [seen(1, device=device) for device in (6, 7, 2)]
    few.commit(batch_of(batch))
    assert [row[Column.DEVICE_10S][0] for row in looked(few, [seen(2, device=device) for device in (6, 7, 2)])] == [
        2,
        2,
        3,
    ]


@pytest.mark.parametrize("time", [-1, TIME_MAX])
def test_a_time_out_of_range_is_refused(time):
    batch = batch_of([seen(0)])._replace(times=np.array([time]))
    for call in (counters().look, counters().commit):
        with pytest.raises(ValueError, match="a time is not in 0 to"):
            call(batch)


def test_a_batch_that_is_too_large_is_refused():
    with pytest.raises(ValueError, match="over 512"):
        counters().look(batch_of([seen(0)] * (BATCH_MAX + 1)))


@pytest.mark.parametrize("column", ["device", "other_user"])
def test_columns_of_several_lengths_are_refused(column):
    batch = batch_of([seen(0)] * 3)._replace(**{column: keys_of(["ab" * 12] * 2)})
    with pytest.raises(ValueError, match="one length"):
        counters().look(batch)


def test_tables_smaller_than_a_batch_are_refused():
    with pytest.raises(ValueError, match="more rows than a batch"):
        Counters(SMALL._replace(networks=BATCH_MAX), NOW)


def test_no_renders_are_looked_at_and_counted_too():
    nothing = batch_of([])
    assert counters().look(nothing).values.shape[0] == 0
    counters().commit(nothing)


def test_the_watch_is_moved_before_anything_is_counted_and_not_after():
    late = Counters(SMALL, NOW)
    late.watch_from(NOW - HOUR_MS - MINUTE_MS)
    assert looked(late, [seen(0)])[0][Column.DEVICE_HOUR] == (1, "FRESH")
    late.commit(batch_of([seen(0)]))
    with pytest.raises(ValueError, match="before the first render"):
        late.watch_from(NOW - 2 * HOUR_MS)


def test_keys_differ_where_any_of_their_characters_does():
    base = "0" * (KEY_CHARS - 1) + "1"
    others = [base[:at] + "f" + base[at + 1 :] for at in range(KEY_CHARS)]
    few = counters()
    few.commit(batch_of([seen(0)])._replace(device=keys_of([base])))
    for other in others:
        features = few.look(batch_of([seen(1)])._replace(device=keys_of([other])))
        assert features.column(Column.DEVICE_HOUR)[0] == 1
        assert features.column(Column.DEVICE_CREATIVE_HOUR)[0] == 1


@pytest.mark.parametrize("wrong", [["ab"], ["ab" * 13, "ab" * 11], ["zz" * 12], ["ab " * 8]])
def test_what_is_no_pseudonym_is_refused(wrong):
    with pytest.raises(ValueError, match="hex"):
        keys_of(wrong)


def test_a_name_has_a_key_of_its_own_and_no_name_none():
    keys = names_of(["", "placement-1", "placement-2", "placement-1"]).tolist()
    assert keys[0] == [0, 0, 0]
    assert keys[1] == keys[3]
    assert len({tuple(key) for key in keys}) == 3
    assert len(keys_of([])) == len(names_of([])) == 0


def test_a_batch_can_be_cut_to_what_was_kept():
    batch = batch_of([seen(0), seen(1), seen(2)])
    assert batch.take(np.array([0, 2])).times.tolist() == [NOW, NOW + 2]
    assert isinstance(batch.take(np.array([], np.int64)), Batch)


def test_importing_the_counters_draws_in_no_model_or_column_store_and_compiles_nothing_at_a_request(tmp_path):
    code = """
import sys
from counterskit import batch_of, seen, NOW
from ml.counters.counters import Counters
from ml.counters import kernels
from ml.counters.tables import Capacities
assert not {"sklearn", "polars", "chdb", "pandas", "pyarrow"} & sys.modules.keys()
counters = Counters(Capacities(*[600] * 8), NOW)
counters.look(batch_of([seen(0, other_device=2, other_user=2, other_network=2)]))
counters.commit(batch_of([seen(0)]))
compiled = [k for k in vars(kernels).values() if type(k).__name__ == "CPUDispatcher" and not k._can_compile]
assert len(compiled) == 8 and all(len(kernel.signatures) == 1 for kernel in compiled)
"""
    path = os.pathsep.join([".", "tests", *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 0
