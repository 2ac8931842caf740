"""
The degradation ladder: what can be missing, what is done instead, and what that does to verdicts.

Every decision names its worst rung, and the others in force beside it. `Rung` stands in order of severity: first what
costs a signal, then what costs the score, then what the screen or the money rests on, then what costs the verdict.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct

from domain.events import ImpressionRendered
from domain.vocabulary import Rung


class Step(Struct, frozen=True, kw_only=True):
    """One rung. `covers` are milder ones that say nothing once this one is in force: nobody names them then."""

    rung: Rung
    missing: str
    instead: str
    verdicts: str
    covers: tuple[Rung, ...] = ()


LADDER: tuple[Step, ...] = (
    Step(
        rung=Rung.FULL,
        missing="nothing",
        instead="everything took part",
        verdicts="as the rule pack says",
    ),
    Step(
        rung=Rung.NO_ASYNC,
        missing="signals that arrive by themselves (publishers' rates, trust in accounts)",
        instead="scored without them",
        verdicts="the grey band is wider",
    ),
    Step(
        rung=Rung.PARTIAL_CLIENT,
        missing="what the client measures: area, visible share, visible time",
        instead="scored without them; what it did send is still screened",
        verdicts="no signal comes from measures that are not there; the grey band is wider",
    ),
    Step(
        rung=Rung.PARTIAL_COUNTERS,
        missing="counters: cold, failing or too slow",
        instead="judged by what they know for certain, else without them",
        verdicts="`RATE_ABUSIVE` and signals of rate and rhythm may be missed, never wrongly raised",
    ),
    Step(
        rung=Rung.MODEL_FALLBACK,
        missing="the model: none yet, corrupt, or with a wrong hash",
        instead="the model before it, else rules only",
        verdicts="nothing is dropped by score; what the model before finds risky is `uncertain`",
        covers=(Rung.NO_ASYNC,),
    ),
    Step(
        rung=Rung.SHED,
        missing="time: renders wait too long",
        instead="screen, counters and dedup on all; scoring skipped for a share of those that nothing stands against",
        verdicts="`RISK_GREY` may be missed until the render is scored before its period is closed",
        covers=(Rung.NO_ASYNC, Rung.MODEL_FALLBACK),
    ),
    Step(
        rung=Rung.STALE_LISTS,
        missing="lists refreshed within 7 days",
        instead="the old ones, and an alarm",
        verdicts="as those lists say",
    ),
    Step(
        rung=Rung.STALE_REGISTRY,
        missing="the registry of campaigns, for over 60 s",
        instead="its last copy",
        verdicts="what only the copy speaks against is `uncertain`, `REGISTRY_BEHIND`",
    ),
    Step(
        rung=Rung.STALE_BUDGET,
        missing="the store of budget leases",
        instead="admitted up to a bound that the campaign's page states",
        verdicts="beyond the bound `uncertain`, `DEGRADED`",
    ),
    Step(
        rung=Rung.SPOOLED,
        missing="the ledger: slow or down",
        instead="kept in the spool, brought in and decided again once it is back",
        verdicts="`uncertain`, `DEGRADED`, unless the render itself speaks against it",
        covers=(Rung.NO_ASYNC, Rung.PARTIAL_COUNTERS, Rung.MODEL_FALLBACK, Rung.SHED, Rung.STALE_BUDGET),
    ),
    Step(
        rung=Rung.SHELTERED,
        missing="the region's home cell",
        instead="another cell keeps the sealed body, unread, and forwards it",
        verdicts="`uncertain` until the home cell has decided",
        covers=tuple(rung for rung in Rung if rung not in {Rung.FULL, Rung.SHELTERED}),
    ),
)
"""In order of severity."""

SEVERITY: dict[Rung, int] = {step.rung: place for place, step in enumerate(LADDER)}
_COVERS = {step.rung: frozenset(step.covers) for step in LADDER}


class Named(NamedTuple):
    """The worst of several rungs, and the others that say something beside it, worst first."""

    rung: Rung
    beside: tuple[Rung, ...]


@lru_cache(maxsize=4_096)
def name_rungs(*rungs: Rung) -> Named:
    """Return how a decision names *rungs*, all of which are in force; `full` where there are none."""
    standing = set(rungs) - {Rung.FULL}
    named = standing.difference(*(_COVERS[rung] for rung in standing))
    ordered = sorted(named, key=SEVERITY.__getitem__, reverse=True) or [Rung.FULL]
    return Named(ordered[0], tuple(ordered[1:]))


def worst(rungs: Iterable[Rung]) -> Rung:
    """Return the worst of *rungs*, `full` where there are none."""
    return max(rungs, key=SEVERITY.__getitem__, default=Rung.FULL)


def is_measured(rendered: ImpressionRendered) -> bool:
    """Tell whether the client sent all that it can measure; without it the rung is `partial_client`."""
    return rendered.visible_ratio is not None and rendered.visible_ms is not None and rendered.area_px is not None
