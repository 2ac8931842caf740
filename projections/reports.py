"""
A question for a report, checked, and its SQL. Times are epoch ms of the impression's first event, UTC.

Whole hours as they are known now come from the hourly sums; minutes, other bounds, and what was known at a position
come from the facts. Both tables name everything alike, so it is one query.

What must not be mixed is split whether asked or not: viewability by format (display and video are reported apart),
money by currency, impressions by data set.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from domain.reasons import ReasonClass
from domain.vocabulary import DataSet
from projections.errors import require
from projections.metrics import columns_of, pack_parameters
from projections.vocabulary import (
    MONEY_METRICS,
    REFUSED_METRICS,
    USUAL,
    VALUES,
    VIEW_METRICS,
    Dimension,
    Granularity,
    Metric,
)

HOUR_MS = 3_600_000
ROWS_MAX = 100_000
ROWS_DEFAULT = 10_000
FILTER_VALUES_MAX = 100
FILTER_LENGTH_MAX = 128
DIMENSIONS_MAX = 8
PACKS_MAX = 16
DAY_MS = 24 * HOUR_MS
SPAN_MAX_MS = 400 * DAY_MS
MINUTES_SPAN_MAX_MS = 31 * DAY_MS
"""Of a report by minute, which reads every fact."""

_PACK = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TIME = {
    Granularity.MINUTE: "toStartOfMinute",
    Granularity.HOUR: "toStartOfHour",
    Granularity.DAY: "toStartOfDay",
}
_SUMMED = ("impressions", "gross", "duplicate_renders", "billable_micros", "reserved_micros")
_COUNTED = (*_SUMMED, "net", "givt", "sivt", "undecided", "duplicates", "not_counted", "policy")
_OF_REFUSED = frozenset({Dimension.REASON, Dimension.REASON_CLASS})


class Report(Struct, frozen=True, kw_only=True):
    """
    A question: *metrics* by *dimensions* of impressions from *since* to before *until*.

    `position`: as known when the ledger was there; None: as known now. Without a filter on it, only live data counts.
    `packs`: viewability packs to show; none: all that the rows of that time name.
    """

    dimensions: tuple[Dimension, ...] = ()
    metrics: tuple[Metric, ...] = USUAL
    granularity: Granularity = Granularity.NONE
    filters: Mapping[Dimension, tuple[str, ...]] = {}
    since: int
    until: int
    packs: tuple[str, ...] = ()
    position: int | None = None
    rows_max: int = ROWS_DEFAULT


class Sql(Struct, frozen=True):
    """SQL with its bound values; `columns` are the names of what it returns, in order."""

    text: str
    parameters: dict[str, Any]
    columns: tuple[str, ...]


def check(report: Report) -> Report:
    """
    Return *report* with its defaults filled in, split by what must not be mixed.

    Raises:
        QueryRefused: naming the parameter that is wrong.
    """
    _check_span(report)
    require(1 <= report.rows_max <= ROWS_MAX, "limit", f"must be 1 to {ROWS_MAX}")
    require(bool(report.metrics), "metrics", "must name at least one")
    require(len(set(report.metrics)) == len(report.metrics), "metrics", "must name each once")
    require(len(set(report.dimensions)) == len(report.dimensions), "dimensions", "must name each once")
    require(len(report.dimensions) <= DIMENSIONS_MAX, "dimensions", f"may name at most {DIMENSIONS_MAX}")
    require(len(report.packs) <= PACKS_MAX, "pack", f"may name at most {PACKS_MAX}")
    require(len(set(report.packs)) == len(report.packs), "pack", "must name each once")
    for pack in report.packs:
        require(_PACK.fullmatch(pack) is not None, "pack", "must be 1 to 64 letters, digits, points, _ and -")
    for dimension, values in report.filters.items():
        _check_filter(dimension, values)
    asked = replace(report, dimensions=(*report.dimensions, *_split_of(report)))
    if shows_refused(asked):
        _check_refused(asked)
    if Dimension.DATA_SET in asked.filters or Dimension.DATA_SET in asked.dimensions:
        return asked
    return replace(asked, filters={**asked.filters, Dimension.DATA_SET: (DataSet.LIVE.value,)})


def shows_views(report: Report) -> bool:
    """Tell whether *report* asks for viewability, under whatever packs."""
    return not VIEW_METRICS.isdisjoint(report.metrics)


def shows_refused(report: Report) -> bool:
    return not REFUSED_METRICS.isdisjoint(report.metrics)


def sql_of(report: Report, generation: int) -> Sql:
    """
    Return the SQL of a checked *report* on the tables of *generation*; one row more than asked tells of a cut.

    A cut of which nothing is left after corrections has no row: sums of zero may or may not stand in the hourly table.
    """
    at = _at(report)
    keys = {dimension.value: dimension.value for dimension in report.dimensions}
    if report.granularity is not Granularity.NONE:
        keys = {"time": f"toInt64(toUnixTimestamp({_TIME[report.granularity]}({at}))) * 1000 AS time", **keys}
    metrics = dict(item for metric in report.metrics for item in columns_of(metric, report.packs))
    selected = [*keys.values(), *(f"{sql} AS metric_{number}" for number, sql in enumerate(metrics.values()))]
    names = ", ".join(keys)
    group = f"GROUP BY {names} HAVING {_something(report)} ORDER BY {names}" if keys else ""
    source = f"{_table(report, generation)} WHERE {' AND '.join(_conditions(report, at))}"
    if shows_refused(report):
        source = f"({_with_refused(report, source, generation)})"
    text = (
        f"SELECT {', '.join(selected)} FROM {source} {group} "  # noqa: S608 (names of closed lists; values are bound)
        f"LIMIT {report.rows_max + 1:d}"
    )
    return Sql(text, _parameters(report), (*keys, *metrics))


def packs_sql(report: Report, generation: int) -> Sql:
    """Return the SQL that names the viewability packs of all impressions in the time of *report*, one more than may."""
    where = " AND ".join([*_when(report, _at(report)), "viewability != ''"])
    text = (
        "SELECT DISTINCT substring(word, 1, length(word) - 1) AS pack FROM ("  # noqa: S608 (no text of the question)
        f"SELECT DISTINCT viewability FROM {_table(report, generation)} WHERE {where}"
        f") ARRAY JOIN splitByChar(' ', trimBoth(viewability)) AS word ORDER BY pack LIMIT {PACKS_MAX + 1:d}"
    )
    return Sql(text, _parameters(report), ("pack",))


def _split_of(report: Report) -> list[Dimension]:
    """Dimensions that must be apart for the metrics asked for, and are not yet."""
    apart = {Dimension.FORMAT: VIEW_METRICS, Dimension.CURRENCY: MONEY_METRICS}
    split = [
        dimension
        for dimension, metrics in apart.items()
        if not metrics.isdisjoint(report.metrics) and len(set(report.filters.get(dimension, ()))) != 1
    ]
    is_of_impressions = not REFUSED_METRICS.issuperset(report.metrics)
    if is_of_impressions and len(set(report.filters.get(Dimension.DATA_SET, ()))) > 1:
        split.append(Dimension.DATA_SET)
    return [dimension for dimension in split if dimension not in report.dimensions]


def _table(report: Report, generation: int) -> str:
    return f"{'report_hour' if _is_hourly(report) else 'facts'}_{generation:d}"


def _at(report: Report) -> str:
    return "hour" if _is_hourly(report) else "event_at"


def _is_hourly(report: Report) -> bool:
    whole = report.since % HOUR_MS == 0 and report.until % HOUR_MS == 0
    return report.position is None and report.granularity is not Granularity.MINUTE and whole


def _when(report: Report, at: str) -> list[str]:
    found = [f"{at} >= fromUnixTimestamp64Milli({{since:Int64}})", f"{at} < fromUnixTimestamp64Milli({{until:Int64}})"]
    return found if report.position is None else [*found, "position <= {position:UInt64}"]


def _conditions(report: Report, at: str) -> list[str]:
    found = _when(report, at)
    for dimension in report.filters:
        column = f"toString({dimension.value})" if dimension in VALUES else dimension.value
        found.append(f"{column} IN {{in_{dimension.value}:Array(String)}}")
    return found


def _something(report: Report) -> str:
    summed = (*_SUMMED, "refused") if shows_refused(report) else _SUMMED
    return " OR ".join(f"sum({name}) != 0" for name in summed)


def _with_refused(report: Report, source: str, generation: int) -> str:
    """SQL of impressions and, in the same columns, of what was refused; that has a time, a reason and no more."""
    where = [*_when(report, "counted_at"), "refused != 0"]
    if Dimension.REASON in report.filters:
        where.append("toString(reason) IN {in_reason:Array(String)}")
    if Dimension.REASON_CLASS in report.filters:
        where.append(f"'{ReasonClass.REQUEST.value}' IN {{in_reason_class:Array(String)}}")
    at = _at(report)
    counted, nothing = ", ".join(_COUNTED), ", ".join("0" for _ in _COUNTED)
    return (
        f"SELECT toDateTime64({at}, 3, 'UTC') AS {at}, toString(reason) AS reason, "  # noqa: S608 (as above)
        f"toString(reason_class) AS reason_class, expired, {counted}, 0 AS refused FROM {source} "
        f"UNION ALL SELECT counted_at, toString(reason), '{ReasonClass.REQUEST.value}', false, {nothing}, refused "
        f"FROM answers_{generation:d} WHERE {' AND '.join(where)}"
    )


def _parameters(report: Report) -> dict[str, Any]:
    parameters: dict[str, Any] = {"since": report.since, "until": report.until}
    if report.position is not None:
        parameters["position"] = report.position
    parameters |= {f"in_{dimension.value}": list(values) for dimension, values in report.filters.items()}
    return parameters | pack_parameters(report.packs)


def _check_span(report: Report) -> None:
    require(report.since < report.until, "until", "must be after since")
    require(
        report.until - report.since <= SPAN_MAX_MS, "until", f"may be at most {SPAN_MAX_MS // DAY_MS} days after since"
    )
    if report.granularity is Granularity.MINUTE:
        short = report.until - report.since <= MINUTES_SPAN_MAX_MS
        require(short, "granularity", f"may be minute for at most {MINUTES_SPAN_MAX_MS // DAY_MS} days")


def _check_refused(report: Report) -> None:
    by = {*report.dimensions, *report.filters} - _OF_REFUSED - {Dimension.DATA_SET}
    by |= {Dimension.DATA_SET} & set(report.dimensions)
    names = ", ".join(sorted(by))
    require(not by, "metrics", f"refused renders are known by time and reason alone, not by {names}")


def _check_filter(dimension: Dimension, values: tuple[str, ...]) -> None:
    require(1 <= len(values) <= FILTER_VALUES_MAX, dimension.value, f"takes 1 to {FILTER_VALUES_MAX} values")
    closed = VALUES.get(dimension)
    for value in values:
        require(len(value) <= FILTER_LENGTH_MAX, dimension.value, f"values are at most {FILTER_LENGTH_MAX} long")
        if closed is not None:
            require(value in closed, dimension.value, f"must be one of {', '.join(sorted(closed))}")
