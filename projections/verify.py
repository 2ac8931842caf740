"""
Do the tables say what the ledger says? Compares every total with a fold of the ledger, to the unit.

The tables are read through any client of `clickhouse_connect`: in process, on a server, or the desk's loopback address.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from ledger.store import EventStore
from projections.engine import Client
from projections.fold import BROKEN_MAX, Broken, Folded, Key, Totals, fold_ledger
from projections.fold_serves import SERVED

LISTED_MAX = 1_000
MINUTE_MS = 60_000
_SPAN_ROWS = 250_000

_COUNTS = ("gross", "net", "givt", "sivt", "undecided", "duplicates", "not_counted", "policy")
_MONEY = ("billable_micros", "reserved_micros")
_ADDED = (*_COUNTS, "duplicate_renders", *_MONEY)
_PACED = ("gross", "net", "undecided", *_MONEY, "uncertain_micros")
_NOWHERE: Key = ("", "", 0)

_STANDINGS = """
SELECT data_set, campaign, event_at, viewability, gross, reason_class = '' AS net, reason_class = 'givt' AS givt,
    reason_class = 'sivt' AS sivt, reason_class = 'undecided' AS undecided, reason_class = 'duplicate' AS duplicates,
    reason_class = 'not_counted' AS not_counted, reason_class = 'policy' AS policy, billable_micros, reserved_micros
FROM impressions_{generation:d}
WHERE event_at >= fromUnixTimestamp64Milli({since:d}) AND event_at < fromUnixTimestamp64Milli({until:d})
"""
_MINUTES = """
SELECT toInt64(toUnixTimestamp(toStartOfMinute(event_at))) * 1000 AS minute_ms, count()
FROM facts_{generation:d} GROUP BY minute_ms ORDER BY minute_ms
"""
_SUMS = """
SELECT toString(data_set), campaign, toInt64(toUnixTimestamp(toStartOfHour({at}))) * 1000 AS hour_ms, {views}, {sums}
FROM {source} GROUP BY data_set, campaign, hour_ms, {views}
"""
_ANSWERS = """
SELECT toString(reason), sum(refused), sum(unmoved) FROM answers_{generation:d} GROUP BY reason
"""
_REPORTS = """
SELECT count() AS reports, sum(kinds) AS kinds, sum(served) AS served, sum(served_micros) AS served_micros
FROM serve_reports_{generation:d} WHERE position <= {through:d}
"""
_SEQUENCES = """
SELECT toString(surface), sdk, sum(numbers) AS numbers, sum(missing) AS missing, sum(filled) AS filled,
    sum(repeats) AS repeats, sum(restarts) AS restarts
FROM sequences_{generation:d} WHERE position <= {through:d} GROUP BY surface, sdk
"""
_WITHOUT_VIEWS = frozenset({"pacing_minute", "served_minute"})
_WHOLE = frozenset({"answers", "serve_reports", "sequences"})
"""Tables whose totals have no campaign and no hour."""
_UNBALANCED = """
SELECT toString(hour), campaign
FROM report_hour_{generation:d}
GROUP BY hour, campaign, advertiser, creative, placement, publisher, surface, format, region, currency, billing_event,
    counting_method, evidence, sdk, country, auto_refresh, data_set
HAVING sum(gross) != sum(net) + sum(givt) + sum(sivt) + sum(undecided)
    OR least(sum(gross), sum(net), sum(givt), sum(sivt), sum(undecided), sum(billable_micros), sum(reserved_micros)) < 0
ORDER BY hour, campaign LIMIT {limit:d}
"""


class Difference(Struct, frozen=True, kw_only=True):
    """A total that a table has otherwise than the ledger. `hour` in epoch ms; answers have no campaign and no hour."""

    table: str
    data_set: str
    campaign: str
    hour: int
    metric: str
    ledger: int
    found: int


class Verification(Struct, frozen=True, kw_only=True):
    """What was compared; at most `LISTED_MAX` differences are listed, `different` counts all."""

    through: int
    impressions: int
    totals: int
    different: int
    differences: list[Difference]
    broken: list[Broken]

    @property
    def good(self) -> bool:
        return not self.different and not self.broken


async def verify(store: EventStore, client: Client, generation: int, through: int) -> Verification:
    """
    Compare the tables of *generation* with the ledger up to position *through*, which they have reached.

    Nothing but what gates count by themselves may have come after it.

    Raises:
        LedgerUnavailable: the ledger did not answer.
        ImpossibleTransition: a stream was not written by the rules.
    """
    folded = await fold_ledger(store, through)
    different = 0
    listed: list[Difference] = []
    for table, metrics in (
        ("facts", _ADDED),
        ("report_hour", _ADDED),
        ("pacing_minute", _PACED),
        ("impressions", (*_COUNTS, *_MONEY)),
        ("answers", ("",)),
        ("served_minute", SERVED),
        ("serve_reports", ("",)),
        ("sequences", ("",)),
    ):
        ledger = _of_ledger(folded, table)
        found = await asyncio.to_thread(_READERS[table], client, table, metrics, _At(generation, through))
        for difference in _differences(table, metrics, ledger, found):
            different += 1
            if len(listed) < LISTED_MAX:
                listed.append(difference)
    unbalanced = await asyncio.to_thread(_unbalanced, client, generation)
    return Verification(
        through=through,
        impressions=folded.impressions,
        totals=len(folded.totals),
        different=different,
        differences=listed,
        broken=folded.broken + unbalanced,
    )


def _of_ledger(folded: Folded, table: str) -> Totals:
    match table:
        case "answers":
            return {_NOWHERE: folded.answers}
        case "served_minute":
            return folded.served.served
        case "serve_reports":
            return {_NOWHERE: folded.served.reports}
        case "sequences":
            return {_NOWHERE: folded.served.sequences}
        case _:
            return folded.totals


def _differences(table: str, metrics: Sequence[str], ledger: Totals, found: Totals) -> Iterator[Difference]:
    for key in sorted(ledger.keys() | found.keys()):
        expected, got = ledger.get(key, Counter()), found.get(key, Counter())
        names = {name for name in expected.keys() | got.keys() if _is_compared(name, table, metrics)}
        for metric in sorted(names):
            if expected[metric] != got[metric]:
                data_set, campaign, hour = key
                yield Difference(
                    table=table,
                    data_set=data_set,
                    campaign=campaign,
                    hour=hour,
                    metric=metric,
                    ledger=expected[metric],
                    found=got[metric],
                )


def _is_compared(name: str, table: str, metrics: Sequence[str]) -> bool:
    return table in _WHOLE or name in metrics or (name.startswith("net ") and table not in _WITHOUT_VIEWS)


class _At(NamedTuple):
    generation: int
    through: int


def _sums(client: Client, table: str, metrics: Sequence[str], of: _At) -> Totals:
    at = "hour" if table == "report_hour" else "minute" if table in _WITHOUT_VIEWS else "event_at"
    views = "''" if table in _WITHOUT_VIEWS else "viewability"
    sums = ", ".join(f"sum({name})" for name in metrics)
    totals: Totals = {}
    _add(totals, client, _SUMS.format(at=at, views=views, sums=sums, source=f"{table}_{of.generation:d}"), metrics)
    return totals


def _standings(client: Client, _: str, metrics: Sequence[str], of: _At) -> Totals:
    """The view is read by spans of time, so that its groups fit into the memory of one query."""
    sums = ", ".join(f"sum({name})" for name in metrics)
    found = client.query(_MINUTES.format(generation=of.generation)).result_rows
    totals: Totals = {}
    for since, until in _spans([(int(minute), int(rows)) for minute, rows in found]):
        source = f"({_STANDINGS.format(generation=of.generation, since=since, until=until)})"
        _add(totals, client, _SUMS.format(at="event_at", views="viewability", sums=sums, source=source), metrics)
    return totals


def _spans(minutes: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield spans of time that cover *minutes* (begin, rows), each with about `_SPAN_ROWS`."""
    since, rows = None, 0
    for minute, count in minutes:
        since = minute if since is None else since
        rows += count
        if rows >= _SPAN_ROWS:
            yield since, minute + MINUTE_MS
            since, rows = None, 0
    if since is not None:
        yield since, minutes[-1][0] + MINUTE_MS


def _add(totals: Totals, client: Client, sql: str, metrics: Sequence[str]) -> None:
    with client.query_rows_stream(sql) as rows:
        for data_set, campaign, hour, views, *values in rows:
            total = totals.setdefault((data_set, campaign, hour), Counter())
            for metric, value in zip(metrics, values, strict=True):
                total[metric] += int(value)
                if metric == "net" and views:
                    total[f"net{views}"] += int(value)


def _answers(client: Client, _: str, __: Sequence[str], of: _At) -> Totals:
    found: Counter[str] = Counter()
    for reason, refused, unmoved in client.query(_ANSWERS.format(generation=of.generation)).result_rows:
        found[str(reason) or "unmoved"] += int(refused) + int(unmoved)
    return {_NOWHERE: found}


def _reports(client: Client, _: str, __: Sequence[str], of: _At) -> Totals:
    [sums] = client.query(_REPORTS.format(**of._asdict())).named_results()
    return {_NOWHERE: Counter({str(name): int(number) for name, number in sums.items()})}


def _sequences(client: Client, _: str, __: Sequence[str], of: _At) -> Totals:
    found: Counter[str] = Counter()
    result = client.query(_SEQUENCES.format(**of._asdict()))
    for surface, sdk, *sums in result.result_rows:
        for name, number in zip(result.column_names[2:], sums, strict=True):
            found[f"{surface} {sdk} {name}"] = int(number)
    return {_NOWHERE: found}


_READERS: Mapping[str, Callable[[Client, str, Sequence[str], _At], Totals]] = {
    "facts": _sums,
    "report_hour": _sums,
    "pacing_minute": _sums,
    "impressions": _standings,
    "answers": _answers,
    "served_minute": _sums,
    "serve_reports": _reports,
    "sequences": _sequences,
}


def _unbalanced(client: Client, generation: int) -> list[Broken]:
    rows = client.query(_UNBALANCED.format(generation=generation, limit=BROKEN_MAX)).result_rows
    return [Broken("I3", f"hour {hour}, campaign {campaign}") for hour, campaign in rows]
