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
    What a report can count; `projections/metrics.py` says how each is made, docs/reports.md in whole sentences.

    Rates and shares are in [0, 1], or nothing where there is nothing to take a share of.
    """

    GROSS = "gross"
    NET = "net"
    GIVT = "givt"
    SIVT = "sivt"
    UNDECIDED = "undecided"
    EXPIRED = "expired"
    GIVT_BY_REASON = "givt_by_reason"
    SIVT_BY_REASON = "sivt_by_reason"
    UNDECIDED_BY_REASON = "undecided_by_reason"
    DUPLICATES = "duplicates"
    DUPLICATE_RENDERS = "duplicate_renders"
    NOT_COUNTED = "not_counted"
    NOT_COUNTED_BY_REASON = "not_counted_by_reason"
    POLICY = "policy"
    POLICY_BY_REASON = "policy_by_reason"
    REFUSED = "refused"
    REFUSED_BY_REASON = "refused_by_reason"
    BILLABLE_MICROS = "billable_micros"
    RESERVED_MICROS = "reserved_micros"
    DECISION_RATE = "decision_rate"
    INVALID_RATE = "invalid_rate"
    GIVT_RATE = "givt_rate"
    SIVT_RATE = "sivt_rate"
    MEASURED = "measured"
    VIEWABLE = "viewable"
    NOT_VIEWABLE = "not_viewable"
    UNDETERMINED = "undetermined"
    MEASURED_RATE = "measured_rate"
    VIEWABLE_RATE = "viewable_rate"
    VIEWABLE_SHARE = "viewable_share"


IDENTITY = (Metric.GROSS, Metric.NET, Metric.GIVT, Metric.SIVT, Metric.UNDECIDED)
"""The first is the sum of the others, in every cut."""

USUAL = (
    *IDENTITY,
    Metric.DECISION_RATE,
    Metric.INVALID_RATE,
    Metric.DUPLICATES,
    Metric.DUPLICATE_RENDERS,
    Metric.NOT_COUNTED,
    Metric.POLICY,
)
"""What a report tells unless asked for something else: what is gross, and what stands beside it."""

VIEW_METRICS = frozenset(
    {
        Metric.MEASURED,
        Metric.VIEWABLE,
        Metric.NOT_VIEWABLE,
        Metric.UNDETERMINED,
        Metric.MEASURED_RATE,
        Metric.VIEWABLE_RATE,
        Metric.VIEWABLE_SHARE,
    }
)
"""Metrics of net impressions under a viewability pack; each stands once per pack, as `viewable.mrc`."""

MONEY_METRICS = frozenset({Metric.BILLABLE_MICROS, Metric.RESERVED_MICROS})
REFUSED_METRICS = frozenset({Metric.REFUSED, Metric.REFUSED_BY_REASON})
"""Metrics of renders that touched no impression: nothing is known of them but time and reason."""

RATES = frozenset(
    {
        Metric.DECISION_RATE,
        Metric.INVALID_RATE,
        Metric.GIVT_RATE,
        Metric.SIVT_RATE,
        Metric.MEASURED_RATE,
        Metric.VIEWABLE_RATE,
        Metric.VIEWABLE_SHARE,
    }
)
"""They do not add up; everything else does."""

BY_REASON: dict[Metric, ReasonClass] = {
    Metric.GIVT_BY_REASON: ReasonClass.GIVT,
    Metric.SIVT_BY_REASON: ReasonClass.SIVT,
    Metric.UNDECIDED_BY_REASON: ReasonClass.UNDECIDED,
    Metric.NOT_COUNTED_BY_REASON: ReasonClass.NOT_COUNTED,
    Metric.POLICY_BY_REASON: ReasonClass.POLICY,
    Metric.REFUSED_BY_REASON: ReasonClass.REQUEST,
}
"""Each stands once per reason of its class, as `givt.RATE_ABUSIVE`."""


class Granularity(StrEnum):
    NONE = "none"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
