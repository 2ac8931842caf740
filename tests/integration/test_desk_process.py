"""The whole desk: starts, catches up with the ledger, answers, lets others read its tables, and stops when asked."""

import asyncio
import os
import signal
import socket
from contextlib import asynccontextmanager
from hashlib import sha256

import clickhouse_connect
import httpx
import pytest
from builders import DAY, HOUR, MINTED
from deskkit import a_full_store, fill

from projections.checkpoints_postgres import PostgresCheckpoints
from projections.verify import verify
from service.access import Access
from service.desk import run_desk
from service.settings import Settings

pytestmark = pytest.mark.slow

ACCESS = Access({sha256(b"token").hexdigest(): ["report", "audit"]})
TRIES = 200


def free_ports(number):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


@pytest.fixture
def settings(tmp_path):
    desk_port, clickhouse_port = free_ports(2)
    return Settings(data_dir=tmp_path, desk_port=desk_port, clickhouse_port=clickhouse_port)


@asynccontextmanager
async def running(store, url, settings):
    """A desk that runs meanwhile and is stopped as a supervisor would; yields a client of its API."""
    desk = asyncio.create_task(run_desk(store, url, settings, ACCESS))
    headers = {"authorization": "Bearer token"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.desk_port}", headers=headers) as http:
        await until(http, "/readyz", lambda answer: answer.status_code == 200, desk)
        yield http
    os.kill(os.getpid(), signal.SIGTERM)
    await desk


async def until(http, path, good, desk=None):
    """Ask *path* until the answer is *good*; there is no other sign of it outside the process."""
    for _ in range(TRIES):
        assert desk is None or not desk.done(), desk.result()
        try:
            answer = await http.get(path)
            if good(answer):
                return answer
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path} was never as expected")


REPORT = (
    f"/v1/reports?since={MINTED - MINTED % HOUR}&until={MINTED - MINTED % HOUR + 3 * DAY}&data_set=live&data_set=replay"
)


async def caught_up(http, store):
    head = await store.head()
    return await until(http, REPORT, lambda answer: answer.json()["known_through"]["position"] == head)


def test_a_desk_catches_up_answers_and_goes_on_where_it_stopped(postgres_url, settings):
    store = a_full_store(100)

    async def main():
        async with running(store, postgres_url, settings) as http:
            first = (await caught_up(http, store)).json()
            assert first["lag_s"] < 5
        await fill(store, 20, seed=2)
        async with running(store, postgres_url, settings) as http:
            second = (await caught_up(http, store)).json()
            assert second["rows"][0]["gross"] > first["rows"][0]["gross"]
            await fill(store, 20, seed=3)
            await caught_up(http, store)
            metrics = (await http.get("/metrics")).text
            assert f"impledger_projector_position {float(await store.head())}" in metrics

    asyncio.run(main())


def test_another_process_verifies_the_tables_through_loopback(postgres_url, settings):
    store = a_full_store(100)

    async def main():
        async with running(store, postgres_url, settings) as http:
            await caught_up(http, store)
            client = await asyncio.to_thread(
                clickhouse_connect.get_client, host="127.0.0.1", port=settings.clickhouse_port
            )
            checkpoints = PostgresCheckpoints(postgres_url)
            known = await checkpoints.known()
            verification = await verify(store, client, known.generation, known.position)
            assert verification.good, verification
            assert verification.impressions == 100
            await checkpoints.close()
            client.close()

    asyncio.run(main())


def test_an_impression_is_explained_before_the_tables_know_it(postgres_url, settings):
    store = a_full_store(5)
    impression = next(stream for stream in store._streams if not isinstance(stream, str))

    async def main():
        async with running(store, postgres_url, settings) as http:
            answer = await http.get(f"/v1/impressions/{impression}")
            assert answer.json()["impression_id"] == str(impression)

    asyncio.run(main())
