"""A window of decisions beside the training of the model that made them: features, scores, shares, performance."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from ml.monitors.checks import TERMS, Check, Measured, Terms
from ml.monitors.estimates import fall
from ml.monitors.proportions import INDEPENDENT, Dispersion, dispersion, excess_p_values, over_limit_p_value
from ml.monitors.reference import Reference
from ml.monitors.rows import STALE, STATES, TIMEOUT
from ml.monitors.shifts import DRAWS, Scatter, distance, distance_p_value, scatter_of, shift
from ml.monitors.tallies import NO_VALUE, RISK_BINS, SHARES, SURFACES, Bins, Counts, Tally, total

DECISION_CHECKS = frozenset(
    {
        Check.FEATURE_SHIFT,
        Check.FEATURE_MISSING,
        Check.FEATURE_STALE,
        Check.CLIENT_SHIFT,
        Check.SCORE_SHIFT,
        Check.GREY,
        Check.RULES_ONLY,
        Check.MODEL_ONLY,
        Check.PERFORMANCE,
    }
)
GREY_MAX = 0.03
"""Source: the design's section 11, uncertain at most 3 % when everything is at hand."""
VERSIONS_MAX = 40
"""SDK versions of a surface whose measures are compared, those with most rows."""
_SCORE_GROUPS = 10


class Window:
    """
    Slices of decisions and the *reference* that they are compared with.

    Columns *measured_by_clients* are compared between SDK versions, too.
    """

    def __init__(
        self,
        reference: Reference,
        slices: Sequence[Tally],
        measured_by_clients: Sequence[int] = (),
        terms: Mapping[Check, Terms] = TERMS,
    ) -> None:
        self._bins: Bins = reference.bins
        self._then = reference.tally
        self._slices = slices
        self._now = total(slices, len(self._bins.names))
        self._clients = tuple(measured_by_clients)
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
        yield from self._client_shifts(at)
        yield from self._scores(at)
        yield from self._shares(at)

    def _feature_shift(self, at: int, feature: int) -> Measured:
        now, then = self._now.features[at, feature], self._then.features[at, feature]
        seen = _series(Check.FEATURE_SHIFT, at, self._bins.names[feature], now)
        if why := self._why_not(Check.FEATURE_SHIFT, now.sum(), then.sum()):
            return _untested(seen, why)
        found = shift(now, then, scatter_of(np.stack([one.features[at, feature] for one in self._slices])))
        return Measured(
            **seen,
            value=found.psi,
            excess=found.psi,
            dispersion=found.dispersion,
            p_value=found.p_value,
            says=_bin_says(self._bins, feature, found.bin, (now, then)),
        )

    def _state_share(self, check: Check, at: int, feature: int) -> Measured:
        """Compare how often the feature's value is absent, or of yesterday, with how often it was."""
        slices = np.stack([_hits(check, one, at, feature) for one in self._slices])
        return self._excess(check, (at, self._bins.names[feature]), slices, _hits(check, self._then, at, feature))

    def _excess(self, check: Check, cell: tuple[int, str], slices: Counts, then: Counts) -> Measured:
        """Compare the share of hits in *slices* (t, hits and trials) with that of *then*."""
        hits, trials = map(int, slices.sum(axis=0))
        seen = {"check": check, "surface": SURFACES[cell[0]].value, "subject": cell[1], "trials": trials}
        if why := self._why_not(check, trials, int(then[1])):
            return _untested(seen, why, hits / trials if trials else 0.0)
        scatter = _scatter_of(slices)
        [p_value] = excess_p_values(([hits], [trials]), ([int(then[0])], [int(then[1])]), [scatter])
        share, expected = hits / trials, int(then[0]) / int(then[1])
        return Measured(
            **seen,
            value=share,
            expected=expected,
            excess=share - expected,
            dispersion=scatter.factor,
            p_value=float(p_value),
        )

    def _client_shifts(self, at: int) -> Iterator[Measured]:
        """Compare what each SDK version measures with the others on its surface; missing values are another check's."""
        versions = {sdk: counts for (place, sdk), counts in self._now.clients.items() if place == at}
        if len(versions) < 2:
            return
        largest = sorted(versions, key=lambda sdk: (-int(versions[sdk].sum()), sdk))[:VERSIONS_MAX]
        whole = np.sum(list(versions.values()), axis=0)
        for feature in self._clients:
            scatter = scatter_of(np.stack([one.features[at, feature, :NO_VALUE] for one in self._slices]))
            for sdk in largest:
                now = versions[sdk][feature, :NO_VALUE]
                yield self._client_shift(at, (sdk, feature), (now, whole[feature, :NO_VALUE] - now), scatter)

    def _client_shift(
        self, at: int, cell: tuple[str, int], counts: tuple[Counts, Counts], scatter: Scatter
    ) -> Measured:
        (sdk, feature), (now, then) = cell, counts
        seen = _series(Check.CLIENT_SHIFT, at, f"{sdk} {self._bins.names[feature]}", now)
        if why := self._why_not(Check.CLIENT_SHIFT, now.sum(), then.sum()):
            return _untested(seen, why)
        found = shift(now, then, scatter)
        return Measured(
            **seen,
            value=found.psi,
            excess=found.psi,
            dispersion=found.dispersion,
            p_value=found.p_value,
            says=_bin_says(self._bins, feature, found.bin, (now, then)),
        )

    def _scores(self, at: int) -> Iterator[Measured]:
        now, then = self._now.risks[at], self._then.risks[at]
        if not now.any():
            return
        seen = _series(Check.SCORE_SHIFT, at, "", now)
        if why := self._why_not(Check.SCORE_SHIFT, now.sum(), then.sum()):
            yield _untested(seen, why)
            return
        scatter = scatter_of(_grouped(np.stack([one.risks[at] for one in self._slices]), then))
        far = distance(now, then)
        p_value = distance_p_value(far, (float(now.sum()), float(then.sum())), scatter.factor)
        yield Measured(**seen, value=far, excess=far, dispersion=scatter.factor, p_value=p_value)
        yield self._performance(at, (now, then), scatter)

    def _performance(self, at: int, risks: tuple[Counts, Counts], scatter: Scatter) -> Measured:
        seen = _series(Check.PERFORMANCE, at, "", risks[0])
        if why := self._why_not(Check.PERFORMANCE, risks[0].sum(), risks[1].sum()):
            return _untested(seen, why)
        fell = fall(*risks, scatter.factor)
        return Measured(
            **seen,
            value=fell.now,
            expected=fell.then,
            excess=fell.then - fell.now,
            dispersion=scatter.factor,
            p_value=fell.p_value,
        )

    def _shares(self, at: int) -> Iterator[Measured]:
        for place, check in enumerate(SHARES):
            slices = np.stack([one.shares[at, place] for one in self._slices])
            if not slices.any():
                continue
            if check is Check.GREY:
                yield self._grey(at, slices)
            else:
                yield self._excess(check, (at, ""), slices, self._then.shares[at, place])

    def _grey(self, at: int, slices: Counts) -> Measured:
        hits, trials = map(int, slices.sum(axis=0))
        seen = {"check": Check.GREY, "surface": SURFACES[at].value, "trials": trials}
        share = hits / trials if trials else 0.0
        if trials < self._terms[Check.GREY].trials_min:
            return _untested(seen, _few(self._terms[Check.GREY].trials_min), share)
        scatter = _scatter_of(slices)
        return Measured(
            **seen,
            value=share,
            expected=GREY_MAX,
            excess=share - GREY_MAX,
            dispersion=scatter.factor,
            p_value=over_limit_p_value(hits, trials, GREY_MAX, scatter),
        )

    def _why_not(self, check: Check, trials: int, then: int) -> str:
        least = self._terms[check].trials_min
        if trials < least:
            return _few(least)
        return f"fewer than {least} to compare with" if then < least else ""


def _few(least: int) -> str:
    return f"fewer than {least} to look at"


def _series(check: Check, at: int, subject: str, counts: Counts) -> dict[str, object]:
    return {"check": check, "surface": SURFACES[at].value, "subject": subject, "trials": int(counts.sum())}


def _untested(seen: dict[str, object], why: str, value: float = 0.0) -> Measured:
    return Measured(**seen, value=value, untested=why)  # type: ignore[arg-type]


def _hits(check: Check, tally: Tally, at: int, feature: int) -> Counts:
    """Return hits and trials; a value counts as missing only where one was asked for and not merely unknown yet."""
    states = tally.states[at, feature]
    if check is Check.FEATURE_MISSING:
        return np.array([tally.features[at, feature, NO_VALUE], tally.features[at, feature].sum()])
    return np.array([states[STALE] + states[TIMEOUT], states.sum()])


def _scatter_of(slices: Counts) -> Dispersion:
    hits, trials = slices[:, 0].tolist(), slices[:, 1].tolist()
    return dispersion([(hits, trials)]) if len(slices) > 1 else INDEPENDENT


def _grouped(risks: Counts, then: Counts) -> Counts:
    """Put bins of risk (t, RISK_BINS) together into some ten of equal weight *then*."""
    below = (then.cumsum() - then) / then.sum()
    group = np.minimum((below * _SCORE_GROUPS).astype(np.int64), _SCORE_GROUPS - 1)
    grouped = np.zeros((len(risks), _SCORE_GROUPS), np.int64)
    np.add.at(grouped, (slice(None), group), risks)
    return grouped


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
