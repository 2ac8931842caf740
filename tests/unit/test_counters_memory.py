"""Memory that is taken before it is needed: nothing waits for the kernel afterwards, and nothing changes."""

import resource

import numpy as np
import pytest
from counterskit import NOW, batch_of, seen

from ml.counters.counters import BATCH_MAX, Counters
from ml.counters.memory import take_memory
from ml.counters.tables import Capacities

PAGE, SIZE = 4_096, 64 << 20
HUGE_PAGES = SIZE >> 21


def _faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _taken(*arrays):
    if not take_memory(arrays):
        pytest.skip("this system cannot take memory ahead (Linux before 5.14, or no Linux)")


def test_writing_to_what_was_taken_waits_for_no_page():
    array = np.zeros(SIZE, np.uint8)
    _taken(array)
    before = _faults()
    array[::PAGE] = 1
    assert _faults() - before < HUGE_PAGES // 4


def test_what_stands_in_the_memory_stays():
    array = np.zeros(SIZE // 8, np.int64)
    array[:: 3 * PAGE] = np.arange(len(array[:: 3 * PAGE]))
    before = array.copy()
    _taken(array)
    assert np.array_equal(array, before)


def test_arrays_smaller_than_a_page_are_left_alone():
    before = _faults()
    assert take_memory([np.zeros(3, np.int64), np.zeros(0, np.int64)]) in {True, False}
    assert _faults() - before < HUGE_PAGES


def test_counters_that_took_their_memory_wait_for_none_while_they_fill():
    counters = Counters(Capacities(), NOW)
    if not counters.take_memory():
        pytest.skip("this system cannot take memory ahead (Linux before 5.14, or no Linux)")
    batch = batch_of([seen(0)] * BATCH_MAX)
    dice = np.random.default_rng(1)
    counters.commit(batch)
    before = _faults()
    for _ in range(20):
        strangers = dice.integers(0, 1 << 32, (2, *batch.device.shape), np.uint32)
        counters.commit(batch._replace(device=strangers[0], user=strangers[1]))
    assert counters.use()["devices"].rows > 20 * BATCH_MAX
    assert _faults() - before < 20
