"""The starter model is for installations that never had one: what operators retired stays retired."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import httpx
import msgspec
import pytest
from registrykit import saying
from starlette.applications import Starlette
from test_models_http import ADMIN, API

from ledger.memory import MemoryStore
from ml.models.artifact import model_id
from ml.registry.guards import LIMITS
from ml.registry.memory import memory_tables
from service import starter
from service.access import Access
from service.clock import now_ms
from service.contest import Contest
from service.modelling import Modelling
from service.models_http import ModelsHttp
from service.scoring import ModelHolder
from service.settings import Settings

STARTER, OWN = saying(-4.0), saying(4.0)


class Gate:
    """A gate's endpoints of models, talked to in process as a `GateClient` talks to it."""

    def __init__(self):
        modelling = Modelling(MemoryStore(), memory_tables(), ModelHolder(), Contest("eu-1", LIMITS, now_ms))
        self.app = Starlette(routes=ModelsHttp(modelling, Access(API)).routes())

    def __enter__(self):
        return self

    def __exit__(self, *_): ...

    def get(self, path, parameters=None):
        return self._ask("GET", path, params=parameters)

    def post(self, path, document):
        return self._ask("POST", path, **({"content": document} if isinstance(document, bytes) else {"json": document}))

    def place(self, action, model):
        document = {"request_id": str(uuid4()), "action": action, "model": model, "reason": "a test"}
        self.post("/v1/models/placements", document)

    @property
    def champion(self):
        return self.get("/v1/models")["in_force"]["s2"]["champion"]

    def _ask(self, method, path, **sent):
        async def ask():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://gate") as http:
                kind = {"content-type": "application/octet-stream"} if "content" in sent else {}
                return await http.request(method, path, headers={**ADMIN, **kind}, **sent)

        answer = asyncio.run(ask())
        assert answer.is_success, answer.text
        return answer.json()


@pytest.fixture
def gate(monkeypatch):
    gate = Gate()
    monkeypatch.setattr(starter, "GateClient", lambda _: gate)
    return gate


@pytest.fixture
def settings(tmp_path):
    """A data folder with a starter that was trained before."""
    model = model_id(STARTER)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{model}.model").write_bytes(STARTER)
    kept = starter.Starter(key=starter._key(), models={"s2": model})
    (tmp_path / "models" / "starter.json").write_bytes(msgspec.json.encode(kept))
    return replace(Settings(), data_dir=tmp_path)


def ensured(settings):
    return starter.ensure_starter(settings, print)


def test_where_there_never_was_a_model_the_starter_decides_from_then_on(gate, settings):
    assert ensured(settings) == {"s2": model_id(STARTER)}
    assert gate.champion == model_id(STARTER)
    assert ensured(settings) == {}


@pytest.mark.parametrize("data", [STARTER, OWN], ids=["the starter", "a model of their own"])
def test_where_an_operator_has_retired_a_model_rules_alone_go_on_deciding(gate, settings, data):
    gate.post("/v1/models", data)
    gate.place("promote", model_id(data))
    gate.place("retire", model_id(data))
    assert ensured(settings) == {}
    assert gate.champion is None
