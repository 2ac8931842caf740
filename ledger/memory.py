"""The reference model of the port: a list in memory. Durable for as long as the process lives."""

from collections.abc import Sequence
from datetime import date

from domain.ids import CauseId, day_of, minted_at
from domain.vocabulary import DataSet
from ledger.codec import written
from ledger.store import (
    AlreadyAppended,
    Append,
    Appended,
    Commit,
    Conflict,
    NoPartition,
    Outcome,
    StreamId,
    check_appends,
    check_limit,
)


class MemoryStore:
    """An `EventStore` that keeps everything in lists."""

    def __init__(self) -> None:
        self._log: list[Commit] = []
        self._head = 0
        self._streams: dict[StreamId, list[Commit]] = {}
        self._causes: dict[tuple[StreamId, CauseId], Commit] = {}
        self._days: dict[date, DataSet] = {}

    async def append(self, appends: Sequence[Append], recorded_at: int) -> list[Outcome]:
        check_appends(appends)
        for append in appends:
            self._check_day(append.stream)
        return [self._append(append, recorded_at) for append in appends]

    async def read_streams(self, streams: Sequence[StreamId], limit: int) -> dict[StreamId, list[Commit]]:
        check_limit(limit)
        return {stream: self._streams[stream][:limit] for stream in streams if stream in self._streams}

    async def read_all(self, after: int, limit: int) -> list[Commit]:
        check_limit(limit)
        first = self._head - len(self._log)
        return self._log[max(0, after - first) : max(0, after + limit - first)]

    async def head(self) -> int:
        return self._head

    async def before_last(self, commits: int) -> int:
        return max(0, self._head - commits)

    async def prepare_days(self, first: date, last: date, data_set: DataSet) -> None:
        for ordinal in range(first.toordinal(), last.toordinal() + 1):
            self._days.setdefault(date.fromordinal(ordinal), data_set)

    async def close(self) -> None:
        """Nothing is open."""

    def _append(self, append: Append, recorded_at: int) -> Outcome:
        commits = self._streams.get(append.stream, [])
        current = commits[-1].version + commits[-1].count if commits else 0
        known = self._causes.get((append.stream, append.cause))
        if known is not None:
            return AlreadyAppended(known) if known.digest == append.digest else Conflict(current)
        if append.expected != current:
            return Conflict(current)
        self._head += 1
        commit = Commit(
            position=self._head,
            stream=append.stream,
            version=append.expected,
            count=len(append.events),
            cause=append.cause,
            digest=append.digest,
            recorded_at=recorded_at,
            data=written(append),
        )
        self._log.append(commit)
        self._streams.setdefault(append.stream, []).append(commit)
        self._causes[append.stream, append.cause] = commit
        return Appended()

    def _check_day(self, stream: StreamId) -> None:
        if not isinstance(stream, str) and (day := day_of(minted_at(stream))) not in self._days:
            raise NoPartition(day)
