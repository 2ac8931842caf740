"""
What is looked at, and what counts as found: surely more than chance, and enough to matter.

Each SDK version on each surface is compared with the other versions there, in four ways at once; the false-discovery
rate is controlled over all of them together, look by look. A difference that is sure and small is not found.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

FALSE_DISCOVERY_RATE = 0.01
_EVERYWHERE = ""


class Check(StrEnum):
    LOST = "lost"
    """Served, time to render over, never heard of: of all served."""
    MISSING_NUMBERS = "missing_numbers"
    """Numbers that a session skipped and nobody sent: of all numbers judged."""
    DOUBLE_FIRES = "double_fires"
    """Impressions that show the same ad in the same slot again: of all heard of."""
    DUPLICATE_RENDERS = "duplicate_renders"
    """Renders of an impression that had rendered: of all renders."""


class Terms(Struct, frozen=True):
    """What makes a difference matter: this much more than elsewhere (a share), seen in so many trials."""

    excess_min: float
    trials_min: int


TERMS: Mapping[Check, Terms] = {
    Check.LOST: Terms(0.02, 200),
    Check.MISSING_NUMBERS: Terms(0.01, 200),
    Check.DOUBLE_FIRES: Terms(0.005, 200),
    Check.DUPLICATE_RENDERS: Terms(0.02, 200),
}


class Series(Struct, frozen=True):
    """Hits and trials of one SDK version on one surface, minute by minute."""

    check: Check
    surface: str
    sdk: str
    hits: Sequence[int]
    trials: Sequence[int]


class Finding(Struct, frozen=True, kw_only=True):
    """
    What a look says of one SDK version on one surface. Shares are in [0, 1].

    `p_value` is the chance of such an excess if there were none, `q_value` adjusted for how many were tested; both are
    None, and `found` false, where nothing could be tested: then `untested` says why.
    """

    check: Check
    surface: str
    sdk: str
    hits: int
    trials: int
    share: float
    rest_share: float | None = None
    excess: float | None = None
    dispersion: float = 1.0
    p_value: float | None = None
    q_value: float | None = None
    found: bool = False
    lasting: bool = False
    """It would still be a reason to keep an alarm: sure, and at least half of what matters."""
    untested: str = ""


class _Cell(Struct, frozen=True):
    series: Series
    hits: int
    trials: int
    rest_hits: int
    rest_trials: int


def judge(
    series: Sequence[Series], rate: float = FALSE_DISCOVERY_RATE, terms: Mapping[Check, Terms] = TERMS
) -> list[Finding]:
    """Return one finding per series, in order; of those found, at most a share *rate* is false on average."""
    from ml.monitors.proportions import dispersion, excess_p_values, false_discovery  # noqa: PLC0415 (0.8 s, 60 MB)

    cells = _with_rests(series, terms)
    scatter = {check: dispersion([(s.hits, s.trials) for s in series if s.check is check]) for check in Check}
    tested = [at for at, cell in enumerate(cells) if not _why_not(cell, terms)]
    p_values = excess_p_values(
        ([cells[at].hits for at in tested], [cells[at].trials for at in tested]),
        ([cells[at].rest_hits for at in tested], [cells[at].rest_trials for at in tested]),
        [scatter[cells[at].series.check] for at in tested],
    )
    q_values = false_discovery(p_values)
    chances = dict(zip(tested, zip(map(float, p_values), map(float, q_values), strict=True), strict=True))
    return [
        _finding(cell, chances.get(at), scatter[cell.series.check].factor, (rate, terms))
        for at, cell in enumerate(cells)
    ]


def _with_rests(series: Sequence[Series], terms: Mapping[Check, Terms]) -> list[_Cell]:
    """Put beside each the other versions on its surface or, where they are too few, all others."""
    own = [(sum(one.hits), sum(one.trials)) for one in series]
    sums: dict[tuple[Check, str], list[int]] = defaultdict(lambda: [0, 0])
    for one, (hits, trials) in zip(series, own, strict=True):
        for where in (one.surface, _EVERYWHERE):
            sums[one.check, where][0] += hits
            sums[one.check, where][1] += trials
    cells = []
    for one, (hits, trials) in zip(series, own, strict=True):
        here, all_ = sums[one.check, one.surface], sums[one.check, _EVERYWHERE]
        rest = here if here[1] - trials >= terms[one.check].trials_min else all_
        cells.append(_Cell(one, hits, trials, rest[0] - hits, rest[1] - trials))
    return cells


def _why_not(cell: _Cell, terms: Mapping[Check, Terms]) -> str:
    least = terms[cell.series.check].trials_min
    if cell.trials < least:
        return f"fewer than {least} to look at"
    return f"fewer than {least} elsewhere to compare with" if cell.rest_trials < least else ""


def _finding(
    cell: _Cell,
    chances: tuple[float, float] | None,
    scatter: float,
    limits: tuple[float, Mapping[Check, Terms]],
) -> Finding:
    one = cell.series
    share = cell.hits / cell.trials if cell.trials else 0.0
    known = Finding(check=one.check, surface=one.surface, sdk=one.sdk, hits=cell.hits, trials=cell.trials, share=share)
    rate, terms = limits
    if chances is None:
        return replace(known, untested=_why_not(cell, terms))
    p_value, q_value = chances
    rest_share = cell.rest_hits / cell.rest_trials
    excess, matters = share - rest_share, terms[one.check].excess_min
    return replace(
        known,
        rest_share=rest_share,
        excess=excess,
        dispersion=scatter,
        p_value=p_value,
        q_value=q_value,
        found=q_value <= rate and excess >= matters,
        lasting=q_value <= rate and excess >= matters / 2,
    )
