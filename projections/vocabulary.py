"""What a report can be asked for: closed lists, so that nothing of a question becomes SQL but names that stand here."""

from enum import StrEnum

from domain.reasons import Reason, ReasonClass, Verdict
from domain.vocabulary import BillingEvent, CountingMethod, DataSet, Evidence, Format, Surface


class Dimension(StrEnum):
    """Named as the columns of the tables are."""

    CAMPAIGN = "campaign"
    ADVERTISER = "advertiser"
    CREATIVE = "creative"
    PLACEMENT = "placement"
    PUBLISHER = "publisher"
    SURFACE = "surface"
    FORMAT = "format"
    REGION = "region"
    CURRENCY = "currency"
    BILLING_EVENT = "billing_event"
    COUNTING_METHOD = "counting_method"
    EVIDENCE = "evidence"
    SDK = "sdk"
    COUNTRY = "country"
    AUTO_REFRESH = "auto_refresh"
    DATA_SET = "data_set"
    VERDICT = "verdict"
    REASON = "reason"
    REASON_CLASS = "reason_class"


VALUES: dict[Dimension, frozenset[str]] = {
    Dimension.SURFACE: frozenset(Surface),
    Dimension.FORMAT: frozenset(Format),
    Dimension.BILLING_EVENT: frozenset(BillingEvent),
    Dimension.COUNTING_METHOD: frozenset(CountingMethod),
    Dimension.EVIDENCE: frozenset(Evidence),
    Dimension.AUTO_REFRESH: frozenset({"true", "false"}),
    Dimension.DATA_SET: frozenset(DataSet),
    Dimension.VERDICT: frozenset(Verdict),
    Dimension.REASON: frozenset({"", *Reason}),
    Dimension.REASON_CLASS: frozenset({"", *ReasonClass}),
}
"""Dimensions with a closed list of values; the others take any text."""


class Metric(StrEnum):
    """
    `gross` = `net` + `givt` + `sivt` + `undecided`; the counts after them stand beside gross.

    Rates are shares in [0, 1], or nothing where there is nothing to take a share of.
    """

    GROSS = "gross"
    NET = "net"
    GIVT = "givt"
    SIVT = "sivt"
    UNDECIDED = "undecided"
    DUPLICATES = "duplicates"
    NOT_COUNTED = "not_counted"
    POLICY = "policy"
    DUPLICATE_RENDERS = "duplicate_renders"
    BILLABLE_MICROS = "billable_micros"
    RESERVED_MICROS = "reserved_micros"
    DECISION_RATE = "decision_rate"
    """Decided (net, givt or sivt) of gross."""
    VIEWABLE = "viewable"
    NOT_VIEWABLE = "not_viewable"
    MEASURED_RATE = "measured_rate"
    """Viewable or not viewable, of net."""
    VIEWABLE_RATE = "viewable_rate"
    """Viewable, of measured."""


VIEW_METRICS = frozenset({Metric.VIEWABLE, Metric.NOT_VIEWABLE, Metric.MEASURED_RATE, Metric.VIEWABLE_RATE})
"""Metrics of net impressions under a viewability pack; each stands once per pack, as `viewable.mrc`."""


class Granularity(StrEnum):
    NONE = "none"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
