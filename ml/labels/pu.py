"""
What no label says: the chance that an impression without one is invalid all the same.

Assumed, and to be doubted wherever it is used:

- SCAR per sight: sources that look at the same thing (single impressions, accounts, publishers) label invalid traffic
  of theirs without regard to its features (selected completely at random), so that what they label looks like all that
  they could have. A publisher's ban labels one kind of fraud whole and others not at all, so kinds of sight are
  estimated apart and put together as if what they see were independent. What no source ever labels stays unknown.
- Sources label independently of each other.
- Where labels come from, invalid traffic can be told apart (Elkan and Noto's separability): the mean score of held-out
  labelled impressions is then the share of invalid traffic that gets a label. Where it cannot, too little is thought
  to be invalid.

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
LABELLED_MIN = 0.01
"""No class of traffic is ever thought to be labelled more rarely than this."""
PRIOR_MAX = 0.999
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


def prior_of(score: Floats, labelled: Floats, belief: Floats, own: Floats) -> Floats:
    """
    Return the chance of being invalid of impressions with the chance *score* of ever being labelled so.

    *labelled* says how many each training row with a label stands for (0: it has none), *belief* in [0, 1] how far its
    labels are trusted, and *own* is its score by a model that has not seen it. A label that is not right says nothing,
    so it falls on all alike: as many are taken off everywhere.
    """
    total = float(labelled @ belief)
    if total == 0.0:
        return np.zeros_like(score)
    wrong = float(labelled @ (1.0 - belief)) / len(labelled)
    share = float((labelled * belief) @ np.maximum(own - wrong, 0.0)) / total
    return np.clip((score - wrong) / max(share, LABELLED_MIN), 0.0, PRIOR_MAX)


def posterior(prior: Floats, told_if_invalid: Floats) -> Floats:
    """Return the chance of being invalid of impressions without a label, given that before anything was told."""
    silent = prior * (1.0 - told_if_invalid)
    return silent / np.maximum(silent + 1.0 - prior, 1e-12)
