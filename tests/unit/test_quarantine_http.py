"""The operator's endpoints over HTTP, in process: who may ask, what is told, what is logged and counted."""

import asyncio
from datetime import date
from hashlib import sha256

import httpx
import pytest
from gatekit import NOW, KitGate, Minter
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from structlog.testing import capture_logs

from commands.batcher import Overloaded
from ledger.store import LedgerUnavailable
from service.access import Access
from service.quarantine_http import FIX_MAX_BYTES, QuarantineHttp
from service.quarantine_metrics import CODES, QuarantineMetrics

ADMIN = {"authorization": "Bearer admin"}
API = {sha256(b"admin").hexdigest(): ["admin"], sha256(b"server").hexdigest(): ["ingest", "decide", "report"]}
NOBODYS = "0" * 32


class Http:
    """The endpoints over a gate in memory; `busy` makes clients' renders wait."""

    def __init__(self, gate, client, registry):
        self.gate, self.client, self.registry = gate, client, registry
        self.is_busy = False

    def check_admission(self):
        if self.is_busy:
            raise Overloaded

    async def get(self, path="", headers=ADMIN, **parameters):
        return await self.client.get(f"/v1/quarantine{path}", params=parameters, headers=headers)

    async def replay(self, name, headers=ADMIN, **asked):
        return await self.client.post(f"/v1/quarantine/{name}/replay", json=asked, headers=headers)

    async def quarantined(self, *events):
        for event in events:
            self.gate.now += 1
            await self.gate.send(event)
        entries = (await self.get(order="oldest")).json()["entries"]
        return [entry["name"] for entry in entries]

    def counted(self, outcome):
        return self.registry.get_sample_value("impledger_quarantine_replays_total", {"outcome": outcome}) or 0


def run(test):
    async def main():
        gate, registry = KitGate(), CollectorRegistry()
        await gate.open(date(2026, 9, 20), date(2026, 9, 22))
        http = Http(gate, None, registry)
        endpoints = QuarantineHttp(gate.quarantine, Access(API), QuarantineMetrics(registry), http.check_admission)
        app = Starlette(routes=endpoints.routes())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gate") as http.client:
            await test(http, Minter())

    asyncio.run(main())


def is_problem(response, status, says=""):
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert response.status_code == document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    assert says in document.get("detail", "")
    return document


@pytest.mark.parametrize(("headers", "status"), [({}, 403), ({"authorization": "Bearer server"}, 403),
                                                 ({"authorization": "Bearer wrong"}, 401)])  # fmt: skip
def test_only_administrators_may_ask(headers, status):
    async def test(http, clients):
        [name] = await http.quarantined(clients.render(client_at=-5))
        for path in ("", "/summary", f"/{name}"):
            is_problem(await http.get(path, headers), status)
        is_problem(await http.replay(name, headers, suggested=True), status)
        assert await http.gate.store.head() == 0

    run(test)


def test_entries_are_listed_with_times_in_rfc_3339_and_pages():
    async def test(http, clients):
        names = await http.quarantined(*(clients.render(client_at=-5) for _ in range(3)))
        page = (await http.get(limit=2)).json()
        entry = page["entries"][0]
        assert [one["name"] for one in page["entries"]] == [names[2], names[1]]
        assert entry["received_at"] == entry["last_at"] == "2026-09-21T14:13:20.003Z"
        assert (entry["code"], entry["path"], entry["sdk"], entry["state"]) == (
            "invalid",
            "$.client_at",
            "ios/12.1",
            "waiting",
        )
        assert "key_day" not in entry
        rest = (await http.get(limit=2, after=page["after"])).json()
        assert ([one["name"] for one in rest["entries"]], rest["after"]) == ([names[0]], None)
        assert [one["name"] for one in (await http.get(since=NOW + 2, until=NOW + 3)).json()["entries"]] == [names[1]]
        assert (await http.get(code="not_json")).json()["entries"] == []
        assert len((await http.get(state="waiting,replayed")).json()["entries"]) == 3

    run(test)


def test_floods_are_told_in_groups():
    async def test(http, clients):
        await http.quarantined(*(clients.render(client_at=-5) for _ in range(3)), b"{broken")
        groups = (await http.get("/summary", state="waiting")).json()["groups"]
        assert [(one["code"], one["path"], one["entries"]) for one in groups] == [
            ("invalid", "$.client_at", 3),
            ("not_json", "$", 1),
        ]
        assert groups[0]["first_at"] == "2026-09-21T14:13:20.001Z"

    run(test)


@pytest.mark.parametrize(
    "parameters",
    [{"limit": 0}, {"limit": 1_001}, {"order": "up"}, {"state": "lost"}, {"since": "now"}, {"after": "x"}, {"x": 1}],
)
def test_a_wrong_parameter_is_named(parameters):
    async def test(http, _):
        is_problem(await http.get(**parameters), 400, f"{next(iter(parameters))}: ")

    run(test)


@pytest.mark.parametrize("code", ["bogus", "event_id_reused\r", "", "invalid,", ["invalid", "bogus"]])
def test_a_code_that_is_none_chooses_nothing_rather_than_everything(code):
    async def test(http, clients):
        await http.quarantined(clients.render(client_at=-5))
        says = "code: must be of not_json, too_deep, invalid, forbidden, unopenable, event_id_reused"
        for path in ("", "/summary"):
            is_problem(await http.get(path, code=code), 400, says)

    run(test)


def test_an_explanation_masks_and_a_raw_one_is_logged_without_the_body():
    async def test(http, clients):
        [name] = await http.quarantined(clients.render(client_at=-5, user="anna@example.org"))
        with capture_logs() as logs:
            masked, raw = await http.get(f"/{name}"), await http.get(f"/{name}", raw="true")
        assert "anna" not in masked.text
        assert raw.json()["body"]["user"] == "anna@example.org"
        assert masked.headers["cache-control"] == "no-store"
        told = masked.json()
        assert told["fix"] == {"client_at": None}
        assert told["flaws"] == [
            {"path": "$.client_at", "says": "Expected `int` >= 0", "found": "number", "is_mendable": True}
        ]
        assert [(line["event"], line["entry"], line["raw"]) for line in logs] == [
            ("quarantined body shown", name, False),
            ("quarantined body shown", name, True),
        ]
        assert "anna" not in str(logs)
        assert logs[1]["key"] == sha256(b"admin").hexdigest()[:8]
        is_problem(await http.get(f"/{name}", raw="yes"), 400, "raw: ")

    run(test)


def test_a_replay_is_answered_logged_and_counted():
    async def test(http, clients):
        [name] = await http.quarantined(clients.render(client_at=-5))
        dry = (await http.replay(name, suggested=True, dry_run=True)).json()
        assert (dry["dry_run"], dry["known"], dry["reasons"], dry["answer"]) == (True, "nothing", [], None)
        with capture_logs() as logs:
            first = (await http.replay(name, patch={"client_at": None})).json()
        again = (await http.replay(name, suggested=True)).json()
        assert (first["answer"]["verdict"], first["entry"]["state"], first["again"]) == ("valid", "replayed", False)
        assert (again["answer"], again["entry"], again["again"]) == (None, first["entry"], True)
        [line] = logs
        assert (line["entry"], line["outcome"], line["fixed"]) == (name, "decided valid", ("client_at",))
        assert (http.counted("replayed"), http.counted("again")) == (1, 1)

    run(test)


def test_what_cannot_be_done_says_why_and_is_counted():
    async def test(http, clients):
        event = clients.render()
        await http.gate.send(event)
        broken, reused, bad = await http.quarantined(b"{broken", {**event, "width": 1}, clients.render(client_at=-5))
        is_problem(await http.replay(broken), 409, "it is not JSON")
        is_problem(await http.replay(reused), 409, "its event id has an answer already")
        is_problem(await http.replay(bad), 422, "$.client_at")
        is_problem(await http.replay(NOBODYS), 404)
        is_problem(await http.get(f"/{NOBODYS}"), 404)
        is_problem(await http.get("/%00"), 400)
        http.gate.now += 3_600_000
        is_problem(await http.replay(bad, suggested=True), 410, "its time is up")
        assert (http.counted("NotReplayable"), http.counted("FixRefused"), http.counted("BodyGone")) == (2, 1, 1)

    run(test)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[]", 400), (b'{"patsch": {}}', 400), (b'{"patch": 1}', 400), (b"\xff", 400),
     (b'{"patch": {"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}}", 400), (b" " * (FIX_MAX_BYTES + 1), 413)],
)  # fmt: skip
def test_a_wrong_body_is_refused(body, status):
    async def test(http, clients):
        [name] = await http.quarantined(clients.render(client_at=-5))
        is_problem(await http.client.post(f"/v1/quarantine/{name}/replay", content=body, headers=ADMIN), status)

    run(test)


def test_an_empty_body_replays_without_a_fix():
    async def test(http, clients):
        [name] = await http.quarantined(clients.render(event_id="nonsense"))
        response = await http.client.post(f"/v1/quarantine/{name}/replay", headers=ADMIN)
        assert response.json()["answer"]["verdict"] == "valid"

    run(test)


def test_clients_renders_go_before_replays():
    async def test(http, clients):
        [name] = await http.quarantined(clients.render(client_at=-5))
        http.is_busy = True
        response = await http.replay(name, suggested=True)
        is_problem(response, 503)
        assert response.headers["retry-after"] == "1"
        assert (await http.get()).status_code == 200
        assert await http.gate.store.head() == 0

    run(test)


def test_a_ledger_that_is_down_leaves_the_entry_waiting():
    async def test(http, clients):
        [name] = await http.quarantined(clients.render(client_at=-5))

        async def down(*_):
            raise LedgerUnavailable("down, with a secret in its text")

        append, http.gate.store.append = http.gate.store.append, down
        response = await http.replay(name, suggested=True)
        is_problem(response, 503)
        assert "secret" not in response.text
        http.gate.store.append = append
        assert (await http.replay(name, suggested=True)).json()["answer"]["verdict"] == "valid"

    run(test)


def test_what_waits_is_shown_per_code_and_codes_of_nobody_are_one():
    registry = CollectorRegistry()
    metrics = QuarantineMetrics(registry)

    def waiting(code):
        return registry.get_sample_value("impledger_quarantine_waiting", {"code": code})

    assert [waiting(code) for code in (*CODES, "other")] == [0.0] * (len(CODES) + 1)
    metrics.waits({"invalid": 3, "of a newer gate": 2, "of a gate to come": 2})
    assert (waiting("invalid"), waiting("not_json"), waiting("other")) == (3, 0, 4)
    metrics.waits({})
    assert (waiting("invalid"), waiting("other")) == (0, 0)


def test_the_codes_of_the_metrics_are_those_that_the_gate_gives():
    async def test(http, clients):
        event = clients.render()
        deep = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        await http.gate.send(event, {**event, "width": 1}, b"{", clients.render(client_at=-5), deep)
        await http.gate.send(b"[" * 100_000)
        await http.gate.send(clients.render(received_at=NOW), scopes=frozenset())
        found = {entry.code for entry in http.gate.holding_store.entries.values()}
        assert found <= set(CODES)
        assert {"not_json", "invalid", "forbidden", "event_id_reused"} <= found

    run(test)
