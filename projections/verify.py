"""
Do the tables say what the ledger says? Compares every total with a fold of the ledger, to the unit.

The tables are read through any client of `clickhouse_connect`: in process, on a server, or the desk's loopback address.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec import Struct

from ledger.store import EventStore
from projections.engine import Client
from projections.fold import BROKEN_MAX, Broken, Key, Totals, fold_ledger

LISTED_MAX = 1_000

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
"""
_SUMS = """
SELECT toString(data_set), campaign, toInt64(toUnixTimestamp(toStartOfHour({at}))) * 1000 AS hour_ms, {views}, {sums}
FROM {source} GROUP BY data_set, campaign, hour_ms, {views}
"""
_ANSWERS = """
SELECT toString(reason), sum(refused), sum(unmoved) FROM answers_{generation:d} GROUP BY reason
"""
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
    Compare the tables of *generation* with the ledger up to position *through*, which they have reached and not passed.

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
    ):
        if table == "answers":
            ledger: Totals = {_NOWHERE: folded.answers}
            found = await asyncio.to_thread(_answers, client, generation)
        else:
            ledger = folded.totals
            found = await asyncio.to_thread(_totals, client, _sql(table, metrics, generation), metrics)
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
    return table == "answers" or name in metrics or (name.startswith("net ") and table != "pacing_minute")


def _sql(table: str, metrics: Sequence[str], generation: int) -> str:
    source = f"{table}_{generation:d}"
    if table == "impressions":
        source = f"({_STANDINGS.format(generation=generation)})"
    at = {"report_hour": "hour", "pacing_minute": "minute"}.get(table, "event_at")
    views = "''" if table == "pacing_minute" else "viewability"
    return _SUMS.format(at=at, views=views, sums=", ".join(f"sum({name})" for name in metrics), source=source)


def _totals(client: Client, sql: str, metrics: Sequence[str]) -> Totals:
    totals: Totals = {}
    with client.query_rows_stream(sql) as rows:
        for data_set, campaign, hour, views, *values in rows:
            total = totals.setdefault((data_set, campaign, hour), Counter())
            for metric, value in zip(metrics, values, strict=True):
                total[metric] += int(value)
                if metric == "net" and views:
                    total[f"net{views}"] += int(value)
    return totals


def _answers(client: Client, generation: int) -> Totals:
    found: Counter[str] = Counter()
    for reason, refused, unmoved in client.query(_ANSWERS.format(generation=generation)).result_rows:
        found[str(reason) or "unmoved"] += int(refused) + int(unmoved)
    return {_NOWHERE: found}


def _unbalanced(client: Client, generation: int) -> list[Broken]:
    rows = client.query(_UNBALANCED.format(generation=generation, limit=BROKEN_MAX)).result_rows
    return [Broken("I3", f"hour {hour}, campaign {campaign}") for hour, campaign in rows]
