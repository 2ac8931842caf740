"""An ordinary ClickHouse client reads the desk's engine over loopback, and can do nothing else."""

import asyncio
import threading
from contextlib import contextmanager

import clickhouse_connect
import httpx
import pytest
import uvicorn
from clickhouse_connect.driver.exceptions import DatabaseError, ProgrammingError
from deskkit import an_engine

from projections.engine import WRITING, Clients
from projections.errors import TablesUnavailable
from service.clickhouse_http import READ_ONLY, ClickHouseHttp, refuse_unless_reading

slow = pytest.mark.slow


@contextmanager
def serving(app):
    """Serve *app* on a free port of loopback, in a thread; yields the port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    started = threading.Event()
    startup = server.startup

    async def tell(sockets=None):
        await startup(sockets)
        started.set()

    server.startup = tell
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    assert started.wait(10)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address():
    """Port of a served engine that has one table of three rows."""
    with an_engine() as engine:
        writer = engine.connect(WRITING)
        writer.command(
            "CREATE TABLE numbers (n UInt64, t String, at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY n"
        )
        writer.command("INSERT INTO numbers VALUES (1, 'one', 1000), (2, 'zw\\'ei', 2000), (3, '', 3000)")
        guests = Clients(engine, READ_ONLY, 2)
        with serving(ClickHouseHttp(guests)) as port:
            yield port
        guests.close()
        writer.close()


@pytest.fixture
def client(address):
    client = clickhouse_connect.get_client(host="127.0.0.1", port=address)
    yield client
    client.close()


@slow
def test_an_ordinary_client_reads(client):
    assert client.query("SELECT n, t FROM numbers ORDER BY n").result_rows == [(1, "one"), (2, "zw'ei"), (3, "")]
    assert client.command("SELECT sum(n) FROM numbers") == 6
    assert client.query("SELECT n FROM numbers WHERE n > 9").result_rows == []
    assert client.ping()


@slow
def test_values_are_bound_as_the_client_wrote_them(client):
    found = client.query("SELECT n FROM numbers WHERE t = {text:String}", parameters={"text": "zw'ei"})
    assert found.result_rows == [(2,)]
    many = client.query(
        "SELECT n FROM numbers WHERE t IN {texts:Array(String)} ORDER BY n", parameters={"texts": ["", "one", "\\"]}
    )
    assert many.result_rows == [(1,), (3,)]


@slow
def test_more_values_than_an_address_holds_are_bound_too(client):
    values = [f"value {number}" for number in range(2_000)]
    found = client.query(
        "SELECT count() FROM numbers WHERE t IN {texts:Array(String)}", parameters={"texts": [*values, "one"]}
    )
    assert found.result_rows == [(1,)]


@slow
def test_rows_can_be_streamed(client):
    with client.query_row_block_stream("SELECT n FROM numbers") as blocks:
        assert sorted(row for block in blocks for row in block) == [(1,), (2,), (3,)]


@slow
def test_a_client_is_told_that_settings_are_not_its_own(client):
    with pytest.raises(ProgrammingError, match="readonly"):
        client.query("SELECT 1", settings={"max_execution_time": 10_000})


@slow
def test_an_error_has_its_code(client):
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE") as caught:
        client.query("SELECT * FROM nowhere")
    assert caught.value.code == 60


@slow
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO numbers VALUES (4, 'x', 0)",
        "CREATE TABLE t (a Int8) ENGINE = Memory",
        "DROP TABLE numbers",
        "TRUNCATE TABLE numbers",
        "ALTER TABLE numbers DELETE WHERE 1",
        "OPTIMIZE TABLE numbers",
        "SET readonly = 0",
        "USE system",
        "SYSTEM STOP MERGES",
        "KILL QUERY WHERE 1",
        "SELECT 1; DROP TABLE numbers",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT file('/etc/passwd')",
        "SELECT `\\x66ile`('/etc/passwd')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT 1 INTO OUTFILE '/tmp/never'",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT * FROM Python(os)",
        "DESCRIBE TABLE url(concat('fi','le:///etc/passwd'), 'CSVWithNames')",
        "DESC `url`('http://127.0.0.1:1/', 'CSVWithNames')",
        "DESCRIBE (SELECT * FROM URL // why\n('http://127.0.0.1:1/'))",
        "SELECT * FROM “sqlite”('/tmp/never.db', 't')",
        "EXPLAIN SELECT * FROM sqlite('/tmp/never.db', 't')",
        "EXISTS TABLE `/etc/passwd`",
        'EXISTS TABLE "../../etc/passwd"',
        "EXISTS “/etc/passwd”",
        "SELECT * FROM /* why */ '\\x2fetc/passwd'",
        "SELECT hasColumnInTable('default', '/etc/passwd', 'root')",
        "SELECT 1 WHERE 1 IN (SELECT * FROM sqlite('/tmp/never.db', 't'))",
        "SELECT * FROM default.`/etc/passwd`",
        "SELECT * FROM remote('127.0.0.1:1', system.one)",
        "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT 1))",
        "WITH 1 AS a INSERT INTO numbers SELECT a, '', 0",
        "EXPLAIN SELECT 1; SYSTEM STOP MERGES",
        "/* SELECT */ SYSTEM STOP MERGES",
        "-- SELECT\nSYSTEM STOP MERGES",
    ],
)
def test_nothing_but_reading_is_served(address, client, statement):
    answer = httpx.post(f"http://127.0.0.1:{address}/", content=statement)
    assert answer.status_code == 500
    assert answer.headers["x-clickhouse-exception-code"] in {"164", "62"}
    assert client.command("SELECT count() FROM numbers") == 3


@slow
def test_a_bound_value_is_never_a_part_of_the_statement(address, client):
    statement = "SELECT 1 %(a)s /* {a: */"
    fields = {
        "query": statement,
        "param_a": "UNION ALL SELECT count() FROM url('http://127.0.0.1:1/', 'CSV', 'a Int8')",
    }
    answer = httpx.post(f"http://127.0.0.1:{address}/", params=fields)
    assert answer.headers["x-clickhouse-exception-code"] == "47"  # there is nothing called a
    found = client.query("SELECT {word:String}", parameters={"word": "url"})
    assert found.result_rows == [("url",)]


@slow
def test_an_answer_that_is_too_large_is_refused_whatever_the_engine_counts(address):
    answer = httpx.post(
        f"http://127.0.0.1:{address}/", content="SELECT repeat('x', 1000) FROM numbers(300000)", timeout=60
    )
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (500, "396")


@pytest.mark.parametrize(
    "statement",
    [
        "select 1",
        "  SELECT 1;  ",
        "-- why\nSELECT 1",
        "/* why */ WITH 1 AS a SELECT a",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "SHOW TABLES",
        "DESCRIBE TABLE numbers",
        "EXISTS TABLE numbers",
        "EXPLAIN SELECT 1",
        "SELECT 'it\\'s' FROM numbers",
        "SELECT splitByChar('/', t), 1/n AS `net/gross` FROM numbers",
        "SELECT _url, format('{}', urls) FROM numbers(3)",
    ],
)
def test_whatever_reads_is_served(statement):
    refuse_unless_reading(statement, frozenset({"url", "file"}))


def test_a_long_beginning_is_judged_in_no_time():
    with pytest.raises(TablesUnavailable):
        refuse_unless_reading("/*" * 200_000, frozenset())


@slow
def test_the_format_is_named_in_the_statement_or_beside_it(address):
    base = f"http://127.0.0.1:{address}/"
    assert httpx.get(base, params={"query": "SELECT 1 AS a, 2 AS b"}).text == "1\t2\n"
    assert httpx.get(base, params={"query": "SELECT 1 AS a", "default_format": "JSONEachRow"}).json() == {"a": 1}
    named = httpx.post(base, params={"default_format": "CSV"}, content="SELECT 1 AS a FORMAT JSONEachRow")
    assert named.json() == {"a": 1}
    assert named.headers["x-clickhouse-format"] == "JSONEachRow"
    assert named.headers["x-clickhouse-query-id"]


@slow
def test_it_says_that_it_is_there(address):
    base = f"http://127.0.0.1:{address}"
    assert httpx.get(f"{base}/ping").text == "Ok.\n"
    assert httpx.get(base).text == "Ok.\n"
    assert httpx.put(base, content="SELECT 1").status_code == 405


@slow
def test_a_statement_that_is_too_long_is_refused(address):
    answer = httpx.post(f"http://127.0.0.1:{address}/", content="SELECT 1 --" + "x" * (5 << 20))
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (500, "307")


@slow
@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"SELECT '\xff'", {}),
        (
            b'--b\r\ncontent-disposition: form-data; name="query"\r\n\r\nSELECT \xff\r\n--b--\r\n',
            {"content-type": "multipart/form-data; boundary=b"},
        ),
    ],
)
def test_a_statement_that_is_no_text_is_refused(address, content, headers):
    answer = httpx.post(f"http://127.0.0.1:{address}/", content=content, headers=headers)
    assert (answer.status_code, answer.headers.get("x-clickhouse-exception-code")) == (500, "62")
