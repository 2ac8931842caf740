"""Decisions of the ledger, replayed: what each logged beside what the same code makes of the same renders now."""

from collections.abc import Sequence

import numpy as np

from ledger.store import Commit
from ml.features.matrix import AT_LEAST, COLD, Vectors
from ml.features.replayed import Replay, Replayed, Row, logged
from ml.features.schema import SCHEMA
from ml.monitors.skew import Side, Skew, compare, merged

CLOCKS_APART_MS = 5_000
"""Gates' clocks may differ so much: of the first moments a render may stand before the first commit."""
NAMES = tuple(feature.name for feature in SCHEMA)
_NO_VECTORS = Vectors(np.zeros((0, len(NAMES))), np.zeros((0, len(NAMES)), np.uint8))


class Comparison:
    """
    Compares every decision that logged its features with a replay.

    All that was recorded from *since* on (epoch ms) is taken; windows that reach back behind it are not compared.
    """

    def __init__(self, since: int) -> None:
        self._replay = Replay(watched_since=since + CLOCKS_APART_MS if since else 0)
        self._is_whole = since == 0
        self.skew = _compared([], [], _NO_VECTORS)

    def take(self, commits: Sequence[Commit]) -> None:
        """
        Take the next *commits*, in the ledger's order.

        Raises:
            UnreadableCommit, UnreadableVector: one of them is damaged.
        """
        for replayed in self._replay.take(commits):
            self.skew = merged(self.skew, self._compared(replayed))

    def _compared(self, replayed: Replayed) -> Skew:
        """Compare the rows whose vectors are exact: of others, names of the day before may have taken part."""
        told = {at: one for at, row in enumerate(replayed.rows) if row.is_exact and (one := logged(row.scored))}
        made = Vectors(replayed.vectors.values[list(told)], replayed.vectors.status[list(told)])
        if not self._is_whole:
            # So many at least, but how many there were before is not known.
            made.status[made.status == AT_LEAST] = COLD
        return _compared([replayed.rows[at] for at in told], list(told.values()), made)


def _compared(rows: Sequence[Row], told: Sequence[Vectors], made: Vectors) -> Skew:
    width = len(NAMES)
    return compare(
        Side(
            np.concatenate([np.zeros((0, width)), *(one.values for one in told)]),
            np.concatenate([np.zeros((0, width), np.uint8), *(one.status for one in told)]),
        ),
        Side(made.values, made.status),
        NAMES,
        np.array([row.rendered.received_at for row in rows], np.int64),
        np.array([row.rendered.sdk for row in rows], np.str_),
    )
