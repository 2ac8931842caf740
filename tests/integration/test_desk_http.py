"""The read API in process: reports, pacing, one impression's story, and what each wrong question is told."""

import asyncio
import csv
import io
from hashlib import sha256
from threading import Event

import httpx
import pytest
from builders import DAY, HOUR, MINTED, a_correction, admit, cause
from deskkit import Clock, a_full_store, an_engine, an_id, commits_of
from prometheus_client import CollectorRegistry

from domain.decide import CountRepeats
from domain.ids import day_of
from domain.reasons import Reason
from domain.vocabulary import Authority, DataSet
from ledger.codec import decode
from ledger.memory import MemoryStore
from ledger.store import READ_MAX, Append, Appended
from projections.checkpoints import HEAD_MS, MemoryCheckpoints
from projections.engine import READING, WRITING, Clients
from projections.fold import fold_ledger
from projections.projector import Metrics, Pace, Ports, Projector
from projections.queries import Queries
from projections.schema import migrate
from projections.tables import Tables
from projections.vocabulary import RATES, REFUSED_METRICS, Dimension, Metric
from service.access import Access
from service.desk_http import Desk, desk_app

slow = pytest.mark.slow

DERIVED = {Metric.MEASURED, Metric.UNDETERMINED}
"""Metrics that follow from others of the same row."""
SCOPES = {"reporter": ["report"], "auditor": ["audit"], "gate": ["ingest"]}
ACCESS = Access({sha256(name.encode()).hexdigest(): scopes for name, scopes in SCOPES.items()})
SPAN = {"since": str(MINTED - MINTED % HOUR), "until": str(MINTED - MINTED % HOUR + 3 * DAY)}


class World:
    """A desk over a full ledger, projected in blocks a minute apart."""

    def __init__(self, engine):
        self.engine = engine
        self.clock = Clock(MINTED + 5 * DAY)
        self.store = a_full_store(200)
        self.checkpoints = MemoryCheckpoints(self.clock)
        self.writers, self.readers = Clients(engine, WRITING, 1), Clients(engine, READING, 2)
        client = engine.connect(WRITING)
        migrate(client, 1)
        client.close()
        self.heads = []

    async def project(self):
        ports = Ports(
            store=self.store, checkpoints=self.checkpoints, sink=Tables(self.writers, self.clock), now=self.clock
        )
        projector = Projector(ports, "one", Metrics(CollectorRegistry()), pace=Pace(block_max=60))
        while await projector.step():
            self.clock.pass_by(60_000)
            self.heads.append((self.clock(), (await self.checkpoints.known()).position))

    def app(self, **changes):
        async def unready():
            return None

        queries = Queries(self.checkpoints, self.readers, self.clock)
        parts = {
            "queries": queries,
            "paces": queries,
            "store": self.store,
            "access": ACCESS,
            "unready": unready,
            "registry": CollectorRegistry(),
            "now": self.clock,
        }
        return desk_app(Desk(**{**parts, **changes}))


@pytest.fixture(scope="module")
def world():
    with an_engine() as engine:
        world = World(engine)
        asyncio.run(world.project())
        yield world
        world.writers.close()
        world.readers.close()


def get(app, path, parameters=None, token="reporter", **headers):
    async def main():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://desk") as http:
            sent = {"authorization": f"Bearer {token}", **headers} if token else headers
            return await http.get(path, params=parameters, headers=sent)

    return asyncio.run(main())


def report(world, **parameters):
    answer = get(world.app(), "/v1/reports", {**SPAN, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ledger_totals(world, through=10**9):
    folded = asyncio.run(fold_ledger(world.store, through))
    return {key: total for key, total in folded.totals.items() if key[0] == "live"}


@slow
def test_a_report_has_the_totals_of_the_ledger(world):
    expected = ledger_totals(world)
    metrics = ",".join(metric for metric in Metric if metric not in RATES | REFUSED_METRICS | DERIVED)
    answer = report(world, granularity="hour", dimensions="campaign", metrics=metrics)
    names = [name for name in answer["columns"] if name not in {"time", "campaign", "format", "currency"}]
    assert {"gross", "givt.RATE_ABUSIVE", "expired", "viewable.mrc", "billable_micros"} <= set(names)
    found = {(row["campaign"], row["time"]): [row[name] for name in names] for row in answer["rows"]}
    assert len(found) == len(expected)
    assert sorted(found.values()) == sorted([total[name] for name in names] for total in expected.values())


@slow
def test_gross_is_net_and_invalid_and_undecided_in_every_cut(world):
    for dimension in ("campaign", "creative", "surface", "sdk", "billing_event", "reason", "verdict"):
        rows = report(world, dimensions=dimension)["rows"]
        assert rows
        for row in rows:
            assert row["gross"] == row["net"] + row["givt"] + row["sivt"] + row["undecided"]
    assert any(row["reason"] == "STACKED" and row["sivt"] for row in report(world, dimensions="reason")["rows"])


@slow
def test_every_metric_and_dimension_can_be_asked_for_from_both_tables(world):
    metrics = ",".join(metric for metric in Metric if metric not in REFUSED_METRICS)
    for dimension in Dimension:
        asked = {"dimensions": dimension, "metrics": metrics, "data_set": ["live", "replay"]}
        hourly = report(world, **asked)
        facts = report(world, **asked, as_of_position=world.heads[-1][1])
        assert hourly["rows"] == facts["rows"]
        assert hourly["definitions"] == facts["definitions"]
        assert hourly["rows"]


@slow
def test_rates_are_shares_or_nothing(world):
    metrics = "net,gross,undecided,decision_rate,viewable,not_viewable,measured_rate,viewable_rate"
    rows = report(world, dimensions="verdict", metrics=metrics)["rows"]
    valid = next(row for row in rows if row["verdict"] == "valid")
    measured = valid["viewable.mrc"] + valid["not_viewable.mrc"]
    assert valid["decision_rate"] == 1
    assert valid["measured_rate.mrc"] == pytest.approx(measured / valid["net"])
    assert valid["viewable_rate.mrc"] == pytest.approx(valid["viewable.mrc"] / measured)
    duplicate = next(row for row in rows if row["verdict"] == "duplicate")
    assert (duplicate["decision_rate"], duplicate["measured_rate.mrc"], duplicate["viewable_rate.mrc"]) == (None,) * 3


@slow
def test_a_report_as_of_a_position_or_time_is_what_was_known_then(world):
    at, position = world.heads[2]
    expected = ledger_totals(world, position)
    for asked in ({"as_of_position": position}, {"as_of": at}, {"as_of": at - 60_000 + HEAD_MS}):
        answer = report(world, metrics="gross,billable_micros", **asked)
        assert answer["as_of_position"] == position
        assert answer["rows"] == [
            {
                "currency": "EUR",
                "gross": sum(total["gross"] for total in expected.values()),
                "billable_micros": sum(total["billable_micros"] for total in expected.values()),
            }
        ]


@slow
@pytest.mark.parametrize("asked", [{"as_of_position": "999999"}, {"as_of": str(MINTED + 50 * DAY)}])
def test_what_is_not_known_yet_cannot_be_asked_for(world, asked):
    answer = get(world.app(), "/v1/reports", {**SPAN, **asked})
    assert (answer.status_code, [answer.json()["field"]]) == (400, list(asked))


@slow
def test_every_answer_says_how_fresh_it_is(world):
    world.clock.pass_by(0)
    for answer in (report(world), get(world.app(), "/v1/campaigns/campaign-1/pacing").json()):
        assert answer["known_through"]["position"] == world.heads[-1][1]
        assert answer["known_through"]["time"].endswith("Z")
        assert answer["lag_s"] >= 0


@slow
def test_minutes_and_days_add_up_to_the_same(world):
    totals = {
        granularity: sum(row["gross"] for row in report(world, granularity=granularity)["rows"])
        for granularity in ("none", "minute", "hour", "day")
    }
    assert len(set(totals.values())) == 1
    assert len(report(world, granularity="minute")["rows"]) > len(report(world, granularity="hour")["rows"])


@slow
def test_a_filter_takes_texts_as_they_are(world):
    everything = report(world)["rows"][0]["gross"]
    of_two = report(world, campaign=["campaign-1", "campaign-2"], dimensions="campaign")["rows"]
    assert {row["campaign"] for row in of_two} == {"campaign-1", "campaign-2"}
    assert report(world, campaign="x' OR 1=1 --")["rows"][0]["gross"] == 0
    assert sum(report(world, auto_refresh=flag)["rows"][0]["gross"] for flag in ("true", "false")) == everything


@slow
def test_replayed_data_stands_apart(world):
    rows = report(world, dimensions="data_set", metrics="gross")["rows"]
    gross = {row["data_set"]: row["gross"] for row in rows}
    assert set(gross) == {"live", "replay"}
    assert report(world)["rows"][0]["gross"] == gross["live"]
    assert report(world, data_set="replay")["rows"][0]["gross"] == gross["replay"]


@slow
def test_a_report_that_is_cut_says_so(world):
    answer = report(world, dimensions="creative", limit=2)
    assert (len(answer["rows"]), answer["truncated"]) == (2, True)
    assert report(world, dimensions="creative")["truncated"] is False


@slow
@pytest.mark.parametrize("how", [{"format": "csv"}, {}])
def test_a_report_is_a_table_of_comma_separated_values_if_asked(world, how):
    headers = {} if how else {"accept": "text/csv"}
    asked = {**SPAN, "granularity": "day", "dimensions": "campaign,auto_refresh", "metrics": "gross,decision_rate"}
    answer = get(world.app(), "/v1/reports", {**asked, **how}, **headers)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["x-known-through-position"] == str(world.heads[-1][1])
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    expected = report(world, granularity="day", dimensions="campaign,auto_refresh", metrics="gross,decision_rate")
    assert [(row["time"], row["campaign"], int(row["gross"])) for row in rows] == [
        (row["time"], row["campaign"], row["gross"]) for row in expected["rows"]
    ]
    assert {row["auto_refresh"] for row in rows} == {"false"}


@slow
def test_pacing_is_what_the_campaign_spent_and_what_it_may_still_spend(world):
    answer = get(world.app(), "/v1/campaigns/campaign-1/pacing", {**SPAN, "minutes": 0}).json()
    expected = [total for key, total in ledger_totals(world).items() if key[1] == "campaign-1"]
    [euros] = answer["currencies"]
    spent, reserved, uncertain = (
        sum(total[f"{name}_micros"] for total in expected) for name in ("billable", "reserved", "uncertain")
    )
    assert euros == {
        "currency": "EUR",
        "gross": sum(total["gross"] for total in expected),
        "net": sum(total["net"] for total in expected),
        "undecided": sum(total["undecided"] for total in expected),
        "spent_micros": spent,
        "reserved_micros": reserved,
        "in_flight_ads": 0,
        "in_flight_micros": 0,
        "uncertain_micros": uncertain,
        "awaiting_view_micros": reserved - uncertain,
        "spend_low_micros": spent,
        "spend_high_micros": spent + reserved,
        "leased_micros": 0,
        "overshoot_bound_micros": uncertain,
    }
    assert 0 < euros["uncertain_micros"] < euros["reserved_micros"]
    assert answer["minutes"] == []


@slow
def test_pacing_by_minute_adds_up(world):
    asked = {"since": SPAN["since"], "until": str(int(SPAN["since"]) + 10 * HOUR), "minutes": 600}
    answer = get(world.app(), "/v1/campaigns/campaign-1/pacing", asked).json()
    assert sum(minute["spent_micros"] for minute in answer["minutes"]) == answer["currencies"][0]["spent_micros"]
    assert answer["minutes"] == sorted(answer["minutes"], key=lambda minute: minute["at"])


@slow
def test_pacing_does_not_wait_behind_reports(world):
    done, reporters = Event(), Clients(world.engine, READING, 1)
    app = world.app(queries=Queries(world.checkpoints, reporters, world.clock))

    async def main():
        busy = asyncio.create_task(reporters.run(lambda _: done.wait()))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://desk") as http:
            sent = {"authorization": "Bearer reporter"}
            report = asyncio.create_task(http.get("/v1/reports", headers=sent))
            assert (await http.get("/v1/campaigns/campaign-1/pacing", headers=sent)).status_code == 200
            assert not report.done()
            done.set()
            assert (await report).status_code == 200
        await busy

    asyncio.run(main())
    reporters.close()


@slow
def test_a_campaign_without_impressions_spent_nothing(world):
    assert get(world.app(), "/v1/campaigns/nobody/pacing").json()["currencies"] == []


@slow
def test_an_impression_tells_its_whole_story_from_the_ledger(world):
    stream = max(
        (stream for stream in world.store._streams if not isinstance(stream, str)),
        key=lambda stream: len(world.store._streams[stream]),
    )
    answer = get(world.app(), f"/v1/impressions/{stream}", token="auditor")
    story = answer.json()
    assert answer.status_code == 200
    assert [entry["version"] for entry in story["timeline"]] == list(range(len(story["timeline"])))
    assert story["timeline"][0]["type"] == "ImpressionRendered"
    assert not story["truncated"]
    assert not story["incomplete"]
    assert all(entry["says"].endswith(".") for entry in story["timeline"])
    assert story["standing"]["verdict"] in {"valid", "dropped", "duplicate", "uncertain"}


def a_store_of(commits):
    async def main():
        store = MemoryStore()
        await store.prepare_days(day_of(MINTED), day_of(MINTED), DataSet.LIVE)
        for one in commits:
            at = {"stream": one.stream, "expected": one.version, "cause": one.cause, "digest": one.digest}
            append = Append(**at, events=decode(one.data))
            assert await store.append([append], MINTED) == [Appended()]
        return store

    return asyncio.run(main())


@slow
@pytest.mark.parametrize("commits", [1_006, READ_MAX])
def test_a_long_story_tells_its_beginning_its_end_and_where_it_stands(world, commits):
    stream = an_id(1)
    repeats = [CountRepeats(cause(), Reason.DUPLICATE_RENDER, 1, MINTED) for _ in range(commits - 2)]
    store = a_store_of(commits_of([admit(), *repeats, a_correction(Reason.RISK_HIGH, Authority.REVIEW)]))
    story = get(world.app(store=store), f"/v1/impressions/{stream}", token="auditor").json()
    versions = [entry["version"] for entry in story["timeline"]]
    assert (story["standing"]["verdict"], story["repeats"]) == ("dropped", commits - 2)
    assert (len(versions), versions[:500]) == (1_000, list(range(500)))
    assert story["timeline"][-1]["type"] == "ImpressionReconciled"
    assert story["truncated"]
    assert story["incomplete"] == (commits == READ_MAX)


@slow
def test_a_story_names_no_pseudonym(world):
    for stream in list(world.store._streams)[:20]:
        story = get(world.app(), f"/v1/impressions/{stream}", token="auditor").json()
        for entry in story.get("timeline", []):
            assert not {"user", "device", "network", "session"} & entry["event"].keys()


@slow
@pytest.mark.parametrize("name", ["nonsense", "0198c0de-0000-7000-8000-00000000beef"])
def test_an_impression_that_is_not_there_is_not_found(world, name):
    answer = get(world.app(), f"/v1/impressions/{name}", token="auditor")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


@slow
def test_a_wrong_parameter_is_named(world):
    answer = get(world.app(), "/v1/reports", {"dimensions": "planet"}, **{"x-request-id": "r-1"})
    assert answer.status_code == 400
    assert "planet" not in answer.json()["detail"]
    assert answer.json()["detail"].startswith("dimensions")
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "r-1"
    answer = get(world.app(), "/v1/reports", {**SPAN, "until": SPAN["since"]})
    assert (answer.status_code, answer.json()["field"]) == (400, "until")


@slow
@pytest.mark.parametrize("path", ["/v1/campaigns/a%00b/pacing", "/v1/reports?campaign=a%00b"])
def test_a_name_with_a_null_character_is_a_wrong_parameter(world, path):
    answer = get(world.app(), path)
    assert (answer.status_code, answer.json()["title"]) == (400, "A parameter cannot be used")


@slow
def test_it_tells_that_it_lives_and_whether_it_can_answer(world):
    async def not_yet():
        return "ClickHouse does not answer"

    assert get(world.app(), "/healthz", token="").text == "ok\n"
    assert get(world.app(), "/readyz", token="").status_code == 200
    waiting = get(world.app(unready=not_yet), "/readyz", token="")
    assert (waiting.status_code, waiting.text) == (503, "ClickHouse does not answer\n")
    assert get(world.app(), "/metrics", token="").status_code == 200
    assert get(world.app(), "/v1/nothing", token="").status_code == 404
