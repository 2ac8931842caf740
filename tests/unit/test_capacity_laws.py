"""Laws of the capacity plan: they hold whatever the figures are."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.capacity import Ledger, plan
from service.capacity_figures import (
    FROM_ONE,
    FROM_ZERO,
    Bound,
    CapacityError,
    Inputs,
    inputs_of,
    load_book,
    with_assignments,
    with_value,
)
from service.capacity_sensitivity import Measure, sensitivity

BOOK = load_book()


@pytest.mark.parametrize("ledger", Ledger)
@pytest.mark.parametrize("key", [figure.key for figure in BOOK.values() if figure.lowest != figure.highest])
def test_low_is_never_more_than_high(key, ledger):
    low, expected, high = (
        plan(inputs_of(with_value(BOOK, key, value)), ledger)
        for value in (BOOK[key].lowest, BOOK[key].value, BOOK[key].highest)
    )
    for less, more in ((low, expected), (expected, high)):
        assert less.cells <= more.cells
        assert less.all_cores <= more.all_cores * (1 + 1e-9)
        assert less.all_hot_pb <= more.all_hot_pb * (1 + 1e-9)
        assert less.all_machines <= more.all_machines


@pytest.mark.parametrize("ledger", Ledger)
def test_all_figures_low_take_least_and_all_high_take_most(ledger):
    low, expected, high = (plan(inputs_of(BOOK, bound), ledger) for bound in Bound)
    assert low.all_machines < expected.all_machines < high.all_machines
    assert low.all_cores < expected.all_cores < high.all_cores


somewhere = st.fixed_dictionaries(
    {
        key: st.floats(
            max(min(figure.lowest, figure.highest) * 0.5, 1.0 if key in FROM_ONE else 0.0),
            max(figure.lowest, figure.highest) * (1 if figure.unit == "share" else 2) or 1.0,
        ).filter(bool)
        for key, figure in BOOK.items()
    }
).map(lambda values: Inputs(**values))
"""Inputs near the packaged ones, on every side."""
ledgers = st.sampled_from(Ledger)


def loaded(near, times):
    """The same with so many times the events, of as many people, campaigns and creatives."""
    rates = {name: getattr(near, name) * times for name in ("renders_per_s", "decisions_per_s")}
    return msgspec.structs.replace(near, **rates)


@given(somewhere, ledgers, st.floats(1, 10))
def test_more_load_never_takes_less(near, ledger, times):
    more = loaded(near, times)
    less, greater = plan(near, ledger), plan(more, ledger)
    assert less.cells <= greater.cells
    for role in less.cores:
        assert less.cores[role] <= greater.cores[role] * (1 + 1e-9)
        assert less.machines[role] <= greater.machines[role]
    for parts in ("memory_tb", "hot_pb", "cold_pb", "network_gbit_per_s"):
        assert all(size <= getattr(greater, parts)[name] * (1 + 1e-9) for name, size in getattr(less, parts).items())


@given(somewhere, ledgers, st.floats(0.1, 10))
def test_cores_record_archive_and_network_are_linear_in_the_load(near, ledger, times):
    once = plan(near, ledger)
    again = plan(loaded(near, times), ledger)
    for role in once.cores:
        assert again.cores[role] == pytest.approx(once.cores[role] * times)
    assert again.hot_pb["ledger"] == pytest.approx(once.hot_pb["ledger"] * times)
    for parts in ("cold_pb", "network_gbit_per_s"):
        for name, size in getattr(once, parts).items():
            assert getattr(again, parts)[name] == pytest.approx(size * times)


@given(somewhere, ledgers)
def test_twice_the_replicas_are_twice_the_disk(near, ledger):
    names = ("postgres_replicas", "esdb_replicas", "clickhouse_replicas")
    twice = msgspec.structs.replace(near, **{name: getattr(near, name) * 2 for name in names})
    once, again = plan(near, ledger), plan(twice, ledger)
    assert {role: size * 2 for role, size in once.hot_pb.items()} == pytest.approx(again.hot_pb)
    assert once.cold_pb == again.cold_pb


@given(somewhere, ledgers)
def test_twice_the_planned_load_is_half_the_cores(near, ledger):
    half = msgspec.structs.replace(near, planned_load=near.planned_load / 2)
    assert plan(half, ledger).all_cores == pytest.approx(plan(near, ledger).all_cores * 2)


@given(somewhere, ledgers)
def test_the_machines_are_enough_for_everything_on_them(near, ledger):
    found = plan(near, ledger)
    for role, machines in found.machines.items():
        assert found.cores[role] <= machines * near.machine_cores
        assert found.memory_tb.get(role, 0) * 1e3 <= machines * near.machine_memory_gb * (1 + 1e-9)
        usable_pb = near.machine_disk_tb * near.disk_fill / 1e3
        assert found.hot_pb.get(role, 0) <= machines * usable_pb * (1 + 1e-9)
    assert found.cells == max(found.bounds.values())


def extremes(key):
    least = 1.0 if key in FROM_ONE else 0.0 if key in FROM_ZERO or BOOK[key].unit == "us" else 1e-9
    return st.sampled_from([least, BOOK[key].value, 1.0 if BOOK[key].unit == "share" else 1e18])


few_extremes = st.lists(st.sampled_from(sorted(BOOK)), min_size=1, max_size=3, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: extremes(key) for key in keys})
)


@given(few_extremes, ledgers)
def test_whatever_can_be_set_is_reckoned_with_or_refused(values, ledger):
    try:
        book = with_assignments(BOOK, [f"{key}={value}" for key, value in values.items()])
        found = plan(inputs_of(book), ledger)
    except CapacityError:
        return
    assert 1 <= found.cells <= 1e15
    msgspec.json.encode(found)


@pytest.mark.parametrize("measure", Measure)
def test_the_strongest_effect_comes_first_and_is_that_of_two_plans(measure):
    effects = sensitivity(BOOK, Ledger.POSTGRES, measure)
    assert [effect.factor for effect in effects] == sorted((effect.factor for effect in effects), reverse=True)
    assert {effect.key for effect in effects} == {
        key for key, figure in BOOK.items() if figure.lowest != figure.highest
    }
    first = effects[0]
    machines = plan(inputs_of(with_value(BOOK, first.key, first.high)), Ledger.POSTGRES)
    sizes = {
        Measure.MACHINES: machines.all_machines,
        Measure.CORES: machines.all_cores,
        Measure.HOT_DISK: machines.all_hot_pb,
        Measure.CELLS: machines.cells,
    }
    assert first.at_high == sizes[measure]
