"""The vectors of replayed decisions: what only a log knows, and publishers' history where the gate had none."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from domain.events import ImpressionRendered
from ml.features.matrix import MISSING, Vectors, vectors
from ml.features.publishers import History
from ml.features.replayed import Row, logged
from ml.features.schema import Group, columns_of

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


def as_served(replayed: Vectors, rows: Sequence[Row]) -> Vectors:
    """Return *replayed*, the vectors of *rows*; where a replay cannot know all, what was logged, if it was."""
    values, status = replayed.values.copy(), replayed.status.copy()
    for at, row in enumerate(rows):
        served = None if row.is_exact else logged(row.scored)
        if served is not None:
            values[at], status[at] = served.values[0], served.status[0]
    return Vectors(values, status)
