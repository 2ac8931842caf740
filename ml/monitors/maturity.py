"""
Labels as they come in: are those there that should be by now, and do they say what the risks said?

Both compare labels seen with labels expected of decisions of every age, as if each source went on as in the training:
arrival expects `rate` x arrived(age) of every decision, whatever its risk; calibration expects risk x `caught` x
arrived(age). So late labels are no miscalibration, and a model that is off is no late source. Decisions are read in
pages of neighbours, which share fate; the ratio's error is that between pages (Taylor linearisation of a ratio of
cluster totals; Cochran, Sampling Techniques, 6.13).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from scipy import stats

from ml.monitors.checks import TERMS, Check, Measured, Terms
from ml.monitors.reference import LabelCurve
from ml.monitors.rows import Floats

EXPECTED_MIN = 20.0
"""With fewer labels to be expected nothing is said of their number."""
PAGES_MIN = 10
LATE_AT = 0.05
"""A source that is behind at this level of chance does not judge the model."""
RANGES = ((0.0, 0.1), (0.1, 0.5), (0.5, 1.0))


class Aged(NamedTuple):
    """
    *n* decisions of every age that a model scored, and what labels they have by now.

    `age_ms` counts from the decision; `page` numbers the pages in which they were read; `labelled` (n, sources) is true
    where that source calls it invalid.
    """

    risk: Floats
    age_ms: Floats
    page: NDArray[np.int64]
    labelled: NDArray[np.bool_]


class Ratio(NamedTuple):
    """Seen by expected, and its standard error over *pages* pages."""

    seen: float
    expected: float
    value: float
    error: float
    pages: int


def arrivals(aged: Aged, curves: Sequence[LabelCurve], terms: Mapping[Check, Terms] = TERMS) -> list[Measured]:
    """Return for each source how many of its labels are there; fewer than there should be is an excess."""
    return [_arrival(aged, (at, curve), terms[Check.LABEL_ARRIVAL]) for at, curve in enumerate(curves)]


def late(measured: Collection[Measured]) -> set[str]:
    """Return the sources that are behind, by `arrivals`."""
    return {
        one.subject
        for one in measured
        if one.check is Check.LABEL_ARRIVAL and one.p_value is not None and one.p_value < LATE_AT
    }


def calibrations(
    aged: Aged, curves: Sequence[LabelCurve], late_sources: Collection[str], terms: Mapping[Check, Terms] = TERMS
) -> list[Measured]:
    """Return for all risks and for each of `RANGES` how many labels are there of those that the risks promise."""
    trusted = [(at, curve) for at, curve in enumerate(curves) if curve.source.value not in late_sources]
    return list(_calibrations(aged, trusted, terms[Check.CALIBRATION]))


def ratio_of(seen: Floats, expected: Floats, page: NDArray[np.int64]) -> Ratio:
    """Return the ratio of both sums, whose error is that between pages."""
    _, of_row = np.unique(page, return_inverse=True)
    seen_by, expected_by = (np.bincount(of_row, weights=column) for column in (seen, expected))
    pages, whole = len(seen_by), float(expected.sum())
    if whole <= 0 or pages < 2:
        return Ratio(float(seen.sum()), whole, np.nan, np.inf, pages)
    value = float(seen.sum()) / whole
    left = seen_by - value * expected_by
    error = float(np.sqrt(pages / (pages - 1) * (left**2).sum())) / whole
    return Ratio(float(seen.sum()), whole, value, max(error, float(np.sqrt(1 / whole))), pages)


def _arrival(aged: Aged, source: tuple[int, LabelCurve], terms: Terms) -> Measured:
    at, curve = source
    expected = curve.rate * curve.delays.arrived_by(aged.age_ms)
    ratio = ratio_of(aged.labelled[:, at].astype(np.float64), expected, aged.page)
    seen = _seen(Check.LABEL_ARRIVAL, curve.source.value, len(aged.risk), ratio)
    if why := _why_not(seen.trials, ratio, terms):
        return replace(seen, untested=why)
    p_value = float(stats.t.cdf((ratio.value - 1) / ratio.error, ratio.pages - 1))
    return replace(seen, expected=1.0, excess=1.0 - ratio.value, p_value=p_value)


def _calibrations(aged: Aged, trusted: Sequence[tuple[int, LabelCurve]], terms: Terms) -> Iterator[Measured]:
    labels, promised = np.zeros(len(aged.risk)), np.zeros(len(aged.risk))
    for at, curve in trusted:
        labels += aged.labelled[:, at]
        promised += aged.risk * curve.caught * curve.delays.arrived_by(aged.age_ms)
    for low, high in ((0.0, 1.0), *RANGES):
        within = (aged.risk > low) & (aged.risk <= high) if low else aged.risk <= high
        ratio = ratio_of(labels[within], promised[within], aged.page[within])
        seen = _seen(Check.CALIBRATION, f"risk {low:g} to {high:g}", int(within.sum()), ratio)
        why = _why_not(seen.trials, ratio, terms) if trusted else "the labels of every source are late"
        yield replace(seen, untested=why) if why else _calibration(seen, ratio)


def _calibration(seen: Measured, ratio: Ratio) -> Measured:
    p_value = float(2 * stats.t.sf(abs(ratio.value - 1) / ratio.error, ratio.pages - 1))
    times_off = max(ratio.value, 1 / max(ratio.value, 1 / ratio.expected))
    return replace(seen, expected=1.0, excess=times_off - 1, p_value=p_value)


def _seen(check: Check, subject: str, trials: int, ratio: Ratio) -> Measured:
    value = ratio.value if np.isfinite(ratio.value) else 0.0
    says = f"{ratio.seen:,.0f} labels, {ratio.expected:,.0f} expected"
    return Measured(check=check, subject=subject, trials=trials, value=value, says=says)


def _why_not(rows: int, ratio: Ratio, terms: Terms) -> str:
    if rows < terms.trials_min:
        return f"fewer than {terms.trials_min} to look at"
    if ratio.pages < PAGES_MIN:
        return f"fewer than {PAGES_MIN} pages to look at"
    return f"fewer than {EXPECTED_MIN:g} labels to be expected" if ratio.expected < EXPECTED_MIN else ""
