"""
Decisions of the ledger, replayed: what each logged beside what the same code makes of the same renders now.

A gate counts a render once it knows that the ledger has it. While the ledger is away or late, that is after its spool
was drained; decisions in between rightly saw less than a replay does, and are not compared.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from domain.events import ImpressionAnswered, ImpressionRendered, ImpressionScored
from domain.vocabulary import Rung
from ledger.codec import decode_readable
from ledger.store import Commit
from ml.features.matrix import AT_LEAST, COLD, Vectors
from ml.features.replayed import Replay, Replayed, Row, logged
from ml.features.schema import SCHEMA
from ml.monitors.skew import Side, Skew, compare, merged

CLOCKS_APART_MS = 5_000
"""Gates' clocks may differ so much: of the first moments a render may stand before the first commit."""
NAMES = tuple(feature.name for feature in SCHEMA)
SETTLED_AFTER_MS = 15_000
"""What was drained is decided again and counted by then."""
_ANSWERED, _SPOOLED = b'"ImpressionAnswered"', b'"spooled"'
_NO_VECTORS = Vectors(np.zeros((0, len(NAMES))), np.zeros((0, len(NAMES)), np.uint8))


class Span(NamedTuple):
    """From *since* to *until*, both included (epoch ms)."""

    since: int
    until: int


def unsettled(commits: Iterable[Commit], known: Sequence[Span] = ()) -> list[Span]:
    """Return *known* and the spans in which gates did not know what the ledger had of *commits*, apart and in order."""
    apart: list[Span] = []
    for span in sorted([*known, *(span for commit in commits for span in _spans(commit))]):
        if apart and span.since <= apart[-1].until:
            apart[-1] = Span(apart[-1].since, max(apart[-1].until, span.until))
        else:
            apart.append(span)
    return apart


def _spans(commit: Commit) -> Iterator[Span]:
    """Yield from when the gate did not know of something until it had put it right."""
    if isinstance(commit.stream, str) or not (_ANSWERED in commit.data or _SPOOLED in commit.data):
        return
    rendered: ImpressionRendered | None = None
    for event in decode_readable(commit.data) or ():
        match event:
            case ImpressionAnswered():
                yield Span(event.answered_at - CLOCKS_APART_MS, commit.recorded_at + SETTLED_AFTER_MS)
            case ImpressionRendered():
                rendered = event
            case ImpressionScored(rung=Rung.SPOOLED) if rendered is not None:
                yield Span(rendered.received_at - CLOCKS_APART_MS, commit.recorded_at + SETTLED_AFTER_MS)
            case _:
                pass


class Comparison:
    """
    Compares every decision that logged its features with a replay, but for those in spans that are *unsettled*.

    All that was recorded from *since* on (epoch ms) is taken; windows that reach back behind it are not compared, nor
    are those that reach back behind a commit that cannot be read: nobody knows what it counts.
    """

    def __init__(self, since: int, unsettled_spans: Sequence[Span] = ()) -> None:
        self._begin(since)
        self._spans = tuple(unsettled_spans)
        self._begins = [span.since for span in unsettled_spans]
        self.skew = _compared([], [], _NO_VECTORS)
        self.left_out = 0
        """How many decisions fell into a span."""

    def take(self, commits: Sequence[Commit]) -> None:
        """
        Take the next *commits*, in the ledger's order.

        Raises:
            UnreadableVector: features that one of them logged are damaged.
        """
        for damaged, run in groupby(commits, _is_damaged):
            if damaged:
                self._begin(max(commit.recorded_at for commit in run))
                continue
            for replayed in self._replay.take(run):
                self.skew = merged(self.skew, self._compared(replayed))

    def _begin(self, since: int) -> None:
        self._replay = Replay(watched_since=since + CLOCKS_APART_MS if since else 0)
        self._is_whole = since == 0

    def _compared(self, replayed: Replayed) -> Skew:
        """Compare the rows whose vectors are exact: of others, names of the day before may have taken part."""
        told = {
            at: one
            for at, row in enumerate(replayed.rows)
            if row.is_exact and (one := logged(row.scored)) is not None and self._is_settled(row.rendered.received_at)
        }
        made = Vectors(replayed.vectors.values[list(told)], replayed.vectors.status[list(told)])
        if not self._is_whole:
            # So many at least, but how many there were before is not known.
            made.status[made.status == AT_LEAST] = COLD
        return _compared([replayed.rows[at] for at in told], list(told.values()), made)

    def _is_settled(self, at: int) -> bool:
        before = bisect_right(self._begins, at)
        is_settled = not before or at > self._spans[before - 1].until
        self.left_out += not is_settled
        return is_settled


def _is_damaged(commit: Commit) -> bool:
    return not isinstance(commit.stream, str) and decode_readable(commit.data) is None


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
