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
