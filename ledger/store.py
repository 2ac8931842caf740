"""
The port of the event store, and what it promises.

P1  an append of several events to a stream is atomic; many streams go in one call, each with its own outcome
P2  appending the same cause (id and digest) to a stream again changes nothing and says `AlreadyAppended`;
    the same cause id with another digest is a `Conflict`
P3  "no stream" is exact: never false, also under concurrent writers
P4  when `append` returns, the events are durable on the store's terms
P5  reading all in order never skips an event that commits later, and never repeats; positions only grow
P6  a checkpoint is the position of the last commit *handled*; resuming after it loses nothing, at the tail too
P7  every read has a limit; iterators hold one page in memory
P8  an unanswered append raises `LedgerUnavailable` and may have happened; repeating it is safe because of P2
"""

from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import Protocol, TypeAlias

from msgspec import Struct

from domain.aggregates import LedgerEvent
from domain.ids import CauseId, ImpressionId
from domain.vocabulary import DataSet

StreamId: TypeAlias = ImpressionId | str
"""An impression's stream is named by its id, every other stream by a name such as `rejects-eu-1f3a`."""

READ_MAX = 10_000


class Append(Struct, frozen=True, kw_only=True, gc=False):
    """
    Events to append to *stream*, whole or not at all.

    `expected` is the number of events that the stream has (0: no stream). `digest` is that of the cause, never of the
    events, which may differ at a retry. `data` is the events as they are stored, where they were written down already:
    cheapest right after they were made (`ledger.codec.written`).
    """

    stream: StreamId
    expected: int
    cause: CauseId
    digest: str
    events: tuple[LedgerEvent, ...]
    data: bytes = b""


class Commit(Struct, frozen=True, kw_only=True, gc=False):
    """One append as it is stored: `version` is that of its first event, `data` the events as written."""

    position: int
    stream: StreamId
    version: int
    count: int
    cause: CauseId
    digest: str
    recorded_at: int
    data: bytes


class Appended(Struct, frozen=True):
    """The events are durable."""


class AlreadyAppended(Struct, frozen=True):
    """The cause was appended before, as *commit*; nothing changed."""

    commit: Commit


class Conflict(Struct, frozen=True):
    """The stream has *current* events, not as many as expected, or knows the cause id with another digest."""

    current: int


Outcome: TypeAlias = Appended | AlreadyAppended | Conflict


class LedgerError(Exception):
    """The ledger could not do what was asked."""


class LedgerUnavailable(LedgerError):
    """The store did not answer. What was asked may have happened."""


class NoPartition(LedgerError):
    """No partition holds the day of an impression; nothing of the call was written."""

    def __init__(self, day: date) -> None:
        super().__init__(f"no partition for {day}")
        self.day = day


class EventStore(Protocol):
    """An event store; see the promises above. `recorded_at` is epoch ms."""

    async def append(self, appends: Sequence[Append], recorded_at: int) -> list[Outcome]:
        """
        Append each of *appends*; answer one outcome per append, in order. A stream may stand in them once.

        Raises:
            LedgerUnavailable: the store did not answer; any of them may have been written.
            NoPartition: the store has no place for a day; none was written.
            ValueError: a stream stands in *appends* twice, or an append has no events.
        """

    async def read_streams(self, streams: Sequence[StreamId], limit: int) -> dict[StreamId, list[Commit]]:
        """
        Return the first *limit* commits of each of *streams*, in order; streams that do not exist are absent.

        Raises:
            LedgerUnavailable: the store did not answer.
            ValueError: *limit* is not in 1 to READ_MAX.
        """

    async def read_all(self, after: int, limit: int) -> list[Commit]:
        """
        Return up to *limit* commits of all streams with positions over *after*, in order of position.

        Raises:
            LedgerUnavailable: the store did not answer.
            ValueError: *limit* is not in 1 to READ_MAX.
        """

    async def head(self) -> int:
        """Return the position of the last commit, 0 if there is none."""

    async def before_last(self, commits: int) -> int:
        """
        Return the position after which the last *commits* commits stand; 0 if there are not more than those.

        Positions only grow; how far apart they are is the store's own business.

        Raises:
            LedgerUnavailable: the store did not answer.
        """

    async def prepare_days(self, first: date, last: date, data_set: DataSet) -> None:
        """Make room for impressions minted on the UTC days *first* to *last*."""

    async def close(self) -> None:
        """Let go of what is open."""


def check_limit(limit: int) -> None:
    """Raise `ValueError` unless *limit* is in 1 to READ_MAX (P7)."""
    if not 1 <= limit <= READ_MAX:
        raise ValueError(f"limit {limit} is not in 1 to {READ_MAX}")


def check_appends(appends: Sequence[Append]) -> None:
    """Raise `ValueError` where a stream stands twice or an append is empty."""
    if len({append.stream for append in appends}) != len(appends):
        raise ValueError("a stream stands in one call twice")
    if any(not append.events for append in appends):
        raise ValueError("an append has no events")


async def read_everything(store: EventStore, after: int = 0, page: int = 1_000) -> AsyncIterator[Commit]:
    """Yield all commits with positions over *after* up to the head as of now, a page at a time."""
    last = await store.head()
    while after < last:
        commits = await store.read_all(after, page)
        if not commits:
            return
        for commit in commits:
            if commit.position > last:
                return
            yield commit
        after = commits[-1].position
