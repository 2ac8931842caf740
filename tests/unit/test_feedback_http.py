"""Feedback and dead letters over HTTP, in process: who may do what, and what each wrong request is told."""

import asyncio
from hashlib import sha256
from uuid import UUID

import httpx
import msgspec
import pytest
from feedbackkit import NOW, Kit, about_traffic, an_impression, raw, wire
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from commands.dead_letters import MemoryLetters, name_of
from commands.feedback_memory import MemoryFeedback
from commands.messages import Message
from domain.feedback import FeedbackRefusal
from ledger.store import LedgerUnavailable
from service.access import Access
from service.dead_letters_http import DeadLettersHttp
from service.feedback_http import BODY_MAX_BYTES, FEEDBACK_MAX, FeedbackHttp
from service.problems import FEEDBACK_REFUSALS

SENDER = {"authorization": "Bearer sender"}
ADMIN = {"authorization": "Bearer admin"}
API = {sha256(b"sender").hexdigest(): ["feedback"], sha256(b"admin").hexdigest(): ["admin"]}
LETTER = Message("feedback", "apply_feedback", (["x"],))


def run(test, body_max_bytes=1 << 22, **stores):
    async def main():
        kit, access, registry = Kit(**stores), Access(API), CollectorRegistry()
        await kit.open(1)
        http = FeedbackHttp(kit.inbox, kit.feedback, access, registry, body_max_bytes)
        app = Starlette(routes=[*http.routes(), *DeadLettersHttp(kit.letters, access).routes()])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gate") as client:
            client.registry = registry
            await test(kit, client)

    asyncio.run(main())


async def post(http, body, headers=SENDER, media_type="application/json"):
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return await http.post("/v1/feedback", content=content, headers={"content-type": media_type, **headers})


async def get(http, path, headers=ADMIN, **parameters):
    return await http.get(path, params=parameters, headers=headers)


def is_problem(response, status, says=""):
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert response.status_code == document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    assert says in document.get("detail", "")
    return document


def test_each_piece_of_a_batch_is_answered_in_its_place():
    async def test(_, http):
        sent = [wire(1), {"id": 7}, about_traffic(2), wire(1, type="dispute")]
        response = await post(http, sent, {**SENDER, "x-request-id": "r-1"})
        assert (response.status_code, response.headers["x-request-id"]) == (200, "r-1")
        assert [one["status"] for one in response.json()] == ["accepted", "malformed", "held", "refused"]
        assert response.json()[0] == {"id": str(UUID(int=1)), "status": "accepted"}
        assert response.json()[2]["note"].startswith("kept; ")
        told = generate_latest(http.registry).decode()
        assert 'impledger_feedback_answers_total{reason="",status="held"} 1.0' in told
        assert 'impledger_feedback_answers_total{reason="FEEDBACK_ID_REUSED",status="refused"} 1.0' in told

    run(test)


def test_lines_are_answered_in_lines():
    async def test(_, http):
        body = b"\n".join([*raw(wire(1)), b"", b"{broken", *raw(wire(2)), b""])
        response = await post(http, body, media_type="application/x-ndjson")
        assert response.headers["content-type"] == "application/x-ndjson"
        answers = [msgspec.json.decode(line) for line in response.content.splitlines()]
        assert [one["status"] for one in answers] == ["accepted", "malformed", "accepted"]

    run(test)


def test_a_single_piece_is_answered_alone_and_again_the_same():
    async def test(_, http):
        first = await post(http, wire(1))
        assert (first.status_code, first.json()["status"]) == (200, "accepted")
        assert (await post(http, wire(1))).json() == first.json()

    run(test)


def test_every_refusal_of_a_single_piece_is_its_problem():
    async def test(kit, http):
        await post(http, wire(1))
        refused = {
            FeedbackRefusal.FEEDBACK_ID_REUSED: wire(1, type="dispute"),
            FeedbackRefusal.OBSERVED_AHEAD: wire(2, observed_at=NOW + 99_999),
            FeedbackRefusal.IMPRESSION_AHEAD: wire(3, impression_id="0fffffff-ffff-7000-8000-000000000001"),
            FeedbackRefusal.TOO_MANY_FOR_IMPRESSION: wire(1_000, 5),
        }
        await post(http, [wire(number, 5) for number in range(100, 164)])
        assert refused.keys() == FEEDBACK_REFUSALS.keys()
        for reason, document in refused.items():
            problem = is_problem(await post(http, document), FEEDBACK_REFUSALS[reason].status)
            assert problem["outcome"]["reason"] == reason
        problem = is_problem(await post(http, b'{"type": "view"}'), 422)
        assert problem["outcome"]["status"] == "malformed"
        kit.inbox._room = type(kit.inbox._room)(0, 0, 64)
        full = await post(http, wire(7))
        assert is_problem(full, 503)["outcome"]["status"] == "deferred"
        assert full.headers["retry-after"] == "1"

    run(test)


def test_who_lacks_the_scope_sends_and_sees_nothing():
    async def test(kit, http):
        is_problem(await post(http, wire(1), {}), 403, "scope feedback")
        is_problem(await post(http, wire(1), ADMIN), 403)
        is_problem(await post(http, wire(1), {"authorization": "Bearer x"}), 401)
        for path in ("/v1/feedback", "/v1/feedback/books", f"/v1/feedback/{UUID(int=1)}", "/v1/dead-letters"):
            is_problem(await get(http, path, SENDER), 403, "scope admin")
        is_problem(await http.post(f"/v1/dead-letters/{'0' * 32}/replay", headers=SENDER), 403)
        assert kit.feedback.kept == {}

    run(test)


def test_what_is_too_much_or_no_feedback_at_all_is_told_and_nothing_of_it_is_taken():
    async def test(kit, http):
        is_problem(await post(http, [wire(n) for n in range(FEEDBACK_MAX + 1)]), 413, f"at most {FEEDBACK_MAX}")
        is_problem(await post(http, b" " * (BODY_MAX_BYTES + 1)), 413)
        is_problem(await post(http, b"[{]"), 400, "nothing of it was taken")
        is_problem(await post(http, b"a=1", media_type="text/plain"), 415)
        is_problem(await post(http, b"\x1f\x8b", {**SENDER, "content-encoding": "gzip"}), 415)
        assert kit.feedback.kept == {}

    run(test)


def test_without_its_store_it_is_to_be_sent_again():
    class Away(MemoryFeedback):
        async def keep(self, items, room):
            raise LedgerUnavailable("away")

    async def test(_, http):
        response = await post(http, wire(1))
        is_problem(response, 503)
        assert response.headers["retry-after"] == "1"

    run(test, feedback=Away())


def test_what_became_of_feedback_is_listed_and_told():
    async def test(kit, http):
        await post(http, [wire(1), about_traffic(2), wire(3, 9), wire(4, 9, observed_at=NOW - 5)])
        await kit.work()
        one = (await get(http, f"/v1/feedback/{UUID(int=1)}")).json()
        assert (one["state"], one["weight"], one["label"]) == ("applied", 0.7, "invalid")
        assert (one["observed_at"], one["settled_at"]) == ("2026-09-21T15:13:19.000Z", "2026-09-21T15:13:20.000Z")
        assert one["sent_by"] == sha256(b"sender").hexdigest()[:8]
        two = (await get(http, f"/v1/feedback/{UUID(int=2)}")).json()
        assert two["traffic"] == {
            "sdk": "ios/12.3",
            "surface": "reels",
            "since": "2026-09-21T14:13:20.000Z",
            "until": "2026-09-21T15:13:20.000Z",
        }
        page = (await get(http, "/v1/feedback", state="parked", limit=1)).json()
        rest = (await get(http, "/v1/feedback", state="parked", limit=1, after=page["after"])).json()
        assert [page["feedback"][0]["id"], rest["feedback"][0]["id"]] == [str(UUID(int=4)), str(UUID(int=3))]
        of_one = (await get(http, "/v1/feedback", impression_id=str(an_impression(1)))).json()
        assert [found["id"] for found in of_one["feedback"]] == [str(UUID(int=1))]
        assert of_one["after"] is None
        assert (await get(http, "/v1/feedback", failing="true")).json()["feedback"] == []
        books = (await get(http, "/v1/feedback/books")).json()
        assert (books["accepted"], books["applied"], books["parked"], books["held"]) == (4, 1, 2, 1)
        assert (books["unaccounted"], books["oldest_at"]) == (0, None)
        is_problem(await get(http, f"/v1/feedback/{UUID(int=9)}"), 404)

    run(test)


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": 0},
        {"state": "lost"},
        {"impression_id": "x"},
        {"failing": "y"},
        {"after": "7"},
        {"after": "x_1"},
        {"x": 1},
    ],
)
def test_a_wrong_parameter_is_named(parameters):
    async def test(_, http):
        is_problem(await get(http, "/v1/feedback", **parameters), 400, f"{next(iter(parameters))}: ")

    run(test)


@pytest.mark.parametrize("parameters", [{"limit": 1_001}, {"state": "lost"}, {"after": "7"}, {"x": 1}])
def test_a_wrong_parameter_of_letters_is_named(parameters):
    async def test(_, http):
        is_problem(await get(http, "/v1/dead-letters", **parameters), 400, f"{next(iter(parameters))}: ")

    run(test)


def test_dead_letters_are_listed_told_and_replayed_and_the_log_says_by_whom():
    async def test(kit, http):
        await kit.letters.bury(LETTER, "Traceback\nValueError: torn", NOW)
        await kit.letters.bury(Message("feedback", "unknown", ()), "ActorNotFound", NOW + 1)
        page = (await get(http, "/v1/dead-letters", limit=1)).json()
        assert page["letters"][0]["actor"] == "unknown"
        [letter] = (await get(http, "/v1/dead-letters", after=page["after"], state="dead")).json()["letters"]
        assert letter == {
            "name": name_of(LETTER),
            "state": "dead",
            "queue": "feedback",
            "actor": "apply_feedback",
            "args": [["x"]],
            "times": 1,
            "first_at": "2026-09-21T15:13:20.000Z",
            "last_at": "2026-09-21T15:13:20.000Z",
            "error": "Traceback\nValueError: torn",
        }
        assert (await get(http, f"/v1/dead-letters/{letter['name']}")).json() == letter
        with capture_logs() as logs:
            replayed = await http.post(f"/v1/dead-letters/{letter['name']}/replay", headers=ADMIN)
        assert replayed.json() == {**letter, "state": "replaying"}
        assert logs[0]["letter"] == letter["name"]
        assert "key" in logs[0]
        assert await kit.dispatcher.replay() == 1
        assert list(kit.messages.queues["feedback"]) == [LETTER]
        for name in ("0" * 32, "nonsense"):
            is_problem(await get(http, f"/v1/dead-letters/{name}"), 404)
        is_problem(await http.post(f"/v1/dead-letters/{'0' * 32}/replay", headers=ADMIN), 404)

    run(test, letters=MemoryLetters())
