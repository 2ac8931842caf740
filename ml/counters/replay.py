"""Counters after a restart: counted again from the end of the ledger."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from msgspec import Struct

from domain.events import ImpressionRendered
from ledger.codec import decode
from ledger.store import READ_MAX, Commit, EventStore
from ml.counters.counters import BATCH_MAX
from ml.counters.observer import Observer

CLOCKS_APART_MAX_MS = 60_000
"""Commits of several workers stand in the order of the ledger, not of their clocks; they are this close."""


class Tail(Struct, frozen=True):
    """
    The commits with positions over *after* up to *head*.

    They have every render that happened at *watched_since* (epoch ms) or later: it cannot have been recorded before.
    """

    after: int
    head: int
    watched_since: int


async def find_tail(store: EventStore, since: int, commits_max: int) -> Tail:
    """
    Return the tail that begins at *since* (epoch ms), or later where it would have more than *commits_max* commits.

    Raises:
        LedgerUnavailable: the store did not answer.
    """
    head = await store.head()
    least = low = max(0, head - commits_max)
    high = head
    while low < high:
        middle = (low + high) // 2
        found = await store.read_all(middle, 1)
        if found and found[0].recorded_at < since - CLOCKS_APART_MAX_MS:
            low = found[0].position
        else:
            high = middle
    if low > least or least == 0:
        return Tail(low, head, since)
    [first] = await store.read_all(least, 1)
    return Tail(least, head, max(since, first.recorded_at + CLOCKS_APART_MAX_MS))


async def replay(store: EventStore, tail: Tail, observer: Observer, mine: Callable[[Commit], bool]) -> int:
    """
    Count the renders of *tail* in commits that are *mine*; return how many. The observer's counters are fresh ones,
    watching since the tail does.

    Raises:
        LedgerUnavailable: the store did not answer.
        UnreadableCommit: a commit cannot be read.
    """
    after, counted = tail.after, 0
    while after < tail.head:
        commits = await store.read_all(after, READ_MAX)
        if not commits:
            break
        after = commits[-1].position
        counted += count(observer, [one for one in commits if one.position <= tail.head and mine(one)])
    return counted


def count(observer: Observer, commits: Sequence[Commit]) -> int:
    """Count the renders in *commits*; return how many."""
    counted = 0
    renders = renders_in(commits)
    while claims := list(islice(renders, BATCH_MAX)):
        observer.keep(claims)
        counted += len(claims)
    return counted


def renders_in(commits: Sequence[Commit]) -> Iterator[ImpressionRendered]:
    for commit in commits:
        for event in decode(commit.data):
            if isinstance(event, ImpressionRendered):
                yield event
