import os
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from service.embedded_postgres import PostgresServer
from service.migrate import migrate_postgres

sys.path.insert(0, str(Path(__file__).parent))

from esdb_double import Node


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory) -> Iterator[str]:
    """URL of a PostgreSQL server: the one named for tests, else an embedded one that ends with the session."""
    named = os.environ.get("IMPLEDGER_TEST_POSTGRES_URL")
    if named:
        yield named
        return
    server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def template_database(postgres_server) -> str:
    """Name of a migrated database that each test's own is copied from."""
    name = f"template_{uuid4().hex}"
    url = _make_database(postgres_server, name)
    migrate_postgres(url)
    return name


@pytest.fixture
def postgres_url(postgres_server, template_database) -> Iterator[str]:
    """URL of an empty, migrated database of the test's own."""
    name = f"test_{uuid4().hex}"
    yield _make_database(postgres_server, name, template_database)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


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
