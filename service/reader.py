"""Reads what the desk knows, from other processes of the machine: how far it is, and its tables over loopback."""

import asyncio
import time
from types import TracebackType
from typing import Self

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error as DriverError
from msgspec import Struct

from ledger.store import EventStore
from projections.checkpoints import Known
from projections.checkpoints_postgres import PostgresCheckpoints
from projections.errors import ProjectionError
from service.settings import EMBEDDED, Settings
from service.wiring import database_url

_POLL_S = 0.1
_CAUGHT_UP_WITHIN_S = 120.0


class Lag(Struct, frozen=True):
    position: int
    lag_s: float


class Desk:
    """The desk as others see it. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._checkpoints = PostgresCheckpoints(database_url(settings))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._checkpoints.close()

    async def known(self) -> Known:
        """
        Return what the active tables hold.

        Raises:
            ProjectionError: PostgreSQL did not answer.
        """
        return await self._checkpoints.known()

    async def lag(self) -> Lag | None:
        """Return how old what the tables know is; None while that cannot be said."""
        try:
            known = await self.known()
        except ProjectionError:
            return None
        return Lag(known.position, max(0.0, time.time() - known.known_at / 1_000)) if known.known_at else None

    async def caught_up(self, store: EventStore) -> Known:
        """
        Wait until the tables hold everything that the ledger has, and nothing more came meanwhile.

        Raises:
            TimeoutError: they did not within two minutes.
            LedgerUnavailable, ProjectionError: PostgreSQL did not answer.
        """
        async with asyncio.timeout(_CAUGHT_UP_WITHIN_S):
            while True:
                known = await self.known()
                if known.position == await store.head():
                    return known
                await asyncio.sleep(_POLL_S)

    async def tables_when_up(self) -> Client:
        """
        As `tables`, waiting for a desk that is being started.

        Raises:
            TimeoutError: it did not answer within two minutes.
        """
        async with asyncio.timeout(_CAUGHT_UP_WITHIN_S):
            while True:
                try:
                    return await asyncio.to_thread(self.tables)
                except DriverError:
                    await asyncio.sleep(_POLL_S)

    def tables(self) -> Client:
        """Return an ordinary ClickHouse client: of the server, or of the desk's read-only loopback address."""
        if self._settings.clickhouse_dsn == EMBEDDED or self._settings.clickhouse_dsn.startswith("chdb"):
            return clickhouse_connect.get_client(host="127.0.0.1", port=self._settings.clickhouse_port)
        return clickhouse_connect.get_client(dsn=self._settings.clickhouse_dsn)
