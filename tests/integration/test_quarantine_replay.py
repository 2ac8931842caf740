"""Replays on real engines: two gates and two operators at once, and a gate that dies between answer and mark."""

import asyncio
import json
import os
import random
import signal
import threading
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import date

import httpx
import psycopg
import pytest
from gatekit import NOW, PRICE, KitGate, Minter
from helpers_processes import eventually
from test_cli import Up, _ready, impledger

from commands.gate_postgres import PostgresDayKeys, PostgresHolding
from commands.quarantine_entries import EntryState, Wanted
from commands.quarantine_postgres import PostgresQuarantine
from commands.quarantine_replay import Fix, Known
from domain.reasons import Verdict
from ledger.postgres import PostgresStore
from ledger.postgres_connection import PostgresConnection
from ml.traffic.delivery import JSON
from service.books import check_books
from service.embedded_postgres import PostgresServer
from service.keyfiles import load_or_make_keys
from service.load import bodies
from service.settings import Settings
from service.stage import on_free_ports

pytestmark = pytest.mark.slow

LEAVE_OUT, OTHERWISE = Fix({"client_at": None}), Fix({"client_at": NOW - 2_000})
LOCK = 15
WRONG = {"client_at": -5, "width": "300", "sdk": "ios/12.9"}
HELD_UP = f"""
create function hold_up() returns trigger language plpgsql as $$
begin perform pg_advisory_lock_shared({LOCK}); return new; end $$;
create trigger hold_up before update on quarantine for each row
when (new.state = 'replayed') execute function hold_up();
"""
WAITS = "select count(*) from pg_stat_activity where wait_event = 'advisory' and query like '%update quarantine%'"
END_WAITING = "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'advisory'"


@contextmanager
def marks_held_up(url):
    """Inside, whoever writes that an entry was replayed waits; leaving kills what waits, as the end of a gate does."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(HELD_UP)
        connection.execute(f"select pg_advisory_lock({LOCK})")
        yield lambda: connection.execute(WAITS).fetchone()[0] > 0
        connection.execute(END_WAITING)
        connection.execute("drop trigger hold_up on quarantine")


@asynccontextmanager
async def a_gate(url, name):
    async with AsyncExitStack() as stack:
        mine, operators, store = PostgresConnection(url, 5.0), PostgresConnection(url, 5.0), PostgresStore(url)
        for one in (mine, operators, store):
            stack.push_async_callback(one.close)
        gate = KitGate(
            store, PostgresHolding(mine), PostgresDayKeys(mine), quarantine_store=PostgresQuarantine(operators)
        )
        gate.restart(name=name)
        await gate.open(date(2026, 9, 20), date(2026, 9, 22))
        yield gate


async def quarantined(gate, event):
    await gate.send(event)
    [entry] = await gate.quarantine_store.entries(Wanted(now=NOW, states=(EntryState.WAITING,)))
    return entry.name


async def counted_once(gate, token):
    assert len(await gate.events(token.impression)) == 3
    assert (await gate.state(token.impression)).standing.billable_micros == PRICE


@pytest.mark.parametrize("seed", range(6))
def test_two_operators_on_two_gates_at_once_count_it_once(postgres_url, seed):
    async def main():
        async with a_gate(postgres_url, "eu-one") as one, a_gate(postgres_url, "eu-two") as two:
            clients = Minter(seed)
            for second in (LEAVE_OUT, OTHERWISE):
                token = clients.token()
                name = await quarantined(one, clients.render(token, client_at=-5))
                both = await asyncio.gather(one.quarantine.replay(name, LEAVE_OUT), two.quarantine.replay(name, second))
                assert Verdict.VALID in {done.answer.verdict for done in both if done.answer is not None}
                assert (await one.quarantine_store.find(name)).entry.state is EntryState.REPLAYED
                await counted_once(one, token)

    asyncio.run(main())


@pytest.mark.parametrize("then", [LEAVE_OUT, OTHERWISE], ids=["same fix", "another fix"])
def test_a_replay_that_ended_before_its_mark_counts_once_whatever_is_tried_next(postgres_url, then):
    async def main():
        async with a_gate(postgres_url, "eu-one") as one, a_gate(postgres_url, "eu-two") as two:
            clients = Minter()
            token = clients.token()
            name = await quarantined(one, clients.render(token, client_at=-5))
            with marks_held_up(postgres_url) as waits:
                dying = asyncio.create_task(one.quarantine.replay(name, LEAVE_OUT))
                async with asyncio.timeout(10):
                    while not waits():  # noqa: ASYNC110 (another process's lock tells nobody)
                        await asyncio.sleep(0.01)
                dying.cancel()
                await asyncio.gather(dying, return_exceptions=True)
            assert (await two.quarantine_store.find(name)).entry.state is EntryState.WAITING
            done = await two.quarantine.replay(name, then)
            assert done.known is (Known.ANSWER if then is LEAVE_OUT else Known.OTHER_CONTENT)
            assert done.entry.state is (EntryState.REPLAYED if then is LEAVE_OUT else EntryState.SUPERSEDED)
            await counted_once(two, token)

    asyncio.run(main())


@pytest.fixture
def settings(tmp_path):
    settings = on_free_ports(Settings(starter="no"))
    return type(settings)(**{**vars(settings), "data_dir": tmp_path / "data"})


def spoken(settings, *words, code=0):
    """What a command of `impledger quarantine` printed."""
    done = impledger(settings, "quarantine", *words)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout


def send(settings, events):
    key = load_or_make_keys(settings.data_dir).operator
    url = f"http://{settings.host}:{settings.gate_port}/v1/impressions"
    return httpx.post(url, json=events, headers={"authorization": f"Bearer {key}", "content-type": JSON}).json()


def test_an_operator_finds_explains_mends_and_replays_what_a_broken_sdk_sent(settings, tmp_path):
    with Up(settings) as running:
        keys = load_or_make_keys(settings.data_dir)
        [body] = bodies(random.Random(1), keys, settings.region, renders=6, batch=6)
        sound, *broken = json.loads(body)
        answers = send(settings, [sound, *({**event, **WRONG} for event in broken)])
        assert [answer["status"] for answer in answers] == ["decided", *["quarantined"] * 5]

        [group] = spoken(settings, "list", "--summary", "--json")["groups"]
        assert (group["code"], group["path"], group["entries"]) == ("invalid", "$.client_at", 5)
        names = [entry["name"] for entry in spoken(settings, "list", "--json")["entries"]]
        assert len(names) == 5
        assert names[0] in spoken(settings, "list", "--code", "invalid")

        told = spoken(settings, "show", names[0])
        assert '"client_at": -5    <-- number: Expected `int` >= 0' in told
        assert 'fix: {"client_at":null,"width":300}' in told
        assert not any(event["user"] in told or event["token"] in told for event in broken)
        raw = spoken(settings, "show", names[0], "--raw")
        assert any(event["user"] in raw for event in broken)

        dry = spoken(settings, "replay", names[0], "--set", "client_at=null", "--set", "width=300", "--dry-run")
        assert "could be replayed; the ledger has: nothing" in dry
        refused = spoken(settings, "replay", names[0], "--set", "client_at=null", code=1)
        assert "$.width" in refused
        patch = tmp_path / "patch.json"
        patch.write_text('{"client_at": null, "width": 300}')

        killed_between_answer_and_mark(settings, running, names[0])

        [again] = spoken(settings, "replay", names[0], "--patch", str(patch), "--json")["replays"]
        assert (again["known"], again["answer"]["verdict"], again["entry"]["state"]) == ("answer", "valid", "replayed")
        rest = spoken(settings, "replay", "--code", "invalid", "--suggested", "--json")
        assert (len(rest["replays"]), rest["failed"]) == (4, 0)
        assert spoken(settings, "replay", "--code", "invalid", "--suggested", "--json")["replays"] == []
        twice = spoken(settings, "replay", *names, "--suggested", "--json")
        assert [one["again"] for one in twice["replays"]] == [True] * 5
        assert spoken(settings, "list", "--state", "waiting", "--json")["entries"] == []
        books = asyncio.run(check_books(settings))
    assert (books.problems, books.impressions, books.gross) == ([], 6, 6)
    log = (settings.data_dir / "logs" / "gate.log").read_text()
    shown = [json.loads(line) for line in log.splitlines() if "quarantined body shown" in line]
    assert [(line["entry"], line["raw"]) for line in shown] == [(names[0], False), (names[0], True)]
    assert not any(event["user"] in log for event in broken)


def killed_between_answer_and_mark(settings, running, name):
    """Replay *name*, and kill the gate once the ledger has it and before the entry says so."""
    url = PostgresServer(settings.data_dir).url
    with marks_held_up(url) as waits:
        command = threading.Thread(target=impledger, args=(settings, "quarantine", "replay", name, "--suggested"))
        command.start()
        eventually(waits)
        [gate] = [one for one in running.family if one.is_running() and one.cmdline()[-1:] == ["gate"]]
        os.kill(gate.pid, signal.SIGKILL)
        command.join()
    eventually(lambda: _ready(settings.host, settings.gate_port), within_s=60)
