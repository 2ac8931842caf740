"""From vectors to probabilities and bands; and what the model says without a family of features."""

from collections.abc import Collection
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.signals import Family
from ml.features.matrix import Vectors
from ml.features.schema import SCHEMA, Group, columns_of, columns_of_family
from ml.models import kernel
from ml.models.artifact import ModelArtifact, curves, judged
from ml.models.masks import FULL, MASK_NAMES, MASKS, mask_of, masks_of, without


class Banding(IntEnum):
    """The band of a probability."""

    CLEAR = 0
    GREY = 1
    RISKY = 2


CLEAR, GREY, RISKY = Banding
BAND_NAMES = ("clear", "grey", "risky")
"""By band, for `ImpressionScored.band`."""


class Scores(NamedTuple):
    """By row: the calibrated probability of being invalid, its band, and the number of its mask in `MASK_NAMES`."""

    risk: NDArray[np.float64]
    band: NDArray[np.uint8]
    mask: NDArray[np.int64]


class Scorer:
    """
    One model, ready to score.

    A row is scored without the groups that its mask leaves out, and calibrated for that mask. What the model was not
    calibrated for goes by the narrowest of its masks that leaves out as much, if there is none by `full`.
    """

    def __init__(self, artifact: ModelArtifact, model_id: str = "") -> None:
        self.id = model_id
        self.artifact = artifact
        self._forest = kernel.forest(artifact.trees)
        fitted = [fitted_mask(artifact, name) for name in MASK_NAMES]
        limits = [(artifact.bands[name].grey_from, artifact.bands[name].risky_from) for name in fitted]
        self._curves = curves([artifact.calibrations[name] for name in fitted], np.array(limits))

    def score(self, vectors: Vectors, masked: Collection[Group] = ()) -> Scores:
        """Return what the model says of each row of *vectors*, without what its mask and *masked* leave out."""
        masks = masks_of(vectors.status)
        if masked:
            masks = _widened(frozenset(masked))[masks]
        return self._scores(without(vectors.values, masks, _LEFT_OUT), masks)

    def masked_risk(
        self, vectors: Vectors, place: int, family: Family, masked: Collection[Group] = ()
    ) -> tuple[float, Banding]:
        """
        Return risk and band of the row at *place* without the features of *family* and those that are *masked*.

        Where it is risky still, the model corroborates the family by what it knows from elsewhere.
        """
        row = slice(place, place + 1)
        mask = wider(int(masks_of(vectors.status[row])[0]), groups_of(family).union(masked))
        values = without(vectors.values[row], np.array([mask]), _LEFT_OUT)
        values[:, columns_of_family(family)] = np.nan
        scores = self._scores(values, np.array([mask]))
        return float(scores.risk[0]), Banding(int(scores.band[0]))

    def _scores(self, values: NDArray[np.float64], masks: NDArray[np.int64]) -> Scores:
        return Scores(*judged(self._curves, kernel.margins(self._forest, values), masks), masks)


def fitted_mask(artifact: ModelArtifact, name: str) -> str:
    """Return the mask by whose calibration and band *artifact* goes for the mask *name*."""
    wide = [own for own in artifact.calibrations if MASKS[name] <= MASKS[own]]
    return min(wide, key=lambda own: (len(MASKS[own]), own), default=FULL)


@lru_cache(maxsize=1_024)
def wider(mask: int, groups: frozenset[Group]) -> int:
    """Return the mask that leaves out *groups* too, as far as there is one."""
    known = {group for group in groups if any(group in masked for masked in MASKS.values())}
    return MASK_NAMES.index(mask_of(MASKS[MASK_NAMES[mask]] | known))


@lru_cache(maxsize=len(Family))
def groups_of(family: Family) -> frozenset[Group]:
    """Return the groups that have no feature but of *family*."""
    columns = set(columns_of_family(family))
    return frozenset(group for group in Group if set(columns_of(group)) <= columns)


_LEFT_OUT = np.zeros((len(MASK_NAMES), len(SCHEMA)), np.bool_)
for _mask, _groups in enumerate(MASKS.values()):
    for _group in _groups:
        _LEFT_OUT[_mask, columns_of(_group)] = True


@lru_cache(maxsize=64)
def _widened(groups: frozenset[Group]) -> NDArray[np.int64]:
    """Return, for each mask, the one that leaves out *groups* too."""
    return np.array([wider(mask, groups) for mask in range(len(MASK_NAMES))])
