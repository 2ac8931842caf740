"""
Plots of a model card, as SVG: the same figures give the same bytes.

matplotlib is read only here, and only when something is drawn.
"""

from collections.abc import Callable
from io import StringIO
from typing import Any, TypeAlias

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ml.evaluation import metrics
from ml.evaluation.metrics import Floats, Ranked
from ml.evaluation.scored import MODEL, Cell

Draw: TypeAlias = Callable[[Axes], None]

_SIZE = (5.2, 3.9)
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "impledger",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_INVALID, _VALID = "#b3402c", "#2c6fb3"
_HISTOGRAM_BINS = 50
_POINTS_MAX = 400
"""Of a curve: more are not seen, and would make megabytes."""


def calibration_curve(cell: Cell) -> str:
    """Return how often rows were invalid, by what the model said of them."""
    y, p, weight = cell.y, cell.scores[MODEL], cell.weight
    score, share, mass = metrics.reliability(y, p, weight, metrics.equal_mass(p, weight, metrics.ECE_BINS))
    wide = metrics.reliability(y, p, weight, metrics.equal_width(p, metrics.ECE_BINS))

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="calibrated")
        axes.plot(wide[0], wide[1], "o-", color=_VALID, markersize=4, label="bins of equal width")
        axes.plot(score, share, "s", color=_INVALID, markersize=3, label=f"bins of {mass.mean():,.0f} rows")
        axes.set(xlabel="said by the model", ylabel="invalid", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(frameon=False)

    return _svg(draw)


def precision_recall(cell: Cell) -> str:
    """Return precision by recall of the model and of every baseline."""

    def draw(axes: Axes) -> None:
        for name, scores in cell.scores.items():
            recall, precision = _curve(cell.y, scores, cell.weight)
            width, color = (2.0, _INVALID) if name == MODEL else (1.0, None)
            axes.plot(recall, precision, drawstyle="steps-pre", linewidth=width, color=color, label=_words(name))
        axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(frameon=False, loc="lower left")

    return _svg(draw)


def score_histogram(cell: Cell) -> str:
    """Return how many rows of either kind got which probability; counts by order of magnitude."""
    p, edges = cell.scores[MODEL], np.linspace(0, 1, _HISTOGRAM_BINS + 1)

    def draw(axes: Axes) -> None:
        for kind, name, color in ((1 - cell.y, "valid", _VALID), (cell.y, "invalid", _INVALID)):
            counts, _ = np.histogram(p, edges, weights=cell.weight * kind)
            axes.stairs(counts, edges, color=color, label=name, fill=True, alpha=0.45)
        axes.set(xlabel="probability of being invalid", ylabel="impressions", yscale="symlog", xlim=(0, 1))
        axes.legend(frameon=False)

    return _svg(draw)


def _curve(y: Floats, scores: Floats, weight: Floats) -> tuple[Floats, Floats]:
    hits, alarms = Ranked(y, scores).tallies(weight)
    total = hits[-1] if len(hits) else 0.0
    if total <= 0:
        return np.zeros(0), np.zeros(0)
    recall, precision = hits / total, hits / np.maximum(hits + alarms, 1e-12)
    if len(recall) > _POINTS_MAX:
        kept = np.unique(np.searchsorted(recall, np.linspace(recall[0], 1.0, _POINTS_MAX)))
        recall, precision = recall[kept], precision[kept]
    # the step that `metrics.average_precision` adds up: up to a recall, the precision there
    return np.append(0.0, recall), np.append(precision[0], precision)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _svg(draw: Draw) -> str:
    with rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        draw(figure.add_subplot())
        out = StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()
