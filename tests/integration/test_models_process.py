"""
Real gates under load: a shadow, a canary, a promotion and a roll-back, told to one gate, followed by another.

No request fails, every decision names the model that had the word, and a canary that does harm is ended by itself.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from uuid import uuid4

import httpx
import pytest
from gatekit import Minter
from helpers_processes import eventually
from registrykit import saying

from domain.events import ImpressionScored
from domain.token import mint_token
from domain.vocabulary import Rung
from ledger.codec import decode
from ledger.postgres import PostgresStore
from ledger.store import read_everything
from service.keyfiles import load_or_make_keys
from service.settings import Settings
from service.stage import on_free_ports

pytestmark = [pytest.mark.slow, pytest.mark.machine]

TOGETHER, EVERY_S = 20, 0.04
FOLLOWS_WITHIN_S = 2.0
UNHURRIED = {"ledger_deadline_ms": 5_000, "admission_max_ms": 5_000}
"""A machine that is busy elsewhere spools and refuses nothing here: that is not what is tried."""
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36"
CLEAR, ALSO_CLEAR, GREY = saying(-4.0), saying(-3.0), saying(0.0)


@contextmanager
def gates(*cells):
    """Gates with these settings, started together."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "service.cli", "gate"],
            env={**os.environ, **settings.environment(), "IMPLEDGER_LOG_JSON": "yes"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for settings in cells
    ]
    try:
        for settings in cells:
            eventually(lambda settings=settings: is_ready(settings), within_s=60)
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=30)


def url(settings):
    return f"http://{settings.host}:{settings.gate_port}"


def is_ready(settings):
    try:
        return httpx.get(f"{url(settings)}/readyz").text.startswith("ready")
    except httpx.HTTPError:
        return False


class Operator:
    """Tells one gate what to do, and asks."""

    def __init__(self, http):
        self.http = http

    async def add(self, data):
        kind = {"content-type": "application/octet-stream"}
        answer = await self.http.post("/v1/models", content=data, headers=kind)
        assert answer.status_code == 201
        return answer.json()["model"]

    async def place(self, action, model, share=0.0):
        """Return when it was done."""
        document = {"request_id": str(uuid4()), "action": action, "model": model, "share": share, "reason": "a test"}
        answer = await self.http.post("/v1/models/placements", json=document)
        assert answer.status_code == 200, answer.text
        assert answer.json()["changed"]
        return time.time()

    async def until_there_is_no_canary(self):
        for _ in range(100):
            if not (await self.get("/v1/models"))["in_force"]["s2"]["canary"]:
                return
            await asyncio.sleep(0.2)
        pytest.fail("no guard ended the canary")

    async def get(self, path):
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


class Load:
    """Sends renders to the other gate, steadily, until it is stopped."""

    def __init__(self, http, keys):
        self.http, self.clients = http, Minter()
        self.key = (keys.mint_with, keys.token_keys()[keys.mint_with])
        self.sent_at = {}
        self.failed = []

    async def run(self):
        while True:
            await asyncio.gather(self.send(), asyncio.sleep(EVERY_S))

    async def send(self):
        self.clients.now = int(time.time() * 1_000)
        tokens = [self.clients.token() for _ in range(TOGETHER)]
        began = time.time()
        answer = await self.http.post("/v1/impressions", json=[self.event(token) for token in tokens])
        outcomes = answer.json() if answer.status_code == 200 else []
        if [one["status"] for one in outcomes] != ["decided"] * TOGETHER:
            self.failed.append(answer.text[:500])
        self.sent_at |= dict.fromkeys((token.impression for token in tokens), began)

    def event(self, token):
        return {
            **self.clients.render(token, device=str(uuid4()), user=str(uuid4()), agent=BROWSER),
            "token": mint_token(token, *self.key),
            "visible_ratio": 1.0,
            "visible_ms": 1_000,
        }


@asynccontextmanager
async def running(settings, other, keys):
    """An operator at one gate, while load goes to the other."""
    bearer = {"authorization": f"Bearer {keys.operator}"}
    async with (
        httpx.AsyncClient(base_url=url(settings), headers=bearer, timeout=30) as here,
        httpx.AsyncClient(base_url=url(other), headers=bearer, timeout=30) as there,
    ):
        load = Load(there, keys)
        sending = asyncio.create_task(load.run())
        yield Operator(here), load
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def models_of(database):
    """By impression: the model that scored it, as the ledger has it; None if a busy machine shed or spooled it."""
    store, found = PostgresStore(database), {}
    async for commit in read_everything(store):
        for event in decode(commit.data):
            if isinstance(event, ImpressionScored):
                is_unasked = not {Rung.SHED, Rung.SPOOLED}.isdisjoint({event.rung, *event.rungs})
                found[commit.stream] = None if is_unasked else event.versions.model
    await store.close()
    return found


def decided_by(load, models, after, before=float("inf")):
    """Which models decided renders that were sent from *after*, by then followed, until *before*."""
    sent = (one for one, at in load.sent_at.items() if after + FOLLOWS_WITHIN_S <= at < before)
    return Counter(model for one in sent if (model := models.get(one)) is not None)


@pytest.fixture
def settings(tmp_path, postgres_url):
    return replace(
        on_free_ports(Settings()),
        data_dir=tmp_path / "one",
        ledger_url=postgres_url,
        database_url=postgres_url,
        **UNHURRIED,
    )


def test_models_change_under_load_without_a_failed_request_and_decisions_name_them_within_two_seconds(
    settings, postgres_url, tmp_path
):
    keys = load_or_make_keys(settings.data_dir)
    other = replace(settings, data_dir=tmp_path / "two", gate_port=on_free_ports(settings).gate_port)
    shutil.copytree(settings.data_dir, other.data_dir)

    async def main():
        async with running(settings, other, keys) as (operator, load):
            first, second = [await operator.add(data) for data in (CLEAR, ALSO_CLEAR)]
            at = [await operator.place("promote", first)]
            await asyncio.sleep(FOLLOWS_WITHIN_S)
            at.append(await operator.place("shadow", second))
            await asyncio.sleep(FOLLOWS_WITHIN_S + 0.5)
            at.append(await operator.place("canary", second, 0.05))
            await asyncio.sleep(FOLLOWS_WITHIN_S + 1.5)
            at.append(await operator.place("promote", second))
            await asyncio.sleep(FOLLOWS_WITHIN_S + 0.5)
            at.append(await operator.place("roll_back", second))
            await asyncio.sleep(FOLLOWS_WITHIN_S + 0.5)
            metrics = (await load.http.get("/metrics")).text
            history = await operator.get("/v1/models/placements")
        return load, (first, second), at, metrics, history

    with gates(settings, other):
        load, (first, second), at, metrics, history = asyncio.run(main())
    assert load.failed == []
    assert len(load.sent_at) > 2_000
    models = asyncio.run(models_of(postgres_url))
    assert models.keys() >= load.sent_at.keys()
    _, shadow, canary, promotion, roll_back = at
    assert set(decided_by(load, models, shadow, canary)) == {first}
    trying = decided_by(load, models, canary, promotion)
    assert set(trying) == {first, second}
    assert 0.01 < trying[second] / trying.total() < 0.12
    assert set(decided_by(load, models, promotion, roll_back)) == {second}
    assert set(decided_by(load, models, roll_back)) == {first}
    assert f'impledger_model{{model="{first}",role="champion"}} 1.0' in metrics
    assert [one["role"] for one in history["placements"]] == [
        "champion",
        "champion",
        "canary",
        "challenger",
        "champion",
    ]
    assert history["placements"][0]["rolled_back"]


def test_a_canary_that_does_harm_is_ended_by_its_guard(settings, postgres_url):
    keys = load_or_make_keys(settings.data_dir)

    async def main():
        async with running(settings, settings, keys) as (operator, load):
            first, bad = [await operator.add(data) for data in (CLEAR, GREY)]
            await operator.place("promote", first)
            await asyncio.sleep(FOLLOWS_WITHIN_S)
            await operator.place("canary", bad, 0.2)
            await operator.until_there_is_no_canary()
            ended = time.time()
            await asyncio.sleep(FOLLOWS_WITHIN_S + 0.5)
            history = await operator.get("/v1/models/placements")
            metrics = (await load.http.get("/metrics")).text
        return load, (first, bad), ended, history, metrics

    with gates(settings):
        load, (first, bad), ended, history, metrics = asyncio.run(main())
    assert load.failed == []
    latest = history["placements"][0]
    assert (latest["role"], latest["model"], latest["by"]) == ("none", bad, "guard")
    assert latest["reason"].startswith("guard: uncertain_share is ")
    assert 'impledger_canaries_ended_total{guard="uncertain_share"} 1.0' in metrics
    models = asyncio.run(models_of(postgres_url))
    assert bad in models.values()
    assert set(decided_by(load, models, ended - FOLLOWS_WITHIN_S)) == {first}
