"""
What is looked at, and what counts as found: surely more than chance, and enough to matter.

Every monitor measures many series at once; the false-discovery rate is controlled over all series of one look. What is
sure and small is not found.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import asdict

FALSE_DISCOVERY_RATE = 0.01


class Check(StrEnum):
    """What is compared; the subject of each is named behind it."""

    LOST = "lost"
    """Served, time to render over, never heard of: of all served. SDK version."""
    MISSING_NUMBERS = "missing_numbers"
    """Numbers that a session skipped and nobody sent: of all numbers judged. SDK version."""
    DOUBLE_FIRES = "double_fires"
    """Impressions that show the same ad in the same slot again: of all heard of. SDK version."""
    DUPLICATE_RENDERS = "duplicate_renders"
    """Renders of an impression that had rendered: of all renders. SDK version."""
    FEATURE_SHIFT = "feature_shift"
    """Population stability index of a feature's values against those of the training. Feature."""
    FEATURE_MISSING = "feature_missing"
    """Rows in which a feature has no value: of all, against the training. Feature."""
    FEATURE_STALE = "feature_stale"
    """Rows in which a feature is stale or came too late: of all, against the training. Feature."""
    CLIENT_UNIT = "client_unit"
    """Decades between the median of what one SDK measures and that of the others. SDK version and feature."""
    SCORE_SHIFT = "score_shift"
    """Kolmogorov and Smirnov's distance of risks from those of the training."""
    GREY = "grey"
    """Left undecided because of the risk: of all that were scored with everything at hand."""
    RULES_ONLY = "rules_only"
    """The model clears them: of all that the rules call invalid, against the training."""
    MODEL_ONLY = "model_only"
    """Risky to the model: of all that no rule speaks against, against the training."""
    CALIBRATION = "calibration"
    """Labels seen, by the labels that the risks promised for their age. Range of risk."""
    LABEL_ARRIVAL = "label_arrival"
    """Labels seen, by those that used to be there at that age. Label source."""
    PERFORMANCE = "performance"
    """Average precision as calibrated risks foretell it, before any label, against the training."""
    SKEW = "skew"
    """Decisions whose features a replay of the ledger computes otherwise: of all that can be compared."""


CLIENT_CHECKS = frozenset({Check.LOST, Check.MISSING_NUMBERS, Check.DOUBLE_FIRES, Check.DUPLICATE_RENDERS})
LABEL_CHECKS = frozenset({Check.CALIBRATION, Check.LABEL_ARRIVAL})
SKEW_CHECKS = frozenset({Check.SKEW})
DECISION_CHECKS = frozenset(Check) - CLIENT_CHECKS - LABEL_CHECKS - SKEW_CHECKS


class Terms(Struct, frozen=True):
    """What makes a difference matter: an excess of this much, seen in so many trials."""

    excess_min: float
    trials_min: int


TERMS: Mapping[Check, Terms] = {
    Check.LOST: Terms(0.02, 200),
    Check.MISSING_NUMBERS: Terms(0.01, 200),
    Check.DOUBLE_FIRES: Terms(0.005, 200),
    Check.DUPLICATE_RENDERS: Terms(0.02, 200),
    Check.FEATURE_SHIFT: Terms(0.25, 500),
    Check.FEATURE_MISSING: Terms(0.05, 500),
    Check.FEATURE_STALE: Terms(0.05, 500),
    Check.CLIENT_UNIT: Terms(1.5, 20),
    Check.SCORE_SHIFT: Terms(0.1, 500),
    Check.GREY: Terms(0.01, 500),
    Check.RULES_ONLY: Terms(0.1, 200),
    Check.MODEL_ONLY: Terms(0.01, 500),
    Check.CALIBRATION: Terms(0.25, 1_000),
    Check.LABEL_ARRIVAL: Terms(0.3, 1_000),
    Check.PERFORMANCE: Terms(0.05, 1_000),
    Check.SKEW: Terms(0.001, 500),
}


class Measured(Struct, frozen=True, kw_only=True):
    """
    One series as a look saw it. `surface` is empty where all are meant, `subject` where the check has only one.

    `value` is in the measure of the check, `expected` what it is compared with, `excess` how far over it, as `Terms`
    counts it. `p_value` is the chance of that if nothing were the matter, None where it could not be tested: then
    `untested` says why. `says` is for people.
    """

    check: Check
    surface: str = ""
    subject: str = ""
    trials: int
    value: float
    expected: float | None = None
    excess: float | None = None
    dispersion: float = 1.0
    p_value: float | None = None
    untested: str = ""
    says: str = ""


class Finding(Measured, frozen=True, kw_only=True):
    """A measure and what it means beside the others of its look: `q_value` is adjusted for how many were tested."""

    q_value: float | None = None
    found: bool = False
    lasting: bool = False
    """It would still be a reason to keep an alarm: sure, and at least half of what matters."""


def judge(
    measured: Sequence[Measured], rate: float = FALSE_DISCOVERY_RATE, terms: Mapping[Check, Terms] = TERMS
) -> list[Finding]:
    """Return one finding per measure, in order; of those found, at most a share *rate* is false on average."""
    import numpy as np  # noqa: PLC0415

    from ml.monitors.proportions import false_discovery  # noqa: PLC0415 (0.8 s, 60 MB)

    tested = [at for at, one in enumerate(measured) if one.p_value is not None]
    q_values = false_discovery(np.array([measured[at].p_value for at in tested], np.float64))
    chances = dict(zip(tested, map(float, q_values), strict=True))
    return [_finding(one, chances.get(at), rate, terms) for at, one in enumerate(measured)]


def _finding(one: Measured, q_value: float | None, rate: float, terms: Mapping[Check, Terms]) -> Finding:
    if q_value is None or one.excess is None:
        return Finding(**asdict(one))
    matters, is_sure = terms[one.check].excess_min, q_value <= rate
    return Finding(
        **asdict(one),
        q_value=q_value,
        found=is_sure and one.excess >= matters,
        lasting=is_sure and one.excess >= matters / 2,
    )
