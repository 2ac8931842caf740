"""
Figures of one cell of a table as measures of drawings.

What is a ratio of sums is added up once per entity, so that a drawing costs a product; only figures of ranks look at
rows again.
"""

from collections.abc import Sequence

import numpy as np

from ml.evaluation import metrics
from ml.evaluation.bootstrap import Drawing, Entities, Measure
from ml.evaluation.metrics import Floats, Places, Ranked
from ml.evaluation.scored import Cell, Outcome
from ml.training.bands import Costs

FPR_LOW, FPR_HIGH = 0.001, 0.01
RANKS = ("pr_auc", "roc_auc", "recall_low", "recall_high")
NO_OUTCOME = ""


def score_measures(cell: Cell, score: str, *, is_probability: bool) -> dict[str, Measure]:
    """Return what can be measured of *score*: of its order, and where it is a probability of its size too."""
    y, p, entities = cell.y, cell.scores[score], cell.entities
    ranks = _OfRanks(Ranked(y, p))
    found: dict[str, Measure] = {"share_invalid": share(entities, y)}
    found |= {name: getattr(ranks, name) for name in RANKS}
    if is_probability:
        bins = metrics.ECE_BINS
        found["ece"] = _calibration_error(cell, p, metrics.equal_width(p, bins))
        found["ece_by_mass"] = _calibration_error(cell, p, metrics.equal_mass(p, cell.weight, bins))
        found["calibration_ratio"] = ratio(entities, y, p)
    return found


def outcome_measures(cell: Cell, costs: Costs) -> dict[str, Measure]:
    """Return what can be measured of what becomes of rows: shares, errors, and money per currency."""
    if (cell.outcomes["outcome"] == NO_OUTCOME).all():
        return {}
    entities, y, valid = cell.entities, cell.y, 1 - cell.y
    undecided = cell.has(Outcome.UNDECIDED)
    found: dict[str, Measure] = {
        "uncertain_share": share(entities, undecided),
        "uncertain_share_by_rules": share(entities, cell.has(Outcome.UNDECIDED, "outcome_by_rules")),
        "invalid_billed": ratio(entities, y * cell.has(Outcome.BILLED), y),
        "valid_dropped": ratio(entities, valid * cell.has(Outcome.DROPPED), valid),
        "valid_uncertain": ratio(entities, valid * undecided, valid),
    }
    for currency in sorted(set(cell.currency.tolist())):
        here = (cell.currency == currency).astype(np.float64)
        for name, of in (("cost", "outcome"), ("cost_by_rules", "outcome_by_rules")):
            cost = ratio(entities, 1_000 * here * cell.cost_micros(costs, of), here)
            found[f"{name}_per_thousand_{currency}"] = cost
    return found


def outcome_shares(cell: Cell) -> dict[str, Measure]:
    """Return which share of the rows comes to which outcome, with the model and by rules alone."""
    found: dict[str, Measure] = {}
    for suffix, of in (("", "outcome"), ("_by_rules", "outcome_by_rules")):
        if not (cell.outcomes[of] == NO_OUTCOME).all():
            for outcome in Outcome:
                found[f"{outcome.value}{suffix}"] = share(cell.entities, cell.has(outcome, of))
    return found


def share(entities: Entities, of: Floats) -> Measure:
    """Return the measure that is the weighted mean of *of*."""
    return ratio(entities, of, np.ones(len(of)))


def ratio(entities: Entities, of: Floats, to: Floats) -> Measure:
    """Return the measure that is the weighted sum of *of* over that of *to*; no number where the latter is 0."""
    upper, lower = entities.sums(of), entities.sums(to)

    def measure(drawing: Drawing) -> Sequence[float]:
        total = float(drawing.counts @ lower)
        return [float(drawing.counts @ upper) / total if total > 0 else np.nan]

    return measure


def more(ours: Measure, theirs: Measure) -> Measure:
    """Return the measure that is the difference of two, of one figure each."""
    return lambda drawing: [ours(drawing)[0] - theirs(drawing)[0]]


class _OfRanks:
    """Figures of one order; they ask for the same tallies one after the other, which are added up once."""

    def __init__(self, ranked: Ranked) -> None:
        self._ranked = ranked
        self._of: Drawing | None = None
        self._tallies: tuple[Floats, Floats] = (np.zeros(0), np.zeros(0))

    def pr_auc(self, drawing: Drawing) -> Sequence[float]:
        return [metrics.average_precision(*self._at(drawing))]

    def roc_auc(self, drawing: Drawing) -> Sequence[float]:
        return [metrics.area_under(*self._at(drawing))]

    def recall_low(self, drawing: Drawing) -> Sequence[float]:
        return [metrics.recall_within(*self._at(drawing), FPR_LOW)]

    def recall_high(self, drawing: Drawing) -> Sequence[float]:
        return [metrics.recall_within(*self._at(drawing), FPR_HIGH)]

    def _at(self, drawing: Drawing) -> tuple[Floats, Floats]:
        if self._of is not drawing:
            self._of, self._tallies = drawing, self._ranked.tallies(drawing.weight)
        return self._tallies


def _calibration_error(cell: Cell, p: Floats, places: Places) -> Measure:
    apart = cell.entities.sums_by_bin(p - cell.y, places, metrics.ECE_BINS)
    mass = cell.entities.sums(np.ones(len(p)))

    def measure(drawing: Drawing) -> Sequence[float]:
        total = float(drawing.counts @ mass)
        return [float(np.abs(drawing.counts @ apart).sum()) / total if total > 0 else np.nan]

    return measure
