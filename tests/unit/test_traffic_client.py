"""The load client against a gate that is scripted: every answer, failure and delay that a real one can give."""

import asyncio
import time
from collections import Counter, defaultdict
from random import Random
from uuid import UUID

import msgspec
import pytest
import uvloop
from trafficgate import HANG, HANG_UP, FakeGate, at_once, events, http, outcome

from domain.render import Kind
from ml.traffic.client import Load, LoadClient, uploads
from ml.traffic.delivery import Patience
from ml.traffic.draw import Span
from ml.traffic.events import Answer, Sending
from ml.traffic.http1 import Origin
from ml.traffic.tally import Outcome, Recorder

QUICK = Patience(first_s=0.001, most_s=0.002)


def load(**changes):
    return Load(**({"batch": Span(5, 5.5), "single_share": 0.0, "ndjson_share": 0.0, "patience": QUICK} | changes))


def drive(gate, sendings, runner=asyncio.run, **changes):
    async def main():
        async with gate.open() as url:
            return await LoadClient(url, "key", load=load(**changes)).run(sendings)

    return runner(main())


def failing_first(gate, times, failure):
    """A script that fails the first *times* requests with *failure* and then decides."""
    left = [times]

    def script(renders, headers):
        left[0] -= 1
        return failure if left[0] >= 0 else gate.decide(renders, headers)

    return script


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
@pytest.mark.parametrize(("changes", "requests"), [({}, 4), ({"ndjson_share": 1.0}, 4), ({"single_share": 1.0}, 20)])
def test_all_events_are_answered_however_they_are_framed(runner, changes, requests):
    gate = FakeGate()
    tally = drive(gate, at_once(events(20)), runner, **changes)
    assert tally.sent == tally.events == tally.answered == 20
    assert tally.requests == len(gate.seen) == requests
    assert tally.by_verdict() == {"valid": 20}
    assert tally.http == {200: requests}
    assert (tally.unanswered, tally.resends, tally.disagreements, tally.misaligned) == (0, 0, 0, 0)
    assert 0 < tally.p50_ms <= tally.p99_ms
    assert tally.within_budget > 0


def test_requests_carry_the_key_and_the_place():
    gate = FakeGate()
    drive(gate, at_once(events(1)))
    _, headers = gate.seen[0]
    assert headers["authorization"] == "Bearer key"
    assert headers["request"] == "POST /v1/impressions HTTP/1.1"
    assert headers["host"].startswith("127.0.0.1:")


def test_the_sending_time_is_the_devices_own_and_absent_where_it_tells_none():
    gate = FakeGate()
    drive(gate, at_once([*events(1, skew_ms=-90_000), *events(1, skew_ms=None)]))
    (skewed, silent), _ = gate.seen[0]
    assert skewed["sent_at"] == pytest.approx(time.time() * 1_000 - 90_000, abs=5_000)
    assert "sent_at" not in silent


@pytest.mark.parametrize(
    "failure",
    [
        http(b"{}", 503, "retry-after: 0"),
        http(b"", 500),
        HANG_UP,
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[",
        b"not http at all\r\n\r\n",
    ],
)
def test_what_was_not_answered_is_sent_again_under_the_same_ids(failure):
    gate = FakeGate()
    gate.script = failing_first(gate, 2, failure)
    tally = drive(gate, at_once(events(5)), timeout_s=0.5)
    assert tally.answered == 5
    assert tally.resends == 2
    assert tally.unanswered == 0
    ids = [[render["event_id"] for render in renders] for renders, _ in gate.seen]
    assert ids[0] == ids[1] == ids[2]
    assert [renders[0]["attempt"] for renders, _ in gate.seen] == [0, 1, 2]


def test_a_gate_that_never_answers_is_asked_again_after_the_time_out():
    gate = FakeGate()
    gate.script = failing_first(gate, 1, HANG)
    tally = drive(gate, at_once(events(3)), timeout_s=1.0)
    assert tally.answered == 3
    assert tally.http == {0: 1, 200: 1}
    assert gate.connections == 2


def test_a_retry_waits_as_long_as_the_gate_asks_for():
    gate = FakeGate()
    gate.script = failing_first(gate, 1, http(b"{}", 503, "Retry-After: 0.08"))
    began = time.monotonic()
    drive(gate, at_once(events(1)))
    assert time.monotonic() - began >= 0.08


def test_what_stays_unanswered_is_given_up_at_the_deadline_and_reported():
    gate = FakeGate(lambda *_: http(b"", 503))
    tally = drive(gate, at_once(events(7)), deadline_s=0.05)
    assert tally.answered == 0
    assert tally.unanswered == 7
    assert set(tally.unanswered_ids) == {str(UUID(int=n + 1)) for n in range(7)}
    assert tally.by_verdict() == {}


def test_a_gate_that_is_not_there_is_no_error_of_the_client():
    async def main():
        async with FakeGate().open() as url:
            pass
        return await LoadClient(url, "key", load=load(deadline_s=0.02)).run(at_once(events(2)))

    tally = asyncio.run(main())
    assert tally.unanswered == 2
    assert set(tally.http) == {0}


@pytest.mark.parametrize("status", [400, 401, 413, 415])
def test_a_request_that_is_refused_as_a_whole_is_counted_and_not_sent_again(status):
    tally = drive(FakeGate(lambda *_: http(b'{"title":"no"}', status)), at_once(events(5)))
    assert tally.rejected == {status: 5}
    assert (tally.requests, tally.resends, tally.answered) == (1, 0, 0)


def test_a_single_render_that_is_refused_is_answered_by_its_problem_document():
    def refuse(renders, _):
        answer = outcome(renders[0]["event_id"], status="refused", verdict=None, reason="TOKEN_INVALID")
        return http(msgspec.json.encode({"title": "no", "status": 403, "outcome": answer}), 403)

    tally = drive(FakeGate(refuse), at_once(events(3)), single_share=1.0)
    assert tally.by_status() == {"refused": 3}
    assert tally.by_reason() == {"TOKEN_INVALID": 3}
    assert tally.rejected == {}


@pytest.mark.parametrize("body", [b"[]", b"[{}]", b"garbage", b'{"status":"decided"}'])
def test_an_answer_that_cannot_be_read_answers_nobody(body):
    tally = drive(FakeGate(lambda *_: http(body)), at_once(events(5)))
    assert tally.answered == 0
    assert tally.rejected == {200: 5}


def test_answers_arrive_chunked_and_in_pieces_of_any_size():
    def chunked(renders, _):
        body = msgspec.json.encode([outcome(render["event_id"]) for render in renders])
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(body[n : n + 7]), body[n : n + 7]) for n in range(0, len(body), 7))
        answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        return [answer[n : n + 11] for n in range(0, len(answer), 11)]

    tally = drive(FakeGate(chunked), at_once(events(10)))
    assert tally.answered == 10
    assert tally.resends == 0


def test_connections_are_kept_and_given_up_when_the_gate_says_so():
    kept = FakeGate()
    drive(kept, at_once(events(50)), connections=1)
    assert kept.connections == 1

    def close(renders, headers):
        return http(msgspec.json.encode([outcome(r["event_id"]) for r in renders]), 200, "connection: close")

    closing = FakeGate(close)
    assert drive(closing, at_once(events(50)), connections=1).answered == 50
    assert closing.connections == 10


def test_a_retry_that_gets_another_answer_is_a_disagreement():
    verdicts = iter(["valid", "dropped", "valid"])
    gate = FakeGate(
        lambda renders, _: http(msgspec.json.encode(outcome(renders[0]["event_id"], verdict=next(verdicts))))
    )
    [event] = events(1)
    again = [Sending(at, event, attempt) for attempt, at in enumerate((0, 400, 800))]
    tally = drive(gate, again, connections=1)
    assert tally.disagreements == 1
    assert tally.disagreeing_ids == [str(event.event_id)]
    assert (tally.sent, tally.events, tally.answered) == (3, 1, 1)
    assert tally.by_verdict() == {"valid": 1}


@pytest.mark.parametrize(
    ("first", "later", "redecided"),
    [
        ({"verdict": "uncertain", "reason": "DEGRADED"}, {"verdict": "valid"}, 1),
        ({"verdict": "duplicate"}, {"verdict": "uncertain", "reason": "DEGRADED"}, 1),
        ({"verdict": "dropped", "rung": "spooled"}, {"verdict": "duplicate"}, 1),
        ({"verdict": "duplicate"}, {"verdict": "dropped", "rung": "spooled"}, 1),
        ({"verdict": "dropped", "rung": "spooled"}, {"verdict": "dropped"}, 0),
        ({"status": "parked", "verdict": None}, {"status": "recorded", "verdict": None}, 0),
    ],
)
def test_answers_that_were_provisional_may_be_followed_by_others(first, later, redecided):
    changes = iter([first, later])
    gate = FakeGate(lambda renders, _: http(msgspec.json.encode(outcome(renders[0]["event_id"], **next(changes)))))
    [event] = events(1)
    tally = drive(gate, [Sending(0, event), Sending(400, event, 1)], connections=1)
    assert tally.disagreements == 0
    assert tally.redecided == redecided


def test_late_answers_are_told_apart_by_whether_they_say_that_the_ledger_was_not_asked():
    recorder, sendings = Recorder(), [Sending(0, event) for event in events(4)]
    answers = [
        Outcome("decided", verdict="valid", rung="model_fallback"),
        Outcome("decided", verdict="uncertain", reason="DEGRADED", provisional=True, rung="spooled"),
        Outcome("decided", verdict="dropped", reason="AGENT_DECLARED_BOT", provisional=True, rung="spooled"),
        Outcome("decided", verdict="uncertain", reason="RISK_GREY", provisional=True),
    ]
    for seconds in (0.050, 0.051):
        for sending in sendings:
            recorder.sending(sending)
        recorder.answered(sendings, answers, 0.0, seconds)
    tally = recorder.tally(seconds=1.0, http=Counter(), resends=0, held_back_s=0.0)
    assert (tally.within_budget, tally.within_budget_or_marked) == (0.5, 0.75)


def test_an_answer_that_names_another_event_is_noticed():
    gate = FakeGate(lambda renders, _: http(msgspec.json.encode([outcome(str(UUID(int=99))) for _ in renders])))
    assert drive(gate, at_once(events(3))).misaligned == 3


def test_uploads_leave_when_they_are_full_or_have_lingered_and_in_order_of_time():
    sendings = [Sending(at, event) for at, event in zip(range(0, 4_000, 10), events(400), strict=True)]
    plan = load(batch=Span(20, 60), single_share=0.1, linger_ms=250)
    made = list(uploads(sendings, plan, Random(1)))
    assert [sending for _, batch in made for sending in batch if len(batch) == 1] != []
    assert Counter(sending.event.event_id for _, batch in made for sending in batch) == {
        sending.event.event_id: 1 for sending in sendings
    }
    assert [due for due, _ in made] == sorted(due for due, _ in made)
    for due, batch in made:
        assert batch[0].at_ms <= batch[-1].at_ms <= due <= batch[0].at_ms + 250
        assert len(batch) <= 60


def test_nothing_is_sent_before_its_time():
    gate = FakeGate()
    arrived = defaultdict(float)

    def script(renders, headers):
        for render in renders:
            arrived[render["event_id"]] = time.time() * 1_000
        return gate.decide(renders, headers)

    gate.script = script
    now = int(time.time() * 1_000)
    sendings = [Sending(now + 20 * n, event) for n, event in enumerate(events(8))]
    drive(gate, sendings, batch=Span(2, 2.5))
    assert all(arrived[str(sending.event.event_id)] >= sending.at_ms for sending in sendings)


def test_a_client_that_is_stopped_waits_for_what_is_under_way_and_sends_nothing_new():
    async def main():
        gate = FakeGate()
        async with gate.open() as url:
            client = LoadClient(url, "key", load=load())
            far = int(time.time() * 1_000) + 50

            def sendings():
                yield from at_once(events(5))
                client.stop()
                yield Sending(far, events(9)[8])

            return await client.run(sendings())

    tally = asyncio.run(main())
    assert tally.sent == tally.answered
    assert tally.sent < 6


def test_too_much_unanswered_silences_the_client_for_a_while():
    gate = FakeGate()
    gate.script = failing_first(gate, 1, http(b"", 503, "retry-after: 0.05"))
    tally = drive(gate, at_once(events(40)), waiting_max=5, connections=1)
    assert tally.answered == 40
    assert tally.held_back_s > 0


def test_the_live_view_follows_the_run():
    async def main():
        async with FakeGate().open() as url:
            client = LoadClient(url, "key", load=load())
            before = client.live()
            await client.run(at_once(events(10)))
            return before, client.live()

    before, after = asyncio.run(main())
    assert (before.sent, before.answered, before.rate, before.p99_ms) == (0, 0, 0, 0)
    assert (after.sent, after.answered, after.waiting) == (10, 10, 0)
    assert after.verdicts == {"valid": 10}
    assert after.statuses == {"decided": 10}
    assert 0 < after.p50_ms <= after.p99_ms


def test_views_are_counted_apart_from_renders():
    tally = drive(FakeGate(), at_once([*events(3), *events(2, Kind.VIEW)]))
    assert (tally.renders, tally.views) == (3, 2)
    assert {row.kind: row.events for row in tally.rows} == {Kind.RENDER: 3, Kind.VIEW: 2}
    assert tally.rows[0].answer == Answer("decided", "valid", None)
    assert msgspec.json.decode(msgspec.json.encode(tally))["sent"] == 5


@pytest.mark.parametrize("url", ["https://gate:1", "gate:8410", "http://", "ftp://gate"])
def test_only_plain_http_addresses_are_taken(url):
    with pytest.raises(ValueError, match="is no http:// address"):
        Origin.of(url)


def test_an_answer_nobody_asked_for_ends_the_connection():
    gate = FakeGate()
    gate.script = lambda renders, headers: gate.decide(renders, headers) * 2
    tally = drive(gate, at_once(events(25)), connections=1)
    assert tally.answered == 25
    assert gate.connections > 1
