"""
ClickHouse, in this process or on a server: opens clients, one per thread, because one that is shared serialises.

In process (chDB) one process may have a folder, and a child that it forks must not touch it. Limits given with the
folder's name count only for the handle that opens the engine, so that one is opened first and kept.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock, local
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlencode, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client as DriverClient
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.exceptions import Error as DriverError

from projections.errors import TablesUnavailable

T = TypeVar("T")

Client: TypeAlias = DriverClient
"""What every reader and writer of the tables is given; no other file names the driver."""

_LIMITS = {
    "max_server_memory_usage": 4 << 30,
    "mark_cache_size": 64 << 20,
    "background_pool_size": 4,
}
WRITING: Mapping[str, Any] = MappingProxyType(
    {
        "async_insert": 0,
        "max_insert_threads": 1,
        "max_threads": 1,
        "deduplicate_blocks_in_dependent_materialized_views": 1,
        "materialized_views_ignore_errors": 0,
        "max_partitions_per_insert_block": 0,
        # Rows of a sum are added up when parts merge; doing it at insert as well costs 3 us a commit.
        "optimize_on_insert": 0,
    }
)
READING: Mapping[str, Any] = MappingProxyType(
    {
        "max_threads": 2,
        "max_execution_time": 15,
        "max_memory_usage": 1 << 30,
        "max_bytes_before_external_group_by": 1 << 28,
    }
)


WAITING_MAX = 64
"""Questions that wait for a thread; whoever comes then is told to ask again."""


class Engine:
    """
    One ClickHouse: *dsn* is `chdb:///folder` or `http://user:password@host:port`; tables stand in *database*.

    Raises:
        TablesUnavailable: it cannot be opened; for a folder, because another process has it.
    """

    def __init__(self, dsn: str, database: str = "default") -> None:
        self._dsn = dsn
        self._database = database
        self._anchor: Any = None
        self.embedded = urlsplit(dsn).scheme == "chdb"
        if self.embedded:
            self._anchor = _open_folder(dsn)
        if database != "default":
            client = self._connect("default", {})
            client.command(f"CREATE DATABASE IF NOT EXISTS `{database.replace('`', '')}`")
            client.close()

    def connect(self, settings: Mapping[str, Any]) -> Client:
        """Return a new client for one thread, with *settings* for all its queries."""
        return self._connect(self._database, settings)

    def close(self) -> None:
        if self._anchor is not None:
            self._anchor.close()
            self._anchor = None

    def _connect(self, database: str, settings: Mapping[str, Any]) -> Client:
        try:
            return clickhouse_connect.get_client(dsn=self._dsn, database=database, settings=dict(settings))
        except DriverError as error:
            raise TablesUnavailable(f"ClickHouse does not answer: {error}") from error


class Clients:
    """A few threads, each with a client of its own, for an event loop to hand work to."""

    def __init__(self, engine: Engine, settings: Mapping[str, Any], threads: int) -> None:
        self._engine = engine
        self._settings = settings
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="clickhouse")
        self._tasks, self._tasks_max = 0, threads + WAITING_MAX
        self._here = local()
        self._lock = Lock()
        self._open: list[Client] = []

    async def run(self, task: Callable[[Client], T]) -> T:
        """
        Return what *task* returns, given a client, on one of the threads.

        Raises:
            TablesUnavailable: ClickHouse refused or did not answer, or too many wait already.
        """
        if self._tasks >= self._tasks_max:
            raise TablesUnavailable(f"{WAITING_MAX} questions wait already")
        self._tasks += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._do, task)
        finally:
            self._tasks -= 1

    def close(self) -> None:
        """Wait for what is running, then close every client."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            for client in self._open:
                client.close()
            self._open.clear()

    def _do(self, task: Callable[[Client], T]) -> T:
        try:
            return task(self._client())
        except DriverError as error:
            self._forget()
            code = error.code if isinstance(error, DatabaseError) else None
            raise TablesUnavailable(str(error), code or 0) from error

    def _client(self) -> Client:
        client: Client | None = getattr(self._here, "client", None)
        if client is None:
            client = self._here.client = self._engine.connect(self._settings)
            with self._lock:
                self._open.append(client)
        return client

    def _forget(self) -> None:
        """In process, what a query had put out before it failed would be the beginning of the next one's answer."""
        client: Client | None = getattr(self._here, "client", None)
        if client is None or not self._engine.embedded:
            return
        self._here.client = None
        with self._lock:
            self._open.remove(client)
        client.close()


def _open_folder(dsn: str) -> Any:
    from chdb import session  # noqa: PLC0415 (200 MB that a desk with a ClickHouse server does without)

    parts = urlsplit(dsn)
    if parts.netloc or not parts.path:
        raise TablesUnavailable(f"{dsn} names no folder; write chdb:///the/whole/path")
    folder = Path(parts.path)
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # it may be another user's
        folder.chmod(0o700)  # ClickHouse makes its files for everybody to read
    try:
        return session.Session(f"{folder.resolve()}?{urlencode(_LIMITS)}")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise TablesUnavailable(f"cannot open ClickHouse in {folder}: {error}") from error
