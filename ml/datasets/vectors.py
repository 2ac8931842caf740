"""The vectors of decided renders, and publishers' history where the gate had none."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from domain.events import ImpressionRendered
from ml.datasets.rows import Decision
from ml.features.logged import unpack
from ml.features.matrix import MISSING, History, Vectors, vectors
from ml.features.schema import SCHEMA_ID, Group, columns_of

_ASYNC = np.array(columns_of(Group.ASYNC))


def with_history(known: Vectors, claims: Sequence[ImpressionRendered], histories: Sequence[History]) -> Vectors:
    """
    Return *known*, the vectors of *claims*, with what each of *histories* says of its claim's publisher.

    Rows that were scored with some history keep it.
    """
    values, status = known.values.copy(), known.status.copy()
    start = 0
    for _, run in groupby(histories, key=id):
        n = len(list(run))
        rows = slice(start, start + n)
        said = vectors(claims[rows], None, histories[start])
        lacks = (status[rows][:, _ASYNC] == MISSING).all(axis=1)[:, None]
        values[rows, _ASYNC] = np.where(lacks, said.values[:, _ASYNC], values[rows][:, _ASYNC])
        status[rows, _ASYNC] = np.where(lacks, said.status[:, _ASYNC], status[rows][:, _ASYNC])
        start += n
    return Vectors(values, status)


def logged(decided: Sequence[Decision]) -> Vectors:
    """Return the vectors that *decided* were scored with."""
    found = vectors([decision.rendered for decision in decided], None)
    scored = [decision.scored for decision in decided]
    told = [at for at, one in enumerate(scored) if one.versions.features == SCHEMA_ID and one.features]
    if told:
        served = unpack([(scored[at].features, scored[at].feature_status) for at in told])
        found.values[told], found.status[told] = served.values, served.status
    return found
