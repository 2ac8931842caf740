"""`/v1/drills` and `impledger drill`: who may, what is told, what is refused."""

import asyncio

import httpx
import pytest
from ladderkit import Clock
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette

from commands.ladder import Ladder
from domain.vocabulary import Rung
from service.access import Access
from service.cli_drill import RECOVERED_WITHIN_S, run
from service.drills_http import DrillsHttp
from service.laddering import GateLadder

ADMIN, OTHER = "Bearer admin-token", "Bearer other-token"
NOW = 1_790_000_000_000


def an_access():
    from hashlib import sha256  # noqa: PLC0415

    hashes = {
        sha256(name.encode()).hexdigest(): [scope]
        for name, scope in (("admin-token", "admin"), ("other-token", "decide"))
    }
    return Access(hashes)


def ask(*calls):
    """Answers to (method, path, body, authorization) over one ladder."""
    ladder = Ladder(clock := Clock())

    async def main():
        app = Starlette(routes=DrillsHttp(ladder, an_access(), lambda: NOW).routes())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gate") as http:
            return [
                await http.request(method, path, content=body, headers={"authorization": who})
                for method, path, body, who in calls
            ]

    return asyncio.run(main()), ladder, clock


def test_a_drill_is_begun_shown_and_ended():
    [begun, shown, ended], _, _ = ask(
        ("POST", "/v1/drills", b'{"rung": "shed", "seconds": 20}', ADMIN),
        ("GET", "/v1/drills", b"", ADMIN),
        ("DELETE", "/v1/drills/shed", b"", ADMIN),
    )
    assert begun.status_code == shown.status_code == ended.status_code == 200
    assert begun.json() == {"rung": "shed", "seconds_left": 20.0, "ends_at": "2026-09-21T14:13:40.000Z"}
    assert shown.json()["drills"] == [begun.json()]
    assert shown.json()["in_force"] == ["shed"]
    assert shown.json()["decisions"] == dict.fromkeys(Rung, 0)
    assert ended.json()["drills"] == []


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b'{"rung": "sheded"}', 422, "there is no rung 'sheded'; there are no_async, "),
        (b'{"rung": "sheltered"}', 422, "signed order"),
        (b'{"rung": "shed", "seconds": 601}', 422, "at most 600 seconds"),
        (b'{"rung": "shed", "seconds": true}', 400, "{rung, seconds}"),
        (b"{}", 400, "{rung, seconds}"),
        (b"{" + b" " * 5_000, 413, "bytes"),
    ],
)
def test_what_cannot_be_drilled_is_said(body, status, says):
    [answer], ladder, _ = ask(("POST", "/v1/drills", body, ADMIN))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]
    assert ladder.drills == ()


@pytest.mark.parametrize(("who", "status"), [(OTHER, 403), ("Bearer nobody", 401)])
def test_drills_are_the_operators(who, status):
    answers, ladder, _ = ask(("POST", "/v1/drills", b'{"rung": "shed"}', who), ("GET", "/v1/drills", b"", who))
    assert [answer.status_code for answer in answers] == [status, status]
    assert ladder.drills == ()


def test_other_methods_and_drills_that_are_not_there_are_refused():
    answers, _, _ = ask(
        ("PUT", "/v1/drills", b"", ADMIN),
        ("GET", "/v1/drills/shed", b"", ADMIN),
        ("DELETE", "/v1/drills/shed", b"", ADMIN),
    )
    assert [answer.status_code for answer in answers] == [405, 405, 422]
    assert [answer.headers["allow"] for answer in answers[:2]] == ["GET, POST", "DELETE"]


def test_the_metrics_say_what_is_in_force_and_what_was_decided():
    gate = GateLadder()
    registry = CollectorRegistry()
    registry.register(gate)
    gate.ladder.drill("shed", 20)
    gate.ladder.decided(Rung.SHED, (Rung.MODEL_FALLBACK,))
    asyncio.run(gate.tick())
    text = generate_latest(registry).decode()
    for line in (
        'impledger_rung{rung="shed"} 1.0',
        'impledger_rung{rung="spooled"} 0.0',
        'impledger_rung_drilled{rung="shed"} 1.0',
        'impledger_decisions_by_rung_total{rung="shed"} 1.0',
        'impledger_decisions_by_rung_total{rung="model_fallback"} 1.0',
        "impledger_shed_rate 0.9",
    ):
        assert line in text


class Gate:
    """The gate as the command asks it; time goes by while it sleeps, with *decided* decisions a step on shed."""

    def __init__(self, *, sticks=False):
        self.clock = Clock()
        self.ladder = Ladder(self.clock)
        self.http = DrillsHttp(self.ladder, an_access(), lambda: NOW)
        self.sticks = sticks

    def get(self, path, _):
        assert path == "/v1/drills"
        standing = self.http._standing()
        return {
            **standing,
            "in_force": [*standing["in_force"], *(["shed"] if self.sticks and self.was_drilled else [])],
        }

    was_drilled = False

    def post(self, _, document):
        self.was_drilled = True
        return self.ladder.drill(document["rung"], document["seconds"])

    def sleep(self, seconds):
        if self.ladder.is_shedding:
            self.ladder.decided(Rung.SHED, (Rung.MODEL_FALLBACK,))
        self.clock.pass_by(seconds)


def test_a_drill_tells_what_was_decided_meanwhile_and_that_it_recovered():
    gate = Gate()
    done = run(gate, "shed", 5.0, lambda _: None, gate.sleep, gate.clock)
    assert done.decisions == {"shed": 10, "model_fallback": 10}
    assert done.recovered_after_s == 0.0
    assert "shed" not in done.in_force_after


def test_a_rung_that_stays_in_force_is_told_of_after_a_while():
    gate = Gate(sticks=True)
    done = run(gate, "shed", 5.0, lambda _: None, gate.sleep, gate.clock)
    assert done.recovered_after_s is None
    assert gate.clock.now > 1_000 + 5 + RECOVERED_WITHIN_S
