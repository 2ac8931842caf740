"""One PostgreSQL connection, made when needed, that fails in one way."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg import AsyncConnection, sql

from ledger.postgres_arrays import register
from ledger.store import LedgerUnavailable

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]
Connection: TypeAlias = AsyncConnection[Row]


class PostgresConnection:
    """
    A connection of one event loop: calls take turns, each within *deadline_s*.

    Every failure of the driver becomes `LedgerUnavailable`; the call after it opens a new connection.
    """

    def __init__(self, url: str, deadline_s: float, options: str = "") -> None:
        self._url = url
        self._deadline_s = deadline_s
        self._options = options
        self._lock = asyncio.Lock()
        self._open: Connection | None = None

    async def fetch(self, statement: str, arguments: Sequence[Any] | dict[str, Any]) -> list[Row]:
        async def work(connection: Connection) -> list[Row]:
            cursor = connection.cursor(binary=True)
            await cursor.execute(statement.encode(), arguments, prepare=True)
            return await cursor.fetchall()

        return await self._call(work)

    async def execute_all(self, statements: Sequence[sql.Composed | sql.SQL]) -> None:
        """Execute *statements* in one transaction."""

        async def work(connection: Connection) -> None:
            for statement in statements:
                await connection.execute(statement)

        await self.transact(work)

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Return what *work* does in one transaction."""

        async def whole(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        return await self._call(whole)

    async def close(self) -> None:
        async with self._lock:
            await self._drop()

    async def _call(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._lock:
            try:
                async with asyncio.timeout(self._deadline_s):
                    return await work(await self._connection())
            except (psycopg.Error, OSError, TimeoutError) as error:
                await self._drop()
                raise LedgerUnavailable(f"PostgreSQL did not answer: {error}") from error
            except asyncio.CancelledError:
                await self._drop()
                raise

    async def _connection(self) -> Connection:
        if self._open is None or self._open.closed:
            self._open = await AsyncConnection.connect(self._url, autocommit=True, options=self._options)
            register(self._open)
        return self._open

    async def _drop(self) -> None:
        """After a failure the connection's state is unknown: the next call opens another."""
        if self._open is not None:
            await self._open.close()
            self._open = None
