"""
What stands in a rule pack's file: one struct per table, each value with its type and bounds.

Durations in ms, areas in CSS px or dp, ratios and shares in [0, 1]. A key that is not here is refused.
"""

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias, get_args

from msgspec import Meta, Struct

from domain.rates import RateRules
from domain.reasons import Reason
from domain.vocabulary import CountingMethod, Evidence, Format, OmidType, Surface

Natural: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 53)]
Ratio: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
Name: TypeAlias = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,31}$")]
"""Names stand in stored events and in the texts of the tables, between blanks and before `+` or `-`."""

Expected: TypeAlias = Literal["client_at", "width", "height", "sdk", "user", "device", "agent"]
EXPECTED: tuple[str, ...] = get_args(Expected)
"""Fields of a render whose absence is recorded, in the order in which a render's event names them."""

TABLE_MAX = 64
"""Most entries of one table."""


class OmidProof(StrEnum):
    """What an `impressionType` of OMID says of how far rendering came."""

    NOTHING = "nothing"
    NOT_BEGUN = "not_begun"
    BEGUN = "begun"
    SHOWN = "shown"
    """On the screen, not only rendered: it ends a prefetch."""


class CountPoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How impressions of one surface and format are counted, by what proof, and what its absence means.

    Without one of the fields *required* a render is EVIDENCE_INCOMPLETE; `agent` is missing when the lists call it
    absent.
    """

    surface: Surface
    format: Format
    method: CountingMethod
    evidence: Evidence
    absent: Reason
    required: Annotated[tuple[Expected, ...], Meta(max_length=len(EXPECTED))]


class ViewRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    When an impression of *format* is viewable under the viewability pack *name*.

    Reads: at least `ratio` of the area for at least `visible_ms` ms without a break, or for `duration_share` of the
    creative's duration where that is longer. Applies to areas of `area_min_px` and more, below `area_below_px`.
    """

    name: Name
    format: Format
    ratio: Ratio
    visible_ms: Natural = 0
    duration_share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    area_min_px: Natural = 0
    area_below_px: Natural | None = None
    click_counts: bool = False


class Lateness(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A class of lateness: received at most `within_ms` after it was served, and later than the class before."""

    name: Name
    within_ms: Natural


class Signals(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From where on what a client says of geometry or of itself is a signal; alone it decides nothing."""

    visible_longer_ms: Natural
    video_longer_ratio: Annotated[float, Meta(ge=1, le=1_000_000)]
    stack_depth_max: Natural
    inconsistencies_max: Natural

    def is_visible_too_long(self, visible_ms: int, open_ms: int) -> bool:
        """Tell whether *visible_ms* is longer than the *open_ms* between serving and receipt can hold."""
        return visible_ms - open_ms > self.visible_longer_ms

    def is_video_too_long(self, visible_ms: int, duration_ms: int) -> bool:
        """Tell whether a video of *duration_ms* was seen more often in a row than a feed repeats one."""
        return visible_ms > self.video_longer_ratio * duration_ms

    def is_stacked(self, depth: int) -> bool:
        """Tell whether *depth* ads, this one among them, are too many for one place at one time."""
        return depth > self.stack_depth_max

    def is_inconsistent(self, inconsistencies: int) -> bool:
        """Tell whether a device contradicts itself more often than one of a person does."""
        return inconsistencies > self.inconsistencies_max


class Accusation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which reason, of class sivt, a signal accuses an impression; it takes a second, independent signal."""

    signal: Name
    reason: Reason


class PackData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """All that stands in the file of one version of the rules' data."""

    name: Name
    version: Annotated[int, Meta(ge=1, le=1_000_000)]
    token_age_max_ms: Natural
    clock_ahead_max_ms: Natural
    late_after_ms: Natural
    clock_skew_max_ms: Natural
    area_invisible_max_px: Natural
    double_fire_window_ms: Natural
    view_money_max_ms: Natural
    repeats_kept_max: Natural
    repeats_idle_ms: Natural
    resolve_within_ms: dict[Reason, Natural]
    signals: Signals
    rates: RateRules
    omid: dict[OmidType, OmidProof]
    lateness: Annotated[tuple[Lateness, ...], Meta(min_length=1, max_length=TABLE_MAX)]
    accusation: Annotated[tuple[Accusation, ...], Meta(max_length=TABLE_MAX)]
    count_point: Annotated[tuple[CountPoint, ...], Meta(max_length=TABLE_MAX)]
    view_rule: Annotated[tuple[ViewRule, ...], Meta(min_length=1, max_length=TABLE_MAX)]
