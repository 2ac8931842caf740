"""Which figure moves what a load takes, and by how much: one figure at a time, everything else as expected. Pure."""

import math
from collections.abc import Callable, Mapping
from enum import StrEnum

from msgspec import Struct

from service.capacity import Ledger, Plan, plan
from service.capacity_figures import Book, inputs_of, with_value


class Measure(StrEnum):
    """What an assumption can move."""

    MACHINES = "machines"
    CORES = "cores"
    HOT_DISK = "hot-disk"
    CELLS = "cells"


class Effect(Struct, frozen=True, kw_only=True):
    """What one figure moves by itself: the measure with the figure low and high, everything else as expected."""

    key: str
    low: float
    high: float
    at_low: float
    at_high: float

    @property
    def factor(self) -> float:
        return self.at_high / self.at_low if self.at_low else math.inf


_MEASURES: Mapping[Measure, Callable[[Plan], float]] = {
    Measure.MACHINES: lambda found: found.all_machines,
    Measure.CORES: lambda found: found.all_cores,
    Measure.HOT_DISK: lambda found: found.all_hot_pb,
    Measure.CELLS: lambda found: found.cells,
}


def sensitivity(book: Book, ledger: Ledger, measure: Measure) -> list[Effect]:
    """Return the effect of every figure that has bounds, the strongest first."""
    size, effects = _MEASURES[measure], []
    for figure in book.values():
        if figure.lowest == figure.highest:
            continue
        at_low, at_high = (
            float(size(plan(inputs_of(with_value(book, figure.key, value)), ledger)))
            for value in (figure.lowest, figure.highest)
        )
        found = Effect(key=figure.key, low=figure.lowest, high=figure.highest, at_low=at_low, at_high=at_high)
        effects.append(found)
    return sorted(effects, key=lambda effect: (-effect.factor, effect.key))
