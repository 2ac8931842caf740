"""One PostgreSQL connection, made when needed, that fails in one way."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

import psycopg
from psycopg import AsyncConnection, sql

from ledger.postgres_arrays import register
from ledger.store import LedgerUnavailable

Row: TypeAlias = tuple[Any, ...]


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
        self._open: AsyncConnection[Row] | None = None

    async def fetch(self, statement: str, arguments: Sequence[Any] | dict[str, Any]) -> list[Row]:
        async with self._lock:
            try:
                async with asyncio.timeout(self._deadline_s):
                    connection = await self._connection()
                    cursor = connection.cursor(binary=True)
                    await cursor.execute(statement.encode(), arguments, prepare=True)
                    return await cursor.fetchall()
            except (psycopg.Error, OSError, TimeoutError) as error:
                await self._drop()
                raise LedgerUnavailable(f"PostgreSQL did not answer: {error}") from error
            except asyncio.CancelledError:
                await self._drop()
                raise

    async def execute_all(self, statements: Sequence[sql.Composed | sql.SQL]) -> None:
        """Execute *statements* in one transaction."""
        async with self._lock:
            try:
                async with asyncio.timeout(self._deadline_s):
                    connection = await self._connection()
                    async with connection.transaction():
                        for statement in statements:
                            await connection.execute(statement)
            except (psycopg.Error, OSError, TimeoutError) as error:
                await self._drop()
                raise LedgerUnavailable(f"PostgreSQL did not answer: {error}") from error

    async def close(self) -> None:
        async with self._lock:
            await self._drop()

    async def _connection(self) -> AsyncConnection[Row]:
        if self._open is None or self._open.closed:
            self._open = await AsyncConnection.connect(self._url, autocommit=True, options=self._options)
            register(self._open)
        return self._open

    async def _drop(self) -> None:
        """After a failure the connection's state is unknown: the next call opens another."""
        if self._open is not None:
            await self._open.close()
            self._open = None
