"""What was served and what of it was heard of, as it follows from the ledger alone; the tables are compared with it."""

from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

from msgspec import Struct

from domain.events import ImpressionDeduped, ImpressionEvent, ImpressionRendered
from domain.ids import ImpressionId, minted_at
from domain.reasons import Reason, ReasonClass
from domain.sequences import SequencesCounted
from domain.serves import AdsServed
from domain.vocabulary import DataSet
from ledger.codec import decode
from ledger.store import Commit

HOUR_MS = 3_600_000
SERVED = (
    "served",
    "served_micros",
    "heard",
    "rendered",
    "rendered_micros",
    "double_fires",
    "duplicate_renders",
)

_Key: TypeAlias = tuple[str, str, int]


class ServedTotals(Struct, kw_only=True):
    """`served` per data set, campaign and hour of serving; `reports` and `sequences` over all."""

    served: dict[_Key, Counter[str]]
    reports: Counter[str]
    sequences: Counter[str]


def add_counts(totals: ServedTotals, commit: Commit) -> None:
    """Add what *commit*, which is no impression's, counts."""
    for event in decode(commit.data):
        if isinstance(event, AdsServed):
            _add_report(totals, event)
        elif isinstance(event, SequencesCounted):
            for count in event.counts:
                sums = (count.numbers, count.missing, count.filled, count.repeats, count.restarts)
                names = ("numbers", "missing", "filled", "repeats", "restarts")
                _add(totals.sequences, dict(zip(names, sums, strict=True)), f"{count.surface.value} {count.sdk} ")


def add_renders(totals: ServedTotals, impression: ImpressionId, events: Iterable[ImpressionEvent]) -> None:
    """Add what the whole stream of *impression* says of its serving."""
    first: ImpressionDeduped | None = None
    sums: Counter[str] = Counter()
    price_micros = 0
    for event in events:
        match event:
            case ImpressionRendered():
                price_micros = event.price_micros
            case ImpressionDeduped():
                first = first or event
                _add_decision(sums, event, price_micros)
            case _:
                pass
    if first is not None:
        _add(_total(totals, first.cut.data_set, first.cut.campaign, minted_at(impression)), sums)


def _add_decision(sums: Counter[str], event: ImpressionDeduped, price_micros: int) -> None:
    """An impression is heard of by its first decision, and rendered by the first that is not `not_counted`."""
    before = None if event.before is None else event.before.reason_class
    after = event.after.reason_class
    sums["heard"] += event.before is None
    if (event.before is None or before is ReasonClass.NOT_COUNTED) and after is not ReasonClass.NOT_COUNTED:
        sums["rendered"] += 1
        sums["rendered_micros"] += price_micros
        sums["double_fires"] += event.after.reason is Reason.DOUBLE_FIRE
    elif event.before is not None:
        sums["duplicate_renders"] += event.renders


def _add_report(totals: ServedTotals, event: AdsServed) -> None:
    for count in event.counts:
        total = _total(totals, DataSet.LIVE, count.campaign, event.minute)
        total["served"] += count.served
        total["served_micros"] += count.micros
        totals.reports["served"] += count.served
        totals.reports["served_micros"] += count.micros
    totals.reports["reports"] += 1
    totals.reports["kinds"] += len(event.counts)


def _total(totals: ServedTotals, data_set: DataSet, campaign: str, at: int) -> Counter[str]:
    return totals.served.setdefault((data_set.value, campaign, at - at % HOUR_MS), Counter())


def _add(total: Counter[str], sums: dict[str, int] | Counter[str], prefix: str = "") -> None:
    for name, number in sums.items():
        total[prefix + name] += number
