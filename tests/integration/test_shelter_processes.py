"""Regions as real processes on one machine: one is killed, another shelters its renders and brings them home."""

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from uuid import uuid4

import httpx
import msgspec
import pytest
from bookskit import a_tally
from helpers_processes import eventually, kill
from test_cells_processes import DRAINED_WITHIN_S, START_S, UNHURRIED, Cells

from domain.cells import Cell, CellMap, Epoch
from domain.cells_file import cell_map_text
from domain.events import ImpressionRendered
from domain.ids import SHARDS
from domain.render import Kind
from ledger.codec import decode
from ledger.postgres import PostgresStore
from ledger.store import read_everything
from service.books import check_books
from service.keyfiles import load_or_make_keys
from service.machine import answers
from service.settings import Settings
from service.spooling import is_drained
from service.stage import on_free_ports

pytestmark = [pytest.mark.slow, pytest.mark.machine]

FORWARDED_WITHIN_S = 30
DOWN_WITHIN_S = 75


class Regions(Cells):
    """Cells of a region each; clients are of the first one's. Delivery may have the same keys in all, or its own."""

    share_tokens = False

    def place(self, name):
        free = replace(
            on_free_ports(Settings()),
            data_dir=self.folder / name,
            cell=name,
            region=name[:2],
            cell_map=str(self.path),
            shelter_trust=str(self.folder / "shelter.toml"),
            **UNHURRIED,
        )
        url = self._new_database()
        self.settings[name] = replace(free, ledger_url=url, database_url=url)
        self.folder.joinpath(name).mkdir()
        keys = load_or_make_keys(self.settings[name].data_dir)
        if self.share_tokens:
            shared = {field: getattr(self.keys, field) for field in ("tokens", "mint_with", "shard")}
            text = msgspec.json.encode(msgspec.structs.replace(keys, **shared))
            (self.settings[name].data_dir / "keys" / "keys.json").write_bytes(text)
        return self.address(name)

    def set_up(self, *names, share_tokens=False):
        """Write the map, the trusted keys, and let every cell forward to every other."""
        self.share_tokens = share_tokens
        cells = {name: Cell(name, name[:2], self.place(name)) for name in names}
        epochs = {name[:2]: [Epoch(name[:2], 1, 0, (name,) * SHARDS)] for name in names}
        self.path.write_text(cell_map_text(CellMap(cells, epochs)))
        operator = self.shelter(names[0], "keys", "--operator", str(self.folder / "ops.json"), "--name", "ops")
        entries = [operator, *(self.shelter(name, "keys") for name in names)]
        (self.folder / "shelter.toml").write_text("\n".join(entries))
        for giver in names:
            for taker in names:
                if giver != taker:
                    self.shelter(taker, "peer", giver, "--bearer", self.shelter(giver, "admit").strip())

    def shelter(self, name, *words, fails=False):
        done = subprocess.run(
            [sys.executable, "-m", "service.cli", "shelter", *words],
            env={**os.environ, **self.settings[name].environment()},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode != 0) is fails, (words, done.stdout, done.stderr)
        return done.stdout

    def told(self, name, *words):
        return json.loads(self.shelter(name, *words, "--json"))

    def start_desk(self, name):
        log = self._stack.enter_context((self.folder / f"{name}-desk.log").open("ab"))
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "desk"],
            env={**os.environ, **self.settings[name].environment(), "IMPLEDGER_LOG_JSON": "yes"},
            stderr=log,
            stdout=log,
        )
        self._stack.callback(_stopped, process)
        return process

    def kill(self, name):
        kill(self.processes[name].pid)
        self.processes[name].wait()

    def ready(self, *names):
        for name in names:
            settings = self.settings[name]
            eventually(lambda name=name, settings=settings: self._is_ready(name, settings), within_s=START_S)

    def desk_ready(self, name):
        settings = self.settings[name]

        def is_ready():
            try:
                return answers(settings.host, settings.desk_port)
            except OSError:
                return False

        eventually(is_ready, within_s=START_S)


def _stopped(process):
    process.terminate()
    process.wait(timeout=60)


@pytest.fixture
def regions(tmp_path, new_database):
    with ExitStack() as stack:
        yield Regions(tmp_path, new_database, stack)


async def rendered(settings):
    """Impression -> what its stream says was rendered, in order."""
    store, found = PostgresStore(settings.ledger_url), {}
    async for commit in read_everything(store, 0):
        for event in decode(commit.data):
            if isinstance(event, ImpressionRendered):
                found.setdefault(commit.stream, []).append(event)
    await store.close()
    return found


def events_of(made):
    return [event for _, event in made]


def now_ms():
    return time.time_ns() // 1_000_000


SHELTERED = {("decided", "uncertain", "DEGRADED", "sheltered")}
DURING, BEFORE_AGAIN = 40, 10
KEPT = DURING + BEFORE_AGAIN


def answered(regions, name, made):
    reply = regions.post(name, events_of(made))
    assert reply.status_code == 200
    return {(one["status"], one["verdict"], one["reason"], one["rung"]) for one in reply.json()}


def assert_the_gate_remembers_after_a_kill(regions):
    regions.kill("us-1")
    regions.start("us-1")
    regions.ready("us-1")
    eventually(lambda: regions.told("us-1", "status")["sheltering"] == ["eu"], within_s=START_S)
    status = regions.told("us-1", "status")
    assert status["events"] == {"waiting": KEPT, "expired": 0, "moved": 0, "arrived": 0}
    assert [(one["cell"], one["waiting"]) for one in status["homes"]] == [("eu-1", KEPT)]
    assert f"{KEPT} wait" in regions.shelter("us-1", "forward", "--seconds", "1", fails=True)
    line = 'impledger_sheltered_events{state="waiting"}'
    eventually(lambda: regions.metric("us-1", line) == KEPT, within_s=START_S)
    assert regions.metric("us-1", 'impledger_shelter_order_seconds{region="eu"}') > 3_000


def assert_books_are_right(regions, name, *, told, refused, gross):
    regions.desk_ready(name)
    tally = a_tally((Kind.RENDER, "decided", told), (Kind.RENDER, "refused", refused))
    books = asyncio.run(check_books(regions.settings[name], tally))
    assert books.problems == []
    assert books.invariants == {"I1": True, "I2": True, "I3": True, "I4": True}
    assert books.gross == gross


def test_a_killed_regions_renders_are_sheltered_and_come_home_and_both_books_are_right(regions):
    regions.set_up("eu-1", "us-1", share_tokens=True)
    for name in regions.settings:
        regions.start(name)
        regions.start_desk(name)
    regions.ready("eu-1", "us-1")
    before, during, after = (regions.renders(40, epoch=1) for _ in range(3))
    first = regions.post("eu-1", events_of(before)).json()
    assert {answer["status"] for answer in first} == {"decided"}

    # the home dies; without an order of somebody who may, its renders are sent away, as ever
    regions.kill("eu-1")
    away = regions.post("us-1", events_of(during))
    assert (away.status_code, away.json()["address"]) == (421, regions.address("eu-1"))
    impostor = str(regions.folder / "impostor.json")
    regions.shelter("us-1", "keys", "--operator", impostor, "--name", "ops")
    regions.shelter("us-1", "order", "eu", "--key", impostor, fails=True)
    assert regions.post("us-1", events_of(during)).status_code == 421

    # an operator orders shelter: everything is answered, retries too, and survives the gate that took it
    order = regions.told("us-1", "order", "eu", "--key", str(regions.folder / "ops.json"), "--reason", "drill")
    assert (order["state"], order["region"], order["cells"]) == ("in_force", "eu", ["us-1"])
    since = now_ms()
    for made in (during, during[:20], before[:BEFORE_AGAIN]):
        assert answered(regions, "us-1", made) == SHELTERED
    until = now_ms()
    assert_the_gate_remembers_after_a_kill(regions)
    assert answered(regions, "us-1", during[:5]) == SHELTERED

    # the home comes back and gets what is its own; so does whoever sends to it
    regions.start("eu-1")
    regions.ready("eu-1")
    assert regions.post("eu-1", events_of(after)).status_code == 200
    eventually(lambda: regions.told("us-1", "status")["events"]["moved"] == KEPT, within_s=FORWARDED_WITHIN_S)
    assert regions.told("us-1", "forward")["left"] == 0
    eventually(lambda: is_drained(regions.settings["eu-1"]), within_s=DRAINED_WITHIN_S)
    streams = asyncio.run(rendered(regions.settings["eu-1"]))
    assert set(streams) == {token.impression for token, _ in (*before, *during, *after)}
    for token, event in during:
        [render] = streams[token.impression]
        assert str(render.cause) == event["event_id"]
        assert since <= render.received_at <= until, "as received when the shelter received it"
    assert asyncio.run(rendered(regions.settings["us-1"])) == {}

    # retries get the home's answer there, the shelter's here, and 421 once the order is revoked
    again = regions.post("eu-1", events_of((*before, *during))).json()
    for one, earlier in zip(again, first, strict=False):
        assert earlier["provisional"] or one == earlier
    assert answered(regions, "us-1", during) == SHELTERED
    regions.told("us-1", "revoke", order["order_id"])
    assert regions.post("us-1", events_of(during)).status_code == 421
    assert asyncio.run(rendered(regions.settings["eu-1"])) == streams

    assert_books_are_right(regions, "eu-1", told=80, refused=0, gross=120)
    assert_books_are_right(regions, "us-1", told=KEPT, refused=3 * 40, gross=0)


@pytest.mark.soak
def test_two_cells_that_find_a_region_silent_shelter_it_by_themselves_and_stop_when_it_is_back(regions):
    regions.set_up("eu-1", "us-1", "ap-1")
    for name in regions.settings:
        regions.start(name)
    regions.ready("eu-1", "us-1", "ap-1")
    regions.kill("eu-1")
    made = regions.renders(10, epoch=1)
    eventually(lambda: regions.told("us-1", "status")["sheltering"] == ["eu"], within_s=DOWN_WITHIN_S)
    status = regions.told("us-1", "status")
    assert status["regions"]["eu"]["down"]
    assert (status["orders"][-1]["ground"], status["orders"][-1]["issuer"]) == ("probes", "us-1")
    assert regions.metric("us-1", 'impledger_shelter_region_down{region="eu"}') == 1
    assert answered(regions, "us-1", made) == SHELTERED
    regions.start("eu-1")
    regions.ready("eu-1")
    eventually(lambda: regions.told("us-1", "status")["events"]["moved"] == 10, within_s=FORWARDED_WITHIN_S)
    assert len(asyncio.run(rendered(regions.settings["eu-1"]))) == 10
    eventually(lambda: regions.told("us-1", "status")["sheltering"] == [], within_s=DOWN_WITHIN_S)
    assert {one["status"] for one in regions.post("us-1", events_of(made)).json()} == {"refused"}


def test_the_endpoints_of_the_shelter_ask_for_scopes_and_refuse_what_is_wrong(regions):
    regions.set_up("eu-1", "us-1")
    regions.start("eu-1")
    regions.ready("eu-1")
    gate = regions.address("eu-1")
    operator = {"authorization": f"Bearer {regions.bearer(gate)}"}
    forwarder = {"authorization": f"Bearer {regions.shelter('eu-1', 'admit').strip()}"}
    assert httpx.get(f"{gate}/v1/shelter").status_code == 403
    assert httpx.get(f"{gate}/v1/shelter", headers=operator).json()["sheltering"] == []
    assert httpx.get(f"{gate}/v1/shelter", headers=forwarder).status_code == 401, "the gate has not read it yet"
    regions.kill("eu-1")
    regions.start("eu-1")
    regions.ready("eu-1")
    assert httpx.get(f"{gate}/v1/shelter", headers=forwarder).status_code == 403
    assert httpx.get(f"{gate}/v1/shelter/testimonies", headers=forwarder).json() == []
    assert httpx.get(f"{gate}/v1/shelter/testimonies", headers=operator).status_code == 403
    sheltered, orders = f"{gate}/v1/sheltered", f"{gate}/v1/shelter/orders"
    envelope = {"impression_id": str(uuid4()), "event_id": str(uuid4()), "received_at": 0, "sealed": "bm9pc2U="}

    def status(url, body, headers):
        return httpx.post(url, json=body, headers=headers).status_code

    assert status(sheltered, [envelope], operator) == 403
    assert httpx.post(sheltered, json=[envelope], headers=forwarder).json()[0]["fate"] == "quarantined"
    assert status(sheltered, [], forwarder) == 200
    assert status(sheltered, {"no": "list"}, forwarder) == 400
    assert status(sheltered, [{**envelope, "received_at": -1}], forwarder) == 400
    assert status(sheltered, [envelope] * 501, forwarder) == 413
    assert status(orders, {"by": "ops", "payload": "e30=", "signature": "e30="}, operator) == 422
    assert status(orders, {"by": "ops", "payload": "e30=", "signature": "e30="}, forwarder) == 403
    assert status(orders, {}, operator) == 400
    assert status(orders, {"by": "o" * 140_000, "payload": "", "signature": ""}, operator) == 413
    assert status(f"{orders}/{uuid4()}/revoke", {}, operator) == 404
    assert status(f"{orders}/nonsense/revoke", {}, operator) == 400
    key, order = str(regions.folder / "ops.json"), regions.folder / "order.json"
    order.write_text(regions.shelter("us-1", "order", "us", "--key", key, "--cell", "eu-1", "--only-sign"))
    assert regions.told("eu-1", "order", "--document", str(order))["state"] == "in_force"
    assert httpx.get(f"{gate}/v1/shelter", headers=operator).json()["sheltering"] == ["us"]
    order.write_text(regions.shelter("us-1", "order", "eu", "--key", key, "--cell", "us-1", "--only-sign"))
    regions.shelter("eu-1", "order", "--document", str(order), fails=True)
    quarantined = httpx.get(f"{gate}/v1/quarantine", headers=operator).json()["entries"]
    assert [(entry["code"], entry["detail"]) for entry in quarantined] == [
        ("unopenable", "it is no box of a version that this program knows")
    ]
