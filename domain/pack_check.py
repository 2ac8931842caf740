"""What a rule pack may not say although each of its values is one: gaps and contradictions."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

from domain.pack_tables import CountPoint, PackData, ViewRule
from domain.reasons import CLASS_OF, Reason, ReasonClass
from domain.vocabulary import CountingMethod, Evidence, Format, OmidType, Surface

EXPIRED = "expired"
"""The class of lateness beyond the last; what is that late has no class of the pack."""
VIEW_NAMES_MAX = 8
"""Most viewability packs judged at once: a report names no more."""

_DEADLINES = frozenset(reason for reason, cls in CLASS_OF.items() if cls is ReasonClass.UNDECIDED)
_UNPROVEN = (Reason.OMID_UNPROVEN, Reason.EVIDENCE_INCOMPLETE)
"""What a missing proof may mean: with any other reason the impression would count without it."""
_PROVES = {
    CountingMethod.ON_SCREEN: {Evidence.ON_SCREEN_AT},
    CountingMethod.BEGIN_TO_RENDER: {Evidence.OMID, Evidence.ON_SCREEN_AT},
    CountingMethod.DELIVERY: {Evidence.REQUEST},
}
"""Counting method -> what proves it: what was on the screen has begun, what has begun need not be on the screen."""


def contradictions(pack: PackData) -> Iterator[str]:
    """Yield one sentence per gap or contradiction, each beginning with the key that it is about."""
    yield from _thresholds(pack)
    yield from _deadlines(pack)
    yield from _lateness(pack)
    yield from _omid(pack)
    yield from _accusations(pack)
    yield from _count_points(pack)
    yield from _view_rules(pack)


def _thresholds(pack: PackData) -> Iterator[str]:
    if pack.late_after_ms >= pack.token_age_max_ms:
        yield (
            f"late_after_ms: {pack.late_after_ms} must be less than token_age_max_ms ({pack.token_age_max_ms}): "
            "what is late would always be expired"
        )
    if pack.view_money_max_ms > pack.token_age_max_ms:
        yield (
            f"view_money_max_ms: {pack.view_money_max_ms} may be at most token_age_max_ms ({pack.token_age_max_ms}): "
            "later views are expired"
        )


def _deadlines(pack: PackData) -> Iterator[str]:
    if missing := sorted(reason.value for reason in _DEADLINES - pack.resolve_within_ms.keys()):
        yield f"resolve_within_ms: no deadline for {', '.join(missing)}"
    for reason in sorted(pack.resolve_within_ms.keys() - _DEADLINES):
        yield f"resolve_within_ms: {reason.value} is decided at once and has no deadline"


def _lateness(pack: PackData) -> Iterator[str]:
    yield from _twice("lateness", (late.name for late in pack.lateness))
    for before, after in pairwise(pack.lateness):
        if after.within_ms <= before.within_ms:
            yield f"lateness: {after.name}: within_ms must be more than that of {before.name} ({before.within_ms})"
    if EXPIRED in {late.name for late in pack.lateness}:
        yield f"lateness: {EXPIRED}: the name of what is later than all classes"
    ends = {late.within_ms for late in pack.lateness}
    if pack.late_after_ms not in ends:
        yield f"lateness: no class ends at late_after_ms ({pack.late_after_ms}), so one would be LATE in part"
    if pack.lateness[-1].within_ms != pack.token_age_max_ms:
        yield f"lateness: the last class must end at token_age_max_ms ({pack.token_age_max_ms})"


def _omid(pack: PackData) -> Iterator[str]:
    if missing := [omid.value for omid in OmidType if omid not in pack.omid]:
        yield f"omid: says nothing of {', '.join(missing)}"


def _accusations(pack: PackData) -> Iterator[str]:
    yield from _twice("accusation", (one.signal for one in pack.accusation))
    for one in pack.accusation:
        if CLASS_OF[one.reason] is not ReasonClass.SIVT:
            yield f"accusation: {one.signal}: {one.reason.value} is no reason of class sivt"


def _count_points(pack: PackData) -> Iterator[str]:
    points = {(point.surface, point.format) for point in pack.count_point}
    for surface in Surface:
        for fmt in Format:
            if (surface, fmt) not in points:
                yield f"count_point: none for surface {surface.value!r} and format {fmt.value!r}"
    yield from _twice("count_point", (f"{point.surface.value} {point.format.value}" for point in pack.count_point))
    for point in pack.count_point:
        for problem in _count_point(point):
            yield f"count_point: {point.surface.value} {point.format.value}: {problem}"


def _count_point(point: CountPoint) -> Iterator[str]:
    if point.absent not in _UNPROVEN:
        yield f"absent must be one of {', '.join(_UNPROVEN)}"
    elif point.absent is Reason.OMID_UNPROVEN and point.evidence is not Evidence.OMID:
        yield f"absent: OMID_UNPROVEN, but the evidence is {point.evidence.value}"
    if point.evidence not in _PROVES[point.method]:
        yield f"evidence: {point.evidence.value} does not prove {point.method.value}"
    if len(set(point.required)) < len(point.required):
        yield "required: a field stands twice"


def _view_rules(pack: PackData) -> Iterator[str]:
    rules: dict[tuple[str, Format], list[ViewRule]] = {}
    for rule in pack.view_rule:
        rules.setdefault((rule.name, rule.format), []).append(rule)
    if len({name for name, _ in rules}) > VIEW_NAMES_MAX:
        yield f"view_rule: more than {VIEW_NAMES_MAX} names"
    for fmt in sorted(set(Format) - {fmt for _, fmt in rules}):
        yield f"view_rule: none for format {fmt.value!r}"
    for (name, fmt), group in rules.items():
        for problem in (*_areas(group), *_times(group)):
            yield f"view_rule: {name} {fmt.value}: {problem}"


def _areas(rules: list[ViewRule]) -> Iterator[str]:
    """The rules of one name and format must cover every area exactly once."""
    ordered = sorted(rules, key=lambda rule: rule.area_min_px)
    covered: int | None = 0
    for rule in ordered:
        if covered is None or rule.area_min_px < covered:
            yield f"areas from {rule.area_min_px} px on stand in two rules"
        elif rule.area_min_px > covered:
            yield f"no rule for areas from {covered} to below {rule.area_min_px} px"
        if rule.area_below_px is not None and rule.area_below_px <= rule.area_min_px:
            yield f"area_below_px: {rule.area_below_px} must be more than area_min_px ({rule.area_min_px})"
        covered = rule.area_below_px
    if covered is not None:
        yield f"no rule for areas from {covered} px on"


def _times(rules: list[ViewRule]) -> Iterator[str]:
    for rule in rules:
        if not rule.visible_ms and not rule.duration_share:
            yield "neither visible_ms nor duration_share says for how long"
        if rule.duration_share and rule.format is not Format.VIDEO:
            yield "duration_share: only a video has a duration"


def _twice(table: str, names: Iterable[str]) -> Iterator[str]:
    for name, times in Counter(names).items():
        if times > 1:
            yield f"{table}: {name} stands {times} times"
