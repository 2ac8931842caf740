"""What a request gets that no endpoint is for: a problem document that names the request, on every port."""

import asyncio

import httpx
import pytest
from prometheus_client import CollectorRegistry

from ledger.memory import MemoryStore
from ledger.store import LedgerUnavailable
from service.access import Access
from service.desk_http import Desk, desk_app
from service.gate import Gate
from service.health import health_app
from service.keyfiles import load_or_make_keys
from service.settings import Settings
from service.wiring import ScreenLists, load_pack

NOWHERE = "postgresql://127.0.0.1:1/nothing"


class Away(MemoryStore):
    async def head(self):
        raise LedgerUnavailable("away")


def gate(folder):
    settings = Settings(data_dir=folder)
    made = Gate(
        settings=settings,
        keys=load_or_make_keys(folder),
        pack=load_pack(settings.rule_pack),
        lists=ScreenLists(),
        store=Away(),
        ledger_url="memory",
        database_url=NOWHERE,
    )
    return made._cold_routes(made._shelter_routes(batcher=None))


def desk(_):
    async def ready():
        return None

    return desk_app(
        Desk(
            queries=None,
            paces=None,
            store=MemoryStore(),
            access=Access({}),
            now=lambda: 0,
            registry=CollectorRegistry(),
            unready=ready,
        )
    )


def health(_):
    async def ready():
        return None

    return health_app(CollectorRegistry(), ready)


def asked(app, method, path, headers):
    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
            return await http.request(method, path, headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize("app", [gate, desk, health])
@pytest.mark.parametrize("where", [("GET", "/v1/nothing", 404), ("DELETE", "/metrics", 405)])
@pytest.mark.parametrize("given", [None, "r-1"])
def test_what_is_nowhere_is_answered_with_the_id_of_the_request(tmp_path, app, where, given):
    method, path, status = where
    answer = asked(app(tmp_path), method, path, {"x-request-id": given} if given else {})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == (given or answer.headers["x-request-id"])
    assert answer.json()["request_id"]
    assert ("GET" in answer.headers.get("allow", "")) is (status == 405)


def test_a_gate_that_is_not_ready_for_its_ledger_is_asked_under_an_id_too(tmp_path):
    answer = asked(gate(tmp_path), "GET", "/readyz", {})
    assert answer.status_code == 503
    assert answer.json()["request_id"] == answer.headers["x-request-id"] != ""


@pytest.mark.parametrize("path", ["/v1/shelter", "/v1/shelter/orders"])
def test_a_gate_without_trusted_keys_names_the_setting_that_it_lacks(tmp_path, path):
    bearer = load_or_make_keys(tmp_path).operator
    answer = asked(gate(tmp_path), "GET", path, {"authorization": f"Bearer {bearer}"})
    assert answer.status_code == 404
    assert "set IMPLEDGER_SHELTER_TRUST to the file of trusted keys" in answer.json()["detail"]
    assert asked(gate(tmp_path), "GET", path, {}).status_code == 403
