"""Each SDK version on each surface beside the other versions there: shares of what is lost or fired twice."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ml.monitors.checks import CLIENT_CHECKS, TERMS, Check, Measured, Terms

_EVERYWHERE = ""


class Series(Struct, frozen=True):
    """Hits and trials of one SDK version on one surface, minute by minute."""

    check: Check
    surface: str
    sdk: str
    hits: Sequence[int]
    trials: Sequence[int]


class _Cell(Struct, frozen=True):
    series: Series
    hits: int
    trials: int
    rest_hits: int
    rest_trials: int


def versions_apart(series: Sequence[Series], terms: Mapping[Check, Terms] = TERMS) -> list[Measured]:
    """Return how much each of *series* is over the other versions, in order."""
    from ml.monitors.proportions import dispersion, excess_p_values  # noqa: PLC0415 (0.8 s, 60 MB)

    cells = _with_rests(series, terms)
    scatter = {check: dispersion([(s.hits, s.trials) for s in series if s.check is check]) for check in CLIENT_CHECKS}
    tested = [at for at, cell in enumerate(cells) if not _why_not(cell, terms)]
    p_values = excess_p_values(
        ([cells[at].hits for at in tested], [cells[at].trials for at in tested]),
        ([cells[at].rest_hits for at in tested], [cells[at].rest_trials for at in tested]),
        [scatter[cells[at].series.check] for at in tested],
    )
    chances = dict(zip(tested, map(float, p_values), strict=True))
    return [
        _tested(cell, chances[at], scatter[cell.series.check].factor)
        if at in chances
        else untested(cell.series, _why_not(cell, terms))
        for at, cell in enumerate(cells)
    ]


def untested(series: Series, why: str) -> Measured:
    """Return what can be said of *series* where it cannot be compared."""
    hits, trials = sum(series.hits), sum(series.trials)
    return Measured(
        check=series.check,
        surface=series.surface,
        subject=series.sdk,
        trials=trials,
        value=hits / trials if trials else 0.0,
        untested=why,
    )


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


def _tested(cell: _Cell, p_value: float, scatter: float) -> Measured:
    expected = cell.rest_hits / cell.rest_trials
    known = untested(cell.series, "")
    return replace(known, expected=expected, excess=known.value - expected, dispersion=scatter, p_value=p_value)
