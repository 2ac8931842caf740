"""The figures of `impledger capacity`: what each is, where it comes from, and what it may be."""

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from importlib.resources import files
from typing import TypeAlias

import msgspec
from msgspec import Struct

_FILE = "capacity.toml"
_LEAST, _MOST = 1e-9, 1e18


class CapacityError(ValueError):
    """A figure that nobody knows, or a value that it cannot have; the text says which and what to do."""


class Kind(StrEnum):
    """Where a figure comes from; `service/capacity.toml` says what each means."""

    BRIEF = "brief"
    MEASURED = "measured"
    TRIED = "tried"
    DOCUMENTED = "documented"
    ASSUMED = "assumed"
    CHOSEN = "chosen"
    SET = "set"


class Figure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One figure: `value` is expected; `low` and `high` make the result smaller and larger, None where they are it."""

    key: str = ""
    kind: Kind
    value: float
    low: float | None = None
    high: float | None = None
    unit: str
    says: str
    source: str = ""
    at: str = ""
    low_at: str = ""
    high_at: str = ""
    date: str = ""

    @property
    def lowest(self) -> float:
        return self.value if self.low is None else self.low

    @property
    def highest(self) -> float:
        return self.value if self.high is None else self.high


Book: TypeAlias = Mapping[str, Figure]
"""Every figure by its key, in the order of the file."""


class Bound(StrEnum):
    """Which value of every figure to reckon with."""

    LOW = "low"
    EXPECTED = "expected"
    HIGH = "high"


class Inputs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Units and meaning stand in `service/capacity.toml`, under the same names."""

    renders_per_s: float
    decisions_per_s: float
    people_per_day: float
    creatives: float
    campaigns: float
    hot_days: float
    cold_days: float
    days_after_period: float
    availability: float
    period_days: float
    peak_to_mean: float
    regional_peaks: float
    commits_per_render: float
    streams_per_render: float
    renders_per_request: float
    corrected_share: float
    gate_us: float
    request_us: float
    counters_us: float
    registry_us: float
    cells_us: float
    scoring_us: float
    lease_us: float
    renders_per_lease: float
    postgres_us: float
    standby_cost: float
    esdb_append_us: float
    esdb_segment_append_us: float
    commits_per_segment: float
    desk_us: float
    clickhouse_us: float
    query_cost: float
    follow_us: float
    work_us: float
    archive_us: float
    planned_load: float
    commit_bytes: float
    features_bytes: float
    postgres_ratio: float
    wal_ratio: float
    archive_ratio: float
    stored_ratio: float
    esdb_stored_ratio: float
    compress_us: float
    expand_us: float
    esdb_record_bytes: float
    esdb_index_bytes: float
    events_per_commit: float
    segment_index_bytes: float
    facts_bytes: float
    report_row_bytes: float
    pacing_row_bytes: float
    served_row_bytes: float
    cuts_per_creative: float
    cuts_per_campaign: float
    generations: float
    request_bytes: float
    request_head_bytes: float
    answer_bytes: float
    answer_head_bytes: float
    transport_ratio: float
    postgres_replicas: float
    esdb_replicas: float
    clickhouse_replicas: float
    cold_copies: float
    disk_fill: float
    postgres_appends_per_s: float
    esdb_appends_per_s: float
    esdb_mb_per_s: float
    streams_per_cluster: float
    projected_per_s: float
    messages_per_s: float
    corrections_per_message: float
    gate_mb: float
    campaign_bytes: float
    campaigns_known: float
    person_bytes: float
    people_counted: float
    desk_mb: float
    clickhouse_disk_per_memory: float
    postgres_node_gb: float
    esdb_node_gb: float
    esdb_node_cores: float
    machine_cores: float
    machine_memory_gb: float
    machine_disk_tb: float
    machine_gbit_per_s: float
    regions: float


WHOLE = frozenset({"postgres_replicas", "esdb_replicas", "clickhouse_replicas", "regions"})
"""Figures that come in whole numbers."""
FROM_ZERO = frozenset({"features_bytes", "corrected_share"})
"""Figures that may be 0: what is not there yet. A cost per event may be, too."""
FROM_ONE = frozenset(
    {"peak_to_mean", "regional_peaks", "renders_per_request", "renders_per_lease", "commits_per_segment",
     "events_per_commit", "generations", "postgres_ratio", "transport_ratio", "cold_copies"} | WHOLE
)  # fmt: skip
"""Figures that make no sense under 1."""


def load_book() -> Book:
    """Return the figures that the program ships with."""
    return parse_book((files("service") / _FILE).read_text())


def parse_book(text: str) -> Book:
    """
    Return the figures in *text*, TOML.

    Raises:
        CapacityError: a figure is missing, unknown, or cannot be what it is said to be.
    """
    try:
        found = msgspec.toml.decode(text, type=dict[str, Figure])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise CapacityError(f"the figures cannot be read: {error}") from error
    names = Inputs.__struct_fields__
    for wrong, what in ((set(names) - set(found), "missing"), (set(found) - set(names), "unknown")):
        if wrong:
            raise CapacityError(f"{what}: {', '.join(sorted(wrong))}")
    book = {key: msgspec.structs.replace(figure, key=key) for key, figure in found.items()}
    for figure in book.values():
        for value in (figure.lowest, figure.value, figure.highest):
            _check(figure, value)
    return _checked_together(book)


def inputs_of(book: Book, bound: Bound = Bound.EXPECTED) -> Inputs:
    """Return the values that the model takes, all of them at *bound*."""
    values = {
        Bound.LOW: lambda figure: figure.lowest,
        Bound.EXPECTED: lambda figure: figure.value,
        Bound.HIGH: lambda figure: figure.highest,
    }
    return Inputs(**{key: values[bound](figure) for key, figure in book.items()})


def with_value(book: Book, key: str, value: float) -> Book:
    """
    Return *book* with *key* at *value*, without bounds.

    Raises:
        CapacityError: see `with_assignments`.
    """
    figure = book.get(key)
    if figure is None:
        raise CapacityError(f"no figure is called {key!r}")
    _check(figure, value)
    was = figure.source if figure.kind is Kind.SET else f"{figure.kind} as {figure.value:g}"
    set_to = Figure(key=key, kind=Kind.SET, value=value, unit=figure.unit, says=figure.says, source=was)
    return {**book, key: set_to}


def with_assignments(book: Book, assignments: Iterable[str]) -> Book:
    """
    Return *book* with each `key=value` of *assignments*; the last of a key counts.

    Raises:
        CapacityError: one is no assignment, its key is unknown, or its value impossible.
    """
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise CapacityError(f"{assignment!r} is not of the form key=value")
        try:
            value = float(text)
        except ValueError as error:
            raise CapacityError(f"{key}: {text!r} is no number") from error
        book = with_value(book, key.strip(), value)
    return _checked_together(book)


def _checked_together(book: Book) -> Book:
    renders, decisions = book["renders_per_s"].value, book["decisions_per_s"].value
    if decisions > renders:
        raise CapacityError(f"decisions_per_s, {decisions:g}, is more than renders_per_s, {renders:g}; set both")
    return book


def _check(figure: Figure, value: float) -> None:
    """Raise `CapacityError` if the figure cannot have *value*."""
    name = figure.key
    if not math.isfinite(value) or value > _MOST:
        raise CapacityError(f"{name}: {value:g} is out of reach; at most {_MOST:g}")
    if value == 0 and (name in FROM_ZERO or figure.unit == "us"):
        return
    if value < _LEAST:
        raise CapacityError(f"{name}: {value:g} is not above 0, or under {_LEAST:g}")
    if figure.unit == "share" and value > 1:
        raise CapacityError(f"{name}: {value:g} is no share; at most 1")
    if name in FROM_ONE and value < 1:
        raise CapacityError(f"{name}: {value:g} is under 1")
    if name in WHOLE and value != int(value):
        raise CapacityError(f"{name}: {value:g} is no whole number")
