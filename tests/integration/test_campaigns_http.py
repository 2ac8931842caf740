"""The admin API of campaigns, in process, on PostgreSQL."""

import asyncio
from contextlib import asynccontextmanager
from hashlib import sha256
from uuid import uuid4

import httpx
import pytest
from budgetkit import a_token
from gatekit import PACK
from starlette.applications import Starlette

from domain.campaign import CampaignRefusal
from ledger.codec import decode
from ledger.postgres import PostgresStore
from service.access import Access
from service.campaigning import Authority, Campaigning
from service.campaigns_http import REFUSED_AS, campaign_routes
from service.clock import now_ms
from service.problems import PROBLEMS
from service.wiring import open_tails

pytestmark = pytest.mark.slow

KEY = {"authorization": "Bearer boss"}
API = {sha256(b"boss").hexdigest(): ["admin"], sha256(b"clerk").hexdigest(): ["report"]}


@asynccontextmanager
async def a_gate(url, authority=Authority.REGISTRY):
    store = PostgresStore(url)
    campaigning = Campaigning(
        store, tails=open_tails(store, url), database_url=url, pack=PACK, authority=authority, campaigns_max=1_000
    )
    app = Starlette(routes=campaign_routes(campaigning, Access(API)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gate", headers=KEY) as http:
        http.campaigning, http.store = campaigning, store
        yield http
    await campaigning.close()
    await store.close()


@pytest.fixture
def run(postgres_url):
    def on(test, **options):
        async def main():
            async with a_gate(postgres_url, **options) as http:
                await test(http)

        asyncio.run(main())

    return on


def a_document(**changes):
    document = {
        "request_id": str(uuid4()),
        "campaign": "c-1",
        "advertiser": "advertiser-1",
        "account": "account-1",
        "currency": "EUR",
        "time_zone": "Europe/Berlin",
        "billing_event": "impression",
        "viewability_pack": "mrc",
        "flight_start": "2020-01-01T00:00:00+01:00",
        "flight_end": 4_000_000_000_000,
        "budget_micros": 500,
    }
    return {name: value for name, value in {**document, **changes}.items() if value is not ...}


async def change(http, version, id_="c-1", **document):
    headers = {} if version is None else {"if-match": f'"{version}"'}
    return await http.patch(f"/v1/campaigns/{id_}", json={"request_id": str(uuid4()), **document}, headers=headers)


def is_problem(response, status, says=""):
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, document["status"]) == (status, status), document
    assert document["request_id"] == response.headers["x-request-id"]
    assert says in document["detail"]


def test_a_campaign_is_opened_shown_and_listed(run):
    async def test(http):
        response = await http.post("/v1/campaigns", json=a_document(daily_budget_micros=50))
        assert response.status_code == 201
        assert (response.headers["etag"], response.headers["location"]) == ('"1"', "/v1/campaigns/c-1")
        campaign = response.json()
        assert campaign["flight_start"] == "2019-12-31T23:00:00.000Z"
        assert (campaign["status"], campaign["version"], campaign["daily_budget_micros"]) == ("running", 1, 50)
        assert campaign["budget"] is None
        assert (await http.get("/v1/campaigns/c-1")).json() == campaign
        assert (await http.get("/v1/campaigns")).json() == {"campaigns": [campaign], "next": None}

    run(test)


def test_the_stream_says_which_key_asked_but_not_the_key(run):
    async def test(http):
        await http.post("/v1/campaigns", json=a_document())
        [commit] = (await http.store.read_streams(["campaign-c-1"], 10))["campaign-c-1"]
        [event] = decode(commit.data)
        assert event.by == sha256(b"boss").hexdigest()[:12]
        assert b"boss" not in commit.data

    run(test)


def test_a_request_that_comes_again_is_answered_as_at_first(run):
    async def test(http):
        document = a_document()
        first = await http.post("/v1/campaigns", json=document)
        await change(http, 1, paused=True)
        again = await http.post("/v1/campaigns", json=document)
        assert (again.status_code, again.json()) == (200, first.json())
        is_problem(await http.post("/v1/campaigns", json={**document, "budget_micros": 7}), 409, "REQUEST_REUSED")
        is_problem(await http.post("/v1/campaigns", json=a_document()), 409, "ALREADY_OPEN")

    run(test)


def test_a_change_is_for_the_version_that_was_seen(run):
    async def test(http):
        await http.post("/v1/campaigns", json=a_document())
        response = await change(http, 1, budget_micros=900, paused=True)
        assert (response.status_code, response.headers["etag"]) == (200, '"3"')
        assert (response.json()["status"], response.json()["budget_micros"]) == ("paused", 900)
        is_problem(await change(http, 1, paused=False), 412, "VERSION_CHANGED")
        is_problem(await change(http, None, paused=False), 428, "If-Match")
        is_problem(await change(http, "x", paused=False), 412)
        assert (await change(http, 3, paused=False)).json()["status"] == "running"

    run(test)


def test_a_change_that_comes_again_is_answered_although_the_version_has_moved_on(run):
    async def test(http):
        await http.post("/v1/campaigns", json=a_document())
        request_id = str(uuid4())
        first = await change(http, 1, request_id=request_id, budget_micros=900)
        await change(http, 2, budget_micros=901)
        again = await change(http, 1, request_id=request_id, budget_micros=900)
        assert again.json() == first.json()

    run(test)


def test_a_daily_budget_is_taken_away_by_null_alone(run):
    async def test(http):
        await http.post("/v1/campaigns", json=a_document(daily_budget_micros=50))
        assert (await change(http, 1, budget_micros=600)).json()["daily_budget_micros"] == 50
        assert (await change(http, 2, daily_budget_micros=None)).json()["daily_budget_micros"] is None

    run(test)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"currency": "EURO"}, "UNKNOWN_CURRENCY"),
        ({"time_zone": "Berlin"}, "UNKNOWN_TIME_ZONE"),
        ({"viewability_pack": "mrx"}, "UNKNOWN_PACK"),
        ({"flight_end": 1}, "BAD_FLIGHT"),
        ({"flight_end": "9999-12-31T23:59:59-01:00"}, "BAD_FLIGHT"),
        ({"budget_micros": 0}, "BAD_BUDGET"),
        ({"campaign": "a/b"}, "BAD_NAME"),
        ({"advertiser": "a\0"}, "BAD_NAME"),
        ({"campaign": ""}, "$.campaign"),
        ({"flight_start": "2020-01-01T00:00:00"}, "$.flight_start"),
        ({"currency": ...}, "currency"),
        ({"buget_micros": 5}, "buget_micros"),
        ({"billing_event": "click"}, "$.billing_event"),
    ],
)
def test_what_cannot_be_is_told_with_its_reason(run, changes, says):
    async def test(http):
        is_problem(await http.post("/v1/campaigns", json=a_document(**changes)), 422, says)
        assert (await http.get("/v1/campaigns")).json()["campaigns"] == []

    run(test)


def test_currency_and_time_zone_are_fixed_once_a_campaign_is_open(run):
    async def test(http):
        await http.post("/v1/campaigns", json=a_document())
        for fixed in ({"currency": "USD"}, {"time_zone": "UTC"}, {"billing_event": "viewable"}):
            is_problem(await change(http, 1, **fixed), 422, "unknown field")

    run(test)


def test_wrong_requests_each_get_their_problem(run):
    async def test(http):
        is_problem(await http.get("/v1/campaigns/nobody"), 404)
        is_problem(await change(http, 1, "nobody", paused=True), 404)
        is_problem(await http.get("/v1/campaigns", headers={"authorization": "Bearer clerk"}), 403, "admin")
        is_problem(await http.get("/v1/campaigns", headers={"authorization": ""}), 403)
        is_problem(await http.get("/v1/campaigns", headers={"authorization": "Bearer x"}), 401)
        is_problem(await http.post("/v1/campaigns", content=b"x" * 70_000, headers={"content-type": "text/plain"}), 415)
        json = {"content-type": "application/json"}
        is_problem(await http.post("/v1/campaigns", content=b"x" * 70_000, headers=json), 413)
        is_problem(await http.post("/v1/campaigns", content=b"{", headers=json), 400)
        is_problem(await http.post("/v1/campaigns", content=b"[" * 60_000, headers=json), 422)
        for query in ("limit=0", "limit=1001", "limit=x", "page=2"):
            is_problem(await http.get(f"/v1/campaigns?{query}"), 400)

    run(test)


def test_pages_follow_on_each_other(run):
    async def test(http):
        for number in range(5):
            advertiser = f"advertiser-{number % 2}"
            await http.post("/v1/campaigns", json=a_document(campaign=f"c-{number}", advertiser=advertiser))
        first = (await http.get("/v1/campaigns?limit=3")).json()
        assert ([one["campaign"] for one in first["campaigns"]], first["next"]) == (["c-0", "c-1", "c-2"], "c-2")
        second = (await http.get("/v1/campaigns?limit=3&after=c-2")).json()
        assert ([one["campaign"] for one in second["campaigns"]], second["next"]) == (["c-3", "c-4"], None)
        odd = (await http.get("/v1/campaigns?advertiser=advertiser-1")).json()
        assert [one["campaign"] for one in odd["campaigns"]] == ["c-1", "c-3"]

    run(test)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "running"),
        ({"flight_start": 3_999_999_999_999}, "scheduled"),
        ({"flight_start": 1, "flight_end": 2}, "ended"),
    ],
)
def test_a_campaign_says_where_it_is_in_its_flight(run, changes, status):
    async def test(http):
        assert (await http.post("/v1/campaigns", json=a_document(**changes))).json()["status"] == status

    run(test)


async def paid(campaigning, sold):
    """Ask for money until it is leased: a busy machine may not answer within the patience of one batch."""
    for _ in range(50):
        await campaigning.funds.ready([(sold, now_ms(), ())])
        funded = campaigning.funds.fund(sold, now_ms(), ())
        if funded.reasons == ():
            return funded
        campaigning.funds.settle([funded.grant], is_appended=False)
        await campaigning._budget.tick()
    raise AssertionError(f"no money is leased: {funded.reasons}")


def test_a_budget_shows_what_is_leased_and_by_how_much_it_may_be_passed(run):
    async def test(http):
        await http.post("/v1/campaigns", json=a_document(budget_micros=1_000_000))
        funds, funded = http.campaigning.funds, await paid(http.campaigning, a_token(price=300))
        budget = (await http.get("/v1/campaigns/c-1")).json()["budget"]
        assert budget["leased_micros"] >= 300
        assert (budget["spent_micros"], budget["overshoot_bound_micros"]) == (0, 0)
        funds.settle([funded.grant], is_appended=False)

    run(test)


def test_the_gate_that_was_told_knows_it_at_once_and_another_within_a_poll(run, postgres_url):
    async def test(http):
        await http.post("/v1/campaigns", json=a_document())
        async with a_gate(postgres_url) as other:
            for one in (http, other):
                await one.campaigning.funds.ready([(a_token(), now_ms(), ())])
            await change(http, 1, paused=True)
            assert registry_of(http).look("c-1").paused_at is not None
            assert registry_of(other).look("c-1").paused_at is None
            await registry_of(other).follow()
            assert registry_of(other).look("c-1").paused_at is not None

    run(test)


def registry_of(http):
    return http.campaigning._registry


def test_where_the_token_is_the_authority_campaigns_can_be_kept_all_the_same(run):
    async def test(http):
        assert http.campaigning.funds is None
        assert http.campaigning.is_ready
        assert (await http.post("/v1/campaigns", json=a_document())).status_code == 201

    run(test, authority=Authority.TOKEN)


def test_every_refusal_has_its_problem():
    assert REFUSED_AS.keys() == set(CampaignRefusal)
    assert set(REFUSED_AS.values()) <= PROBLEMS.keys()
