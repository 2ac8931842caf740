import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import structlog
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from service.embedded_postgres import PostgresServer
from service.migrate import migrate_postgres

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # before it is imported: connections that end are no news here

from esdb_double import Node

# A machine that is busy elsewhere, or that makes its first tables of Unicode, breaks no law.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command that a test runs in this process sets up logs, for a stream that ends with it."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


class OneMachine(LoadScopeScheduling):
    """Spreads tests over workers one by one, but those in files with a test of a whole machine go to one of them."""

    def __init__(self, config: pytest.Config, log) -> None:
        super().__init__(config, log)
        tests = Path(__file__).parent
        files = [path for path in tests.rglob("test_*.py") if "mark.machine" in path.read_text()]
        self._machines = {path.relative_to(config.rootpath).as_posix() for path in files}

    def _split_scope(self, nodeid: str) -> str:
        return "machine" if nodeid.partition("::")[0] in self._machines else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log) -> OneMachine:
    return OneMachine(config, log)


@pytest.fixture(scope="session")
def postgres_urls(tmp_path_factory) -> Iterator[tuple[str, str]]:
    """
    URLs of a PostgreSQL server, for its users and for its caretaker: the one named for tests, else an embedded one.

    Only a superuser may drop a database that autovacuum is at work in.
    """
    named = os.environ.get("IMPLEDGER_TEST_POSTGRES_URL")
    if named:
        yield named, named
        return
    server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server.url, server.admin_url
    server.stop()


@pytest.fixture(scope="session")
def postgres_server(postgres_urls) -> str:
    return postgres_urls[0]


@pytest.fixture(scope="session")
def template_database(postgres_server) -> str:
    """Name of a migrated database that each test's own is copied from."""
    name = f"template_{uuid4().hex}"
    url = _make_database(postgres_server, name)
    migrate_postgres(url)
    return name


@pytest.fixture
def new_database(postgres_urls, template_database) -> Iterator[Callable[[], str]]:
    """Makes empty, migrated databases of the test's own and returns their URLs."""
    server, caretaker = postgres_urls
    made: list[str] = []

    def make() -> str:
        made.append(f"test_{uuid4().hex}")
        return _make_database(server, made[-1], template_database)

    yield make
    with psycopg.connect(caretaker, autocommit=True) as connection:
        for name in made:
            connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def postgres_url(new_database) -> str:
    """URL of an empty, migrated database of the test's own."""
    return new_database()


def _make_database(server: str, name: str, template: str = "template1") -> str:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name} template {template}")
        info = connection.info
        return f"postgresql://{info.user}@/{name}?host={info.host}&port={info.port}"


@pytest.fixture(scope="session")
def esdb_node() -> Iterator[Node]:
    """A double of EventStoreDB, for tests that break nothing of it."""
    with Node() as node:
        yield node


@pytest.fixture
def esdb_url(esdb_node) -> str:
    """URL of an empty namespace of the test's own in the double."""
    return a_namespace(esdb_node.url)


@pytest.fixture
def esdb_server_url() -> str:
    """URL of an empty namespace of the test's own in a real server."""
    named = os.environ.get("IMPLEDGER_TEST_ESDB_URL")
    if not named:
        pytest.skip("a real EventStoreDB cannot be had from wheels; IMPLEDGER_TEST_ESDB_URL names one")
    return a_namespace(named)


@pytest.fixture
def segments_urls(esdb_url, postgres_url) -> tuple[str, str]:
    """URLs of an empty ledger in segments: of a namespace of the test's own in the double, and of its index."""
    return f"{esdb_url}&layout=segments", postgres_url


def a_namespace(url: str) -> str:
    address, _, options = url.partition("?")
    return f"{address.rstrip('/')}/test_{uuid4().hex}?{options}"
