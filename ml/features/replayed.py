"""
Vectors as they were at each decision, made again from the ledger alone.

Commits go in in the ledger's order; what a render sees is what stands before it, as the gate saw it: a gate observes a
batch in the order in which the ledger has it (docs/decisions/0036). What no ledger tells is taken from the log: which
counters were cold or silent then, what was known of publishers, and what a gate of several workers does not count.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from msgspec import Struct

from domain.events import (
    ImpressionDeduped,
    ImpressionEvent,
    ImpressionReconciled,
    ImpressionRendered,
    ImpressionScored,
)
from domain.ids import ImpressionId, minted_at
from domain.reasons import Reason
from domain.vocabulary import Authority, Rung
from ledger.codec import decode_readable
from ledger.store import Commit
from ml.counters.counters import BATCH_MAX, Counters
from ml.counters.observer import Observer
from ml.counters.tables import Capacities
from ml.features.logged import unpack
from ml.features.matrix import COLD, MISSING, TIMEOUT, Vectors, vectors
from ml.features.schema import SCHEMA_ID, SHARED_TABLES, Group, columns_of

ALIASED_MS, DAY_MS = 3_600_000, 86_400_000
"""Renders of ads served in the first hour of a day were also looked up by the names of the day before."""


class Row(Struct, frozen=True, gc=False):
    """
    One decision about a render, at *position*.

    *decision* is what came of it; None where the render stands alone. *is_exact*: its vector is the logged one bit for
    bit, if one was logged; else the names of the day before may have taken part, which no ledger has.
    """

    position: int
    impression: ImpressionId
    rendered: ImpressionRendered
    scored: ImpressionScored
    decision: ImpressionDeduped | ImpressionReconciled | None
    is_exact: bool


class Replayed(Struct, frozen=True):
    """Decisions in the ledger's order, and the vector of each."""

    rows: list[Row]
    vectors: Vectors


class Replay:
    """
    Makes vectors again from commits in the ledger's order. Memory is that of the counters.

    *capacities* of those who decided: what full counters forget depends on them. The first commit is the ledger's, or
    everything since *watched_since* (epoch ms) is taken: counts of windows that began before are cold.
    """

    def __init__(self, capacities: Capacities | None = None, watched_since: int = 0) -> None:
        tables = {"people", *SHARED_TABLES}
        self._observer = Observer(Counters(capacities or Capacities(), watched_since, kept=tables))
        self._pending: dict[ImpressionId, list[Row]] = {}

    def take(self, commits: Iterable[Commit]) -> Iterator[Replayed]:
        """
        Yield the decisions in *commits*, which follow on those taken before; at most `BATCH_MAX` at once.

        What cannot be read is left out, so counts of the same persons and devices may be lower than the gate's were.
        """
        rows: list[Row] = []
        for commit in commits:
            if isinstance(commit.stream, str) or (events := decode_readable(commit.data)) is None:
                continue
            found, is_waiting = list(_rows(commit, events)), is_pending(events)
            is_late = commit.stream in self._pending and is_redecision(events)
            if rows and (is_waiting or is_late or len(rows) + len(found) > BATCH_MAX):
                yield self._replayed(rows)
                rows = []
            if is_waiting:
                self._pending[commit.stream] = found
                yield self._replayed(found, counts=False)
                continue
            if is_late:
                self._observer.keep([row.rendered for row in self._pending.pop(commit.stream)])
            rows += found
        if rows:
            yield self._replayed(rows)

    def _replayed(self, rows: list[Row], *, counts: bool = True) -> Replayed:
        """What was decided without the ledger does not count before it is decided again."""
        claims = [row.rendered for row in rows]
        found = vectors(claims, self._observer.look(claims).features)
        _take_from_log(found, rows)
        if counts:
            self._observer.keep(claims)
        return Replayed(rows, found)


def logged(scored: ImpressionScored) -> Vectors | None:
    """
    Return the vector that *scored* was decided by, None where none of today's schema was logged.

    Raises:
        UnreadableVector: it is damaged.
    """
    if scored.versions.features != SCHEMA_ID or not scored.features:
        return None
    return unpack([(scored.features, scored.feature_status)])


def is_pending(events: Sequence[ImpressionEvent]) -> bool:
    """Tell whether *events* are a decision without the ledger, which is made again; until then it does not count."""
    match events:
        case (ImpressionRendered(), ImpressionScored(rung=Rung.SPOOLED), ImpressionDeduped(reason=reason), *_):
            return reason in _PASSING
        case _:
            return False


def is_redecision(events: Iterable[ImpressionEvent]) -> bool:
    """Tell whether *events* decide again what was pending."""
    return any(isinstance(event, ImpressionReconciled) and event.authority is Authority.REDECISION for event in events)


def _rows(commit: Commit, events: Sequence[ImpressionEvent]) -> Iterator[Row]:
    assert not isinstance(commit.stream, str)
    is_exact = minted_at(commit.stream) % DAY_MS >= ALIASED_MS
    for rendered, scored, decision in zip(events, events[1:], [*events[2:], None], strict=False):
        if isinstance(rendered, ImpressionRendered) and isinstance(scored, ImpressionScored):
            of = decision if isinstance(decision, ImpressionDeduped | ImpressionReconciled) else None
            yield Row(commit.position, commit.stream, rendered, scored, of, is_exact)


def _take_from_log(found: Vectors, rows: Sequence[Row]) -> None:
    """Overwrite in *found* what only the log knows of each of *rows*."""
    told = [(at, one) for at, row in enumerate(rows) if (one := logged(row.scored)) is not None]
    if not told:
        return
    places = np.array([at for at, _ in told])
    values, status = (np.concatenate([one[part] for _, one in told]) for part in (0, 1))
    from_log = (status == COLD) | (status == TIMEOUT)
    from_log[:, _ASYNC] = True
    is_uncounted = (status[:, _SHARED] == MISSING).all(axis=1)
    from_log[np.ix_(is_uncounted, _SHARED)] = True
    found.values[places] = np.where(from_log, values, found.values[places])
    found.status[places] = np.where(from_log, status, found.status[places])


_PASSING = frozenset({Reason.DEGRADED, Reason.REGISTRY_BEHIND})
_ASYNC, _SHARED = np.array(columns_of(Group.ASYNC)), np.array(columns_of(Group.SHARED))
