"""The desk process: the projector, the read API, and embedded ClickHouse for the other processes to read."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry

from domain.serves import parse_ttl
from ledger.postgres_connection import PostgresConnection
from ledger.store import EventStore
from projections.cells import CellQueries
from projections.checkpoints import Checkpoints
from projections.checkpoints_postgres import PostgresCheckpoints
from projections.completeness import CompletenessQueries
from projections.engine import READING, WRITING, Clients, Engine
from projections.errors import ProjectionError
from projections.making import make_tables
from projections.projector import Metrics, Ports, Projector
from projections.queries import Queries
from projections.tables import Tables
from service.access import Access
from service.clickhouse_http import READ_ONLY, ClickHouseHttp
from service.clock import now_ms
from service.desk_http import Desk, Extra, desk_app
from service.leased import Leased
from service.monitoring import Watch
from service.monitors_clients import ClientInspection
from service.monitors_http import monitor_routes
from service.monitors_open import model_inspections
from service.served_http import served_routes
from service.serving import calm_collector, serve_until_stopped, server_for
from service.settings import EMBEDDED, Settings

_READERS = 2
_PACERS = 1
_GUESTS = 2
_LOOPBACK = "127.0.0.1"
_MODELS_DEADLINE_S = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Sources:
    """What a desk reads besides the tables."""

    store: EventStore
    checkpoints: Checkpoints
    leased: Leased
    models: PostgresConnection


@dataclass(frozen=True)
class _Built:
    """The parts of one desk."""

    projector: Projector
    queries: Queries
    paces: Queries
    pacers: Clients
    guests: Clients
    registry: CollectorRegistry
    watch: Watch
    extras: tuple[Extra, ...]


async def run_desk(store: EventStore, database_url: str, settings: Settings, access: Access) -> None:
    """
    Run the desk until SIGTERM or SIGINT. *access* knows the callers' scopes.

    Raises:
        TablesUnavailable: another process has the folder, or ClickHouse does not answer at start.
        LostCommits: the ledger is not the one that the tables were made from.
    """
    async with AsyncExitStack() as stack:
        checkpoints = PostgresCheckpoints(database_url)
        stack.push_async_callback(checkpoints.close)
        engine = Engine(clickhouse_dsn(settings))
        stack.callback(engine.close)
        leased = Leased(database_url, store, now_ms)
        stack.push_async_callback(leased.close)
        models = PostgresConnection(database_url, _MODELS_DEADLINE_S)
        stack.push_async_callback(models.close)
        built = await _build(_Sources(store, checkpoints, leased, models), engine, settings, stack)
        desk = Desk(
            queries=built.queries,
            paces=built.paces,
            store=store,
            access=access,
            unready=lambda: _unready(built),
            registry=built.registry,
            now=now_ms,
            extras=built.extras,
        )
        servers = [server_for(desk_app(desk), settings.host, settings.desk_port)]
        if engine.embedded:
            servers.append(server_for(ClickHouseHttp(built.guests), _LOOPBACK, settings.clickhouse_port))
        stop = asyncio.Event()
        projecting = asyncio.create_task(built.projector.run(stop))
        watching = asyncio.create_task(built.watch.run(stop))

        def halt(_: object) -> None:
            for server in servers:
                server.should_exit = True

        projecting.add_done_callback(halt)
        calm_collector()
        try:
            await serve_until_stopped(*servers)
        finally:
            stop.set()
            await asyncio.gather(projecting, watching)


def clickhouse_dsn(settings: Settings) -> str:
    """Return where the tables are: embedded ones in the data folder."""
    if settings.clickhouse_dsn != EMBEDDED:
        return settings.clickhouse_dsn
    return f"chdb://{settings.data_dir.resolve() / 'clickhouse'}"


async def _build(sources: _Sources, engine: Engine, settings: Settings, stack: AsyncExitStack) -> _Built:
    checkpoints = sources.checkpoints
    writers = Clients(engine, WRITING, 1)
    readers = Clients(engine, READING, _READERS)
    pacers = Clients(engine, READING, _PACERS)
    guests = Clients(engine, READ_ONLY, _GUESTS)
    for clients in (writers, readers, pacers, guests):
        stack.callback(clients.close)
    holder = holder_of(engine, settings)
    log.info("tables are there", applied=await make_tables(checkpoints, writers, holder))
    registry = CollectorRegistry()
    ports = Ports(store=sources.store, checkpoints=checkpoints, sink=Tables(writers, now_ms), now=now_ms)
    ttl = parse_ttl(settings.serve_ttl_s)
    inspection = ClientInspection(
        CellQueries(checkpoints, readers, now_ms, ttl),
        now_ms,
        every_s=settings.monitor_every_s,
        window_s=settings.monitor_window_s,
    )
    of_models = model_inspections(sources.store, checkpoints.position_at, sources.models, settings)
    watch = Watch([inspection, *of_models], registry, now_ms)
    return _Built(
        projector=Projector(ports, holder, Metrics(registry)),
        queries=Queries(checkpoints, readers, now_ms),
        paces=Queries(checkpoints, pacers, now_ms, ttl=ttl, leased=sources.leased),
        pacers=pacers,
        guests=guests,
        registry=registry,
        watch=watch,
        extras=(
            *served_routes(CompletenessQueries(checkpoints, readers, now_ms, ttl), now_ms),
            *monitor_routes(watch),
        ),
    )


def holder_of(engine: Engine, settings: Settings) -> str:
    """
    Name this process for the lease.

    A folder is open in one process at a time, so whoever has it takes over at once from the one that had it before; of
    several desks on a server, each waits until another's lease ends.
    """
    return f"folder {settings.data_dir.resolve()}" if engine.embedded else uuid4().hex


async def _unready(built: _Built) -> str | None:
    """
    Questions are answered while the projector waits; how late answers are, they say themselves. Who paces is asked, so
    that reports that take long do not look like a desk that is down.
    """
    try:
        await built.queries.fresh()
        await built.pacers.run(lambda client: client.command("SELECT 1"))
    except ProjectionError as error:
        return str(error)
    return None
