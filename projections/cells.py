"""What monitors look at: each SDK version on each surface, minute by minute."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from domain.serves import MINUTE_MS, ServeTtl
from domain.vocabulary import Surface
from projections.checkpoints import Checkpoints
from projections.engine import Client, Clients
from projections.in_flight import is_in_time
from projections.queries import Fresh, fresh_at

_Rows: TypeAlias = Sequence[Sequence[Any]]

SURFACE_ROWS_MAX = 20_000
"""Most minutes of one surface: those of its largest SDK versions, for clients may name as many as they like."""
_SECOND_MS = 1_000

_MINUTES = """
WITH sized AS (
    SELECT on_surface, sdk, sum(minutes) OVER (PARTITION BY on_surface ORDER BY size DESC, sdk) AS minutes_upto
    FROM (
        SELECT toString(surface) AS on_surface, sdk, uniqExact(minute) AS minutes, sum({size}) AS size
        FROM {table} WHERE {where} GROUP BY on_surface, sdk
    )
)
SELECT toString(surface) AS on_surface,
    if((on_surface, sdk) IN (SELECT on_surface, sdk FROM sized WHERE minutes_upto <= {limit:d}), sdk, NULL) AS version,
    toInt64(toUnixTimestamp(minute)) * 1000 AS at, {sums},
    (SELECT countIf(minutes_upto > {limit:d}) FROM sized) AS left_out
FROM {table} WHERE {where} GROUP BY on_surface, version, at ORDER BY on_surface, version, at
"""
_SPAN = "minute >= fromUnixTimestamp({since:Int64}) AND minute < fromUnixTimestamp({until:Int64})"
_SERVED = {
    "table": "served_minute",
    "where": f"data_set = 'live' AND {_SPAN}",
    "size": "served + heard",
    "sums": "sum(served), sum(heard), sum(double_fires), sum(duplicate_renders)",
}
_NUMBERS = {"table": "sequences", "where": _SPAN, "size": "numbers", "sums": "sum(numbers), sum(missing)"}


class ServedMinute(Struct, frozen=True):
    """
    What was served to one SDK version on one surface in the minute that began `at` (epoch ms), and heard of it.

    `over`: what has not rendered by now is too late.
    """

    surface: str
    sdk: str | None
    at: int
    served: int
    heard: int
    double_fires: int
    duplicate_renders: int
    over: bool


class NumbersMinute(Struct, frozen=True):
    """Numbers of one SDK version on one surface that were judged in a minute, and how many of them are missing."""

    surface: str
    sdk: str | None
    at: int
    numbers: int
    missing: int


class Cells(Fresh, frozen=True, kw_only=True):
    """`left_out`: so many SDK versions, the smallest of their surfaces, have no name here but are taken together."""

    served: list[ServedMinute]
    numbers: list[NumbersMinute]
    left_out: int = 0


class CellQueries:
    """Reads from the active tables. *now* tells the time in epoch ms."""

    def __init__(
        self, checkpoints: Checkpoints, clients: Clients, now: Callable[[], int], ttl: ServeTtl | None = None
    ) -> None:
        self._checkpoints = checkpoints
        self._clients = clients
        self._now = now
        self._ttl = ttl or ServeTtl()

    async def cells(self, window_ms: int) -> Cells:
        """
        Return the last *window_ms*, and before them the serves that had to wait for their time to be over.

        Raises:
            TablesUnavailable, CheckpointsUnavailable: not now.
        """
        known = await self._checkpoints.known()
        now = self._now()
        until = now - now % MINUTE_MS + MINUTE_MS
        waited_ms = self._ttl.longest_s * _SECOND_MS + MINUTE_MS

        def ask(client: Client) -> tuple[tuple[_Rows, int], tuple[_Rows, int]]:
            served = _minutes(client, _SERVED, known.generation, (until - window_ms - waited_ms, until))
            return served, _minutes(client, _NUMBERS, known.generation, (until - window_ms, until))

        (served, served_out), (numbers, numbers_out) = await self._clients.run(ask)
        fresh = fresh_at(known, now)
        return Cells(
            known_through=fresh.known_through,
            lag_s=fresh.lag_s,
            served=[_served(row, now, self._ttl) for row in served],
            numbers=[NumbersMinute(*row) for row in numbers],
            left_out=max(served_out, numbers_out),
        )


def _minutes(client: Client, read: Mapping[str, str], generation: int, span: tuple[int, int]) -> tuple[_Rows, int]:
    """Rows of *span* (epoch ms), and how many SDK versions were left out."""
    text = _MINUTES.format(**{**read, "table": f"{read['table']}_{generation:d}"}, limit=SURFACE_ROWS_MAX)
    since, until = span
    found = client.query(text, parameters={"since": since // _SECOND_MS, "until": until // _SECOND_MS}).result_rows
    return [row[:-1] for row in found], found[0][-1] if found else 0


def _served(row: Sequence[Any], now: int, ttl: ServeTtl) -> ServedMinute:
    surface, sdk, at, served, heard, double_fires, duplicate_renders = row
    over = not is_in_time(at, Surface(surface), now, ttl)
    return ServedMinute(surface, sdk, at, served, heard, double_fires, duplicate_renders, over)
