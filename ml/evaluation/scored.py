"""
Scored rows: a polars frame with a row per impression, which tables are made of. `COLUMNS` says what stands in it.

A score is a column of its own: `MODEL`, and each baseline beside it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

import numpy as np
import polars as pl
from msgspec import Struct
from numpy.typing import NDArray

from domain.reasons import CLASS_OF, Reason, ReasonClass
from ml.evaluation.bootstrap import Entities
from ml.evaluation.metrics import Floats
from ml.training.bands import Costs

MODEL = "model"
"""The column with the probability that the model gives."""


class Outcome(StrEnum):
    """What becomes of an impression in gross."""

    BILLED = "billed"
    DROPPED = "dropped"
    UNDECIDED = "undecided"


COLUMNS: Mapping[str, pl.DataType] = {
    "y": pl.Float64(),
    "weight": pl.Float64(),
    "entity": pl.UInt64(),
    "world": pl.String(),
    "family": pl.String(),
    "held_out": pl.Boolean(),
    "surface": pl.String(),
    "format": pl.String(),
    "mask": pl.String(),
    "settled": pl.Boolean(),
    "currency": pl.String(),
    "price_micros": pl.Int64(),
    "outcome": pl.String(),
    "outcome_by_rules": pl.String(),
}
"""
`y`: 1.0 is invalid traffic. `entity` is who made it: rows of one entity are alike; `world` which run of the generator
it is from. `family` is of what kind it is by the truth, `held_out` whether training never saw that kind. `mask` is what
the score was made without. `settled`: rules without any model drop it. `outcome` is the `Outcome` with the model,
`outcome_by_rules` that without any.
"""


class Cell(Struct, frozen=True, kw_only=True):
    """Some of the rows, as arrays."""

    y: Floats
    weight: Floats
    scores: dict[str, Floats]
    outcomes: dict[str, NDArray[np.str_]]
    settled: Floats
    price_micros: Floats
    currency: NDArray[np.str_]
    entities: Entities

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Self:
        scores = [name for name in frame.columns if name not in COLUMNS]
        return cls(
            y=frame["y"].to_numpy(),
            weight=frame["weight"].to_numpy(),
            scores={name: frame[name].cast(pl.Float64).to_numpy() for name in scores},
            outcomes={name: frame[name].to_numpy().astype(str) for name in ("outcome", "outcome_by_rules")},
            settled=frame["settled"].cast(pl.Float64).to_numpy(),
            price_micros=frame["price_micros"].cast(pl.Float64).to_numpy(),
            currency=frame["currency"].to_numpy().astype(str),
            entities=Entities(frame["entity"].to_numpy(), frame["weight"].to_numpy()),
        )

    @property
    def rows(self) -> int:
        return len(self.y)

    def has(self, outcome: Outcome, of: str = "outcome") -> Floats:
        """Return 1.0 for the rows that come to *outcome*."""
        is_there: NDArray[np.bool_] = self.outcomes[of] == outcome.value
        return is_there.astype(np.float64)

    def cost_micros(self, costs: Costs, of: str = "outcome") -> Floats:
        """Return what each row's outcome costs, in micros of its own currency."""
        wrong = (
            costs.billed_invalid * self.has(Outcome.BILLED, of) * self.y
            + costs.dropped_human * self.has(Outcome.DROPPED, of) * (1 - self.y)
            + costs.undecided * self.has(Outcome.UNDECIDED, of)
        )
        return self.price_micros * wrong


def outcome_of(reason: Reason | None) -> Outcome | None:
    """Return what becomes of an impression whose deciding reason is *reason*; None where it is outside of gross."""
    if reason is None:
        return Outcome.BILLED
    match CLASS_OF[reason]:
        case ReasonClass.GIVT | ReasonClass.SIVT:
            return Outcome.DROPPED
        case ReasonClass.UNDECIDED:
            return Outcome.UNDECIDED
        case _:
            return None


def check(frame: pl.DataFrame) -> pl.DataFrame:
    """
    Return *frame*.

    Raises:
        ValueError: a column is missing or of another type, or a score is no number.
    """
    for name, kind in COLUMNS.items():
        if frame.schema.get(name) != kind:
            raise ValueError(f"scored rows have a column {name} of type {kind}, not {frame.schema.get(name)}")
    scores = [name for name in frame.columns if name not in COLUMNS]
    if MODEL not in scores:
        raise ValueError(f"scored rows have a column {MODEL}")
    if not frame.select(pl.all_horizontal(pl.col(scores).is_finite()).all()).item():
        raise ValueError("a score is no number")
    return frame
