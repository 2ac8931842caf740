"""From the registry to a model that can score: its hash and schema are checked, and its kernels are warm."""

import numpy as np

from domain.placement_events import ModelRef
from ml.features.later import LATER_SCHEMA_ID
from ml.features.matrix import MISSING, Vectors
from ml.features.schema import SCHEMA, SCHEMA_ID
from ml.models.artifact import SchemaMismatch, load
from ml.models.s3 import LaterScorer, load_s3
from ml.models.scorer import Scorer

_WARM_ROWS = (1, 64)
"""Few rows and many are walked by different kernels."""


def ready(ref: ModelRef, data: bytes) -> Scorer:
    """
    Return the model *ref*, of which *data* are the bytes that lie in the registry. May be called in any thread.

    Raises:
        CorruptArtifact: they are damaged, or not those that were put in force.
        SchemaMismatch: it reads other features than are made here.
    """
    if ref.features != SCHEMA_ID:
        raise SchemaMismatch(f"it reads {ref.features}, here are {SCHEMA_ID}")
    scorer = Scorer(load(data, ref.sha256), ref.model)
    for rows in _WARM_ROWS:
        shape = (rows, len(SCHEMA))
        scorer.score(Vectors(np.full(shape, np.nan), np.full(shape, MISSING, np.uint8)))
    return scorer


def ready_later(ref: ModelRef, data: bytes) -> LaterScorer:
    """
    Return the model *ref* of the stage that looks again; as `ready`.

    Raises:
        CorruptArtifact: the bytes are damaged, or not those that were put in force.
        SchemaMismatch: it reads other features than are made here.
        ValueError: it is of another stage.
    """
    if ref.features != LATER_SCHEMA_ID:
        raise SchemaMismatch(f"it reads {ref.features}, here are {LATER_SCHEMA_ID}")
    return LaterScorer(load_s3(data, ref.sha256), ref.model)
