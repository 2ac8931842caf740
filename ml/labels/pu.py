"""
What no label says: the chance that an impression without one is invalid all the same.

Assumed, and to be doubted wherever it is used:

- SCAR per source: a source labels invalid traffic without regard to its features (selected completely at random), so
  that labelled invalid traffic looks like all of it. Sources that see only one kind of fraud break this; what no
  source ever labels stays unknown.
- Sources label independently of each other.
- Where labels come from, invalid traffic can be told apart (Elkan and Noto's separability): the mean score of held-out
  labelled impressions is then the share of invalid traffic that gets a label.

Source: Elkan and Noto, Learning classifiers from only positive and unlabeled data, KDD 2008. Delays: arrival.py.
"""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from domain.vocabulary import LabelSource
from ml.labels.arrival import ArrivalCurve

Floats = NDArray[np.float64]

ARRIVED_MIN = 0.02
"""A label that came although so few should have by then stands for at most 50 of its kind."""
CHANCE_MAX = 0.98
"""No class of traffic is ever thought to be labelled more completely than this."""


class Coverage(Struct, frozen=True):
    """The share of a class (invalid, or human) that each source will have labelled in the end."""

    shares: dict[LabelSource, float]

    def told_by(self, age_ms: Floats, curves: Mapping[LabelSource, ArrivalCurve]) -> Floats:
        """Return the chance that one of the class has a label from any source by each age."""
        silent = np.ones_like(age_ms)
        for source, share in self.shares.items():
            silent *= 1.0 - share * curves[source].arrived_by(age_ms)
        return np.minimum(1.0 - silent, CHANCE_MAX)


def matured_count(age_ms: Floats, curve: ArrivalCurve) -> float:
    """Return how many labels there will be in the end, given the ages of the impressions that have one now."""
    return float(np.sum(1.0 / np.maximum(curve.arrived_by(age_ms), ARRIVED_MIN)))


def coverage(matured: Mapping[LabelSource, float], members: float) -> Coverage:
    """Return the shares of *members* of a class that each source labels, given how many labels there will be."""
    return Coverage({source: min(count / max(members, 1.0), CHANCE_MAX) for source, count in sorted(matured.items())})


def members_of(score: Floats, told: Floats, belief: Floats) -> float:
    """
    Return how many invalid impressions there are behind those that are labelled.

    *score* is the out-of-sample chance of being labelled of each labelled impression, *belief* in [0, 1] how far its
    labels are to be trusted. *told*: the share of labels that will ever come that has come by its age, so that young
    impressions with low scores do not pass for rarely labelled ones.
    """
    total = float(np.sum(belief))
    if total == 0.0:
        return 0.0
    labelled_share = float(np.sum(belief * score / np.maximum(told, ARRIVED_MIN))) / total
    return total / min(max(labelled_share, 1e-3), 1.0)


def posterior(prior: Floats, told_if_invalid: Floats, told_if_human: Floats) -> Floats:
    """Return the chance of being invalid of impressions without a label, given that before anything was told."""
    invalid = prior * (1.0 - told_if_invalid)
    human = (1.0 - prior) * (1.0 - told_if_human)
    return invalid / np.maximum(invalid + human, 1e-12)
