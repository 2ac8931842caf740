"""Stores that a drill makes unreachable: as if they did not answer, at once, for as long as it takes."""

from collections.abc import Callable, Sequence
from datetime import date

from commands.budget_store import Account, Exchange, Granted, LeaseStore
from domain.vocabulary import DataSet
from ledger.breaker import NotAsked
from ledger.store import Append, Commit, EventStore, LedgerUnavailable, Outcome, StreamId


class BarredStore:
    """An `EventStore` whose streams cannot be read or written while *is_barred*; the rest is passed on."""

    def __init__(self, store: EventStore, is_barred: Callable[[], bool]) -> None:
        self._store = store
        self._is_barred = is_barred

    async def append(self, appends: Sequence[Append], recorded_at: int) -> list[Outcome]:
        self._check()
        return await self._store.append(appends, recorded_at)

    async def read_streams(self, streams: Sequence[StreamId], limit: int) -> dict[StreamId, list[Commit]]:
        self._check()
        return await self._store.read_streams(streams, limit)

    async def read_all(self, after: int, limit: int) -> list[Commit]:
        return await self._store.read_all(after, limit)

    async def head(self) -> int:
        return await self._store.head()

    async def before_last(self, commits: int) -> int:
        return await self._store.before_last(commits)

    async def prepare_days(self, first: date, last: date, data_set: DataSet) -> None:
        await self._store.prepare_days(first, last, data_set)

    async def close(self) -> None:
        await self._store.close()

    def _check(self) -> None:
        if self._is_barred():
            raise NotAsked("a drill: as if the ledger were away")


class BarredLeases:
    """A `LeaseStore` that does not answer while *is_barred*."""

    def __init__(self, store: LeaseStore, is_barred: Callable[[], bool]) -> None:
        self._store = store
        self._is_barred = is_barred

    async def exchange(self, asked: Exchange) -> dict[Account, Granted]:
        if self._is_barred():
            raise LedgerUnavailable("a drill: as if leases could not be had")
        return await self._store.exchange(asked)

    async def leave(self, holder: str) -> None:
        await self._store.leave(holder)
