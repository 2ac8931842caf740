"""Closed lists of the field: surfaces, formats, evidence, rungs, authorities, label sources."""

from enum import IntEnum, StrEnum


class Surface(StrEnum):
    FEED = "feed"
    INSTAGRAM = "instagram"
    REELS = "reels"
    AUDIENCE_NETWORK = "audience_network"
    PIXEL = "pixel"
    """A plain image beacon, counted on delivery; replayed access logs are this."""


class Format(StrEnum):
    DISPLAY = "display"
    VIDEO = "video"


class OmidType(StrEnum):
    """`impressionType` of the Open Measurement SDK."""

    UNSPECIFIED = "unspecified"
    DEFINED_BY_JAVASCRIPT = "definedByJavaScript"
    LOADED = "loaded"
    BEGIN_TO_RENDER = "beginToRender"
    ONE_PIXEL = "onePixel"
    VIEWABLE = "viewable"
    AUDIBLE = "audible"
    OTHER = "other"


class CountingMethod(StrEnum):
    ON_SCREEN = "on_screen"
    BEGIN_TO_RENDER = "begin_to_render"
    DELIVERY = "delivery"


class Evidence(StrEnum):
    """What proves that rendering began."""

    ON_SCREEN_AT = "on_screen_at"
    OMID = "omid"
    REQUEST = "request"
    NONE = "none"


class BillingEvent(StrEnum):
    IMPRESSION = "impression"
    VIEWABLE = "viewable"


class DataSet(StrEnum):
    LIVE = "live"
    REPLAY = "replay"
    """Replayed history: kept out of retention and statements."""


class Rung(StrEnum):
    """How degraded the system was when it decided, in order of severity; `domain/ladder.py` says what each means."""

    FULL = "full"
    NO_ASYNC = "no_async"
    PARTIAL_CLIENT = "partial_client"
    PARTIAL_COUNTERS = "partial_counters"
    MODEL_FALLBACK = "model_fallback"
    SHED = "shed"
    STALE_LISTS = "stale_lists"
    STALE_REGISTRY = "stale_registry"
    STALE_BUDGET = "stale_budget"
    SPOOLED = "spooled"
    SHELTERED = "sheltered"


class AgentClass(StrEnum):
    """What the lists say of a user agent."""

    BROWSER = "browser"
    DECLARED_BOT = "declared_bot"
    NOT_A_BROWSER = "not_a_browser"
    ABSENT = "absent"


class NetworkClass(StrEnum):
    """What the lists say of a network address."""

    EYEBALL = "eyeball"
    DATA_CENTRE = "data_centre"
    VPN = "vpn"
    RELAY = "relay"
    """A way out that people take on purpose; like a VPN no ground to drop anything."""
    ABSENT = "absent"


class Authority(IntEnum):
    """Who may overrule whom: a correction of lower authority than the one in force is refused evidence."""

    EXPIRY = 0
    MODEL = 1
    THIRD_PARTY = 2
    REDECISION = 3
    """Honeypot, or the decision made again under another list or pack."""
    SDK_BUG = 4
    REVIEW = 5
    """Human review, or the outcome of a dispute."""


class LabelSource(StrEnum):
    """Where a label comes from; the system's own verdict is none of them."""

    HONEYPOT = "honeypot"
    SDK_BUG = "sdk_bug"
    DECLARED_BOT = "declared_bot"
    HUMAN_REVIEW = "human_review"
    ACCOUNT_ACTION = "account_action"
    THIRD_PARTY = "third_party"
    HUMAN_SIGNAL = "human_signal"
    DISPUTE = "dispute"
    PUBLISHER_BAN = "publisher_ban"
    VIEW = "view"


class Label(StrEnum):
    INVALID = "invalid"
    HUMAN = "human"
    INSTRUMENTATION = "instrumentation"
    """A fault of an SDK, whoever was in front of it: says nothing of person or bot."""
    VIEWABLE = "viewable"
    NOT_VIEWABLE = "not_viewable"
