"""Brings ClickHouse's tables to this program's version, where nothing else has them open."""

from contextlib import AsyncExitStack

from projections.checkpoints_postgres import PostgresCheckpoints
from projections.engine import WRITING, Clients, Engine
from projections.making import make_tables
from service.desk import clickhouse_dsn, holder_of
from service.folders import lock_holder
from service.settings import EMBEDDED, Settings
from service.wiring import database_url


async def migrate_tables(settings: Settings) -> list[str] | None:
    """
    Apply the missing files to the active generation and return their names.

    None: the embedded tables are open in the running desk, which did it when it started.

    Raises:
        TablesUnavailable, CheckpointsUnavailable: ClickHouse or PostgreSQL does not answer.
        LeaseLost: the tables are gone, and a desk projects into them.
    """
    if settings.clickhouse_dsn == EMBEDDED and lock_holder(settings.data_dir) is not None:
        return None
    async with AsyncExitStack() as stack:
        checkpoints = PostgresCheckpoints(database_url(settings))
        stack.push_async_callback(checkpoints.close)
        engine = Engine(clickhouse_dsn(settings))
        stack.callback(engine.close)
        clients = Clients(engine, WRITING, 1)
        stack.callback(clients.close)
        return await make_tables(checkpoints, clients, holder_of(engine, settings))
