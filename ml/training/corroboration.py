"""
Which rows the model would help to drop: rules find something of another family, and the model, without that, too.

The scorer asks the same of one row at a time (`ml/models/scorer.py`; semantics 11 of the design).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from domain.signals import Family
from ml.features.later import LATER_SCHEMA
from ml.features.schema import Group, columns_of, columns_of_family
from ml.models import kernel
from ml.models.artifact import Calibration
from ml.models.masks import MASKS, mask_of
from ml.training.dropout import without

Floats = NDArray[np.float64]


def corroborated(
    forest: kernel.Forest,
    calibrations: Mapping[str, Calibration],
    rows: tuple[Floats, NDArray[np.object_]],
    mask: str,
    risky_from: float,
) -> NDArray[np.bool_]:
    """
    Tell of each of *rows*, features and families of its signals joined with `+`, whether it would be dropped.

    It is scored without what *mask* leaves out; from *risky_from* on it is risky.
    """
    features, families = rows
    found = np.zeros(len(features), np.bool_)
    for family in Family:
        signalled = np.flatnonzero([family.value in one.split("+") for one in families.tolist()])
        if family is Family.MODEL or len(signalled) == 0:
            continue
        wider = _wider(mask, family)
        masked = without(features[signalled], wider)
        masked[:, columns_of_family(family, LATER_SCHEMA[: features.shape[1]])] = np.nan
        found[signalled] |= calibrations[wider](kernel.margins(forest, masked)) >= risky_from
    return found


def _wider(mask: str, family: Family) -> str:
    """Return the mask that also leaves out the groups that have no feature but of *family*, where there is one."""
    columns = set(columns_of_family(family))
    own = {group for group in Group if set(columns_of(group)) <= columns}
    known = {group for group in own if any(group in groups for groups in MASKS.values())}
    return mask_of(MASKS[mask] | known)
