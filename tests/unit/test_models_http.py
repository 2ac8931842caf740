"""`/v1/models`: who may see and change what is in force, what is told, what is refused."""

import asyncio
from hashlib import sha256
from uuid import uuid4

import httpx
import pytest
from lookkit import a_later_artifact
from registrykit import a_model, saying
from starlette.applications import Starlette
from test_contest import an_outcome, asked

from domain.placing import PlacementRefusal
from domain.reasons import Reason
from ledger.memory import MemoryStore
from ledger.store import LedgerUnavailable
from ml.models.artifact import dump
from ml.registry.guards import LIMITS
from ml.registry.memory import MemoryComparisonTable, memory_tables
from ml.registry.registry import MODEL_BYTES_MAX
from service.access import Access
from service.clock import now_ms
from service.contest import Contest
from service.modelling import Modelling
from service.models_http import REFUSED_AS, ModelsHttp
from service.problems import PROBLEMS
from service.scoring import ModelHolder

ADMIN, READER, OTHER = ({"authorization": f"Bearer {name}"} for name in ("boss", "clerk", "server"))
API = {
    sha256(name.encode()).hexdigest(): scopes
    for name, scopes in (("boss", ["admin", "report"]), ("clerk", ["report"]), ("server", ["decide"]))
}
FIRST, SECOND = saying(-4.0), saying(4.0)


class Gate:
    """The endpoints in process, over a ledger and tables in memory."""

    def __init__(self, http, modelling, holder):
        self.http, self.modelling, self.holder = http, modelling, holder

    async def get(self, path, headers=ADMIN):
        return await self.http.get(path, headers=headers)

    async def add(self, data=FIRST):
        answer = await self.http.post("/v1/models", content=data, headers={**ADMIN, **OCTETS})
        assert answer.status_code == 201, answer.text
        return answer.json()["model"]

    async def place(self, action, model, *, headers=ADMIN, **changes):
        document = {"request_id": str(uuid4()), "action": action, "model": model, "reason": "a test", **changes}
        return await self.http.post("/v1/models/placements", json=document, headers=headers)


OCTETS = {"content-type": "application/octet-stream"}


def run(test, tables=None):
    async def main():
        holder = ModelHolder()
        modelling = Modelling(MemoryStore(), tables or memory_tables(), holder, Contest("eu-1", LIMITS, now_ms))
        app = Starlette(routes=ModelsHttp(modelling, Access(API)).routes())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gate") as http:
            await test(Gate(http, modelling, holder))

    asyncio.run(main())


def is_problem(answer, status, says=""):
    document = answer.json()
    assert (answer.status_code, document["status"]) == (status, status)
    assert says in f"{document['title']} {document.get('detail', '')}"
    return True


def test_a_model_is_added_shown_and_listed_with_where_it_came_from():
    async def test(gate):
        model = await gate.add()
        shown = (await gate.get(f"/v1/models/{model}")).json()
        assert (shown["model"], shown["stage"], shown["role"], shown["bytes"]) == (model, "s2", "none", len(FIRST))
        assert (shown["card"]["seed"], shown["ledger_range"], shown["trained_until"]) == (1, [0, 0], None)
        assert shown["added_by"] == sha256(b"boss").hexdigest()[:12]
        again = await gate.http.post("/v1/models", content=FIRST, headers={**ADMIN, **OCTETS})
        assert again.status_code == 200
        listed = (await gate.get("/v1/models?limit=1")).json()
        assert [one["model"] for one in listed["models"]] == [model] == [listed["next"]]
        assert (await gate.get(f"/v1/models?after={model}&stage=s2")).json()["models"] == []

    run(test)


def test_what_is_placed_is_in_force_when_it_is_answered_and_history_says_who_and_why():
    async def test(gate):
        first, second = await gate.add(FIRST), await gate.add(SECOND)
        assert (await gate.place("promote", first)).json()["changed"]
        assert gate.holder.line.champion.id == first
        assert not (await gate.place("promote", first)).json()["changed"]
        await gate.place("shadow", second)
        answer = (await gate.place("canary", second, share=0.05, reason="a first try")).json()
        assert (answer["in_force"]["s2"]["canary"], answer["in_force"]["s2"]["share"]) == (second, 0.05)
        assert answer["gate"]["canary"] == second
        await gate.place("roll_back", second)
        [latest, before, *_] = (await gate.get("/v1/models/placements", READER)).json()["placements"]
        assert (latest["role"], latest["model"]) == ("none", second)
        assert (before["role"], before["share"], before["reason"]) == ("canary", 0.05, "a first try")
        assert before["by"] == sha256(b"boss").hexdigest()[:12]
        page = (await gate.get("/v1/models/placements?limit=1&before=2")).json()
        assert ([one["version"] for one in page["placements"]], page["next"]) == ([1], 1)
        await gate.place("retire", first)
        assert gate.holder.line.champion is None

    run(test)


def test_the_same_request_is_done_once_and_with_another_content_refused():
    async def test(gate):
        first, second = await gate.add(FIRST), await gate.add(SECOND)
        same = {"request_id": str(uuid4())}
        assert (await gate.place("promote", first, **same)).json()["changed"]
        assert not (await gate.place("promote", first, **same)).json()["changed"]
        assert is_problem(await gate.place("promote", second, **same), 409, "with another content")

    run(test)


@pytest.mark.parametrize(("headers", "status"), [(READER, 403), (OTHER, 403), ({"authorization": "Bearer x"}, 401)])
def test_to_change_what_is_in_force_takes_the_scope_admin(headers, status):
    async def test(gate):
        model = await gate.add()
        assert is_problem(await gate.place("promote", model, headers=headers), status)
        assert is_problem(await gate.http.post("/v1/models", content=FIRST, headers={**headers, **OCTETS}), status)
        assert gate.holder.line.champion is None

    run(test)


def test_to_see_it_takes_the_scope_report():
    async def test(gate):
        model = await gate.add()
        for path in ("/v1/models", f"/v1/models/{model}", "/v1/models/placements", "/v1/models/comparisons"):
            assert (await gate.get(path, READER)).status_code == 200
            assert is_problem(await gate.get(path, OTHER), 403)

    run(test)


def test_what_cannot_be_done_is_told_apart():
    async def test(gate):
        first, second = await gate.add(FIRST), await gate.add(SECOND)
        assert is_problem(await gate.place("promote", "s2-nothing"), 404, "no such model")
        assert is_problem(await gate.place("retire", "s2-nothing"), 404, "no such model")
        assert is_problem(await gate.place("retire", first), 409, "no role")
        assert is_problem(await gate.place("canary", first, share=0.1), 409, "no champion")
        await gate.place("promote", first)
        assert is_problem(await gate.place("roll_back", first), 409, "no champion before")
        assert is_problem(await gate.place("canary", second, share=0.9), 422, "at most 0.5")
        assert is_problem(await gate.place("promote", second, reason=""), 422, "reason")
        assert is_problem(await gate.place("promote", "s2-\0"), 422, "$.model")
        assert is_problem(await gate.place("crown", second), 422, "crown")
        assert is_problem(await gate.place("promote", second, colour="red"), 422, "colour")
        assert is_problem(await gate.get("/v1/models/s2-nothing"), 404)
        assert is_problem(await gate.get("/v1/models?stage=s9"), 400, "stage")
        assert is_problem(await gate.get("/v1/models?limit=0"), 400, "limit")
        assert is_problem(await gate.get("/v1/models?colour=red"), 400, "colour")
        assert is_problem(await gate.get("/v1/models/comparisons?hours=1000"), 400, "hours")
        broken = await gate.http.post("/v1/models/placements", content=b"{", headers=ADMIN)
        assert is_problem(broken, 400)

    run(test)


def test_a_later_stage_is_rolled_back_by_its_name():
    async def test(gate):
        first, second = [await gate.add(dump(a_later_artifact(margin))) for margin in (1.0, 2.0)]
        for model in (first, second):
            assert (await gate.place("promote", model)).json()["in_force"]["s3"]["champion"] == model
        assert is_problem(await gate.place("roll_back", second), 409)
        answer = await gate.place("roll_back", second, stage="s3")
        assert answer.json()["in_force"]["s3"]["champion"] == first

    run(test)


def test_what_is_no_model_is_refused():
    async def test(gate):
        for data, says in ((b"pickle", "cannot be read"), (a_model(schema_id="features-old"), "features-old")):
            answer = await gate.http.post("/v1/models", content=data, headers={**ADMIN, **OCTETS})
            assert is_problem(answer, 422, says)
        assert is_problem(await gate.http.post("/v1/models", content=b"", headers=ADMIN), 415)
        large = {"content-length": str(MODEL_BYTES_MAX + 1), **ADMIN, **OCTETS}
        assert is_problem(await gate.http.post("/v1/models", content=b"x", headers=large), 413)

    run(test)


def test_every_refusal_of_a_placement_is_a_problem_of_the_table():
    assert set(REFUSED_AS) == set(PlacementRefusal)
    assert set(REFUSED_AS.values()) <= set(PROBLEMS)


def test_what_rivals_said_is_told_by_the_hour():
    async def test(gate):
        first, second = await gate.add(FIRST), await gate.add(SECOND)
        await gate.place("promote", first)
        await gate.place("shadow", second)
        line = gate.holder.line
        gate.modelling.contest.score(asked(10), line.champion, line.canary, line.challenger)
        await gate.modelling.compare()
        await gate.modelling.write_comparisons()
        [hour] = (await gate.get("/v1/models/comparisons?hours=2")).json()["hours"]
        assert (hour["role"], hour["champion"], hour["other"]) == ("challenger", first, second)
        assert (hour["rows"], hour["agreement"], hour["stricter"]) == (10, 0.0, 10)
        assert hour["difference_mean"] == pytest.approx(0.964, abs=0.001)
        assert hour["money_micros"] < 0

    run(test)


def test_a_canary_over_a_guard_is_gone_at_once_and_the_ledger_says_that_the_guard_did_it():
    async def test(gate):
        first, second = await gate.add(FIRST), await gate.add(SECOND)
        await gate.place("promote", first)
        await gate.place("canary", second, share=0.5)
        contest = gate.modelling.contest
        for _ in range(40):
            line = gate.holder.line
            contest.score(asked(1), line.champion, line.canary, line.challenger)
            contest.decided(an_outcome(second, (Reason.RISK_GREY,)))
            contest.decided(an_outcome(first))
        await gate.modelling.compare()
        assert gate.holder.line.canary is None
        listed = (await gate.get("/v1/models")).json()
        assert listed["in_force"]["s2"]["canary"] is None
        [latest, *_] = (await gate.get("/v1/models/placements")).json()["placements"]
        assert (latest["role"], latest["model"], latest["by"]) == ("none", second, "guard")
        assert "uncertain_share" in latest["reason"]
        await gate.modelling.compare()
        assert len((await gate.get("/v1/models/placements")).json()["placements"]) == 3

    run(test)


class Away(MemoryComparisonTable):
    """A store that answers or not."""

    is_away = True

    async def put(self, rows):
        if self.is_away:
            raise LedgerUnavailable("away")
        await super().put(rows)


def test_comparisons_that_the_store_did_not_take_are_written_the_next_time():
    comparisons = Away()

    async def test(gate):
        first, second = await gate.add(FIRST), await gate.add(SECOND)
        await gate.place("promote", first)
        await gate.place("shadow", second)
        line = gate.holder.line
        gate.modelling.contest.score(asked(1), line.champion, None, line.challenger)
        await gate.modelling.compare()
        with pytest.raises(LedgerUnavailable):
            await gate.modelling.write_comparisons()
        comparisons.is_away = False
        await gate.modelling.close()
        [hour] = (await gate.get("/v1/models/comparisons")).json()["hours"]
        assert hour["rows"] == 1

    run(test, memory_tables()._replace(comparisons=comparisons))
