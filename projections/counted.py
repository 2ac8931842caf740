"""Which impressions count in a period, page by page, from the tables: where a period is looked at again as a whole."""

from typing import Any
from uuid import UUID

from msgspec import Struct

from domain.vocabulary import DataSet
from projections.engine import Client

_PAGE = """
SELECT impression_id FROM impressions_{generation:d}
WHERE data_set = {{data_set:String}} AND reason_class = ''
    AND event_at >= fromUnixTimestamp64Milli({{since:Int64}}) AND event_at < fromUnixTimestamp64Milli({{until:Int64}})
    {campaign} {after}
ORDER BY impression_id LIMIT {limit:d}
"""
_TOTALS = """
SELECT currency, sum(net), sum(billable_micros) FROM facts_{generation:d}
WHERE data_set = {{data_set:String}}
    AND event_at >= fromUnixTimestamp64Milli({{since:Int64}}) AND event_at < fromUnixTimestamp64Milli({{until:Int64}})
    {campaign}
GROUP BY currency ORDER BY currency LIMIT 100
"""
_CAMPAIGN = "AND campaign = {campaign:String}"
_AFTER = "AND impression_id > {after:UUID}"


class Span(Struct, frozen=True, kw_only=True):
    """Impressions with event times from *since* to before *until* (epoch ms), of *campaign*; empty: of all."""

    since: int
    until: int
    campaign: str = ""


def counted_page(client: Client, generation: int, span: Span, after: UUID | None, limit: int) -> list[UUID]:
    """Return up to *limit* impressions of *span* that count, in the tables' order, behind *after*."""
    campaign, behind = _CAMPAIGN if span.campaign else "", "" if after is None else _AFTER
    query = _PAGE.format(generation=generation, campaign=campaign, after=behind, limit=limit)
    asked = _asked(span) | ({} if after is None else {"after": str(after)})
    rows = client.query(query, parameters=asked).result_rows
    return [UUID(str(impression)) for [impression] in rows]


def counted_totals(client: Client, generation: int, span: Span) -> list[tuple[str, int, int]]:
    """Return by currency how many count in *span*, and what is billable of them."""
    query = _TOTALS.format(generation=generation, campaign=_CAMPAIGN if span.campaign else "")
    rows = client.query(query, parameters=_asked(span)).result_rows
    return [(str(currency), int(net), int(micros)) for currency, net, micros in rows]


def _asked(span: Span) -> dict[str, Any]:
    asked = {"data_set": DataSet.LIVE.value, "since": span.since, "until": span.until}
    return {**asked, "campaign": span.campaign} if span.campaign else asked
