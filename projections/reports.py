"""
A question for a report, checked, and its SQL. Times are epoch ms of the impression's first event, UTC.

Whole hours as they are known now come from the hourly sums; minutes, other bounds, and what was known at a position
come from the facts. Both tables name everything alike, so it is one query.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from domain.vocabulary import DataSet
from projections.errors import QueryRefused
from projections.vocabulary import VALUES, VIEW_METRICS, Dimension, Granularity, Metric

HOUR_MS = 3_600_000
ROWS_MAX = 100_000
ROWS_DEFAULT = 10_000
FILTER_VALUES_MAX = 100
FILTER_LENGTH_MAX = 128
DIMENSIONS_MAX = 8
PACKS_MAX = 8
SPAN_MAX_MS = 400 * 24 * HOUR_MS

_PACK = re.compile(r"[a-z0-9_]{1,32}")
_TIME = {
    Granularity.MINUTE: "toStartOfMinute",
    Granularity.HOUR: "toStartOfHour",
    Granularity.DAY: "toStartOfDay",
}
_GROSS = "sum(gross)"
_VIEWED = "sumIf(net, position(viewability, {{{pack}:String}}) > 0)"


class Report(Struct, frozen=True, kw_only=True):
    """
    A question: *metrics* by *dimensions* of impressions from *since* to before *until*.

    `position`: as known when the ledger was there; None: as known now. Without a filter on it, only live data counts.
    """

    dimensions: tuple[Dimension, ...] = ()
    metrics: tuple[Metric, ...] = (Metric.GROSS, Metric.NET, Metric.GIVT, Metric.SIVT, Metric.UNDECIDED)
    granularity: Granularity = Granularity.NONE
    filters: Mapping[Dimension, tuple[str, ...]] = {}
    since: int
    until: int
    packs: tuple[str, ...] = ("mrc",)
    position: int | None = None
    rows_max: int = ROWS_DEFAULT


class Sql(Struct, frozen=True):
    """SQL with its bound values; `columns` are the names of what it returns, in order."""

    text: str
    parameters: dict[str, Any]
    columns: tuple[str, ...]


def check(report: Report) -> Report:
    """
    Return *report* with its defaults filled in.

    Raises:
        QueryRefused: naming the parameter that is wrong.
    """
    _require(report.since < report.until, "until", "must be after since")
    _require(report.until - report.since <= SPAN_MAX_MS, "until", f"may be at most {SPAN_MAX_MS} ms after since")
    _require(1 <= report.rows_max <= ROWS_MAX, "limit", f"must be 1 to {ROWS_MAX}")
    _require(bool(report.metrics), "metrics", "must name at least one")
    _require(len(set(report.metrics)) == len(report.metrics), "metrics", "must name each once")
    _require(len(set(report.dimensions)) == len(report.dimensions), "dimensions", "must name each once")
    _require(len(report.dimensions) <= DIMENSIONS_MAX, "dimensions", f"may name at most {DIMENSIONS_MAX}")
    _require(len(report.packs) <= PACKS_MAX, "pack", f"may name at most {PACKS_MAX}")
    for pack in report.packs:
        _require(_PACK.fullmatch(pack) is not None, "pack", "must be lower-case letters, digits and _")
    for dimension, values in report.filters.items():
        _check_filter(dimension, values)
    if Dimension.DATA_SET in report.filters or Dimension.DATA_SET in report.dimensions:
        return report
    return replace(report, filters={**report.filters, Dimension.DATA_SET: (DataSet.LIVE.value,)})


def sql_of(report: Report, generation: int) -> Sql:
    """Return the SQL of a checked *report* on the tables of *generation*; one row more than asked tells of a cut."""
    hourly = _is_hourly(report)
    at = "hour" if hourly else "event_at"
    keys = {dimension.value: dimension.value for dimension in report.dimensions}
    if report.granularity is not Granularity.NONE:
        keys = {"time": f"toInt64(toUnixTimestamp({_TIME[report.granularity]}({at}))) * 1000 AS time", **keys}
    metrics = dict(item for metric in report.metrics for item in _metric(metric, report.packs))
    selected = [*keys.values(), *(f"{sql} AS metric_{number}" for number, sql in enumerate(metrics.values()))]
    group = f"GROUP BY {', '.join(keys)} ORDER BY {', '.join(keys)}" if keys else ""
    table = f"{'report_hour' if hourly else 'facts'}_{generation:d}"
    text = (
        f"SELECT {', '.join(selected)} FROM {table} "  # noqa: S608 (names of closed lists; values are bound)
        f"WHERE {' AND '.join(_conditions(report, at))} {group} LIMIT {report.rows_max + 1:d}"
    )
    return Sql(text, _parameters(report), (*keys, *metrics))


def _conditions(report: Report, at: str) -> list[str]:
    found = [f"{at} >= fromUnixTimestamp64Milli({{since:Int64}})", f"{at} < fromUnixTimestamp64Milli({{until:Int64}})"]
    for dimension in report.filters:
        column = f"toString({dimension.value})" if dimension in VALUES else dimension.value
        found.append(f"{column} IN {{in_{dimension.value}:Array(String)}}")
    if report.position is not None:
        found.append("position <= {position:UInt64}")
    return found


def _is_hourly(report: Report) -> bool:
    whole = report.since % HOUR_MS == 0 and report.until % HOUR_MS == 0
    return report.position is None and report.granularity is not Granularity.MINUTE and whole


def _parameters(report: Report) -> dict[str, Any]:
    parameters: dict[str, Any] = {"since": report.since, "until": report.until}
    if report.position is not None:
        parameters["position"] = report.position
    parameters |= {f"in_{dimension.value}": list(values) for dimension, values in report.filters.items()}
    for number, pack in enumerate(report.packs):
        parameters |= {f"yes_{number}": f" {pack}+ ", f"no_{number}": f" {pack}- "}
    return parameters


def _metric(metric: Metric, packs: tuple[str, ...]) -> list[tuple[str, str]]:
    """Names of what *metric* adds to a row, with their SQL."""
    if metric in VIEW_METRICS:
        return [(f"{metric.value}.{pack}", _view_metric(metric, number)) for number, pack in enumerate(packs)]
    if metric is Metric.DECISION_RATE:
        return [(metric.value, f"if({_GROSS} = 0, NULL, ({_GROSS} - sum(undecided)) / {_GROSS})")]
    return [(metric.value, f"sum({metric.value})")]


def _view_metric(metric: Metric, number: int) -> str:
    yes, no = _VIEWED.format(pack=f"yes_{number}"), _VIEWED.format(pack=f"no_{number}")
    match metric:
        case Metric.VIEWABLE:
            return yes
        case Metric.NOT_VIEWABLE:
            return no
        case Metric.MEASURED_RATE:
            return f"if(sum(net) = 0, NULL, ({yes} + {no}) / sum(net))"
        case _:
            return f"if({yes} + {no} = 0, NULL, {yes} / ({yes} + {no}))"


def _check_filter(dimension: Dimension, values: tuple[str, ...]) -> None:
    _require(1 <= len(values) <= FILTER_VALUES_MAX, dimension.value, f"takes 1 to {FILTER_VALUES_MAX} values")
    closed = VALUES.get(dimension)
    for value in values:
        _require(len(value) <= FILTER_LENGTH_MAX, dimension.value, f"values are at most {FILTER_LENGTH_MAX} long")
        if closed is not None:
            _require(value in closed, dimension.value, f"must be one of {', '.join(sorted(closed))}")


def _require(good: bool, field: str, why: str) -> None:  # noqa: FBT001 (what is required)
    if not good:
        raise QueryRefused(field, why)
