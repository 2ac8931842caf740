"""From a load and unit costs to machines: cases worked by hand, and laws that hold whatever the figures are."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.cells import CELLS_MAX
from service.capacity import Ledger, gate_us, kept_days, ledger_bytes_per_commit, one_machine, plan
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
ZERO = {
    "request_us", "counters_us", "registry_us", "cells_us", "scoring_us", "lease_us", "compress_us", "features_bytes",
    "esdb_append_us", "esdb_segment_append_us", "postgres_us", "desk_us", "clickhouse_us", "work_us", "archive_us",
    "gate_us", "corrected_share", "request_head_bytes", "answer_head_bytes",
}  # fmt: skip
"""What the worked cases leave out unless they are about it."""
DAY_S = 86_400


def inputs(**changes):
    """Everything 0 or 1, limits out of reach, a load of 1,000 renders/s; machines of 1 core, 1 GB, 1 TB, 1 Gbit/s."""
    plain = {name: 0.0 if name in ZERO else 1.0 for name in Inputs.__struct_fields__}
    limits = ("postgres_appends_per_s", "esdb_appends_per_s", "esdb_mb_per_s", "projected_per_s", "streams_per_cluster")
    return Inputs(**{**plain, **dict.fromkeys(limits, 1e15), "renders_per_s": 1_000, **changes})


def on(ledger=Ledger.POSTGRES, **changes):
    return plan(inputs(**changes), ledger)


CASES = {
    "each region is built for its own peak": (on(regional_peaks=1.5).peak_commits_per_s, 1_500),
    "what is stored follows the mean": (on(peak_to_mean=2, regional_peaks=1.5).mean_commits_per_s, 500),
    "a core at half load carries half": (on(gate_us=100, planned_load=0.5).cores["gate"], 0.2),
    "counters, registry, cells and scoring add up": (
        gate_us(inputs(gate_us=50, counters_us=5, registry_us=2, cells_us=1, scoring_us=8), Ledger.POSTGRES),
        66,
    ),
    "ten renders share a request beyond that of a hundred": (
        gate_us(inputs(gate_us=50, request_us=100, renders_per_request=10), Ledger.POSTGRES),
        50 + 100 * (0.1 - 0.01),
    ),
    "requests of a hundred are what was measured": (
        gate_us(inputs(gate_us=50, request_us=100, renders_per_request=100), Ledger.POSTGRES),
        50,
    ),
    "larger requests save nothing more": (
        gate_us(inputs(gate_us=50, request_us=100, renders_per_request=500), Ledger.POSTGRES),
        50,
    ),
    "four renders share a lease": (gate_us(inputs(lease_us=40, renders_per_lease=4), Ledger.POSTGRES), 10),
    "a stream per impression is an append per commit": (
        gate_us(inputs(gate_us=50, esdb_append_us=157), Ledger.STREAMS),
        207,
    ),
    "a segment's append is shared by its commits": (
        gate_us(inputs(gate_us=50, esdb_segment_append_us=118, commits_per_segment=100), Ledger.SEGMENTS),
        51.18,
    ),
    "a standby replays at half the cost": (
        on(postgres_us=20, postgres_replicas=3, standby_cost=0.5).cores["ledger"],
        0.04,
    ),
    "each further replica of ClickHouse inserts again, and questions cost as much": (
        on(desk_us=20, clickhouse_us=10, clickhouse_replicas=3, query_cost=1).cores["desk"],
        0.05,
    ),
    "an EventStoreDB cluster's cores follow its leader": (
        on(Ledger.STREAMS, esdb_appends_per_s=100, planned_load=0.5, esdb_replicas=3, esdb_node_cores=16).cores[
            "ledger"
        ],
        20 * 3 * 16,
    ),
    "corrections are a share of impressions": (on(corrected_share=0.04, work_us=500).cores["work"], 0.02),
    "PostgreSQL stores pages and indexes": (
        ledger_bytes_per_commit(inputs(commit_bytes=1_000, features_bytes=600, postgres_ratio=1.25), Ledger.POSTGRES),
        2_000,
    ),
    "what is compressed is stored and sent as such": (
        ledger_bytes_per_commit(inputs(commit_bytes=1_000, stored_ratio=0.25, postgres_ratio=1.2), Ledger.POSTGRES),
        300,
    ),
    "EventStoreDB keeps a record and an index entry per event": (
        ledger_bytes_per_commit(
            inputs(commit_bytes=1_000, events_per_commit=3, esdb_record_bytes=100, esdb_index_bytes=24), Ledger.STREAMS
        ),
        1_372,
    ),
    "a segment needs them once, and a row of its table per stream": (
        ledger_bytes_per_commit(
            inputs(
                commit_bytes=1_000,
                esdb_record_bytes=100,
                esdb_index_bytes=25,
                commits_per_segment=100,
                segment_index_bytes=80,
                streams_per_render=0.5,
            ),
            Ledger.SEGMENTS,
        ),
        1_041.25,
    ),
    "hot disk is mean, days, bytes and copies": (
        on(commit_bytes=1_000, hot_days=90, postgres_replicas=3).hot_pb["ledger"],
        1_000 * 90 * DAY_S * 1_000 * 3 / 1e15,
    ),
    "facts, minutes while hot and hours for as long as anything is kept": (
        on(
            facts_bytes=50,
            campaigns=120,
            pacing_row_bytes=20,
            cuts_per_campaign=2,
            served_row_bytes=10,
            creatives=3_600,
            cuts_per_creative=2,
            report_row_bytes=25,
            hot_days=90,
            cold_days=365,
        ).hot_pb["desk"],
        ((1_000 * 50 + 2 * 20 + 4 * 10) * 90 + 2 * 25 * 455) * DAY_S / 1e15,
    ),
    "there are no more rows of hours than commits": (
        on(creatives=1e9, cuts_per_creative=10, campaigns=1e9).hot_pb["desk"],
        on(creatives=1e12, cuts_per_creative=10, campaigns=1e12).hot_pb["desk"],
    ),
    "hot and cold decide how long a month's impressions are kept": (
        kept_days(inputs(hot_days=90, cold_days=365, period_days=31, days_after_period=335)),
        455,
    ),
    "eleven months decide it for those of a year": (
        kept_days(inputs(hot_days=90, cold_days=365, period_days=366, days_after_period=335)),
        701,
    ),
    "the archive has its own ratio and copies": (
        on(commit_bytes=1_000, hot_days=90, cold_days=365, archive_ratio=0.2, cold_copies=1.5).cold_pb["archive"],
        1_000 * 365 * DAY_S * 200 * 1.5 / 1e15,
    ),
    "people's counters stand in gates once, the registry in each process": (
        on(
            gate_us=3_000,
            gate_mb=100,
            campaigns=1e6,
            campaigns_known=0.2,
            campaign_bytes=250,
            people_per_day=1e6,
            person_bytes=2_000,
        ).memory_tb["gate"],
        (3 * (100e6 + 50e6) + 2e9) / 1e12,
    ),
    "the filter of EventStoreDB takes a byte per stream and node": (
        on(Ledger.STREAMS, hot_days=10, esdb_replicas=3, esdb_node_gb=1e-9).memory_tb["ledger"],
        pytest.approx(1_000 * 10 * DAY_S * 3 / 1e12, rel=1e-6),
    ),
    "renders come in with their share of a request": (
        on(request_bytes=800, request_head_bytes=200, renders_per_request=1, transport_ratio=1.1).network_gbit_per_s[
            "renders in"
        ],
        1_000 * (800 + 198) * 1.1 * 8 / 1e9,
    ),
    "two standbys take the write-ahead log twice": (
        on(commit_bytes=1_000, wal_ratio=1.25, postgres_replicas=3).network_gbit_per_s["copies of the ledger"],
        1_000 * 1_250 * 2 * 8 / 1e9,
    ),
    "one in ten thousand may fail": (on(availability=0.9999).renders_may_fail_a_day, 8_640),
}


@pytest.mark.parametrize(("found", "by_hand"), CASES.values(), ids=CASES)
def test_is_what_a_planner_works_out_by_hand(found, by_hand):
    assert found == (by_hand if not isinstance(by_hand, int | float) else pytest.approx(by_hand))


BOUNDS = {
    "a lock that takes 100/s at half load": (Ledger.POSTGRES, {"postgres_appends_per_s": 100}, "lock", 20),
    "a desk that projects 50/s": (Ledger.POSTGRES, {"projected_per_s": 50}, "desk", 40),
    "a leader that takes 25/s": (Ledger.STREAMS, {"esdb_appends_per_s": 25}, "leader", 80),
    "a leader that writes 1 MB/s of segments": (
        Ledger.SEGMENTS,
        {"esdb_mb_per_s": 1, "commit_bytes": 10_000, "machine_disk_tb": 1e6},
        "leader",
        20,
    ),
    "a disk of 1 TB, filled to 0.8": (
        Ledger.POSTGRES,
        {"commit_bytes": 1_000, "hot_days": 10, "disk_fill": 0.8},
        "disk",
        2,
    ),
    "streams of ten days, a million a cluster": (
        Ledger.STREAMS,
        {"hot_days": 10, "streams_per_cluster": 1e6, "machine_disk_tb": 1e6},
        "streams",
        864,
    ),
}


@pytest.mark.parametrize(("ledger", "changes", "bound", "cells"), BOUNDS.values(), ids=BOUNDS)
def test_there_are_as_many_cells_as_the_tightest_bound_asks_for(ledger, changes, bound, cells):
    found = on(ledger, planned_load=0.5, **changes)
    assert found.bounds[bound] == cells == found.cells
    assert found.cell_commits_per_s == pytest.approx(1_000 / cells)


def test_a_map_that_cannot_hold_all_cells_is_said():
    assert on(postgres_appends_per_s=1_000 / CELLS_MAX).is_in_map
    assert not on(postgres_appends_per_s=1_000 / (CELLS_MAX + 1)).is_in_map


def test_machines_of_a_role_follow_the_resource_that_it_takes_most_of():
    assert on(gate_us=4_500).machines["gate"] == 5  # cores
    assert on(gate_mb=2_500, gate_us=1).machines["gate"] == 3  # memory
    assert on(request_bytes=437_500, gate_us=1).machines["gate"] == 4  # 3.5 Gbit/s and little more
    assert on(commit_bytes=1_000, hot_days=90).machines["ledger"] == 8  # 7.8 TB
    assert on(facts_bytes=1_000, hot_days=30, clickhouse_disk_per_memory=1e6).machines["desk"] == 3  # 2.6 TB


def test_one_machine_is_bound_by_its_cores_or_by_its_ledger():
    many, few = (
        one_machine(inputs(gate_us=60, postgres_us=20, desk_us=20, machine_cores=cores, postgres_appends_per_s=41_000))
        for cores in (64, 2)
    )
    assert (many.us_per_commit, many.commits_per_s) == (100, 41_000)
    assert few.commits_per_s == pytest.approx(20_000)


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


def test_each_billable_decision_is_an_impression_of_its_own():
    few = on(streams_per_render=0.1, decisions_per_s=500, hot_days=1)
    assert few.cell_streams * few.cells == 500 * DAY_S


@pytest.mark.parametrize("measure", Measure)
def test_the_strongest_effect_comes_first_and_is_that_of_two_plans(measure):
    effects = sensitivity(BOOK, Ledger.POSTGRES, measure)
    assert [effect.factor for effect in effects] == sorted((effect.factor for effect in effects), reverse=True)
    assert {effect.key for effect in effects} == {
        key for key, figure in BOOK.items() if figure.lowest < figure.highest or figure.lowest > figure.highest
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
