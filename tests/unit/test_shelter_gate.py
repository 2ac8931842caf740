"""What a request is answered over HTTP whose renders are another region's, under an order and without."""

import asyncio
from contextlib import asynccontextmanager, suppress

import httpx
import msgspec
from cellkit import API, BEARER, address
from gatekit import PACK
from prometheus_client import generate_latest
from shelterkit import Pair
from starlette.applications import Starlette

from commands.batcher import Batcher
from commands.shelter_store import Room
from service.access import Access
from service.gate_http import GateApp
from service.gate_metrics import GateMetrics
from service.settings import Settings

SERVER = {"authorization": f"Bearer {BEARER}"}


@asynccontextmanager
async def served(gate):
    batcher = Batcher(gate.ingest.decide_batch, batch_max=8, wait_max_s=5.0)
    running = asyncio.create_task(batcher.run())
    metrics = GateMetrics(PACK)
    app = GateApp(
        intake=gate.intake,
        batcher=batcher,
        access=Access(API),
        settings=Settings(),
        metrics=metrics,
        inner=Starlette(),
        shelter=gate.shelter,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=address("us-1")) as http:
        http.metrics = metrics
        yield http
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def run(test, *, is_ordered=True, **kept):
    async def main():
        pair = Pair(**kept)
        await pair.open()
        if is_ordered:
            await pair.away.ordered()
        async with served(pair.away) as http:
            await test(pair, http)

    asyncio.run(main())


async def post(http, body, headers=SERVER, media_type="application/json"):
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return await http.post("/v1/impressions", content=content, headers={"content-type": media_type, **headers})


def both(pair):
    """A render of the sheltered region, and one of the gate's own."""
    return pair.clients.render(), pair.clients.render(pair.clients.token(region="us"))


def test_without_an_order_it_is_421_with_the_address():
    async def test(pair, http):
        reply = await post(http, pair.clients.render())
        assert (reply.status_code, reply.json()["address"]) == (421, address("eu-1"))

    run(test, is_ordered=False)


def test_under_an_order_a_single_render_is_answered_200_with_its_rung():
    async def test(pair, http):
        event = pair.clients.render()
        reply = await post(http, event)
        assert reply.status_code == 200
        assert reply.json() == {
            "event_id": event["event_id"],
            "impression_id": str(pair.home.token_of(event).impression),
            "status": "decided",
            "verdict": "uncertain",
            "reason": "DEGRADED",
            "provisional": True,
            "rung": "sheltered",
            "errors": [],
        }

    run(test)


def test_clients_without_the_scope_are_told_no_more_than_ever():
    async def test(pair, http):
        reply = await post(http, list(both(pair)), headers={})
        assert [answer["status"] for answer in reply.json()] == ["accepted"] * 2
        assert all(answer["verdict"] is answer["rung"] is None for answer in reply.json())

    run(test)


def test_a_mixed_batch_is_answered_in_order():
    async def test(pair, http):
        theirs, ours = both(pair)
        third = pair.clients.render(pair.clients.token(region="ap"))
        events = [ours, theirs, third, {"broken": 1}, *both(pair)]
        lines = b"\n".join(map(msgspec.json.encode, events))
        reply = await post(http, lines, media_type="application/x-ndjson")
        assert reply.status_code == 200
        told = [msgspec.json.decode(line) for line in reply.content.splitlines()]
        assert [one["event_id"] for one in told if one["event_id"]] == [
            event["event_id"] for event in events if "event_id" in event
        ]
        rungs = [one["rung"] == "sheltered" for one in told]
        assert rungs == [False, True, False, False, True, False]
        assert (told[2]["reason"], told[2]["address"]) == ("REGION_MISDIRECTED", address("ap-1"))
        line = b'impledger_answers_total{reason="DEGRADED",status="decided",verdict="uncertain"} 2.0'
        assert line in metrics_of(http)

    run(test, names=("eu-1", "us-1", "ap-1"))


def metrics_of(http):
    return generate_latest(http.metrics.registry)


def test_what_has_no_room_is_503_alone_and_told_apart_in_a_batch():
    async def test(pair, http):
        assert (await post(http, pair.clients.render())).status_code == 200
        for body in (pair.clients.render(), [pair.clients.render(), pair.clients.render()]):
            reply = await post(http, body)
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            assert "no room" in reply.json()["detail"]
        for headers in (SERVER, {}):
            reply = await post(http, list(both(pair)), headers=headers)
            assert reply.status_code == 200
            assert [answer["status"] == "deferred" for answer in reply.json()] == [True, False]

    run(test, room=Room(1, 1 << 20))


def test_busy_and_misdirected_together_are_told_apart():
    async def test(pair, http):
        await post(http, pair.clients.render())
        events = [pair.clients.render(), pair.clients.render(pair.clients.token(region="ap"))]
        reply = await post(http, events)
        assert (reply.status_code, [one["status"] for one in reply.json()]) == (200, ["deferred", "refused"])

    run(test, names=("eu-1", "us-1", "ap-1"), room=Room(1, 1 << 20))
