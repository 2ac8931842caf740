"""The write API over HTTP, in process: what each wrong request is told, and that its neighbours are counted."""

import asyncio
import gzip
from contextlib import suppress
from datetime import date
from hashlib import sha256

import httpx
import msgspec
import pytest
from gatekit import EVERYTHING, NOW, PACK, KitGate, Minter
from starlette.applications import Starlette

from commands.batcher import Batcher, Overloaded
from commands.quarantine import ROOM
from domain.reasons import CLASS_OF, ReasonClass
from ledger.store import LedgerUnavailable
from service import gate_http, problems
from service.access import Access
from service.gate_http import GateApp
from service.gate_metrics import GateMetrics
from service.problems import PROBLEMS, REFUSALS, RequestError, problem_of
from service.settings import Settings

SERVER = {"authorization": "Bearer server"}
API = {sha256(b"server").hexdigest(): sorted(EVERYTHING)}


def run(test, wait_max_s=5.0, watch=lambda _: None, **settings):
    async def main():
        gate = KitGate()
        await gate.open(date(2026, 9, 20), date(2026, 9, 22))
        batcher = Batcher(gate.ingest.decide_batch, batch_max=8, wait_max_s=wait_max_s)
        metrics = GateMetrics(PACK)
        app = GateApp(
            intake=gate.intake,
            batcher=batcher,
            access=Access(API),
            settings=Settings(**settings),
            metrics=metrics,
            inner=Starlette(),
            watch=watch,
        )
        running = asyncio.create_task(batcher.run())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gate") as http:
            http.batcher, http.metrics = batcher, metrics
            await test(gate, Minter(), http)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(main())


async def post(http, body, media_type="application/json", headers=SERVER):
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return await http.post("/v1/impressions", content=content, headers={"content-type": media_type, **headers})


def is_problem(response, status):
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert response.status_code == document["status"] == status
    assert document["title"]
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def test_one_render_is_answered_with_its_verdict():
    async def test(_, clients, http):
        event = clients.render()
        response = await post(http, event)
        assert response.status_code == 200
        answer = response.json()
        assert answer.pop("impression_id")
        assert answer == {
            "event_id": event["event_id"],
            "status": "decided",
            "verdict": "valid",
            "reason": None,
            "provisional": False,
            "rung": "model_fallback",
            "errors": [],
        }

    run(test)


def test_a_batch_larger_than_the_micro_batch_is_answered_in_order():
    async def test(_, clients, http):
        events = [clients.render() for _ in range(50)]
        answers = (await post(http, events)).json()
        assert [answer["event_id"] for answer in answers] == [event["event_id"] for event in events]

    run(test)


def test_everything_that_comes_is_shown_to_whoever_watches():
    seen = []

    async def test(_, clients, http):
        await post(http, [clients.render(), {"broken": True}, clients.render()])
        assert [type(item).__name__ for item in seen] == ["Ready", "Malformed", "Ready"]

    run(test, watch=seen.extend)


def test_lines_are_answered_with_lines():
    async def test(_, clients, http):
        events = [clients.render(), clients.render()]
        body = b"\n".join([msgspec.json.encode(events[0]), b"", b"{broken", msgspec.json.encode(events[1]), b""])
        response = await post(http, body, "application/x-ndjson; charset=utf-8")
        assert response.headers["content-type"] == "application/x-ndjson"
        answers = [msgspec.json.decode(line) for line in response.content.splitlines()]
        assert [answer["status"] for answer in answers] == ["decided", "quarantined", "decided"]

    run(test)


def test_one_malformed_render_of_a_batch_leaves_its_neighbours_alone():
    async def test(_, clients, http):
        events = [clients.render(), clients.render(client_at=-1), {"deep": "x"}, clients.render()]
        answers = (await post(http, events)).json()
        assert [answer["status"] for answer in answers] == ["decided", "quarantined", "quarantined", "decided"]
        assert answers[1]["errors"] == ["invalid at $.client_at: Expected `int` >= 0"]

    run(test)


def test_sdks_without_a_key_are_told_only_that_it_was_accepted():
    async def test(_, clients, http):
        answer = (await post(http, clients.render(agent="a bot"), headers={"user-agent": "a bot"})).json()
        assert (answer["status"], answer["verdict"], answer["reason"], answer["rung"]) == ("accepted", None, None, None)

    run(test)


def test_bodies_that_callers_without_a_key_are_long_in_sending_take_no_memory_without_limit(monkeypatch):
    monkeypatch.setattr(gate_http, "KEYLESS_BODIES_MAX_BYTES", 200_000)
    pieces = [b" " * 150_000, b"[]"]
    released = asyncio.Event()

    async def at_once():
        for piece in pieces:
            yield piece

    async def slowly():
        yield pieces[0]
        await released.wait()
        yield pieces[1]

    def send(http, content, headers):
        kind = {"content-type": "application/json"}
        return http.post("/v1/impressions", content=content, headers={**kind, **headers})

    async def test(_, clients, http):
        slow = asyncio.create_task(send(http, slowly(), {}))
        await asyncio.sleep(0)
        response = await send(http, at_once(), {})
        assert is_problem(response, 503)["title"] == "Too busy; send the same events again"
        assert response.headers["retry-after"] == "1"
        assert (await send(http, at_once(), SERVER)).status_code == 200
        assert (await post(http, clients.render(), headers={})).status_code == 200
        released.set()
        assert (await slow).status_code == 200
        assert (await send(http, at_once(), {})).status_code == 200

    run(test)


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        ({"token": "v1.k1.e30.00"}, 403, "TOKEN_INVALID"),
        ({"at": NOW - 604_900_000}, 410, "TOKEN_EXPIRED"),
        ({"region": "us"}, 421, "REGION_MISDIRECTED"),
    ],
)
def test_a_single_refused_render_is_a_problem_with_its_reason(change, status, reason):
    async def test(_, clients, http):
        minted = {name: value for name, value in change.items() if name != "token"}
        claimed = {name: value for name, value in change.items() if name == "token"}
        document = is_problem(await post(http, clients.render(clients.token(**minted), **claimed)), status)
        assert document["outcome"]["reason"] == reason

    run(test)


def test_without_a_cell_map_a_batch_of_another_region_is_told_so_render_by_render():
    async def test(_, clients, http):
        response = await post(http, [clients.render(clients.token(region="us")) for _ in range(2)])
        assert response.status_code == 200
        assert [answer["reason"] for answer in response.json()] == ["REGION_MISDIRECTED"] * 2
        assert not any({"cell", "address"} & answer.keys() for answer in response.json())

    run(test)


def test_a_single_render_with_a_reused_event_id_is_a_conflict():
    async def test(_, clients, http):
        event = clients.render()
        await post(http, event)
        is_problem(await post(http, {**event, "height": 1}), 409)

    run(test)


@pytest.mark.parametrize(
    "body",
    [b"{", b"nonsense", b"", b"\x00\xff", b"[" * 100 + b"]" * 100 + b"x", b"[{}", b"[" * 200_000],
)
def test_what_is_not_json_is_told_so(body):
    async def test(_, __, http):
        response = await post(http, body)
        is_problem(response, 422 if body.lstrip()[:1] != b"[" else 400)

    run(test)


def test_a_hundred_deep_document_is_refused_and_leaves_its_neighbours_alone():
    async def test(_, clients, http):
        deep = b'{"user": ' * 100 + b"1" + b"}" * 100
        is_problem(await post(http, deep), 422)
        body = b"[" + msgspec.json.encode(clients.render()) + b"," + deep + b"]"
        assert [answer["status"] for answer in (await post(http, body)).json()] == ["decided", "quarantined"]

    run(test)


def test_wrong_requests_get_their_own_errors():
    async def test(_, clients, http):
        event = clients.render()
        is_problem(await post(http, event, "text/plain"), 415)
        wrong_method = await http.get("/v1/impressions")
        is_problem(wrong_method, 405)
        assert wrong_method.headers["allow"] == "POST"
        unknown = await post(http, event, headers={"authorization": "Bearer wrong"})
        is_problem(unknown, 401)
        assert unknown.headers["www-authenticate"] == "Bearer"
        is_problem(await post(http, event, headers={"authorization": "Basic server"}), 401)
        is_problem(await post(http, [event] * 4), 413)
        is_problem(await post(http, b" " * 5_000), 413)
        assert (await post(http, [])).json() == []

    run(test, renders_max=3, body_max_bytes=4_096)


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_a_compressed_body_is_refused_as_a_whole_and_nothing_of_it_is_quarantined(media_type):
    async def test(gate, clients, http):
        body = gzip.compress(b"".join(msgspec.json.encode(clients.render()) + b"\n" for _ in range(9)))
        is_problem(await post(http, body, media_type, headers={**SERVER, "content-encoding": "gzip"}), 415)
        assert gate.holding_store.entries == {}
        plain = await post(http, clients.render(), headers={**SERVER, "content-encoding": "identity"})
        assert plain.json()["status"] == "decided"

    run(test)


def test_a_body_without_declared_length_is_cut_off_too():
    async def test(_, __, http):
        async def endless():
            for _ in range(100):
                yield b" " * 1_000

        response = await http.post(
            "/v1/impressions", content=endless(), headers={**SERVER, "content-type": "application/json"}
        )
        is_problem(response, 413)

    run(test, body_max_bytes=4_096)


def test_a_ledger_that_does_not_answer_is_503_with_retry_after():
    async def test(gate, clients, http):
        async def down(*_):
            raise LedgerUnavailable("down, with a secret in its text")

        event, append = clients.render(), gate.store.append
        gate.store.append = down
        response = await post(http, event)
        is_problem(response, 503)
        assert response.headers["retry-after"] == "1"
        assert "secret" not in response.text
        gate.store.append = append
        assert (await post(http, event)).json()["verdict"] == "valid"

    run(test)


def test_a_view_that_there_is_no_room_for_is_503_alone_and_told_apart_in_a_batch():
    async def test(_, clients, http):
        token = clients.token()
        await post(http, [clients.view(token) for _ in range(ROOM.impression_views)])
        response = await post(http, clients.view(token))
        outcome = is_problem(response, 503)["outcome"]
        assert response.headers["retry-after"] == "1"
        assert (outcome["status"], outcome["errors"]) == ("deferred", ["as many views wait for their render as may"])
        both = await post(http, [clients.view(token), clients.render()])
        assert [answer["status"] for answer in both.json()] == ["deferred", "decided"]
        labels = {"status": "deferred", "verdict": "", "reason": ""}
        assert http.metrics.registry.get_sample_value("impledger_answers_total", labels) == 2

    run(test)


def test_renders_that_wait_too_long_are_refused_before_they_are_read():
    async def test(gate, clients, http):
        append, going, released = gate.store.append, asyncio.Event(), asyncio.Event()

        async def slow(*arguments):
            going.set()
            await released.wait()
            return await append(*arguments)

        gate.store.append = slow
        first = asyncio.create_task(post(http, clients.render()))
        await going.wait()
        second = asyncio.create_task(post(http, clients.render()))
        async with asyncio.timeout(5):
            while not http.batcher._queue:  # noqa: ASYNC110 (the batcher tells nobody that something waits)
                await asyncio.sleep(0)
        is_problem(await post(http, b"not even read"), 503)
        released.set()
        assert [(await one).status_code for one in (first, second)] == [200, 200]

    run(test, wait_max_s=0.0)


def test_the_request_id_of_the_caller_comes_back():
    async def test(_, clients, http):
        response = await post(http, clients.render(), headers={**SERVER, "x-request-id": "abc"})
        assert response.headers["x-request-id"] == "abc"

    run(test)


def test_every_error_of_ours_has_its_place_in_the_table():
    raised = {cls for cls in vars(problems).values() if isinstance(cls, type) and issubclass(cls, RequestError)}
    assert raised - {RequestError} <= PROBLEMS.keys()
    assert {Overloaded, LedgerUnavailable} <= PROBLEMS.keys()
    assert set(REFUSALS) == {reason for reason, cls in CLASS_OF.items() if cls is ReasonClass.REQUEST}
    assert problem_of(KeyError("x")).status == 500


def test_how_late_events_come_is_counted_in_the_classes_of_the_rule_pack():
    async def test(gate, clients, http):
        ages = [late.within_ms for late in PACK.lateness][:2]
        served = [clients.token(at=gate.now - age) for age in (*ages, ages[0] + 1)]
        await post(http, [clients.render(token) for token in served])
        found = {
            lateness: http.metrics.registry.get_sample_value("impledger_received_total", {"lateness": lateness})
            for lateness in ("prompt", "delayed", "late")
        }
        assert found == {"prompt": 1, "delayed": 2, "late": None}

    run(test)
