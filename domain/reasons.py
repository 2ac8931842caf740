"""Verdicts, and the reasons for them in order of precedence."""

from enum import StrEnum


class Verdict(StrEnum):
    VALID = "valid"
    DROPPED = "dropped"
    DUPLICATE = "duplicate"
    UNCERTAIN = "uncertain"


class ReasonClass(StrEnum):
    """Decides where a reason is counted: givt, sivt and undecided are gross, the others stand beside it."""

    REQUEST = "request"
    NOT_COUNTED = "not_counted"
    POLICY = "policy"
    DUPLICATE = "duplicate"
    GIVT = "givt"
    SIVT = "sivt"
    UNDECIDED = "undecided"


class Reason(StrEnum):
    """Why an impression is not (yet) valid. The order of members is the order of precedence."""

    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105 (a reason, no password)
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105
    REGION_MISDIRECTED = "REGION_MISDIRECTED"
    EVENT_ID_REUSED = "EVENT_ID_REUSED"
    PREFETCHED = "PREFETCHED"
    NOT_BEGUN = "NOT_BEGUN"
    OUTSIDE_FLIGHT = "OUTSIDE_FLIGHT"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    CAMPAIGN_UNKNOWN = "CAMPAIGN_UNKNOWN"
    DUPLICATE_RENDER = "DUPLICATE_RENDER"
    DUPLICATE_CONFLICT = "DUPLICATE_CONFLICT"
    DOUBLE_FIRE = "DOUBLE_FIRE"
    AGENT_DECLARED_BOT = "AGENT_DECLARED_BOT"
    AGENT_NOT_A_BROWSER = "AGENT_NOT_A_BROWSER"
    NETWORK_DATA_CENTRE = "NETWORK_DATA_CENTRE"
    AREA_INVISIBLE = "AREA_INVISIBLE"
    DEVICE_NOT_RENDERING = "DEVICE_NOT_RENDERING"
    RATE_ABUSIVE = "RATE_ABUSIVE"
    RISK_HIGH = "RISK_HIGH"
    VIEW_FALSIFIED = "VIEW_FALSIFIED"
    STACKED = "STACKED"
    OMID_UNPROVEN = "OMID_UNPROVEN"
    EVIDENCE_INCOMPLETE = "EVIDENCE_INCOMPLETE"
    REGISTRY_BEHIND = "REGISTRY_BEHIND"
    RISK_GREY = "RISK_GREY"
    CLOCK_SKEWED = "CLOCK_SKEWED"
    LATE = "LATE"
    DEGRADED = "DEGRADED"


_MEMBERS: dict[ReasonClass, tuple[Reason, ...]] = {
    ReasonClass.REQUEST: (
        Reason.TOKEN_INVALID,
        Reason.TOKEN_EXPIRED,
        Reason.REGION_MISDIRECTED,
        Reason.EVENT_ID_REUSED,
    ),
    ReasonClass.NOT_COUNTED: (Reason.PREFETCHED, Reason.NOT_BEGUN),
    ReasonClass.POLICY: (Reason.OUTSIDE_FLIGHT, Reason.BUDGET_EXHAUSTED, Reason.CAMPAIGN_UNKNOWN),
    ReasonClass.DUPLICATE: (Reason.DUPLICATE_RENDER, Reason.DUPLICATE_CONFLICT, Reason.DOUBLE_FIRE),
    ReasonClass.GIVT: (
        Reason.AGENT_DECLARED_BOT,
        Reason.AGENT_NOT_A_BROWSER,
        Reason.NETWORK_DATA_CENTRE,
        Reason.AREA_INVISIBLE,
        Reason.DEVICE_NOT_RENDERING,
        Reason.RATE_ABUSIVE,
    ),
    ReasonClass.SIVT: (Reason.RISK_HIGH, Reason.VIEW_FALSIFIED, Reason.STACKED),
    ReasonClass.UNDECIDED: (
        Reason.OMID_UNPROVEN,
        Reason.EVIDENCE_INCOMPLETE,
        Reason.REGISTRY_BEHIND,
        Reason.RISK_GREY,
        Reason.CLOCK_SKEWED,
        Reason.LATE,
        Reason.DEGRADED,
    ),
}

CLASS_OF: dict[Reason, ReasonClass] = {reason: cls for cls, members in _MEMBERS.items() for reason in members}
PRECEDENCE: dict[Reason, int] = {reason: index for index, reason in enumerate(Reason)}
