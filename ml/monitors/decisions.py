"""A window of decisions beside the training of the model that made them: features, scores, shares, performance."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
from msgspec.structs import replace

from ml.features.matrix import STALE, TIMEOUT
from ml.monitors.changes import changed_at, told
from ml.monitors.checks import TERMS, Check, Measured, Terms
from ml.monitors.estimates import fall
from ml.monitors.proportions import INDEPENDENT, Dispersion, dispersion, excess_p_values, over_limit_p_value
from ml.monitors.reference import Reference
from ml.monitors.shifts import DRAWS, Scatter, distance, distance_p_value, homogeneity, scatter_of, shift
from ml.monitors.tallies import (
    CLIENTS_MAX,
    DECADES,
    NO_VALUE,
    RISK_CENTRES,
    SHARES,
    SURFACES,
    Bins,
    Counts,
    Tally,
    median_of,
    stacked,
    total,
)

GREY_MAX = 0.03
"""Source: the design's section 11, uncertain at most 3 % when everything is at hand."""
_SCORE_GROUPS = 10
_SURE = 1e-4
_LOG_ODDS = np.log(RISK_CENTRES / (1 - RISK_CENTRES))


class Window:
    """
    *slices* of decisions in *bins*, and the *reference* that they are compared with, whose bins those are.

    *times* (epoch ms) are those of the slices, if it is to be told since when scores differ.
    """

    def __init__(
        self,
        reference: Reference,
        bins: Bins,
        slices: Sequence[Tally],
        times: Sequence[int] = (),
        terms: Mapping[Check, Terms] = TERMS,
    ) -> None:
        self._bins = bins
        self._times = times
        self._then = reference.tally
        self._slices = stacked(slices, len(bins.names))
        self._now = total(slices, len(bins.names))
        self._terms = terms

    def measured(self) -> list[Measured]:
        """Return every series of every check; those with too little to look at as untested."""
        return [*chain.from_iterable(self._of_surface(at) for at in range(len(SURFACES)) if self._is_used(at))]

    def _is_used(self, at: int) -> bool:
        return bool(self._now.states[at].any())

    def _of_surface(self, at: int) -> Iterator[Measured]:
        for feature in range(len(self._bins.names)):
            yield self._feature_shift(at, feature)
            yield self._state_share(Check.FEATURE_MISSING, at, feature)
            yield self._state_share(Check.FEATURE_STALE, at, feature)
        yield from self._client_units(at)
        yield from self._scores(at)
        yield from self._shares(at)

    def _feature_shift(self, at: int, feature: int) -> Measured:
        now, then = self._now.features[at, feature], self._then.features[at, feature]
        seen = _series(Check.FEATURE_SHIFT, (at, self._bins.names[feature]), now)
        if why := self._why_not(seen, int(then.sum())):
            return replace(seen, untested=why)
        scatter = scatter_of(self._slices.features[:, at, feature])
        return _shifted(seen, self._bins, feature, (now, then, scatter))

    def _state_share(self, check: Check, at: int, feature: int) -> Measured:
        """Compare how often the feature's value is absent, or of yesterday, with how often it was."""
        slices, then = (_hits(check, one, at, feature) for one in (self._slices, self._then))
        return self._excess(check, (at, self._bins.names[feature]), slices, then)

    def _excess(self, check: Check, cell: tuple[int, str], slices: Counts, then: Counts) -> Measured:
        """Compare the share of hits in *slices* (t, hits and trials) with that of *then*."""
        seen, hits = _share(check, cell, slices)
        if why := self._why_not(seen, int(then[1])):
            return replace(seen, untested=why)
        scatter = _scatter_of(slices)
        [p_value] = excess_p_values(([hits], [seen.trials]), ([int(then[0])], [int(then[1])]), [scatter])
        expected = int(then[0]) / int(then[1])
        return replace(
            seen,
            expected=expected,
            excess=seen.value - expected,
            dispersion=scatter.factor,
            p_value=float(p_value),
        )

    def _client_units(self, at: int) -> Iterator[Measured]:
        """Compare the size of what each SDK version measures with that of the others on its surface."""
        versions = {sdk: counts for (place, sdk), counts in self._now.clients.items() if place == at}
        largest = sorted(versions, key=lambda sdk: (-int(versions[sdk].sum()), sdk))[:CLIENTS_MAX]
        for place, feature in enumerate(self._bins.clients):
            scatter = scatter_of(self._slices.features[:, at, feature, :NO_VALUE])
            counts = {sdk: versions[sdk][place] for sdk in largest}
            for sdk, (now, rest) in _set_apart(counts).items():
                seen = _series(Check.CLIENT_UNIT, (at, f"{sdk} {self._bins.names[feature]}"), now)
                why = self._why_not(seen, int(rest.sum()))
                yield replace(seen, untested=why) if why else _apart(seen, (now, rest), scatter)

    def _scores(self, at: int) -> Iterator[Measured]:
        now, then = self._now.risks[at], self._then.risks[at]
        if not now.any():
            return
        scatter = scatter_of(_grouped(self._slices.risks[:, at], then)) if then.any() else DRAWS
        moved = self._score_shift(_series(Check.SCORE_SHIFT, (at, ""), now), (now, then), scatter)
        yield self._dated(moved, at)
        yield self._performance(_series(Check.PERFORMANCE, (at, ""), now), (now, then), scatter)

    def _score_shift(self, seen: Measured, risks: tuple[Counts, Counts], scatter: Scatter) -> Measured:
        if why := self._why_not(seen, int(risks[1].sum())):
            return replace(seen, untested=why)
        far = distance(*risks)
        p_value = distance_p_value(far, [float(one.sum()) for one in risks], scatter.factor)
        return replace(seen, value=far, excess=far, dispersion=scatter.factor, p_value=p_value)

    def _dated(self, moved: Measured, at: int) -> Measured:
        """Say since when, of a shift that will surely be found."""
        matters = self._terms[Check.SCORE_SHIFT].excess_min
        if not self._times or moved.p_value is None or moved.p_value > _SURE or moved.value < matters:
            return moved
        risks = self._slices.risks[:, at]
        filled = np.flatnonzero(risks.sum(axis=1))
        odds = risks[filled] @ _LOG_ODDS / risks[filled].sum(axis=1)
        return replace(moved, says=told(changed_at(odds), [self._times[place] for place in filled.tolist()]))

    def _performance(self, seen: Measured, risks: tuple[Counts, Counts], scatter: Scatter) -> Measured:
        if why := self._why_not(seen, int(risks[1].sum())):
            return replace(seen, untested=why)
        fell = fall(*risks, scatter.factor)
        return replace(
            seen,
            value=fell.now,
            expected=fell.then,
            excess=fell.then - fell.now,
            dispersion=scatter.factor,
            p_value=fell.p_value,
        )

    def _shares(self, at: int) -> Iterator[Measured]:
        for place, check in enumerate(SHARES):
            slices = self._slices.shares[:, at, place]
            if slices.any():
                is_grey, then = check is Check.GREY, self._then.shares[at, place]
                yield self._grey(at, slices) if is_grey else self._excess(check, (at, ""), slices, then)

    def _grey(self, at: int, slices: Counts) -> Measured:
        seen, hits = _share(Check.GREY, (at, ""), slices)
        if why := self._why_not(seen):
            return replace(seen, untested=why)
        scatter = _scatter_of(slices)
        return replace(
            seen,
            expected=GREY_MAX,
            excess=seen.value - GREY_MAX,
            dispersion=scatter.factor,
            p_value=over_limit_p_value(hits, seen.trials, GREY_MAX, scatter),
        )

    def _why_not(self, seen: Measured, then: int | None = None) -> str:
        least = self._terms[seen.check].trials_min
        if seen.trials < least:
            return f"fewer than {least} to look at"
        return f"fewer than {least} to compare with" if then is not None and then < least else ""


def _set_apart(versions: dict[str, Counts]) -> dict[str, tuple[Counts, Counts]]:
    """
    Put beside the counts of each version those of the others that are less far from the rest than itself.

    So one that is wrong is compared with those that are right, and these not with it. Of two that differ from each
    other alike, the one with fewer rows is the odd one.
    """
    whole = np.sum(list(versions.values()), axis=0)
    known = {sdk: counts for sdk, counts in versions.items() if 0 < counts.sum() < whole.sum()}
    far = {sdk: abs(median_of(counts) - median_of(whole - counts)) for sdk, counts in known.items()}
    apart, rest = {}, whole
    for sdk in sorted(known, key=lambda one: (-far[one], int(known[one].sum()), one)):
        rest = rest - known[sdk]
        apart[sdk] = known[sdk], rest
    return apart


def _apart(seen: Measured, counts: tuple[Counts, Counts], scatter: Scatter) -> Measured:
    now, rest = counts
    own, others = median_of(now), median_of(rest)
    return replace(
        seen,
        value=own - others,
        expected=0.0,
        excess=abs(own - others),
        dispersion=scatter.factor,
        p_value=homogeneity(now, rest, scatter),
        says=f"median about {_size(own)}, elsewhere {_size(others)}",
    )


def _size(decades: float) -> str:
    return "0" if decades < DECADES[0] else f"{10**decades:.2g}"


def _series(check: Check, cell: tuple[int, str], counts: Counts) -> Measured:
    at, subject = cell
    return Measured(check=check, surface=SURFACES[at].value, subject=subject, trials=int(counts.sum()), value=0.0)


def _share(check: Check, cell: tuple[int, str], slices: Counts) -> tuple[Measured, int]:
    """Return the share of hits in *slices* (t, hits and trials), and how many there are."""
    at, subject = cell
    hits, trials = map(int, slices.sum(axis=0))
    share = hits / trials if trials else 0.0
    return Measured(check=check, surface=SURFACES[at].value, subject=subject, trials=trials, value=share), hits


def _shifted(seen: Measured, bins: Bins, feature: int, counts: tuple[Counts, Counts, Scatter]) -> Measured:
    now, then, scatter = counts
    found = shift(now, then, scatter)
    return replace(
        seen,
        value=found.psi,
        excess=found.psi,
        dispersion=found.dispersion,
        p_value=found.p_value,
        says=_bin_says(bins, feature, found.bin, (now, then)),
    )


def _hits(check: Check, tally: Tally, at: int, feature: int) -> Counts:
    """
    Return hits and trials, (..., 2), of one tally or of several that are stacked.

    A value counts as missing only where one was asked for and not merely unknown yet.
    """
    if check is Check.FEATURE_MISSING:
        binned = tally.features[..., at, feature, :]
        return np.stack([binned[..., NO_VALUE], binned.sum(axis=-1)], axis=-1)
    states = tally.states[..., at, feature, :]
    return np.stack([states[..., STALE] + states[..., TIMEOUT], states.sum(axis=-1)], axis=-1)


def _scatter_of(slices: Counts) -> Dispersion:
    hits, trials = slices[:, 0].tolist(), slices[:, 1].tolist()
    return dispersion([(hits, trials)]) if len(slices) > 1 else INDEPENDENT


def _grouped(risks: Counts, then: Counts) -> Counts:
    """Put bins of risk (t, RISK_BINS) together into some ten of equal weight *then*."""
    below = (then.cumsum() - then) / then.sum()
    group = np.minimum((below * _SCORE_GROUPS).astype(np.int64), _SCORE_GROUPS - 1)
    return np.stack([np.bincount(group, weights=row, minlength=_SCORE_GROUPS) for row in risks]).astype(np.int64)


def _bin_says(bins: Bins, feature: int, at: int, counts: tuple[Counts, Counts]) -> str:
    """Name the bin that changed most and its share now and then."""
    edges = [edge for edge in bins.edges[feature].tolist() if np.isfinite(edge)]
    if at == NO_VALUE:
        where = "no value"
    elif at == 0:
        where = f"up to {edges[0]:g}" if edges else "any value"
    elif at == len(edges):
        where = f"over {edges[-1]:g}"
    else:
        where = f"{edges[at - 1]:g} to {edges[at]:g}"
    now, then = (float(one[at] / one.sum()) for one in counts)
    return f"{where}: {now:.1%} of the rows, was {then:.1%}"
