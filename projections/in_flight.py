"""
What was served and has neither rendered nor outlived its surface's time: the part of a budget that is under way.

Serves and renders are both counted by the minute of serving, so what is in flight of a minute is a difference of counts
of the very same ads. It is off by no more than this:

- too high by the minute at the edge of the time, which counts until its last second is over;
- too low by what was served and is not reported yet, which is some seconds of serving.

Where so many reports are missing that more rendered than was served, nothing is in flight, and the surplus is not taken
off other minutes, surfaces or currencies.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from domain.serves import MINUTE_MS, ServeTtl
from domain.vocabulary import Surface
from projections.engine import Client

SURFACES_MAX, CURRENCIES_MAX = len(Surface), 100
_SECOND_MS = 1_000

_IN_FLIGHT = """
SELECT toInt64(toUnixTimestamp(minute)) * 1000 AS at, currency, toString(surface) AS on_surface, sum(served),
    sum(served_micros), sum(rendered), sum(rendered_micros)
FROM served_minute_{generation:d}
WHERE data_set = 'live' AND campaign = {{campaign:String}}
    AND minute >= fromUnixTimestamp({{since:Int64}}) AND minute < fromUnixTimestamp({{until:Int64}})
GROUP BY at, currency, on_surface ORDER BY at, currency, on_surface LIMIT {limit:d}
"""


class MinuteInFlight(Struct, frozen=True, kw_only=True):
    """Ads of one surface and currency served in the minute that began `at` (epoch ms); what is in flight of them."""

    at: int
    currency: str
    surface: str
    served: int
    rendered: int
    in_flight_ads: int
    in_flight_micros: int


class Span(Struct, frozen=True):
    """Serving times from `since` to before `until`, looked at `now`; epoch ms."""

    since: int
    until: int
    now: int


def in_flight(client: Client, generation: int, campaign: str, span: Span, ttl: ServeTtl) -> list[MinuteInFlight]:
    """Return what *campaign* has in flight, by minute of serving, currency and surface."""
    since = max(span.since, span.now - ttl.longest_s * _SECOND_MS - MINUTE_MS)
    if since >= span.until:
        return []
    minutes = (span.until - since) // MINUTE_MS + 2
    text = _IN_FLIGHT.format(generation=generation, limit=minutes * SURFACES_MAX * CURRENCIES_MAX)
    bound = {
        "campaign": campaign,
        "since": (since - since % MINUTE_MS) // _SECOND_MS,
        "until": span.until // _SECOND_MS,
    }
    found = (_minute(row) for row in client.query(text, parameters=bound).result_rows)
    return [one for one in found if is_in_time(one.at, Surface(one.surface), span.now, ttl)]


def is_in_time(at: int, surface: Surface, now: int, ttl: ServeTtl) -> bool:
    """Tell whether an ad served in the minute that began *at* may still render in time."""
    return at + MINUTE_MS + ttl.of_s(surface) * _SECOND_MS > now


def _minute(row: Sequence[Any]) -> MinuteInFlight:
    at, currency, surface, served, served_micros, rendered, rendered_micros = row
    left = max(0, served - rendered)
    return MinuteInFlight(
        at=at,
        currency=currency,
        surface=surface,
        served=served,
        rendered=rendered,
        in_flight_ads=left,
        in_flight_micros=max(0, served_micros - rendered_micros) if left else 0,
    )
