"""
How much of what was served was heard of: `served` + `unreported` = `rendered` + `not_counted` + `in_flight` + `lost`.

Of ads whose time to render is over, those that were heard of have rendered or are not counted (prefetched and never
shown), the others are lost. Before, what has not rendered is in flight. `unreported` rendered without being reported as
served: a report is missing or late, or it names another SDK than the client does. Both sides stand in one table by the
minute of serving, and only live data is served.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct

from domain.serves import MINUTE_MS, ServeTtl
from domain.vocabulary import Format, Surface
from projections.checkpoints import Checkpoints
from projections.engine import Client, Clients
from projections.errors import require
from projections.intervals import wilson
from projections.queries import Fresh, fresh_at, within_limits
from projections.reports import DAY_MS, FILTER_LENGTH_MAX, FILTER_VALUES_MAX, ROWS_DEFAULT, ROWS_MAX, SPAN_MAX_MS
from projections.vocabulary import Granularity

MEASURES = (
    "served",
    "rendered",
    "not_counted",
    "in_flight",
    "lost",
    "unreported",
    "loss_rate",
    "loss_low",
    "loss_high",
    "double_fires",
    "duplicate_renders",
)
_TIME = {
    Granularity.MINUTE: "toStartOfMinute(minute)",
    Granularity.HOUR: "toStartOfHour(minute)",
    Granularity.DAY: "toStartOfDay(minute)",
}
_SECOND_MS = 1_000

_COMPLETENESS = """
SELECT {keys} sum(served) AS sum_served, sum(rendered) AS sum_rendered, sumIf(served, {over}), sumIf(rendered, {over}),
    sumIf(heard, {over}), sum(double_fires), sum(duplicate_renders)
FROM served_minute_{generation:d}
WHERE {conditions}
{group} LIMIT {limit:d}
"""
_REPORTS = """
SELECT sum(numbers), uniqExact(source), sum(missing)
FROM
(
    SELECT source, count() AS numbers, max(sequence) + 1 - uniqExact(sequence) AS missing
    FROM serve_reports_{generation:d}
    WHERE minute >= fromUnixTimestamp({{since:Int64}}) AND minute < fromUnixTimestamp({{until:Int64}})
    GROUP BY source, minute
)
"""


class ServedDimension(StrEnum):
    CAMPAIGN = "campaign"
    SURFACE = "surface"
    FORMAT = "format"
    SDK = "sdk"


_CLOSED: Mapping[ServedDimension, frozenset[str]] = {
    ServedDimension.SURFACE: frozenset(Surface),
    ServedDimension.FORMAT: frozenset(Format),
}


class Completeness(Struct, frozen=True, kw_only=True):
    """A question: ads served from *since* to before *until* (epoch ms, whole minutes), by *dimensions*."""

    dimensions: tuple[ServedDimension, ...] = ()
    granularity: Granularity = Granularity.NONE
    filters: Mapping[ServedDimension, tuple[str, ...]] = {}
    since: int
    until: int
    rows_max: int = ROWS_DEFAULT


class CompletenessAnswer(Fresh, frozen=True, kw_only=True):
    """
    `rows` are values in the order of `columns`. `reports` came from `sources` in this time; `reports_missing` are holes
    in their numbers, so what was served is too low where there are any.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    truncated: bool
    reports: int
    sources: int
    reports_missing: int


class CompletenessQueries:
    """Answers what was served from the active tables. *now* tells the time in epoch ms."""

    def __init__(
        self, checkpoints: Checkpoints, clients: Clients, now: Callable[[], int], ttl: ServeTtl | None = None
    ) -> None:
        self._checkpoints = checkpoints
        self._clients = clients
        self._now = now
        self._ttl = ttl or ServeTtl()

    async def completeness(self, asked: Completeness) -> CompletenessAnswer:
        """
        Answer *asked*.

        Raises:
            QueryRefused: the question cannot be asked so.
            QuestionTooLarge: the answer takes more than one question may.
            TablesUnavailable, CheckpointsUnavailable: not now.
        """
        check(asked)
        known = await self._checkpoints.known()
        now = self._now()
        text, keys = _sql(asked, known.generation, self._ttl)
        bound = {
            "since": asked.since // _SECOND_MS,
            "until": -(-asked.until // _SECOND_MS),
            "now": now // _SECOND_MS,
            **{f"in_{dimension.value}": list(values) for dimension, values in asked.filters.items()},
        }

        def ask(client: Client) -> tuple[Sequence[Sequence[Any]], Sequence[Any]]:
            rows = client.query(text, parameters=bound).result_rows
            reports = client.query(_REPORTS.format(generation=known.generation), parameters=bound).result_rows
            return rows, reports[0]

        rows, (reports, sources, missing) = await within_limits(self._clients, ask)
        fresh = fresh_at(known, now)
        return CompletenessAnswer(
            known_through=fresh.known_through,
            lag_s=fresh.lag_s,
            columns=(*keys, *MEASURES),
            rows=[(*row[: len(keys)], *_measures(row[len(keys) :])) for row in rows[: asked.rows_max]],
            truncated=len(rows) > asked.rows_max,
            reports=int(reports),
            sources=int(sources),
            reports_missing=int(missing),
        )


def check(asked: Completeness) -> None:
    """
    Check a question.

    Raises:
        QueryRefused: naming the parameter that is wrong.
    """
    require(asked.since < asked.until, "until", "must be after since")
    days = SPAN_MAX_MS // DAY_MS
    require(asked.until - asked.since <= SPAN_MAX_MS, "until", f"may be at most {days} days after since")
    require(1 <= asked.rows_max <= ROWS_MAX, "limit", f"must be 1 to {ROWS_MAX}")
    require(len(set(asked.dimensions)) == len(asked.dimensions), "dimensions", "must name each once")
    for dimension, values in asked.filters.items():
        name, closed = dimension.value, _CLOSED.get(dimension)
        require(1 <= len(values) <= FILTER_VALUES_MAX, name, f"takes 1 to {FILTER_VALUES_MAX} values")
        for value in values:
            require(len(value) <= FILTER_LENGTH_MAX, name, f"values are at most {FILTER_LENGTH_MAX} long")
            if closed is not None:
                require(value in closed, name, f"must be one of {', '.join(sorted(closed))}")


def _sql(asked: Completeness, generation: int, ttl: ServeTtl) -> tuple[str, tuple[str, ...]]:
    keys = {dimension.value: dimension.value for dimension in asked.dimensions}
    if asked.granularity is not Granularity.NONE:
        keys = {"time": f"toInt64(toUnixTimestamp({_TIME[asked.granularity]})) * 1000 AS time", **keys}
    conditions = [
        "data_set = 'live'",
        "minute >= fromUnixTimestamp({since:Int64})",
        "minute < fromUnixTimestamp({until:Int64})",
    ]
    for dimension in asked.filters:
        column = f"toString({dimension.value})" if dimension in _CLOSED else dimension.value
        conditions.append(f"{column} IN {{in_{dimension.value}:Array(String)}}")
    text = _COMPLETENESS.format(
        keys="".join(f"{key}, " for key in keys.values()),
        over=f"toUnixTimestamp(minute) + {MINUTE_MS // _SECOND_MS} + {_ttl_sql(ttl)} <= {{now:Int64}}",
        generation=generation,
        conditions=" AND ".join(conditions),
        group=f"GROUP BY {', '.join(keys)} ORDER BY {', '.join(keys)}" if keys else "",
        limit=asked.rows_max + 1,
    )
    return text, tuple(keys)


def _ttl_sql(ttl: ServeTtl) -> str:
    """Names and numbers of closed lists."""
    cases = "".join(f"surface = '{surface.value}', {seconds:d}, " for surface, seconds in ttl.by_surface.items())
    return f"multiIf({cases}{ttl.default_s:d})" if cases else f"{ttl.default_s:d}"


def _measures(sums: Sequence[int]) -> tuple[Any, ...]:
    served, rendered, over_served, over_rendered, over_heard, double_fires, duplicate_renders = map(int, sums)
    under_way = (served - over_served) - (rendered - over_rendered)
    lost = max(0, over_served - over_heard)
    interval = wilson(lost, over_served)
    rates = (None, None, None) if interval is None else (lost / over_served, *interval)
    return (
        served,
        rendered,
        over_heard - over_rendered,
        max(0, under_way),
        lost,
        max(0, over_heard - over_served) + max(0, -under_way),
        *rates,
        double_fires,
        duplicate_renders,
    )
