"""
Tables of figures: for kinds of invalid traffic that training saw, for kinds that it never saw, for real input.

They are never added up: what a model learned to find, what it finds beyond that and what it says of traffic that nobody
here made are three questions.
"""

from collections.abc import Mapping
from typing import TypeVar

import polars as pl
from msgspec import Struct

from ml.evaluation import metrics
from ml.evaluation.bootstrap import ROUNDS, Drawing, Estimate, Measure, estimates
from ml.evaluation.measures import (
    FPR_HIGH,
    FPR_LOW,
    RANKS,
    more,
    outcome_measures,
    outcome_shares,
    ratio,
    score_measures,
)
from ml.evaluation.scored import COLUMNS, MODEL, Cell
from ml.training.bands import Costs

Name = TypeVar("Name")

CUTS = ("surface", "format", "mask", "world")
FAMILY_ROWS_MIN = 20
"""Families with fewer rows say nothing, and have none."""
ALL = pl.lit(True)
PROBABILITIES = frozenset({"logistic", "without_counters"})
"""Baselines whose score claims to be one; that of others is only an order."""


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

    Rows of `families` are of one family each: how many of those that rules leave open stand over the scores that 0.1 %
    and 1 % of such valid traffic stand over, and what becomes of all. Of valid families these are false alarms.
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
    ours = score_measures(cell, MODEL, is_probability=False)
    measures = {
        name: score_measures(cell, name, is_probability=name in PROBABILITIES) for name in cell.scores if name != MODEL
    }
    differences = {
        name: {figure: more(ours[figure], theirs[figure]) for figure in RANKS} for name, theirs in measures.items()
    }
    together = {(name, "is", figure): one for name, of in measures.items() for figure, one in of.items()}
    together |= {(name, "more", figure): one for name, of in differences.items() for figure, one in of.items()}
    found = _estimates(cell, together, asked)
    return [
        Against(
            baseline=_row(name, cell, {figure: found[name, "is", figure] for figure in measures[name]}),
            more={figure: found[name, "more", figure] for figure in RANKS},
        )
        for name in measures
    ]


def families(frame: pl.DataFrame, asked: Asked, shown: pl.Expr = ALL) -> list[Row]:
    """Return a row for each family that is *shown*, invalid ones first; thresholds are those of `Table`."""
    low, high = _thresholds(frame.filter((pl.col("y") == 0) & ~pl.col("settled")))
    found = []
    for is_invalid in (True, False):
        for value, part in _parts(frame.filter(shown & (pl.col("y") == float(is_invalid))), "family"):
            if len(part) < FAMILY_ROWS_MIN:
                continue
            cell = Cell.of(part)
            over = {"over_low": _over(cell, low), "over_high": _over(cell, high)}
            found.append(measured(str(value), cell, over | outcome_shares(cell), asked))
    return found


def measured(name: str, cell: Cell, measures: Mapping[str, Measure], asked: Asked) -> Row:
    """Return *measures* of *cell*, all on the same drawings of its entities."""
    return _row(name, cell, _estimates(cell, measures, asked))


def _estimates(cell: Cell, measures: Mapping[Name, Measure], asked: Asked) -> dict[Name, Estimate]:
    def all_of_them(drawing: Drawing) -> list[float]:
        return [figure for measure in measures.values() for figure in measure(drawing)]

    found = estimates(all_of_them, cell.entities, seed=asked.seed, rounds=asked.rounds)
    return dict(zip(measures, found, strict=True))


def _row(name: str, cell: Cell, figures: dict[str, Estimate]) -> Row:
    invalid = int((cell.y > 0).sum())
    return Row(name=name, rows=cell.rows, invalid=invalid, entities=cell.entities.count, figures=figures)


def _over(cell: Cell, threshold: float) -> Measure:
    left_open = 1.0 - cell.settled
    return ratio(cell.entities, left_open * (cell.scores[MODEL] >= threshold), left_open)


def _thresholds(valid: pl.DataFrame) -> tuple[float, float]:
    y, p, weight = (valid[name].to_numpy() for name in ("y", MODEL, "weight"))
    low, high = (metrics.threshold_at_fpr(y, p, weight, fpr_max) for fpr_max in (FPR_LOW, FPR_HIGH))
    return low, high


def _parts(frame: pl.DataFrame, by: str) -> list[tuple[object, pl.DataFrame]]:
    assert by in COLUMNS
    return [(key[0], part) for key, part in sorted(frame.partition_by(by, as_dict=True).items())]
