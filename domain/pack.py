"""Rule packs: every threshold that a rule reads, as versioned data."""

import tomllib
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from domain.reasons import CLASS_OF, Reason, ReasonClass
from domain.standing import Viewabilities, Viewability
from domain.vocabulary import CountingMethod, Evidence, Format, Surface

Natural: TypeAlias = Annotated[int, Meta(ge=0)]
Ratio: TypeAlias = Annotated[float, Meta(gt=0, le=1)]

_REQUIRED_DEADLINES = frozenset(reason for reason, cls in CLASS_OF.items() if cls is ReasonClass.UNDECIDED)

_UNPROVEN = (Reason.OMID_UNPROVEN, Reason.EVIDENCE_INCOMPLETE)
"""What a missing proof may mean: with any other reason the impression would count without it."""


class PackError(ValueError):
    """A rule pack cannot be used; the text names file, key and reason."""


class CountPoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How impressions of one surface and format are counted, by what proof, and what its absence means."""

    surface: Surface
    format: Format
    method: CountingMethod
    evidence: Evidence
    absent: Reason


class ViewRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    When an impression of *format* is viewable under the viewability pack *name*.

    Reads: at least `ratio` of the area for at least `visible_ms` ms without a break, or for `duration_share` of the
    creative's duration where that is longer. Applies to areas of `area_min_px` and more, below `area_below_px`.
    """

    name: str
    format: Format
    ratio: Ratio
    visible_ms: Natural = 0
    duration_share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    area_min_px: Natural = 0
    area_below_px: int | None = None
    click_counts: bool = False


class Pack(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of the rules' data. Durations in ms, areas in CSS px or dp."""

    name: str
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
    count_point: list[CountPoint]
    view_rule: list[ViewRule]
    points: dict[Surface, dict[Format, CountPoint]] = {}
    """`count_point`, to be looked up; no key of a pack."""

    def __post_init__(self) -> None:
        points: dict[Surface, dict[Format, CountPoint]] = {}
        for point in self.count_point:
            points.setdefault(point.surface, {})[point.format] = point
        msgspec.structs.force_setattr(self, "points", points)

    def count_point_of(self, surface: Surface, fmt: Format) -> CountPoint:
        """Return how impressions of *surface* and *fmt* are counted; a pack without it is refused when parsed."""
        return self.points[surface][fmt]


def parse_pack(text: str, source: str) -> Pack:
    """
    Return the rule pack in *text* (TOML).

    Raises:
        PackError: naming *source*, the key and what is wrong with it.
    """
    try:
        data = tomllib.loads(text)
        if "points" in data:
            raise PackError(f"{source}: Object contains unknown field `points`")
        pack = msgspec.convert(data, Pack)
    except tomllib.TOMLDecodeError as error:
        raise PackError(f"{source}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise PackError(f"{source}: {error}") from error
    for problem in _gaps(pack):
        raise PackError(f"{source}: {problem}")
    return pack


def _gaps(pack: Pack) -> list[str]:
    points = {(point.surface, point.format) for point in pack.count_point}
    gaps = [
        f"count_point: none for surface {surface.value!r} and format {fmt.value!r}"
        for surface in Surface
        for fmt in Format
        if (surface, fmt) not in points
    ]
    if len(points) < len(pack.count_point):
        gaps.append("count_point: a surface and format stands twice")
    gaps += [
        f"count_point: {point.surface.value} {point.format.value}: absent must be one of {', '.join(_UNPROVEN)}"
        for point in pack.count_point
        if point.absent not in _UNPROVEN
    ]
    if missing := sorted(reason.value for reason in _REQUIRED_DEADLINES - pack.resolve_within_ms.keys()):
        gaps.append(f"resolve_within_ms: no deadline for {', '.join(missing)}")
    return gaps


class Measures(Struct, frozen=True, kw_only=True):
    """What a client measured of one impression on the screen."""

    format: Format
    area_px: int | None = None
    visible_ratio: float | None = None
    visible_ms: int | None = None
    duration_ms: int | None = None
    clicked: bool = False


def judge_view(measures: Measures, pack: Pack) -> Viewabilities:
    """Return what each viewability pack says of *measures*; packs that lack a measure say nothing."""
    verdicts: Viewabilities = {}
    for rule in pack.view_rule:
        if rule.format is measures.format and _covers(rule, measures.area_px):
            said = _apply(rule, measures)
            if said is not None:
                verdicts[rule.name] = said
    return verdicts


def _covers(rule: ViewRule, area_px: int | None) -> bool:
    if area_px is None:
        return rule.area_min_px == 0
    return area_px >= rule.area_min_px and (rule.area_below_px is None or area_px < rule.area_below_px)


def _apply(rule: ViewRule, measures: Measures) -> Viewability | None:
    """The pixel test precedes the time test."""
    if rule.click_counts and measures.clicked:
        return Viewability.VIEWABLE
    if measures.visible_ratio is None:
        return None
    if measures.visible_ratio < rule.ratio:
        return Viewability.NOT_VIEWABLE
    if measures.visible_ms is None or (rule.duration_share and measures.duration_ms is None):
        return None
    needed_ms = max(rule.visible_ms, rule.duration_share * (measures.duration_ms or 0))
    return Viewability.VIEWABLE if measures.visible_ms >= needed_ms else Viewability.NOT_VIEWABLE


def merge_views(known: Viewabilities, said: Viewabilities) -> Viewabilities:
    """Return *known* moved on by *said*: undetermined -> not_viewable -> viewable, never back."""
    moved = {
        name: view
        for name, view in said.items()
        if view is not known.get(name) and known.get(name) is not Viewability.VIEWABLE
    }
    return {**known, **moved} if moved else known
