"""What each metric of a report is: its columns, their SQL over the tables, and its definition in a few words."""

from collections.abc import Mapping
from types import MappingProxyType

from domain.reasons import CLASS_OF, Reason
from projections.vocabulary import BY_REASON, REFUSED_METRICS, VIEW_METRICS, Metric

DEFINITIONS: Mapping[Metric, str] = MappingProxyType(
    {
        Metric.GROSS: "net + givt + sivt + undecided",
        Metric.NET: "valid impressions",
        Metric.GIVT: "impressions dropped as general invalid traffic",
        Metric.SIVT: "impressions dropped as sophisticated invalid traffic",
        Metric.UNDECIDED: "uncertain impressions, expired ones among them",
        Metric.EXPIRED: "undecided impressions whose deadline has passed",
        Metric.GIVT_BY_REASON: "givt by deciding reason",
        Metric.SIVT_BY_REASON: "sivt by deciding reason",
        Metric.UNDECIDED_BY_REASON: "undecided by deciding reason",
        Metric.DUPLICATES: "double fires: ad instances that repeat another one",
        Metric.DUPLICATE_RENDERS: "further renders of impressions that stand already",
        Metric.NOT_COUNTED: "ad instances not begun to render",
        Metric.NOT_COUNTED_BY_REASON: "not_counted by deciding reason",
        Metric.POLICY: "impressions outside flight, budget or known campaigns",
        Metric.POLICY_BY_REASON: "policy by deciding reason",
        Metric.REFUSED: "renders refused as requests",
        Metric.REFUSED_BY_REASON: "refused by reason",
        Metric.BILLABLE_MICROS: "billable micros of valid impressions",
        Metric.RESERVED_MICROS: "micros that wait for a decision or a view",
        Metric.DECISION_RATE: "(gross - undecided) / gross",
        Metric.INVALID_RATE: "(givt + sivt) / gross",
        Metric.GIVT_RATE: "givt / gross",
        Metric.SIVT_RATE: "sivt / gross",
        Metric.MEASURED: "viewable + not_viewable",
        Metric.VIEWABLE: "net impressions viewable under the pack",
        Metric.NOT_VIEWABLE: "net impressions measured and not viewable under the pack",
        Metric.UNDETERMINED: "net - measured",
        Metric.MEASURED_RATE: "measured / net",
        Metric.VIEWABLE_RATE: "viewable / measured",
        Metric.VIEWABLE_SHARE: "viewable / net",
    }
)
"""Short enough to stand in every answer; docs/reports.md has the sources."""

_GROSS, _NET = "sum(gross)", "sum(net)"
_SAID = "sumIf(net, position(viewability, {{{word}_{number}:String}}) > 0)"
_RATES: Mapping[Metric, tuple[str, str]] = {
    Metric.DECISION_RATE: (f"{_GROSS} - sum(undecided)", _GROSS),
    Metric.INVALID_RATE: ("sum(givt) + sum(sivt)", _GROSS),
    Metric.GIVT_RATE: ("sum(givt)", _GROSS),
    Metric.SIVT_RATE: ("sum(sivt)", _GROSS),
}


def columns_of(metric: Metric, packs: tuple[str, ...]) -> list[tuple[str, str]]:
    """
    Return names of the columns that *metric* adds to a row, each with its SQL.

    SQL on the n-th of *packs* reads the parameters that `pack_parameters` gives it.
    """
    if metric in VIEW_METRICS:
        return [(f"{metric.value}.{pack}", _view(metric, number)) for number, pack in enumerate(packs)]
    if metric in BY_REASON:
        return _by_reason(metric)
    if metric in _RATES:
        return [(metric.value, _rate(*_RATES[metric]))]
    if metric is Metric.EXPIRED:
        return [(metric.value, "sumIf(impressions, expired)")]
    return [(metric.value, f"sum({metric.value})")]


def pack_parameters(packs: tuple[str, ...]) -> dict[str, str]:
    """Return the words that stand in `viewability` where a pack says yes or no, see `projections.rows.spell`."""
    words = [("yes", "+"), ("no", "-")]
    return {f"{word}_{number}": f" {pack}{mark} " for number, pack in enumerate(packs) for word, mark in words}


def _by_reason(metric: Metric) -> list[tuple[str, str]]:
    cls = BY_REASON[metric]
    prefix, summed = ("refused", "refused") if metric in REFUSED_METRICS else (cls.value, "impressions")
    return [
        (f"{prefix}.{reason.value}", f"sumIf({summed}, reason = '{reason.value}')")
        for reason in Reason
        if CLASS_OF[reason] is cls
    ]


def _view(metric: Metric, number: int) -> str:
    yes, no = (_SAID.format(word=word, number=number) for word in ("yes", "no"))
    measured = f"{yes} + {no}"
    return {
        Metric.MEASURED: measured,
        Metric.VIEWABLE: yes,
        Metric.NOT_VIEWABLE: no,
        Metric.UNDETERMINED: f"{_NET} - {yes} - {no}",
        Metric.MEASURED_RATE: _rate(measured, _NET),
        Metric.VIEWABLE_RATE: _rate(yes, measured),
        Metric.VIEWABLE_SHARE: _rate(yes, _NET),
    }[metric]


def _rate(part: str, whole: str) -> str:
    return f"if({whole} = 0, NULL, ({part}) / ({whole}))"
