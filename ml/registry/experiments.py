"""The test of one model against another on matured labels: in agreement and in money. May be looked at all the time."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from ml.models.scorer import CLEAR, GREY
from ml.registry.sequential import Interval, MeanSequence

TRIAL_ALPHA = 0.05
"""Chance that an experiment ever says that there is a difference where there is none."""
PRICE_CAP_MICROS = 10_000
"""Dearer impressions count as much as these in a test on money, which needs a bound: 10 per thousand."""
CURRENCIES_MAX = 4
"""So many currencies are tested, those seen first; the chance of a false alarm is shared among so many."""


class Judged(NamedTuple):
    """
    One impression with a matured label, and the bands that two models give it.

    *is_invalid* is what the label says, with its *weight* in (0, 1]. *is_open*: nothing but the model speaks against
    it, so that *price_micros* of *currency* depend on the model's word.
    """

    is_invalid: bool
    weight: float
    champion: int
    other: int
    is_open: bool
    price_micros: int
    currency: str


class Finding(StrEnum):
    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


class Estimate(Struct, frozen=True):
    """A mean of *labels* paired differences, and the interval that holds it with the experiment's confidence."""

    labels: int
    mean: float
    lower: float
    upper: float


class TrialResult(Struct, frozen=True):
    """
    How the other model does against the champion; positive is in favour of the other.

    *agreement*: of the share of labels that a model agrees with (undecided counts half). *money_micros* by currency:
    what less an impression has on the wrong side, billed though invalid or withheld though human.
    """

    finding: Finding
    agreement: Estimate
    money_micros: dict[str, Estimate]
    alpha: float
    left_out: int = 0


class Trial:
    """Compares two models on the same impressions, in the order in which their labels matured."""

    def __init__(self, alpha: float = TRIAL_ALPHA) -> None:
        self._alpha = alpha
        self._agreement = MeanSequence(alpha / 2)
        self._money: dict[str, MeanSequence] = {}
        self._left_out = 0

    def observe(self, judged: Judged) -> None:
        gained = _agreement(judged.other, judged.is_invalid) - _agreement(judged.champion, judged.is_invalid)
        self._agreement.add(gained * judged.weight)
        if not judged.is_open:
            return
        if judged.currency not in self._money and len(self._money) == CURRENCIES_MAX:
            self._left_out += 1
            return
        money = self._money.setdefault(judged.currency, MeanSequence(self._alpha / 2 / CURRENCIES_MAX))
        saved = _misplaced(judged.champion, judged.is_invalid) - _misplaced(judged.other, judged.is_invalid)
        money.add(saved * judged.weight * min(judged.price_micros, PRICE_CAP_MICROS) / PRICE_CAP_MICROS)

    @property
    def result(self) -> TrialResult:
        money = {currency: _estimate(one, PRICE_CAP_MICROS) for currency, one in self._money.items()}
        agreement = _estimate(self._agreement, 1.0)
        return TrialResult(_finding(agreement, money), agreement, money, self._alpha, self._left_out)


def _finding(agreement: Estimate, money: Mapping[str, Estimate]) -> Finding:
    """What loses agreement or money is worse, whatever it gains elsewhere."""
    if agreement.upper < 0 or any(one.upper < 0 for one in money.values()):
        return Finding.WORSE
    return Finding.BETTER if agreement.lower > 0 else Finding.UNDECIDED


def _agreement(band: int, is_invalid: bool) -> float:  # noqa: FBT001 (what the label says)
    return 0.5 if band == GREY else float((band != CLEAR) is is_invalid)


def _misplaced(band: int, is_invalid: bool) -> float:  # noqa: FBT001
    """1 where the money of an impression is on the wrong side: only what is clear is billed."""
    return float((band == CLEAR) is is_invalid)


def _estimate(sequence: MeanSequence, unit: float) -> Estimate:
    interval: Interval = sequence.interval
    return Estimate(sequence.n, sequence.mean * unit, interval.lower * unit, interval.upper * unit)
