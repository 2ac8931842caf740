"""
What a load takes: from the load, unit costs and assumptions to cores, memory, disk, network, clusters and cells. Pure.

Everything that `plan` reckons with is an input by name (`service/capacity_figures.py`); where each figure comes from
stands in `service/capacity.toml`.
Rates are built for the regions' own peaks, what is stored follows the mean.
"""

from collections.abc import Mapping
from enum import StrEnum
from math import ceil

from msgspec import Struct

from domain.cells import CELLS_MAX
from domain.ids import SHARDS
from service.capacity_figures import CapacityError, Inputs

DAY_S = 86_400
_COUNT_MAX = 1e15
_MINUTE_S, _HOUR_S = 60, 3_600
_US, _MB, _GB, _TB, _PB = 1e-6, 1e6, 1e9, 1e12, 1e15
_BITS_PER_GBIT = 1e9 / 8


class Ledger(StrEnum):
    """Where the record stands: PostgreSQL; EventStoreDB, a stream per impression; EventStoreDB, segments of many."""

    POSTGRES = "postgres"
    STREAMS = "streams"
    SEGMENTS = "segments"


class Plan(Struct, frozen=True, kw_only=True):
    """
    What a load takes. By role: `gate`, `ledger`, `desk` (ClickHouse included), `work`.

    `bounds` is cells by what would bound them alone; the largest of it is `cells`. `hot_pb` counts every copy,
    `cold_pb` too. `network_gbit_per_s` is by flow, at the regions' peaks.
    """

    ledger: Ledger
    peak_commits_per_s: float
    mean_commits_per_s: float
    cells: int
    bounds: dict[str, int]
    cell_commits_per_s: float
    cell_streams: float
    is_in_map: bool
    gate_us: float
    gate_processes: int
    ledger_nodes: int
    clickhouse_shards: int
    clickhouse_nodes: int
    brokers: int
    work_processes: int
    cores: dict[str, float]
    memory_tb: dict[str, float]
    hot_pb: dict[str, float]
    cold_pb: dict[str, float]
    kept_days: float
    network_gbit_per_s: dict[str, float]
    machines: dict[str, int]
    renders_may_fail_a_day: float

    @property
    def all_cores(self) -> float:
        return sum(self.cores.values())

    @property
    def all_hot_pb(self) -> float:
        return sum(self.hot_pb.values())

    @property
    def all_machines(self) -> int:
        return sum(self.machines.values())


def plan(inputs: Inputs, ledger: Ledger) -> Plan:
    """
    Return what *inputs* take with the record in *ledger*; *inputs* are positive, shares at most 1.

    Raises:
        CapacityError: they take more of something than can be meant.
    """
    peak, mean = peak_commits_per_s(inputs), mean_commits_per_s(inputs)
    hot_s = inputs.hot_days * DAY_S
    ledger_bytes = mean * hot_s * ledger_bytes_per_commit(inputs, ledger)
    streams = streams_per_s(inputs) * hot_s
    bounds = _bounds(inputs, ledger, ledger_bytes, streams)
    cells = max(bounds.values())
    hot = {"ledger": ledger_bytes * _replicas(inputs, ledger), "desk": _clickhouse_hot_bytes(inputs)}
    cores = _cores(inputs, ledger)
    processes = _whole(cores["gate"])
    shards = cells * max(1, _whole(hot["desk"] / inputs.clickhouse_replicas / cells / _usable_bytes(inputs)))
    memory = _memory_bytes(inputs, ledger, cells, {"gates": processes, "streams": streams, "clickhouse": hot["desk"]})
    network = _network(inputs, ledger)
    kept = kept_days(inputs)
    messages = _corrections_per_s(inputs) / inputs.corrections_per_message
    return Plan(
        ledger=ledger,
        peak_commits_per_s=peak,
        mean_commits_per_s=mean,
        cells=cells,
        bounds=bounds,
        cell_commits_per_s=peak / cells,
        cell_streams=streams / cells,
        is_in_map=cells <= CELLS_MAX and cells / inputs.regions <= SHARDS,
        gate_us=gate_us(inputs, ledger),
        gate_processes=processes,
        ledger_nodes=cells * _nodes_per_cell(inputs, ledger),
        clickhouse_shards=shards,
        clickhouse_nodes=_whole(shards * inputs.clickhouse_replicas),
        brokers=2 * cells,
        work_processes=max(_whole(cores["work"]), _whole(messages / inputs.messages_per_s)),
        cores=cores,
        memory_tb={role: size / _TB for role, size in memory.items()},
        hot_pb={role: size / _PB for role, size in hot.items()},
        cold_pb={role: size / _PB for role, size in _cold_bytes(inputs, kept).items()},
        kept_days=kept,
        network_gbit_per_s={flow: rate / _BITS_PER_GBIT for flow, rate in network.items()},
        machines=_machines(inputs, cores, memory, hot, network),
        renders_may_fail_a_day=inputs.renders_per_s / inputs.peak_to_mean * DAY_S * (1 - inputs.availability),
    )


class OneMachine(Struct, frozen=True, kw_only=True):
    """What one machine does by itself on PostgreSQL, without copies; its disk fills at the mean of what it takes."""

    us_per_commit: float
    commits_per_s_by_cores: float
    commits_per_s_by_ledger: float
    commits_per_s: float
    disk_days: float


def one_machine(inputs: Inputs) -> OneMachine:
    """Return what one of the machines does with gate, PostgreSQL, desk and questions on it."""
    us = gate_us(inputs, Ledger.POSTGRES) + inputs.postgres_us + inputs.desk_us
    us += inputs.clickhouse_us * inputs.query_cost
    by_cores = inputs.machine_cores * inputs.planned_load / (us * _US)
    by_ledger = inputs.planned_load * min(cell_limits(inputs, Ledger.POSTGRES).values())
    taken = min(by_cores, by_ledger)
    stored = ledger_bytes_per_commit(inputs, Ledger.POSTGRES) + inputs.facts_bytes
    mean = taken / inputs.peak_to_mean / inputs.regional_peaks
    return OneMachine(
        us_per_commit=us,
        commits_per_s_by_cores=by_cores,
        commits_per_s_by_ledger=by_ledger,
        commits_per_s=taken,
        disk_days=_usable_bytes(inputs) / (mean * stored * DAY_S),
    )


def peak_commits_per_s(inputs: Inputs) -> float:
    """Return the sum over regions of their own peaks."""
    return inputs.renders_per_s * inputs.regional_peaks * inputs.commits_per_render


def mean_commits_per_s(inputs: Inputs) -> float:
    return inputs.renders_per_s / inputs.peak_to_mean * inputs.commits_per_render


def streams_per_s(inputs: Inputs) -> float:
    """Return new impressions per second on average: each billable decision is one."""
    at_peak = max(inputs.renders_per_s * inputs.streams_per_render, inputs.decisions_per_s)
    return at_peak / inputs.peak_to_mean


def kept_days(inputs: Inputs) -> float:
    """Return for how long an impression is kept in all: the brief's hot and cold, or a reported period and after."""
    return max(inputs.hot_days + inputs.cold_days, inputs.period_days + inputs.days_after_period)


def gate_us(inputs: Inputs, ledger: Ledger) -> float:
    """
    Return CPU of the gate per render, in µs; `gate_us` was measured in requests of 100 and on PostgreSQL, whose commits
    were not compressed then.
    """
    client = {
        Ledger.POSTGRES: 0.0,
        Ledger.STREAMS: inputs.esdb_append_us,
        Ledger.SEGMENTS: inputs.esdb_segment_append_us / inputs.commits_per_segment,
    }[ledger]
    path = inputs.gate_us + inputs.counters_us + inputs.registry_us + inputs.cells_us + inputs.scoring_us
    if ledger is Ledger.POSTGRES:
        path += inputs.compress_us
    requests = inputs.request_us * max(0.0, 1 / inputs.renders_per_request - 0.01)
    return path + requests + inputs.lease_us / inputs.renders_per_lease + client


def ledger_bytes_per_commit(inputs: Inputs, ledger: Ledger) -> float:
    """Return the disk of one copy of a commit in *ledger*, indexes included."""
    commit = _stored_bytes(inputs, ledger)
    an_event = inputs.esdb_record_bytes + inputs.esdb_index_bytes
    match ledger:
        case Ledger.POSTGRES:
            return commit * inputs.postgres_ratio
        case Ledger.STREAMS:
            return commit + inputs.events_per_commit * an_event
        case Ledger.SEGMENTS:
            return commit + an_event / inputs.commits_per_segment + inputs.segment_index_bytes


def cell_limits(inputs: Inputs, ledger: Ledger) -> Mapping[str, float]:
    """Return commits/s that a cell can take at saturation, by what limits it."""
    desk = {"desk": inputs.projected_per_s}
    match ledger:
        case Ledger.POSTGRES:
            return desk | {"lock": inputs.postgres_appends_per_s}
        case Ledger.STREAMS:
            return desk | {"leader": inputs.esdb_appends_per_s}
        case Ledger.SEGMENTS:
            written = inputs.esdb_mb_per_s * _MB / _stored_bytes(inputs, ledger)
            return desk | {
                "lock": inputs.postgres_appends_per_s,
                "leader": min(written, inputs.esdb_appends_per_s * inputs.commits_per_segment),
            }


def _bounds(inputs: Inputs, ledger: Ledger, ledger_bytes: float, streams: float) -> dict[str, int]:
    peak = peak_commits_per_s(inputs)
    limits = cell_limits(inputs, ledger).items()
    found = {name: _whole(peak / (limit * inputs.planned_load)) for name, limit in limits}
    found["disk"] = _whole(ledger_bytes / _usable_bytes(inputs))
    if ledger is Ledger.STREAMS:
        found["streams"] = _whole(streams / inputs.streams_per_cluster)
    return found


def _cores(inputs: Inputs, ledger: Ledger) -> dict[str, float]:
    peak, mean = peak_commits_per_s(inputs), mean_commits_per_s(inputs)
    replicas = inputs.clickhouse_replicas
    expand_us = inputs.expand_us if ledger is Ledger.POSTGRES else 0.0
    desk_us = inputs.desk_us + expand_us + inputs.clickhouse_us * (replicas - 1 + inputs.query_cost)
    work = _corrections_per_s(inputs) * inputs.work_us + mean * inputs.archive_us + peak * inputs.follow_us
    postgres_us = inputs.postgres_us * (1 + (inputs.postgres_replicas - 1) * inputs.standby_cost)
    by_commit = 0.0 if ledger is Ledger.STREAMS else peak * postgres_us * _US / inputs.planned_load
    leader = cell_limits(inputs, ledger).get("leader", 0.0) * inputs.planned_load
    by_node = peak / leader * inputs.esdb_replicas * inputs.esdb_node_cores if leader else 0.0
    return {
        "gate": peak * gate_us(inputs, ledger) * _US / inputs.planned_load,
        "ledger": by_commit + by_node,
        "desk": peak * desk_us * _US / inputs.planned_load,
        "work": work * _US / inputs.planned_load,
    }


def _memory_bytes(inputs: Inputs, ledger: Ledger, cells: int, sizes: Mapping[str, float]) -> dict[str, float]:
    registry = inputs.campaigns * inputs.campaigns_known * inputs.campaign_bytes
    counters = inputs.people_per_day * inputs.people_counted * inputs.person_bytes
    postgres = 0.0 if ledger is Ledger.STREAMS else cells * inputs.postgres_replicas * inputs.postgres_node_gb * _GB
    esdb = 0.0 if ledger is Ledger.POSTGRES else cells * inputs.esdb_replicas * inputs.esdb_node_gb * _GB
    filters = sizes["streams"] * inputs.esdb_replicas if ledger is Ledger.STREAMS else 0.0
    return {
        "gate": sizes["gates"] * (inputs.gate_mb * _MB + registry) + counters,
        "ledger": postgres + esdb + filters,
        "desk": cells * inputs.desk_mb * _MB + sizes["clickhouse"] / inputs.clickhouse_disk_per_memory,
    }


def _clickhouse_hot_bytes(inputs: Inputs) -> float:
    """Return what ClickHouse's disks hold: facts and minutes while hot, hours for as long as anything is kept."""
    commits = mean_commits_per_s(inputs)
    pacing = min(commits * _MINUTE_S, inputs.campaigns) / _MINUTE_S
    served = min(commits * _MINUTE_S, inputs.campaigns * inputs.cuts_per_campaign) / _MINUTE_S
    hours = min(commits * _HOUR_S, inputs.creatives * inputs.cuts_per_creative) / _HOUR_S
    hot = commits * inputs.facts_bytes + pacing * inputs.pacing_row_bytes + served * inputs.served_row_bytes
    days = hot * inputs.hot_days + hours * inputs.report_row_bytes * kept_days(inputs)
    return days * DAY_S * inputs.clickhouse_replicas * inputs.generations


def _cold_bytes(inputs: Inputs, kept: float) -> dict[str, float]:
    commits = mean_commits_per_s(inputs) * (kept - inputs.hot_days) * DAY_S * inputs.cold_copies
    return {
        "archive": commits * _commit_bytes(inputs) * inputs.archive_ratio,
        "facts": commits * inputs.facts_bytes,
    }


def _network(inputs: Inputs, ledger: Ledger) -> dict[str, float]:
    """Return bytes/s by flow."""
    peak, commit = peak_commits_per_s(inputs), _stored_bytes(inputs, ledger)
    request = inputs.request_bytes + inputs.request_head_bytes * max(0.0, 1 / inputs.renders_per_request - 0.01)
    answer = inputs.answer_bytes + inputs.answer_head_bytes * max(0.0, 1 / inputs.renders_per_request - 0.01)
    copied = inputs.wal_ratio * commit * (inputs.postgres_replicas - 1)
    if ledger is not Ledger.POSTGRES:
        copied = ledger_bytes_per_commit(inputs, ledger) * (inputs.esdb_replicas - 1)
    return {
        "renders in": peak * request * inputs.transport_ratio,
        "answers out": peak * answer * inputs.transport_ratio,
        "gate to ledger": peak * commit,
        "copies of the ledger": peak * copied,
        "ledger to desk": peak * commit,
        "copies of ClickHouse": peak * inputs.facts_bytes * (inputs.clickhouse_replicas - 1),
    }


def _machines(
    inputs: Inputs,
    cores: Mapping[str, float],
    memory: Mapping[str, float],
    hot: Mapping[str, float],
    network: Mapping[str, float],
) -> dict[str, int]:
    """Return machines by role: the most that cores, memory, disk or network ask for; roles share no machine."""
    at_gate = network["renders in"] + network["answers out"] + network["gate to ledger"]
    gbit = {"gate": at_gate / _BITS_PER_GBIT / inputs.planned_load}
    return {
        role: _whole(
            max(
                cores[role] / inputs.machine_cores,
                memory.get(role, 0.0) / _GB / inputs.machine_memory_gb,
                hot.get(role, 0.0) / _usable_bytes(inputs),
                gbit.get(role, 0.0) / inputs.machine_gbit_per_s,
            )
        )
        for role in cores
    }


def _commit_bytes(inputs: Inputs) -> float:
    return inputs.commit_bytes + inputs.features_bytes


def _stored_bytes(inputs: Inputs, ledger: Ledger) -> float:
    ratio = inputs.stored_ratio if ledger is Ledger.POSTGRES else inputs.esdb_stored_ratio
    return _commit_bytes(inputs) * ratio


def _whole(number: float) -> int:
    """Return *number* rounded up; raises `CapacityError` where nobody can mean it."""
    if not number <= _COUNT_MAX:
        raise CapacityError(f"these figures take {number:g} of something; are their units right?")
    return ceil(number)


def _usable_bytes(inputs: Inputs) -> float:
    """Return what may stand on one machine's disk."""
    return inputs.machine_disk_tb * _TB * inputs.disk_fill


def _replicas(inputs: Inputs, ledger: Ledger) -> float:
    return inputs.postgres_replicas if ledger is Ledger.POSTGRES else inputs.esdb_replicas


def _nodes_per_cell(inputs: Inputs, ledger: Ledger) -> int:
    postgres = 0.0 if ledger is Ledger.STREAMS else inputs.postgres_replicas
    esdb = 0.0 if ledger is Ledger.POSTGRES else inputs.esdb_replicas
    return _whole(postgres + esdb)


def _corrections_per_s(inputs: Inputs) -> float:
    return streams_per_s(inputs) * inputs.corrected_share
