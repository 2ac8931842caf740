"""Runs a contract on adapters in memory and on PostgreSQL; and a ledger that can be damaged."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from domain.ids import ImpressionId
from ledger.memory import MemoryStore
from ledger.postgres_connection import PostgresConnection
from ledger.store import Commit

ADAPTERS = ["memory", pytest.param("postgres", marks=pytest.mark.slow)]


def runner(request, in_memory, on_postgres):
    """
    Return what runs a coroutine function on as many stores over one content as it has arguments, two at most.

    *in_memory* makes a store, *on_postgres* one of a connection.
    """
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None

    @asynccontextmanager
    async def opened():
        if url is None:
            yield [in_memory()] * 2
            return
        connections = [PostgresConnection(url, deadline_s=5.0) for _ in range(2)]
        try:
            yield [on_postgres(connection) for connection in connections]
        finally:
            for connection in connections:
                await connection.close()

    def runs(test):
        async def main():
            async with opened() as stores:
                await test(*stores[: test.__code__.co_argcount])

        asyncio.run(main())

    return runs


class DamagedStore(MemoryStore):
    """A store in which commits can be damaged, as a disk or a newer program's writing would have them."""

    def damage(self, impression: ImpressionId, at: int = 0) -> None:
        """Make commit *at* of the stream of *impression* one that nobody can read."""
        self.mend(replace(self._streams[impression][at], data=b"\x28\xb5\x2f\xfd damaged"))

    def mend(self, commit: Commit) -> None:
        """Have *commit* at its position."""
        self._log = [commit if other.position == commit.position else other for other in self._log]
        stream = self._streams[commit.stream]
        stream[:] = [commit if other.position == commit.position else other for other in stream]
