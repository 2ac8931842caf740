"""Rule packs: every threshold that a rule reads, as versioned data, and what they say of what was seen."""

import tomllib
from functools import cached_property
from typing import Protocol

import msgspec
from msgspec import Struct

from domain.pack_check import EXPIRED, contradictions
from domain.pack_tables import CountPoint, PackData, ViewRule
from domain.reasons import Reason
from domain.standing import Viewabilities, Viewability
from domain.vocabulary import Format, Surface


class PackError(ValueError):
    """A rule pack cannot be used; the text names file, key and reason, a line per problem."""


class Pack(PackData, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """One version of the rules' data, with what is looked up in it."""

    @cached_property
    def id(self) -> str:
        """Name and version: what every decision names."""
        return f"{self.name}-{self.version}"

    def count_point_of(self, surface: Surface, fmt: Format) -> CountPoint:
        """Return how impressions of *surface* and *fmt* are counted; a pack without it is refused when parsed."""
        return self._points[surface][fmt]

    def lateness_of(self, age_ms: int) -> str:
        """Return the class of what was received *age_ms* after it was served; `expired` beyond the last class."""
        for late in self.lateness:
            if age_ms <= late.within_ms:
                return late.name
        return EXPIRED

    def has_idled(self, idle_ms: int) -> bool:
        """Tell whether *idle_ms* without a repeat end a flood, so that what was counted of it is written down."""
        return idle_ms >= self.repeats_idle_ms

    @cached_property
    def accuses(self) -> dict[str, Reason]:
        """Signal -> the reason of class sivt of which it accuses."""
        return {one.signal: one.reason for one in self.accusation}

    @cached_property
    def requires_fields(self) -> bool:
        """Whether any surface requires more than the agent, so that what else is missing must be looked at."""
        return any(set(point.required) - {"agent"} for point in self.count_point)

    @cached_property
    def rules_by_format(self) -> dict[Format, tuple[ViewRule, ...]]:
        return {fmt: tuple(rule for rule in self.view_rule if rule.format is fmt) for fmt in Format}

    @cached_property
    def _points(self) -> dict[Surface, dict[Format, CountPoint]]:
        points: dict[Surface, dict[Format, CountPoint]] = {}
        for point in self.count_point:
            points.setdefault(point.surface, {})[point.format] = point
        return points


def parse_pack(text: str, source: str) -> Pack:
    """
    Return the rule pack in *text* (TOML).

    Raises:
        PackError: naming *source*, the key and what is wrong with it.
    """
    try:
        pack = msgspec.convert(tomllib.loads(text), Pack)
    except tomllib.TOMLDecodeError as error:
        raise PackError(f"{source}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise PackError(f"{source}: {error}") from error
    if problems := [f"{source}: {problem}" for problem in contradictions(pack)]:
        raise PackError("\n".join(problems))
    return pack


class Measured(Protocol):
    """What a client measured of one impression on the screen: a render's event says so, and a view."""

    @property
    def format(self) -> Format: ...

    @property
    def area_px(self) -> int | None: ...

    @property
    def visible_ratio(self) -> float | None: ...

    @property
    def visible_ms(self) -> int | None: ...

    @property
    def duration_ms(self) -> int | None: ...

    @property
    def clicked(self) -> bool: ...


class Measures(Struct, frozen=True, kw_only=True):
    """`Measured`, of a view."""

    format: Format
    area_px: int | None = None
    visible_ratio: float | None = None
    visible_ms: int | None = None
    duration_ms: int | None = None
    clicked: bool = False


def judge_view(measures: Measured, pack: Pack) -> Viewabilities:
    """Return what each viewability pack says of *measures*; packs that lack a measure say nothing."""
    verdicts: Viewabilities = {}
    area_px = measures.area_px or 0
    for rule in pack.rules_by_format[measures.format]:
        if area_px >= rule.area_min_px and ((below_px := rule.area_below_px) is None or area_px < below_px):
            said = _apply(rule, measures)
            if said is not None:
                verdicts[rule.name] = said
    return verdicts


def _apply(rule: ViewRule, measures: Measured) -> Viewability | None:
    """The pixel test precedes the time test."""
    if rule.click_counts and measures.clicked:
        return Viewability.VIEWABLE
    ratio = measures.visible_ratio
    if ratio is None:
        return None
    if ratio < rule.ratio:
        return Viewability.NOT_VIEWABLE
    visible_ms, share, duration_ms = measures.visible_ms, rule.duration_share, measures.duration_ms
    if visible_ms is None or (share and not duration_ms):
        return None
    needed_ms = max(rule.visible_ms, share * (duration_ms or 0)) if share else rule.visible_ms
    return Viewability.VIEWABLE if visible_ms >= needed_ms else Viewability.NOT_VIEWABLE


def merge_views(known: Viewabilities, said: Viewabilities) -> Viewabilities:
    """Return *known* moved on by *said*: undetermined -> not_viewable -> viewable, never back."""
    moved = {
        name: view
        for name, view in said.items()
        if view is not known.get(name) and known.get(name) is not Viewability.VIEWABLE
    }
    return {**known, **moved} if moved else known
