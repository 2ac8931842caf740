"""Decisions of the ledger, replayed: what each logged beside what the same code makes of the same renders now."""

from collections.abc import Sequence

import numpy as np

from ledger.store import Commit
from ml.features.matrix import Vectors
from ml.features.replayed import Replay, Replayed, logged
from ml.features.schema import SCHEMA
from ml.monitors.skew import Side, Skew, compare, merged

CLOCKS_APART_MS = 5_000
"""Gates' clocks may differ so much: of the first moments a render may stand before the first commit."""
NAMES = tuple(feature.name for feature in SCHEMA)


class Comparison:
    """
    Compares every decision that logged its features with a replay.

    All that was recorded from *since* on (epoch ms) is taken; windows that reach back behind it are not compared.
    """

    def __init__(self, since: int) -> None:
        self._replay = Replay(watched_since=since + CLOCKS_APART_MS if since else 0)
        self.skew = _compared([])

    def take(self, commits: Sequence[Commit]) -> None:
        """
        Take the next *commits*, in the ledger's order.

        Raises:
            UnreadableCommit, UnreadableVector: one of them is damaged.
        """
        for replayed in self._replay.take(commits):
            self.skew = merged(self.skew, _compared([replayed]))


def _compared(parts: Sequence[Replayed]) -> Skew:
    """Compare the rows whose vectors are exact: of others, names of the day before may have taken part."""
    pairs = [
        (row, told, at, part.vectors)
        for part in parts
        for at, row in enumerate(part.rows)
        if row.is_exact and (told := logged(row.scored)) is not None
    ]
    return compare(
        _side([told for _, told, _, _ in pairs]),
        _side([Vectors(made.values[at : at + 1], made.status[at : at + 1]) for _, _, at, made in pairs]),
        NAMES,
        np.array([row.rendered.received_at for row, *_ in pairs], np.int64),
        np.array([row.rendered.sdk for row, *_ in pairs], np.str_),
    )


def _side(vectors: Sequence[Vectors]) -> Side:
    if not vectors:
        return Side(np.zeros((0, len(NAMES))), np.zeros((0, len(NAMES)), np.uint8))
    return Side(np.concatenate([one.values for one in vectors]), np.concatenate([one.status for one in vectors]))
