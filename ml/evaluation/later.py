"""The model that looks again, over a data set: what it says of every row so long after its decision."""

import numpy as np
import polars as pl

from domain.placement_events import Stage
from ml.datasets.later import later_columns
from ml.datasets.snapshot import Snapshot
from ml.evaluation.labelled import vectors_of
from ml.evaluation.metrics import Floats
from ml.features.later import LATER_NAMES, widened
from ml.features.matrix import Vectors
from ml.features.schema import columns_of
from ml.labels.beliefs import arrived, beliefs
from ml.models import kernel
from ml.models.artifact import ModelArtifact
from ml.models.masks import FULL, MASK_NAMES, MASKS, masks_of


def looked_again(snapshot: Snapshot, artifact: ModelArtifact, after_ms: int) -> pl.DataFrame:
    """
    Return `impression` and `again`: what *artifact*, of stage S3, says of each so many ms after its last decision.

    As `ml.models.s3.LaterScorer` does, labels of the impression itself that had arrived by then count beside the model.
    """
    rows = snapshot.scan("rows").collect().unique("impression", keep="last", maintain_order=True)
    rows = rows.with_columns(known_at=pl.col("decided_at") + after_ms)
    later = later_columns(snapshot, rows).select(LATER_NAMES).to_numpy()
    chance = _chances(artifact, vectors_of(rows), later)
    told = arrived(snapshot.scan("labels"), rows.select("impression", "known_at"), Stage.S3)
    said = rows.select("impression").join(beliefs(told), on="impression", how="left", maintain_order="left")
    invalid, human = (said[name].fill_null(0.0).to_numpy() for name in ("invalid", "human"))
    again = invalid + (1.0 - invalid - human) * chance
    return rows.select("impression").with_columns(again=pl.Series(again))


def _chances(artifact: ModelArtifact, decided: Vectors, later: Floats) -> Floats:
    forest, masks = kernel.forest(artifact.trees), masks_of(decided.status)
    rows, found = widened(decided.values, later), np.zeros(len(masks))
    for number in np.unique(masks).tolist():
        mask, of_mask = MASK_NAMES[number], masks == number
        masked = rows[of_mask]
        masked[:, [column for group in MASKS[mask] for column in columns_of(group)]] = np.nan
        fitted = artifact.calibrations[mask if mask in artifact.calibrations else FULL]
        found[of_mask] = fitted(kernel.margins(forest, masked))
    return found
