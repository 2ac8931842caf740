"""
How well the model does, before any label: confidence-based performance estimation.

If risks are calibrated, a row with risk p is worth p invalid and 1 - p valid ones, and any figure follows. Source:
NannyML's CBPE; Guillory et al., Predicting with Confidence on Unseen Distributions (2021). It says nothing where they
are not calibrated, which the calibration monitor sees once labels are there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ml.monitors.tallies import RISK_BINS, RISK_CENTRES, Counts

Floats = NDArray[np.float64]
_DRAWS = 200
_SEED = 20_260_921


class Fall(NamedTuple):
    """Average precision *now* and *then*; the chance of such a fall if nothing changed."""

    now: float
    then: float
    p_value: float


def average_precision(risks: Counts) -> Floats:
    """Return what average precision to expect of rows with these *risks* (..., RISK_BINS)."""
    counts = np.asarray(risks, np.float64)[..., ::-1]
    invalid = counts * RISK_CENTRES[::-1]
    found, seen = invalid.cumsum(axis=-1), counts.cumsum(axis=-1)
    precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
    all_ = found[..., -1:]
    return np.asarray((np.divide(invalid, all_, out=np.zeros_like(invalid), where=all_ > 0) * precision).sum(axis=-1))


def fall(now: Counts, then: Counts, factor: float) -> Fall:
    """Compare the estimates of two tallies of risks, whose rows count *factor* times less than draws would."""
    was, is_ = float(average_precision(then)), float(average_precision(now))
    chance = np.random.default_rng(_SEED)
    spread = np.sqrt(sum(_variance(risks, factor, chance) for risks in (now, then)))
    return Fall(is_, was, float(stats.norm.sf((was - is_) / spread)) if spread > 0 else 1.0)


def _variance(risks: Counts, factor: float, chance: np.random.Generator) -> float:
    size = max(1, round(int(risks.sum()) / factor))
    drawn = chance.multinomial(size, risks / risks.sum(), _DRAWS).reshape(_DRAWS, RISK_BINS)
    return float(average_precision(drawn).var())
