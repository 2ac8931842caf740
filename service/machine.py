"""Everything on one machine: the processes, what they need, and how to tell that they are ready."""

import http.client
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

from service.cell_maps import homes_of
from service.children import Child
from service.embedded_postgres import PostgresServer
from service.embedded_valkey import ValkeyServer
from service.folders import lock_holder
from service.keyfiles import NoKeys, load_keys
from service.migrate import migrate_postgres
from service.settings import EMBEDDED, PORTS, Settings
from service.shelter_files import trust_of
from service.supervisor import Supervisor
from service.wiring import embeds_postgres, load_pack, postgres_urls

_PROBE_S = 0.5
_OK = 200
_READY, _ALIVE = "/readyz", "/healthz"
"""Whoever applies feedback is up when it is alive: a broker that is away must not keep a gate from starting."""


def children(settings: Settings) -> list[Child]:
    """
    Return the processes that `up` supervises: the engines that are embedded, gate, desk, work and scheduler.

    Raises:
        PackError: the rule pack cannot be used, so that the gate would never start.
        CellMapError: the cell map cannot.
        TrustFileError: the keys trusted for sheltering cannot.
        LauncherError: the cell's keys cannot be read, or what it takes to speak to the broker is not installed.
    """
    load_pack(settings.rule_pack)
    with suppress(NoKeys):
        load_keys(settings.data_dir)
    homes_of(settings)
    trust_of(settings)
    if settings.broker_url.startswith("amqp"):
        from service.broker import open_broker  # noqa: PLC0415 (whoever supervises needs no broker)

        open_broker(settings.broker_url)
    engines: list[Child] = []
    if embeds_postgres(settings):
        engines.append(PostgresServer(settings.data_dir).child())
    if settings.broker_url == EMBEDDED:
        engines.append(ValkeyServer(settings.data_dir).child())
    needs = tuple(engine.name for engine in engines)
    stores = tuple(name for name in needs if name == "postgres")
    return [
        *engines,
        _own("gate", settings, settings.gate_port, stores),
        _own("desk", settings, settings.desk_port, stores),
        _own("work", settings, settings.work_port, needs, _ALIVE),
        _own("scheduler", settings, settings.scheduler_port, needs, _ALIVE),
    ]


def starter(settings: Settings) -> Child:
    """Return the process that puts a starter model in force where none ever was, and ends."""
    return replace(_own("starter", settings, 0, ("gate",)), ready=lambda: True, before=lambda: None, once=True)


def ports(settings: Settings) -> Mapping[str, int]:
    """Return the ports that must be free, by the names of their settings."""
    return {name.removesuffix("_port"): getattr(settings, name) for name in PORTS}


def migrate(settings: Settings) -> str:
    """Bring the PostgreSQL databases of *settings* to this program's version, and return it."""
    versions = {url: migrate_postgres(url) for url in postgres_urls(settings)}
    return ", ".join(sorted(set(versions.values())))


@contextmanager
def postgres_at_hand(settings: Settings, tell: Callable[[str], None]) -> Iterator[None]:
    """
    Run the embedded PostgreSQL, with its tables at this program's version, if nothing runs on the data folder.

    Raises:
        LauncherError: PostgreSQL cannot be started.
    """
    if not embeds_postgres(settings) or lock_holder(settings.data_dir) is not None:
        yield
        return
    tell("nothing runs here: starting PostgreSQL")
    with Supervisor(settings.data_dir, [PostgresServer(settings.data_dir).child()]):
        migrate(settings)
        yield


def answers(host: str, port: int, path: str = _READY) -> bool:
    """Tell whether a process of ours says on *port* that it is ready, or alive if that is the *path*."""
    connection = http.client.HTTPConnection(host, port, timeout=_PROBE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == _OK
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


def _own(name: str, settings: Settings, port: int, needs: tuple[str, ...], path: str = _READY) -> Child:
    ready: Callable[[], bool] = lambda: answers(settings.host, port, path)  # noqa: E731 (a field of the child)
    return Child(
        name=name,
        argv=(sys.executable, "-m", "service.cli", name),
        env={**os.environ, **settings.environment()},
        needs=needs,
        ready=ready,
        stop_signal=signal.SIGTERM,
        before=lambda: _migrated(settings),
    )


def _migrated(settings: Settings) -> None:
    migrate(settings)
