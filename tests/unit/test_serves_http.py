"""Reports of serves over HTTP, in process: what each wrong request is told."""

import asyncio
from hashlib import sha256

import httpx
import pytest
from builders import MINTED
from prometheus_client import CollectorRegistry, generate_latest
from serveskit import a_count, a_report, recorded, serves_over, wire
from starlette.applications import Starlette
from starlette.routing import Route

from commands.batcher import Overloaded
from domain.serves import ServeRefusal
from ledger.memory import MemoryStore
from ledger.store import LedgerUnavailable
from service.access import Access
from service.problems import REPORT_REFUSALS
from service.serves_http import BODY_MAX_BYTES, REPORTS_MAX, ServesApp

SERVER = {"authorization": "Bearer server"}
ACCESS = Access({sha256(b"server").hexdigest(): ["decide"], sha256(b"sdk").hexdigest(): ["ingest"]})


def run(test, serves=None, body_max_bytes=1 << 22):
    async def main():
        store, registry = MemoryStore(), CollectorRegistry()
        app = ServesApp(serves or serves_over(store), ACCESS, registry, body_max_bytes=body_max_bytes)
        routes = Starlette(routes=[Route("/v1/serves", app)])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(routes), base_url="http://gate") as http:
            http.registry = registry
            await test(store, http)

    asyncio.run(main())


async def post(http, body, headers=SERVER, media_type="application/json"):
    return await http.post("/v1/serves", content=body, headers={"content-type": media_type, **headers})


def many(*reports):
    return b"[" + b",".join(map(wire, reports)) + b"]"


def is_problem(response, status):
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert response.status_code == document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def test_each_report_of_a_batch_is_answered_in_its_place():
    async def test(store, http):
        body = many(a_report(), {"source": "x"}, a_report(a_count(served=1)), a_report(sequence=1))
        response = await post(http, body, {**SERVER, "x-request-id": "r-1"})
        answers = response.json()
        assert (response.status_code, response.headers["x-request-id"]) == (200, "r-1")
        assert [answer["status"] for answer in answers] == ["recorded", "malformed", "refused", "recorded"]
        assert answers[2]["reason"] == "SEQUENCE_REUSED"
        assert [answer["report_id"] for answer in (answers[0], answers[3])] == [
            str(event.cause) for event in await recorded(store)
        ]
        told = generate_latest(http.registry).decode()
        assert 'impledger_serve_reports_total{reason="",status="recorded"} 2.0' in told
        assert 'impledger_serve_reports_total{reason="SEQUENCE_REUSED",status="refused"} 1.0' in told

    run(test)


def test_a_single_report_is_answered_alone():
    async def test(_, http):
        first = await post(http, wire(a_report()))
        again = await post(http, wire(a_report()))
        assert (first.status_code, first.json()["status"]) == (200, "recorded")
        assert again.json() == first.json()

    run(test)


@pytest.mark.parametrize(
    ("report", "status", "reason"),
    [
        (a_report(a_count(served=1)), 409, "SEQUENCE_REUSED"),
        (a_report(region="us", sequence=1), 421, "REGION_MISDIRECTED"),
        (a_report(minute=60_000), 410, "MINUTE_TOO_OLD"),
        (a_report(minute=MINTED - MINTED % 60_000 + 600_000), 422, "MINUTE_AHEAD"),
        (a_report(counts=[]), 422, None),
    ],
)
def test_a_single_report_that_is_not_taken_is_a_problem_with_its_outcome(report, status, reason):
    async def test(_, http):
        await post(http, wire(a_report()))
        document = is_problem(await post(http, wire(report)), status)
        assert document["outcome"].get("reason") == reason

    run(test)


def test_every_refusal_has_its_problem():
    assert REPORT_REFUSALS.keys() == set(ServeRefusal)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 403), ({"authorization": "Bearer sdk"}, 403), ({"authorization": "Bearer nobody"}, 401)],
)
def test_only_ad_servers_may_report(headers, status):
    async def test(store, http):
        is_problem(await post(http, wire(a_report()), headers), status)
        assert await store.head() == 0

    run(test)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (many(*[a_report(sequence=n) for n in range(REPORTS_MAX + 1)]), 413),
        (b" " * (BODY_MAX_BYTES + 1), 413),
        (b"[1,", 400),
        (b"[" * 100_000, 400),
        (b"", 422),
    ],
)
def test_what_is_no_batch_of_reports_is_refused_as_a_whole(body, status):
    async def test(store, http):
        is_problem(await post(http, body), status)
        assert await store.head() == 0

    run(test)


def test_a_body_of_unknown_length_is_cut_off_at_the_limit():
    async def test(_, http):
        async def chunks():
            for _ in range(20):
                yield b"x" * 10

        is_problem(await post(http, chunks()), 413)

    run(test, body_max_bytes=100)


def test_other_methods_and_content_types_are_refused():
    async def test(_, http):
        is_problem(await http.get("/v1/serves", headers=SERVER), 405)
        is_problem(await post(http, b"{}", media_type="text/csv"), 415)

    run(test)


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), Overloaded()])
def test_what_may_be_sent_again_says_so(error):
    class Failing:
        async def record(self, raws):
            raise error

    async def test(_, http):
        response = await post(http, wire(a_report()))
        is_problem(response, 503)
        assert response.headers["retry-after"] == "1"

    run(test, serves=Failing())


def test_too_many_counts_in_one_request_are_refused_as_a_whole():
    async def test(_, http):
        is_problem(await post(http, many(a_report(), a_report(sequence=1))), 413)

    run(test, serves=serves_over(MemoryStore(), counts_max=1))
