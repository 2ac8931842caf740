"""What the tables are made of: columns, numbered files, and the engine that one process at a time may open."""

import asyncio
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from builders import MINTED
from deskkit import an_engine, an_id

from projections.engine import READING, WRITING, Clients, Engine
from projections.errors import SchemaChanged, TablesUnavailable
from projections.native import Block
from projections.schema import columns, drop, migrate

pytestmark = pytest.mark.slow

FILES = ["0001_facts.sql", "0002_impressions.sql", "0003_serves.sql"]


@pytest.fixture
def client():
    with an_engine() as engine:
        client = engine.connect(WRITING)
        yield client
        client.close()


def test_every_type_of_column_comes_back_as_it_went_in(client):
    client.command(
        "CREATE TABLE every (a UInt8, b Bool, c Int8, d UInt16, e UInt32, f Int32, g UInt64, h Int64, "
        "i DateTime64(3, 'UTC'), j String, k UUID, l Enum8('' = 0, 'x' = 1, 'y' = -7), m DateTime('UTC')) "
        "ENGINE = Memory"
    )
    rows = [
        (0, False, -128, 0, 0, -(2**31), 0, -(2**63), MINTED, "", UUID(int=0), "", 0),
        (255, True, 127, 65_535, 2**32 - 1, 2**31 - 1, 2**64 - 1, 2**63 - 1, 1, "é" * 300, an_id(5), "y", 2**32 - 1),
    ]
    block = Block(columns(client, "every"))
    client.raw_insert("every", block.names, block.encode(rows), fmt="Native")
    found = client.query(
        "SELECT * REPLACE (toUnixTimestamp64Milli(i) AS i, toUnixTimestamp(m) AS m) FROM every ORDER BY a"
    ).result_rows
    assert [tuple(row) for row in found] == rows


def test_a_type_that_is_not_covered_is_refused():
    with pytest.raises(ValueError, match="Array"):
        Block({"a": "Array(String)"})


def test_tables_are_made_once(client):
    assert migrate(client, 1) == FILES
    assert migrate(client, 1) == []
    assert migrate(client, 2) == FILES


def test_a_file_that_was_half_applied_is_applied_again(client):
    migrate(client, 1)
    client.command("DROP VIEW facts_1_to_pacing_minute SYNC")
    client.command("ALTER TABLE schema_migrations DELETE WHERE name = '0001_facts.sql' SETTINGS mutations_sync = 1")
    assert migrate(client, 1) == ["0001_facts.sql"]
    assert client.command("EXISTS facts_1_to_pacing_minute") == 1


def test_a_file_that_changed_after_it_was_applied_is_refused(client):
    migrate(client, 1)
    client.command("ALTER TABLE schema_migrations UPDATE digest = 'other' WHERE 1 SETTINGS mutations_sync = 1")
    with pytest.raises(SchemaChanged, match="has changed"):
        migrate(client, 1)


def test_a_generation_can_be_removed_and_made_again(client):
    migrate(client, 1)
    migrate(client, 2)
    drop(client, 1)
    assert client.command("EXISTS facts_1") == 0
    assert client.command("EXISTS facts_2") == 1
    assert migrate(client, 1) != []


def test_two_processes_cannot_open_one_folder_and_other_users_cannot_look_into_it(tmp_path):
    code = (
        "import sys; from projections.engine import Engine; "
        "kept = Engine(sys.argv[1]); print('open', flush=True); input()"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, f"chdb://{tmp_path}"]
    tmp_path.chmod(0o755)
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout.readline() == b"open\n"
        second = subprocess.run(
            command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert second.returncode != 0
        assert "TablesUnavailable" in second.stderr
        first.communicate(b"\n")
        assert tmp_path.stat().st_mode & 0o077 == 0  # what ClickHouse makes in it, everybody may read


def test_an_engine_keeps_what_it_was_given(tmp_path):
    with an_engine() as engine:
        client = engine.connect(WRITING)
        assert client.command("SELECT getSetting('optimize_on_insert')") is not None
        assert engine.embedded
        client.close()
    assert not Engine("http://127.0.0.1:1").embedded


def test_what_a_query_put_out_before_it_failed_is_in_no_later_answer():
    fails = "SELECT number, throwIf(number = 300000) AS t FROM numbers(1000000)"
    with an_engine() as engine:
        clients = Clients(engine, READING, 1)

        def answer(text):
            return asyncio.run(clients.run(lambda client: client.query(text).result_rows))

        for _ in range(3):
            with pytest.raises(TablesUnavailable, match="FUNCTION_THROW_IF"):
                answer(fails)
            assert answer("SELECT toUInt64(5) AS number, toUInt8(0) AS t") == [(5, 0)]
        assert answer("SELECT getSetting('max_execution_time')") == [(READING["max_execution_time"],)]
        clients.close()


def test_a_server_that_is_not_there_is_one_error():
    with pytest.raises(TablesUnavailable):
        Engine("http://127.0.0.1:1").connect({})
