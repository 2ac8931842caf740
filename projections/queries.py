"""What the desk is asked: reports and pacing. Every answer says up to where in the ledger it knows."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from domain.serves import ServeTtl
from domain.vocabulary import DataSet
from projections.checkpoints import Checkpoints, Known
from projections.engine import Client, Clients
from projections.errors import QueryRefused, QuestionTooLarge, TablesUnavailable
from projections.in_flight import MinuteInFlight, Span, in_flight
from projections.metrics import DEFINITIONS
from projections.pace import CurrencyPace, paces_of
from projections.reports import (
    DAY_MS,
    FILTER_LENGTH_MAX,
    PACKS_MAX,
    Report,
    check,
    packs_sql,
    shows_views,
    sql_of,
)
from projections.vocabulary import Dimension, Metric

T = TypeVar("T")
_Rows: TypeAlias = list[tuple[Any, ...]]

MINUTE_MS = 60_000
PACING_SPAN_MAX_MS = 400 * DAY_MS
MINUTES_MAX = 1_440
_CURRENCIES_MAX = 100
_TOO_LARGE = frozenset({158, 159, 160, 241})
"""ClickHouse's codes for too many rows, too much time (spent or foreseen), too much memory."""

_PACING = """
SELECT currency, sum(gross), sum(net), sum(undecided), sum(billable_micros), sum(reserved_micros), sum(uncertain_micros)
FROM pacing_minute_{generation:d}
WHERE data_set = {{data_set:String}} AND campaign = {{campaign:String}}
    AND minute >= fromUnixTimestamp64Milli({{since:Int64}}) AND minute < fromUnixTimestamp64Milli({{until:Int64}})
GROUP BY currency ORDER BY currency LIMIT {limit:d}
"""
_PACING_MINUTES = """
SELECT toInt64(toUnixTimestamp(minute)) * 1000 AS at, currency, sum(billable_micros), sum(reserved_micros),
    sum(uncertain_micros)
FROM pacing_minute_{generation:d}
WHERE data_set = {{data_set:String}} AND campaign = {{campaign:String}}
    AND minute >= fromUnixTimestamp64Milli({{since:Int64}}) AND minute < fromUnixTimestamp64Milli({{until:Int64}})
GROUP BY at, currency ORDER BY at, currency LIMIT {limit:d}
"""


class KnownThrough(Struct, frozen=True):
    """The answer holds every commit up to `position`: all that the ledger recorded before `time` (epoch ms)."""

    position: int
    time: int


class Fresh(Struct, frozen=True, kw_only=True):
    """How fresh an answer is. `lag_s`: how long ago `known_through.time` was; None: nothing was ever read."""

    known_through: KnownThrough
    lag_s: float | None


class ReportAnswer(Fresh, frozen=True, kw_only=True):
    """
    `rows` are values in the order of `columns`; `truncated`: there are more than the question allowed.

    `definitions` are those of the metrics asked for, `packs` the viewability packs shown, `split_by` the dimensions
    that nobody asked for but without which things would be mixed that must not be.
    """

    generation: int
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    truncated: bool
    definitions: dict[Metric, str]
    packs: tuple[str, ...] = ()
    split_by: tuple[Dimension, ...] = ()
    position: int | None = None
    """The position up to which facts count; None: all that are known."""


class MinutePace(Struct, frozen=True, kw_only=True):
    """What impressions of the minute that begins `at` (epoch ms) cost, in micros; nothing is in flight of these."""

    at: int
    currency: str
    spent_micros: int
    reserved_micros: int
    uncertain_micros: int


class PacingAnswer(Fresh, frozen=True, kw_only=True):
    """
    `currencies` cover the whole span, `minutes` the last ones asked for; currencies never mix.

    `in_flight` has the minutes of serving that are not over yet. Only live data is in flight, or has a budget.
    """

    campaign: str
    since: int
    until: int
    currencies: list[CurrencyPace]
    minutes: list[MinutePace]
    in_flight: list[MinuteInFlight]


class Pacing(Struct, frozen=True, kw_only=True):
    """A question: the pace of *campaign* over impressions from *since* to before *until*, and the last *minutes*."""

    campaign: str
    since: int
    until: int
    minutes: int = 60
    data_set: DataSet = DataSet.LIVE


Leased: TypeAlias = Callable[[str], Awaitable[Mapping[str, int]]]
"""Tells what gates hold of a campaign's budget: currency -> micros."""


async def nothing_leased(_: str) -> Mapping[str, int]:
    return {}


class Queries:
    """
    Answers questions from the active tables. *clients* read; *now* tells the time in epoch ms.

    *ttl* is how long serves are in flight; *leased* tells what gates hold of a budget.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        clients: Clients,
        now: Callable[[], int],
        *,
        ttl: ServeTtl | None = None,
        leased: Leased = nothing_leased,
    ) -> None:
        self._checkpoints = checkpoints
        self._clients = clients
        self._now = now
        self._ttl = ttl or ServeTtl()
        self._leased = leased

    async def report(self, report: Report, as_of: int | None = None) -> ReportAnswer:
        """
        Answer *report*; with *as_of* (epoch ms) as it would have been answered then.

        Raises:
            QueryRefused: the question cannot be asked so.
            QuestionTooLarge: the answer takes more than one question may.
            TablesUnavailable, CheckpointsUnavailable: not now.
        """
        asked = check(report)
        reached = None if as_of is None else await self._checkpoints.position_at(as_of)
        known = await self._checkpoints.known()
        if reached is not None:
            if reached > known.position:
                raise TablesUnavailable(f"tables that were lost are at {known.position} again, not at {reached}")
            asked = replace(asked, position=reached)
        elif asked.position is not None and not 0 <= asked.position <= known.position:
            raise QueryRefused("as_of_position", f"{asked.position} is not known; the last one is {known.position}")
        columns, rows, packs = await within_limits(
            self._clients, lambda client: _report(client, asked, known.generation)
        )
        fresh = self._fresh(known)
        return ReportAnswer(
            known_through=fresh.known_through,
            lag_s=fresh.lag_s,
            generation=known.generation,
            columns=columns,
            rows=rows[: asked.rows_max],
            truncated=len(rows) > asked.rows_max,
            definitions={metric: DEFINITIONS[metric] for metric in asked.metrics},
            packs=packs,
            split_by=asked.dimensions[len(report.dimensions) :],
            position=asked.position,
        )

    async def pacing(self, pacing: Pacing) -> PacingAnswer:
        """
        Answer *pacing*.

        Raises:
            QueryRefused: the question cannot be asked so.
            QuestionTooLarge: the answer takes more than one question may.
            TablesUnavailable, CheckpointsUnavailable: not now.
        """
        _check_pacing(pacing)
        known = await self._checkpoints.known()
        span = Span(pacing.since, pacing.until, self._now())
        is_live = pacing.data_set is DataSet.LIVE

        def ask(client: Client) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], list[MinuteInFlight]]:
            minutes = in_flight(client, known.generation, pacing.campaign, span, self._ttl) if is_live else []
            return *_pacing_rows(client, pacing, known.generation), minutes

        rows, minute_rows, under_way = await within_limits(self._clients, ask)
        leased = await self._leased(pacing.campaign) if is_live else {}
        fresh = self._fresh(known)
        return PacingAnswer(
            known_through=fresh.known_through,
            lag_s=fresh.lag_s,
            campaign=pacing.campaign,
            since=pacing.since,
            until=pacing.until,
            currencies=paces_of(rows, under_way, leased),
            minutes=[MinutePace(**dict(zip(MinutePace.__struct_fields__, row, strict=True))) for row in minute_rows],
            in_flight=under_way,
        )

    async def fresh(self) -> Fresh:
        """Return how fresh answers are now."""
        return self._fresh(await self._checkpoints.known())

    def _fresh(self, known: Known) -> Fresh:
        return fresh_at(known, self._now())


async def within_limits(clients: Clients, ask: Callable[[Client], T]) -> T:
    """
    Return what *ask* finds.

    Raises:
        QuestionTooLarge: it takes more than one question may.
        TablesUnavailable: not now.
    """
    try:
        return await clients.run(ask)
    except TablesUnavailable as error:
        if error.code not in _TOO_LARGE:
            raise
        raise QuestionTooLarge("ask for a shorter time, fewer dimensions, or whole hours") from error


def fresh_at(known: Known, now: int) -> Fresh:
    """Return how fresh an answer given *now* (epoch ms) is."""
    lag_s = max(0, now - known.known_at) / 1_000 if known.known_at else None
    return Fresh(known_through=KnownThrough(known.position, known.known_at), lag_s=lag_s)


def _report(client: Client, report: Report, generation: int) -> tuple[tuple[str, ...], _Rows, tuple[str, ...]]:
    if shows_views(report) and not report.packs:
        report = replace(report, packs=_packs(client, report, generation))
    sql = sql_of(report, generation)
    rows = _rows(client, sql.text, sql.parameters) if sql.columns else []
    return sql.columns, rows, report.packs if shows_views(report) else ()


def _packs(client: Client, report: Report, generation: int) -> tuple[str, ...]:
    sql = packs_sql(report, generation)
    packs = tuple(str(pack) for (pack,) in _rows(client, sql.text, sql.parameters))
    if len(packs) > PACKS_MAX:
        raise QueryRefused("pack", f"there are more than {PACKS_MAX} in this time; name those to show")
    return packs


def _check_pacing(pacing: Pacing) -> None:
    if not 0 < len(pacing.campaign) <= FILTER_LENGTH_MAX:
        raise QueryRefused("campaign", f"must be 1 to {FILTER_LENGTH_MAX} characters")
    if not 0 < pacing.until - pacing.since <= PACING_SPAN_MAX_MS:
        raise QueryRefused("until", f"must be after since, by at most {PACING_SPAN_MAX_MS // DAY_MS} days")
    if not 0 <= pacing.minutes <= MINUTES_MAX:
        raise QueryRefused("minutes", f"must be 0 to {MINUTES_MAX}")


def _pacing_rows(client: Client, pacing: Pacing, generation: int) -> tuple[_Rows, _Rows]:
    bound = {
        "campaign": pacing.campaign,
        "data_set": pacing.data_set.value,
        "since": pacing.since - pacing.since % MINUTE_MS,
        "until": pacing.until,
    }
    totals = _rows(client, _PACING.format(generation=generation, limit=_CURRENCIES_MAX), bound)
    if pacing.minutes == 0:
        return totals, []
    last = pacing.until - 1  # the span ends before `until`
    first = last - last % MINUTE_MS - (pacing.minutes - 1) * MINUTE_MS
    text = _PACING_MINUTES.format(generation=generation, limit=pacing.minutes * _CURRENCIES_MAX)
    return totals, _rows(client, text, {**bound, "since": max(bound["since"], first)})


def _rows(client: Client, text: str, parameters: dict[str, Any]) -> _Rows:
    return [tuple(row) for row in client.query(text, parameters=parameters).result_rows]
