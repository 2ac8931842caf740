"""What the commits of one impression's stream say together."""

from collections.abc import Iterable, Iterator, Sequence

from domain.events import ImpressionEvent
from domain.impression import Decided, Unseen, fold
from ledger.codec import UnreadableCommit, decode_impression
from ledger.store import READ_MAX, Commit


def events_of(commits: Iterable[Commit]) -> Iterator[ImpressionEvent]:
    """Yield the events of *commits*; raises `UnreadableCommit` at one that cannot be read."""
    return (event for commit in commits for event in decode_impression(commit.data))


def state_of(commits: Sequence[Commit]) -> Unseen | Decided:
    """
    Return how the stream stands whose *commits* one read of READ_MAX gave.

    Raises:
        UnreadableCommit, ImpossibleTransition: it cannot be read, or not to its end.
    """
    if len(commits) == READ_MAX:
        raise UnreadableCommit(f"the stream has {READ_MAX} commits or more")
    state = fold(events_of(commits))
    if not isinstance(state, Unseen | Decided):
        raise UnreadableCommit("the last append of the stream is not whole")
    return state


def length_of(commits: Sequence[Commit]) -> int:
    """Return how many events the stream of *commits* has: what an append to it expects."""
    return commits[-1].version + commits[-1].count if commits else 0
