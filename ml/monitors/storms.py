"""Many findings of one cause are one: a model on traffic unlike its training moves most features at once."""

from collections import defaultdict
from collections.abc import Sequence

from msgspec.structs import replace

from ml.monitors.checks import Check, Finding

STORM_FROM = 8
"""So many features of a surface that are found at once become one finding."""
_BY_FEATURE = frozenset({Check.FEATURE_SHIFT, Check.FEATURE_MISSING, Check.FEATURE_STALE})
_NAMED = 5


def gathered(findings: Sequence[Finding]) -> list[Finding]:
    """
    Return *findings*, and one without a subject for each check and surface that has many, in their place.

    Its value and excess are those of the feature that is farthest off; the others are still told, as not found.
    """
    cells: dict[tuple[Check, str], list[Finding]] = defaultdict(list)
    for one in findings:
        if one.check in _BY_FEATURE and one.lasting:
            cells[one.check, one.surface].append(one)
    storms = {cell: _storm(members) for cell, members in cells.items() if 2 * len(members) >= STORM_FROM}
    raging = {cell for cell, storm in storms.items() if storm.found}
    calm = [replace(one, found=False, lasting=False) if (one.check, one.surface) in raging else one for one in findings]
    return [*calm, *storms.values()]


def _storm(members: Sequence[Finding]) -> Finding:
    worst = sorted(members, key=lambda one: -(one.excess or 0.0))
    found = sum(one.found for one in members)
    named = ", ".join(one.subject for one in worst[:_NAMED])
    return replace(
        worst[0],
        subject="",
        found=found >= STORM_FROM,
        lasting=True,
        says=f"{found} features at once, most of all {named}",
    )
