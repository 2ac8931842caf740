"""Runs a contract on adapters in memory and on PostgreSQL."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from ledger.postgres_connection import PostgresConnection

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
