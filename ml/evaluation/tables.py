"""
Tables of figures: for kinds of invalid traffic that training saw, for kinds that it never saw, for real input.

They are never added up: what a model learned to find, what it finds beyond that and what it says of traffic that nobody
here made are three questions.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from msgspec import Struct

from ml.evaluation import metrics
from ml.evaluation.bootstrap import ROUNDS, Estimate, Measure, estimates
from ml.evaluation.metrics import Floats, Ranked
from ml.evaluation.scored import COLUMNS, MODEL, Cell, Outcome
from ml.training.bands import Costs

FPR_LOW, FPR_HIGH = 0.001, 0.01
CUTS = ("surface", "format", "world")
UNKNOWN_OUTCOME = ""
ALL = pl.lit(True)
PROBABILITIES = frozenset({MODEL, "logistic", "without_counters"})
"""Scores that claim to be one: others are only an order."""


class Row(Struct, frozen=True, kw_only=True):
    """Figures about some rows. *name* says which of its table's cut, or whose score."""

    name: str
    rows: int
    invalid: int
    entities: int
    figures: dict[str, Estimate]


class Against(Struct, frozen=True, kw_only=True):
    """A baseline, and how much more than it the model has: both measured on the same drawings."""

    baseline: Row
    more: dict[str, Estimate]


class Table(Struct, frozen=True, kw_only=True):
    """
    One question answered: over everything in gross, over what rules leave open, and cuts of the latter.

    Rows of `families` are of one family each: how many of them stand over the scores that 0.1 % and 1 % of all valid
    traffic that rules leave open stand over, and what becomes of them. Of valid families these are false alarms.
    """

    name: str
    everything: Row
    left_open: Row
    baselines: list[Against]
    cuts: dict[str, list[Row]]
    families: list[Row]


class Asked(Struct, frozen=True, kw_only=True):
    """How to measure: what errors cost, and how intervals are drawn."""

    costs: Costs
    seed: int
    rounds: int = ROUNDS


def table(name: str, frame: pl.DataFrame, asked: Asked, shown: pl.Expr = ALL) -> Table:
    """Return the table over *frame*, whose rows were scored with everything there was; *shown* are its families."""
    open_ = frame.filter(~pl.col("settled"))
    cell = Cell.of(open_)
    return Table(
        name=name,
        everything=row("everything in gross", Cell.of(frame), asked),
        left_open=row("left open by rules", cell, asked),
        baselines=against_baselines(cell, asked),
        cuts={by: cut(open_, by, asked) for by in CUTS},
        families=families(frame, asked, shown),
    )


def known(frame: pl.DataFrame) -> pl.DataFrame:
    """Return valid traffic, and invalid traffic of families that training saw."""
    return frame.filter(~pl.col("held_out"))


def held_out(frame: pl.DataFrame) -> pl.DataFrame:
    """Return valid traffic, and everything of families that training never saw."""
    return frame.filter(pl.col("held_out") | (pl.col("y") == 0))


def row(name: str, cell: Cell, asked: Asked, score: str = MODEL) -> Row:
    """Return all figures about *score* on *cell*."""
    measures = score_measures(cell, score, is_probability=True) | outcome_measures(cell, asked.costs)
    return measured(name, cell, measures, asked)


def cut(frame: pl.DataFrame, by: str, asked: Asked) -> list[Row]:
    """Return a row for each value of the column *by*, in order of their names."""
    return [row(str(value), Cell.of(part), asked) for value, part in _parts(frame, by)]


def against_baselines(cell: Cell, asked: Asked) -> list[Against]:
    """Return each score beside the model's, which are columns of *cell*, with what the model has more of."""
    ours = score_measures(cell, MODEL, is_probability=True)
    found = []
    for name in cell.scores:
        if name != MODEL:
            theirs = score_measures(cell, name, is_probability=name in PROBABILITIES)
            compared = [figure for figure in ("pr_auc", "roc_auc", "recall_low", "recall_high") if figure in theirs]
            more = {f"more_{figure}": _more(ours[figure], theirs[figure]) for figure in compared}
            both = measured(name, cell, theirs | more, asked)
            found.append(_apart(both))
    return found


def families(frame: pl.DataFrame, asked: Asked, shown: pl.Expr = ALL) -> list[Row]:
    """Return a row for each family, invalid ones first; thresholds are those of `Table`."""
    valid = frame.filter((pl.col("y") == 0) & ~pl.col("settled"))
    low, high = _thresholds(valid)
    found = []
    for is_invalid in (True, False):
        for value, part in _parts(frame.filter(shown & (pl.col("y") == float(is_invalid))), "family"):
            cell = Cell.of(part)
            measures = _over(cell, "over_low", low) | _over(cell, "over_high", high) | outcome_shares(cell)
            found.append(measured(str(value), cell, measures, asked))
    return found


def score_measures(cell: Cell, score: str, *, is_probability: bool) -> dict[str, Measure]:
    """Return what can be measured of *score*: of its order, and where it is a probability of its size too."""
    y, p = cell.y, cell.scores[score]
    ranks = _OfRanks(Ranked(y, p))
    found: dict[str, Measure] = {
        "share_invalid": lambda w: [metrics.share(y, w)],
        "pr_auc": ranks.pr_auc,
        "roc_auc": ranks.roc_auc,
        "recall_low": ranks.recall_low,
        "recall_high": ranks.recall_high,
    }
    if is_probability:
        found["ece"] = lambda w: [metrics.ece(y, p, w)]
        found["ece_by_mass"] = lambda w: [metrics.ece_by_mass(y, p, w)]
        found["calibration_ratio"] = lambda w: [metrics.calibration_ratio(y, p, w)]
    return found


def outcome_measures(cell: Cell, costs: Costs) -> dict[str, Measure]:
    """Return what can be measured of what becomes of rows: shares, errors, and money per currency."""
    if (cell.outcomes["outcome"] == UNKNOWN_OUTCOME).all():
        return {}
    billed, dropped = cell.has(Outcome.BILLED), cell.has(Outcome.DROPPED)
    undecided, undecided_by_rules = cell.has(Outcome.UNDECIDED), cell.has(Outcome.UNDECIDED, "outcome_by_rules")
    y = cell.y
    found: dict[str, Measure] = {
        "uncertain_share": lambda w: [metrics.share(undecided, w)],
        "uncertain_share_by_rules": lambda w: [metrics.share(undecided_by_rules, w)],
        "invalid_billed": lambda w: [metrics.share(billed, w * y)],
        "valid_dropped": lambda w: [metrics.share(dropped, w * (1 - y))],
        "valid_uncertain": lambda w: [metrics.share(undecided, w * (1 - y))],
    }
    for currency in sorted(set(cell.currency.tolist())):
        of_currency = (cell.currency == currency).astype(np.float64)
        for name, of in (("cost", "outcome"), ("cost_by_rules", "outcome_by_rules")):
            found[f"{name}_per_thousand_{currency}"] = _cost(cell.cost_micros(costs, of), of_currency)
    return found


def outcome_shares(cell: Cell) -> dict[str, Measure]:
    """Return which share of the rows comes to which outcome, with the model and by rules alone."""
    found: dict[str, Measure] = {}
    for suffix, of in (("", "outcome"), ("_by_rules", "outcome_by_rules")):
        if not (cell.outcomes[of] == UNKNOWN_OUTCOME).all():
            for outcome in Outcome:
                found[f"{outcome.value}{suffix}"] = _share(cell.has(outcome, of))
    return found


def measured(name: str, cell: Cell, measures: Mapping[str, Measure], asked: Asked) -> Row:
    """Return *measures* of *cell*, all on the same drawings of its entities."""

    def all_of_them(weight: Floats) -> list[float]:
        return [figure for measure in measures.values() for figure in measure(weight)]

    found = estimates(all_of_them, cell.weight, cell.entities, seed=asked.seed, rounds=asked.rounds)
    return Row(
        name=name,
        rows=cell.rows,
        invalid=int(cell.y.sum()),
        entities=cell.entities.count,
        figures=dict(zip(measures, found, strict=True)),
    )


class _OfRanks:
    """Figures of one order; they ask for the same tallies one after the other, which are added up once."""

    def __init__(self, ranked: Ranked) -> None:
        self._ranked = ranked
        self._of: Floats | None = None
        self._tallies: tuple[Floats, Floats] = (np.zeros(0), np.zeros(0))

    def pr_auc(self, weight: Floats) -> Sequence[float]:
        return [metrics.average_precision(*self._at(weight))]

    def roc_auc(self, weight: Floats) -> Sequence[float]:
        return [metrics.area_under(*self._at(weight))]

    def recall_low(self, weight: Floats) -> Sequence[float]:
        return [metrics.recall_within(*self._at(weight), FPR_LOW)]

    def recall_high(self, weight: Floats) -> Sequence[float]:
        return [metrics.recall_within(*self._at(weight), FPR_HIGH)]

    def _at(self, weight: Floats) -> tuple[Floats, Floats]:
        if self._of is not weight:
            self._of, self._tallies = weight, self._ranked.tallies(weight)
        return self._tallies


def _more(ours: Measure, theirs: Measure) -> Measure:
    return lambda w: [ours(w)[0] - theirs(w)[0]]


def _cost(cost_micros: Floats, of_currency: Floats) -> Measure:
    return lambda w: [metrics.cost_per_thousand(cost_micros, w * of_currency)]


def _share(of: Floats) -> Measure:
    return lambda w: [metrics.share(of, w)]


def _over(cell: Cell, name: str, threshold: float) -> dict[str, Measure]:
    return {name: _share((cell.scores[MODEL] >= threshold).astype(np.float64))}


def _thresholds(valid: pl.DataFrame) -> tuple[float, float]:
    y, p, weight = (valid[name].to_numpy() for name in ("y", MODEL, "weight"))
    low, high = (metrics.threshold_at_fpr(y, p, weight, fpr_max) for fpr_max in (FPR_LOW, FPR_HIGH))
    return low, high


def _parts(frame: pl.DataFrame, by: str) -> list[tuple[object, pl.DataFrame]]:
    assert by in COLUMNS
    return [(key[0], part) for key, part in sorted(frame.partition_by(by, as_dict=True).items())]


def _apart(both: Row) -> Against:
    """Take apart what was measured together."""
    more = {name.removeprefix("more_"): one for name, one in both.figures.items() if name.startswith("more_")}
    theirs = {name: one for name, one in both.figures.items() if not name.startswith("more_")}
    return Against(
        baseline=Row(name=both.name, rows=both.rows, invalid=both.invalid, entities=both.entities, figures=theirs),
        more=more,
    )
