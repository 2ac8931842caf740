"""What monitors look at: each SDK version on each surface, minute by minute."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from domain.serves import MINUTE_MS, ServeTtl
from domain.vocabulary import Surface
from projections.checkpoints import Checkpoints
from projections.engine import Client, Clients
from projections.in_flight import is_in_time
from projections.queries import Fresh, fresh_at

ROWS_MAX = 100_000
_SECOND_MS = 1_000

_SERVED = """
SELECT toString(surface) AS on_surface, sdk, toInt64(toUnixTimestamp(minute)) * 1000 AS at, sum(served), sum(heard),
    sum(double_fires), sum(duplicate_renders)
FROM served_minute_{generation:d}
WHERE data_set = 'live' AND minute >= fromUnixTimestamp({{since:Int64}}) AND minute < fromUnixTimestamp({{until:Int64}})
GROUP BY on_surface, sdk, at ORDER BY on_surface, sdk, at LIMIT {limit:d}
"""
_NUMBERS = """
SELECT toString(surface) AS on_surface, sdk, toInt64(toUnixTimestamp(minute)) * 1000 AS at, sum(numbers), sum(missing)
FROM sequences_{generation:d}
WHERE minute >= fromUnixTimestamp({{since:Int64}}) AND minute < fromUnixTimestamp({{until:Int64}})
GROUP BY on_surface, sdk, at ORDER BY on_surface, sdk, at LIMIT {limit:d}
"""


class ServedMinute(Struct, frozen=True):
    """
    What was served to one SDK version on one surface in the minute that began `at` (epoch ms), and heard of it.

    `over`: what has not rendered by now is too late.
    """

    surface: str
    sdk: str
    at: int
    served: int
    heard: int
    double_fires: int
    duplicate_renders: int
    over: bool


class NumbersMinute(Struct, frozen=True):
    """Numbers of one SDK version on one surface that were judged in a minute, and how many of them are missing."""

    surface: str
    sdk: str
    at: int
    numbers: int
    missing: int


class Cells(Fresh, frozen=True, kw_only=True):
    served: list[ServedMinute]
    numbers: list[NumbersMinute]


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

        def ask(client: Client) -> tuple[Sequence[Sequence[Any]], Sequence[Sequence[Any]]]:
            served, numbers = (
                client.query(
                    sql.format(generation=known.generation, limit=ROWS_MAX),
                    parameters={"since": since // _SECOND_MS, "until": until // _SECOND_MS},
                ).result_rows
                for sql, since in ((_SERVED, until - window_ms - waited_ms), (_NUMBERS, until - window_ms))
            )
            return served, numbers

        served, numbers = await self._clients.run(ask)
        fresh = fresh_at(known, now)
        return Cells(
            known_through=fresh.known_through,
            lag_s=fresh.lag_s,
            served=[_served(row, now, self._ttl) for row in served],
            numbers=[NumbersMinute(*row) for row in numbers],
        )


def _served(row: Sequence[Any], now: int, ttl: ServeTtl) -> ServedMinute:
    surface, sdk, at, served, heard, double_fires, duplicate_renders = row
    over = not is_in_time(at, Surface(surface), now, ttl)
    return ServedMinute(surface, sdk, at, served, heard, double_fires, duplicate_renders, over)
