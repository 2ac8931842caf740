"""Tallies by time: a window of them rolls on, and models stand apart."""

from collections.abc import Iterable

from ml.monitors.tallies import Tally, added

SLICES_MAX = 60
MODELS_MAX = 4


class Slices:
    """The last *window_ms* in `SLICES_MAX` slices, of the models that decided last."""

    def __init__(self, window_ms: int) -> None:
        self._each_ms = max(1, window_ms // SLICES_MAX)
        self._models: dict[str, dict[int, Tally]] = {}

    def add(self, model: str, at: int, tally: Tally) -> None:
        """Take in what *model* decided at about *at* (epoch ms), which only grows."""
        slice_ = at // self._each_ms
        slices = self._models.pop(model, {})
        slices[slice_] = added(slices[slice_], tally) if slice_ in slices else tally
        self._models[model] = slices
        self._forget(slice_)

    def of(self, model: str) -> list[Tally]:
        """Return the slices of *model*, the oldest first."""
        return list(self._models.get(model, {}).values())

    def _forget(self, slice_: int) -> None:
        for slices in self._models.values():
            for old in [one for one in slices if one <= slice_ - SLICES_MAX]:
                del slices[old]
        for model in _all_but_last(self._models, MODELS_MAX):
            del self._models[model]


def _all_but_last(names: Iterable[str], kept: int) -> list[str]:
    return list(names)[:-kept]
