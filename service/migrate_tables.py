"""Brings ClickHouse's tables to this program's version, where nothing else has them open."""

from projections.checkpoints_postgres import PostgresCheckpoints
from projections.engine import WRITING, Engine
from projections.schema import migrate
from service.desk import clickhouse_dsn
from service.folders import lock_holder
from service.settings import EMBEDDED, Settings
from service.wiring import database_url


async def migrate_tables(settings: Settings) -> list[str] | None:
    """
    Apply the missing files to the active generation and return their names.

    None: the embedded tables are open in the running desk, which did it when it started.

    Raises:
        TablesUnavailable, CheckpointsUnavailable: ClickHouse or PostgreSQL does not answer.
    """
    if settings.clickhouse_dsn == EMBEDDED and lock_holder(settings.data_dir) is not None:
        return None
    checkpoints = PostgresCheckpoints(database_url(settings))
    try:
        generation = (await checkpoints.known()).generation
    finally:
        await checkpoints.close()
    engine = Engine(clickhouse_dsn(settings))
    try:
        client = engine.connect(WRITING)
        try:
            return migrate(client, generation)
        finally:
            client.close()
    finally:
        engine.close()
