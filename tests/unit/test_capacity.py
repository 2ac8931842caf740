"""From a load and unit costs to machines: cases worked by hand."""

import pytest

from domain.cells import CELLS_MAX
from service.capacity import Ledger, gate_us, kept_days, ledger_bytes_per_commit, one_machine, plan
from service.capacity_figures import Inputs

ZERO = {
    "request_us", "counters_us", "registry_us", "cells_us", "scoring_us", "lease_us", "compress_us", "expand_us",
    "features_bytes", "esdb_append_us", "esdb_segment_append_us", "postgres_us", "desk_us", "clickhouse_us", "work_us",
    "archive_us", "follow_us", "gate_us", "corrected_share", "request_head_bytes", "answer_head_bytes",
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
    "who looks again follows every commit": (on(follow_us=20, regional_peaks=1.5).cores["work"], 0.03),
    "PostgreSQL stores pages and indexes": (
        ledger_bytes_per_commit(inputs(commit_bytes=1_000, features_bytes=600, postgres_ratio=1.25), Ledger.POSTGRES),
        2_000,
    ),
    "what is compressed is stored and sent as such": (
        ledger_bytes_per_commit(inputs(commit_bytes=1_000, stored_ratio=0.25, postgres_ratio=1.2), Ledger.POSTGRES),
        300,
    ),
    "EventStoreDB's log is not compressed where PostgreSQL's rows are": (
        ledger_bytes_per_commit(
            inputs(commit_bytes=1_000, stored_ratio=0.25, esdb_record_bytes=0, esdb_index_bytes=0), Ledger.STREAMS
        ),
        1_000,
    ),
    "compressing is the gate's, expanding the desk's": (
        [
            on(ledger, compress_us=30, expand_us=20, regional_peaks=1.5).cores[role]
            for ledger in (Ledger.POSTGRES, Ledger.STREAMS)
            for role in ("gate", "desk")
        ],
        [0.045, 0.03, 0.0, 0.0],
    ),
    "EventStoreDB keeps a record and an index entry per event": (
        ledger_bytes_per_commit(
            inputs(commit_bytes=1_000, events_per_commit=3, esdb_record_bytes=100, esdb_index_bytes=24), Ledger.STREAMS
        ),
        1_372,
    ),
    "a segment needs them once, and a row of the index per commit": (
        ledger_bytes_per_commit(
            inputs(
                commit_bytes=1_000,
                esdb_record_bytes=100,
                esdb_index_bytes=25,
                commits_per_segment=100,
                segment_index_bytes=80,
            ),
            Ledger.SEGMENTS,
        ),
        1_081.25,
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


def test_each_billable_decision_is_an_impression_of_its_own():
    few = on(streams_per_render=0.1, decisions_per_s=500, hot_days=1)
    assert few.cell_streams * few.cells == 500 * DAY_S
