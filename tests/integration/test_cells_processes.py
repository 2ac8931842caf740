"""Cells as real processes on one machine: each a gate with its own database, keys and data folder."""

import asyncio
import json
import os
import random
import subprocess
import sys
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import msgspec
import pytest
from cellkit import one_cell
from helpers_processes import eventually, kill

from commands.items import Status
from domain.cells import Cell, CellMap
from domain.cells_file import cell_map_text
from domain.events import ImpressionDeduped
from domain.ids import shard
from domain.reasons import Reason
from domain.token import mint_token
from ledger.codec import decode
from ledger.postgres import PostgresStore
from ledger.store import read_everything
from ml.traffic.client import Load, LoadClient
from ml.traffic.generator import Plan, Traffic
from ml.traffic.shot import Minter
from service.cell_maps import load_cell_map
from service.keyfiles import load_or_make_keys
from service.load import _event
from service.machine import answers
from service.replay_log import ReplaySettings, replay_log
from service.routed import RoutedCourier
from service.router import Router
from service.router_wires import HttpxWire, LoadWire
from service.settings import Settings
from service.spooling import is_drained
from service.stage import on_free_ports

pytestmark = [pytest.mark.slow, pytest.mark.machine]

LINE = '9.9.9.{} - - [17/May/2015:10:05:03 +0000] "GET /a.png HTTP/1.1" 200 9 "http://x.example/p" "Mozilla/5.0"\n'
START_S = 60
GROWN_WITHIN_S = 30
UNHURRIED = {"ledger_deadline_ms": 5_000, "admission_max_ms": 5_000}
"""On a machine that is busy with other tests most answers would come off the spool; some do all the same."""
DRAINED_WITHIN_S = 30


class Cells:
    """The cells of one map file and their processes. Delivery's keys, for tokens and shards, are the same in all."""

    def __init__(self, folder, new_database, stack):
        self.folder, self.path = folder, folder / "cells.toml"
        self._new_database, self._stack = new_database, stack
        self.settings, self.processes = {}, {}
        self.dice = random.Random(7)

    def place(self, name):
        """Find ports and a database for a cell, so that a map can name its address; return that."""
        own = {"data_dir": self.folder / name, "cell": name, "cell_map": str(self.path)}
        free = replace(on_free_ports(Settings()), **UNHURRIED, **own)
        url = self._new_database()
        self.settings[name] = replace(free, ledger_url=url, database_url=url)
        self.folder.joinpath(name).mkdir()
        keys = load_or_make_keys(self.settings[name].data_dir)
        if len(self.settings) > 1:
            shared = {field: getattr(self.keys, field) for field in ("tokens", "mint_with", "shard")}
            keys = msgspec.structs.replace(keys, **shared, api={**keys.api, **self.keys.api})
            (self.settings[name].data_dir / "keys" / "keys.json").write_bytes(msgspec.json.encode(keys))
        return self.address(name)

    @property
    def keys(self):
        return load_or_make_keys(next(iter(self.settings.values())).data_dir)

    def address(self, name):
        return f"http://{self.settings[name].host}:{self.settings[name].gate_port}"

    def bearer(self, address):
        [name] = [name for name in self.settings if self.address(name) == address]
        return load_or_make_keys(self.settings[name].data_dir).operator

    def start(self, name):
        settings = self.settings[name]
        log = self._stack.enter_context((self.folder / f"{name}.log").open("ab"))
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "gate"],
            env={**os.environ, **settings.environment(), "IMPLEDGER_LOG_JSON": "yes"},
            stderr=log,
            stdout=log,
        )
        self.processes[name] = process
        self._stack.callback(_stop, process)

    def wait(self):
        for name, settings in self.settings.items():
            eventually(lambda name=name, settings=settings: self._is_ready(name, settings), within_s=START_S)

    def _is_ready(self, name, settings):
        assert self.processes[name].poll() is None, (self.folder / f"{name}.log").read_text()
        try:
            return answers(settings.host, settings.gate_port)
        except OSError:
            return False

    def cli(self, *words):
        done = subprocess.run(
            [sys.executable, "-m", "service.cli", "cells", *words, "--map", str(self.path), "--json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def metric(self, name, line):
        text = httpx.get(f"{self.address(name)}/metrics").text
        found = [row.rpartition(" ")[2] for row in text.splitlines() if row.startswith(line)]
        return float(found[0]) if found else 0.0

    def renders(self, number, epoch):
        """So many renders of as many people, minted under *epoch*, as (token, event)."""
        keys = self.keys
        made = []
        for _ in range(number):
            token, event = _event(self.dice, keys, "eu", int(datetime.now(UTC).timestamp() * 1_000))
            token = msgspec.structs.replace(token, epoch=epoch)
            text = mint_token(token, keys.mint_with, keys.token_keys()[keys.mint_with])
            made.append((token, {**event, "token": text}))
        return made

    def post(self, name, body):
        headers = {"authorization": f"Bearer {self.bearer(self.address(name))}"}
        return httpx.post(f"{self.address(name)}/v1/impressions", json=body, headers=headers)

    @asynccontextmanager
    async def router(self, cells=None):
        async with httpx.AsyncClient() as http:
            yield Router(cells or load_cell_map(self.path), HttpxWire(http, self.bearer))


def _stop(process):
    process.terminate()
    process.wait(timeout=30)


@pytest.fixture
def cells(tmp_path, new_database):
    """Two cells under the second epoch of their map, not started yet."""
    with ExitStack() as stack:
        cells = Cells(tmp_path, new_database, stack)
        first, second = cells.place("eu-1"), cells.place("eu-2")
        whole = one_cell().epochs("eu")
        cells.path.write_text(cell_map_text(CellMap({"eu-1": Cell("eu-1", "eu", first)}, {"eu": whole})))
        assert cells.cli("grow", "eu-2", second)["moved"] == 2_048
        yield cells


async def ledgers(cells):
    """Per cell: impression -> the causes that its stream was decided by, in order, once its spool is empty."""
    found = {}
    for name, settings in cells.settings.items():
        await asyncio.to_thread(eventually, lambda settings=settings: is_drained(settings), DRAINED_WITHIN_S)
        store = PostgresStore(settings.ledger_url)
        streams = found[name] = {}
        async for commit in read_everything(store, 0):
            for event in decode(commit.data):
                if isinstance(event, ImpressionDeduped):
                    streams.setdefault(commit.stream, []).append(event.cause)
        await store.close()
    return found


def bodies(made):
    return [msgspec.json.encode(event) for _, event in made]


def owner_names(made, cells):
    return [cells.cell_of("eu", token.epoch, shard(token.impression)).name for token, _ in made]


def test_two_cells_take_their_own_turn_the_others_away_and_a_third_takes_only_new_ids(cells):
    two = load_cell_map(cells.path)
    cells.start("eu-1")
    cells.start("eu-2")
    cells.wait()
    old = cells.renders(60, epoch=2)
    owners = owner_names(old, two)
    assert set(owners) == {"eu-1", "eu-2"}

    # all of it to the wrong places first: refused per render, or as a whole, and counted nowhere
    mixed = cells.post("eu-1", [event for _, event in old])
    assert mixed.status_code == 200
    told = mixed.json()
    assert [answer.get("cell", "eu-1") for answer in told] == owners
    theirs = [event for (_, event), owner in zip(old, owners, strict=True) if owner == "eu-1"]
    whole = cells.post("eu-2", theirs)
    document = whole.json()
    assert (whole.status_code, document["cell"], document["address"]) == (421, "eu-1", cells.address("eu-1"))
    assert len(document["outcomes"]) == len(theirs)
    single = cells.post("eu-2", theirs[0])
    assert (single.status_code, single.json()["address"]) == (421, cells.address("eu-1"))
    line = 'impledger_answers_total{reason="REGION_MISDIRECTED",status="refused",verdict=""}'
    assert cells.metric("eu-1", line) == owners.count("eu-2")
    assert cells.metric("eu-2", line) == len(theirs) + 1
    assert not asyncio.run(ledgers(cells))["eu-2"]

    async def send(made, by=None):
        async with cells.router(by) as router:
            outcomes = await router.send(bodies(made))
            assert [str(one.event_id) for one in outcomes] == [event["event_id"] for _, event in made]
            return outcomes, router

    first, _ = asyncio.run(send(old))
    assert {outcome.status for outcome in first} == {Status.DECIDED}
    assert_counted_once(cells, old, two)

    # from two to three cells, while both run
    third = cells.place("eu-3")
    growth = cells.cli("grow", "eu-3", third)
    assert (growth["epoch"], growth["moved"]) == (3, 1_365)
    cells.start("eu-3")
    cells.wait()
    three = load_cell_map(cells.path)
    for name in cells.settings:
        line = f'impledger_cell_map_epoch{{cell="{name}",region="eu"}}'
        eventually(lambda name=name, line=line: cells.metric(name, line) == 3, within_s=GROWN_WITHIN_S)

    # a router that has not heard of it sends old ones again and new ones: only new ids move
    new = cells.renders(60, epoch=3)
    moved = [owner for owner in owner_names(new, three) if owner == "eu-3"]
    assert 5 <= len(moved) <= 40
    again, router = asyncio.run(send([*old, *new], two))
    for one, earlier in zip(again, first, strict=False):
        assert earlier.provisional or (one.verdict, one.reason) == (earlier.verdict, earlier.reason)
    assert {outcome.status for outcome in again} == {Status.DECIDED}
    assert len(router.cells.epochs("eu")) == 3
    assert_counted_once(cells, [*old, *new], three)
    ledger = asyncio.run(ledgers(cells))
    assert len(ledger["eu-3"]) == len(moved)
    assert not set(ledger["eu-3"]) & {token.impression for token, _ in old}
    for token, event in (old[0], new[0]):
        by_token = cells.cli("route", event["token"])
        assert token.impression in ledger[by_token["cell"]]


def test_a_log_is_replayed_over_the_router_under_the_first_epoch_and_again_after_the_map_grew(cells, tmp_path):
    cells.start("eu-1")
    cells.start("eu-2")
    cells.wait()
    log = tmp_path / "access.log"
    log.write_text("".join(map(LINE.format, range(40))))
    sending = ReplaySettings(
        gate_url=cells.address("eu-2"), keys=cells.keys, region="eu", cells=load_cell_map(cells.path)
    )
    report = asyncio.run(replay_log(log, sending))
    assert (report.impressions, report.statuses) == (40, {"decided": 40})
    before = asyncio.run(ledgers(cells))
    assert (len(before["eu-1"]), len(before["eu-2"])) == (40, 0), "under the first epoch all is the first cell's"
    cells.cli("grow", "eu-3", "http://127.0.0.1:9")
    again = asyncio.run(replay_log(log, msgspec.structs.replace(sending, cells=load_cell_map(cells.path))))
    assert again.verdicts == report.verdicts
    assert asyncio.run(ledgers(cells)) == before


def assert_counted_once(cells, made, by):
    """Every render of *made* stands in the ledger of its cell, once, and in no other."""
    ledger = asyncio.run(ledgers(cells))
    for (token, event), owner in zip(made, owner_names(made, by), strict=True):
        found = {name: streams[token.impression] for name, streams in ledger.items() if token.impression in streams}
        assert {name: list(map(str, causes)) for name, causes in found.items()} == {owner: [event["event_id"]]}


def test_real_traffic_over_two_cells_of_which_one_is_killed_is_answered_and_counted_in_its_own_cell(cells):
    cells.start("eu-1")
    cells.start("eu-2")
    cells.wait()
    keys, by = cells.keys, load_cell_map(cells.path)

    async def drive():
        minter = Minter(keys.mint_with, keys.token_keys()[keys.mint_with], keys.shard, "eu", epoch=2)
        traffic = Traffic(Plan(seed=5, rate=250, seconds=8), minter, lambda _: None)
        async with LoadWire(cells.bearer, connections=8, try_s=5.0) as wire:
            courier = RoutedCourier(Router(by, wire))
            load = Load(deadline_s=60.0)
            client = LoadClient(cells.address("eu-1"), keys.operator, load=load, seed=5, courier=courier)
            killing = asyncio.create_task(kill_and_start_again())
            tally = await client.run(traffic.planned(lambda: int(datetime.now(UTC).timestamp() * 1_000)))
            await killing
            return tally

    async def kill_and_start_again():
        await asyncio.sleep(3.0)
        kill(cells.processes["eu-2"].pid)
        cells.processes["eu-2"].wait()
        cells.start("eu-2")

    tally = asyncio.run(drive())
    assert (tally.unanswered, tally.disagreements, tally.misaligned, tally.rejected) == (0, 0, 0, {})
    assert tally.answered > 1_500
    # The generator has a few renders of another region; a router that errs would have many more of its own.
    assert tally.by_reason().get(Reason.REGION_MISDIRECTED, 0) < tally.answered / 200
    ledger = asyncio.run(ledgers(cells))
    assert not set(ledger["eu-1"]) & set(ledger["eu-2"])
    for name, streams in ledger.items():
        assert len(streams) > 400
        assert {by.cell_of("eu", 2, shard(impression)).name for impression in streams} == {name}
        causes = [cause for found in streams.values() for cause in found]
        assert len(causes) == len(set(causes))
