"""Tallies by time: a window of them rolls on, and models stand apart."""

from collections.abc import Iterable, Sequence

import numpy as np

from ml.monitors.rows import Rows
from ml.monitors.tallies import Bins, Tally, added, count

SPANS_MAX = 60
CHUNKS = 4
"""Parts of each span: neighbours scatter together, and how much shows between parts, from the first look on."""
MODELS_MAX = 4


class Slices:
    """The last *window_ms* in `SPANS_MAX` spans of so many *chunks*, of the models that decided last."""

    def __init__(self, window_ms: int, chunks: int = CHUNKS) -> None:
        self._span_ms = max(1, window_ms // SPANS_MAX)
        self._chunks = chunks
        self._models: dict[str, dict[tuple[int, int], Tally]] = {}

    def add(self, model: str, at: int, rows: Rows, bins: Bins) -> None:
        """Count *rows*, in order, which *model* decided at about *at* (epoch ms), which only grows."""
        span = at // self._span_ms
        slices = self._models.pop(model, {})
        for chunk, places in enumerate(np.array_split(np.arange(len(rows.surface)), self._chunks)):
            tally, cell = count(rows.take(places), bins), (span, chunk)
            slices[cell] = added(slices[cell], tally) if cell in slices else tally
        self._models[model] = slices
        self._forget(span)

    def of(self, model: str) -> Sequence[Tally]:
        """Return the slices of *model*, the oldest first."""
        return list(self._models.get(model, {}).values())

    def times(self, model: str) -> Sequence[int]:
        """Return when the span of each slice of *model* began (epoch ms)."""
        return [span * self._span_ms for span, _ in self._models.get(model, {})]

    def _forget(self, span: int) -> None:
        for slices in self._models.values():
            for old in [cell for cell in slices if cell[0] <= span - SPANS_MAX]:
                del slices[old]
        for model in _all_but_last(self._models, MODELS_MAX):
            del self._models[model]


def _all_but_last(names: Iterable[str], kept: int) -> list[str]:
    return list(names)[:-kept]
