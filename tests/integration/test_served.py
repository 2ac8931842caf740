"""Served and rendered side by side, over embedded ClickHouse: completeness, what is in flight, and the monitors."""

import asyncio
import io
from datetime import date
from hashlib import sha256

import httpx
import pytest
from deskkit import Clock, an_engine
from gatekit import KitGate, Minter
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console
from serveskit import a_count, a_report, serves_over, told
from structlog.testing import capture_logs

from domain.sequences import SequenceCount, SequencesCounted
from domain.serves import MINUTE_MS, ServeTtl, parse_ttl
from domain.vocabulary import DataSet, OmidType, Surface
from ledger.store import Append, Appended
from ml.monitors.checks import CLIENT_CHECKS, Check
from projections.cells import CellQueries
from projections.checkpoints import MemoryCheckpoints
from projections.completeness import CompletenessQueries
from projections.engine import READING, WRITING, Clients
from projections.projector import Metrics, Ports, Projector
from projections.queries import Pacing, Queries
from projections.schema import migrate
from projections.tables import Tables
from projections.verify import verify
from service.access import Access
from service.desk_http import Desk, desk_app
from service.monitoring import Watch
from service.monitors_clients import ClientInspection
from service.monitors_http import monitor_routes
from service.monitors_screen import monitors_table
from service.served_http import served_routes
from service.served_screen import completeness_table

pytestmark = pytest.mark.slow

PRICE = 1_500
ACCESS = Access({sha256(b"reporter").hexdigest(): ["report"], sha256(b"gate").hexdigest(): ["ingest"]})
TTL = ServeTtl(600, {Surface.REELS: 1_200})


class World:
    """A gate in memory and a desk on ClickHouse. It is some seconds into a minute."""

    def __init__(self, engine, ttl=TTL):
        self.gate = KitGate()
        self.store = self.gate.store
        self.clients = Minter()
        self.minute = self.gate.now - self.gate.now % MINUTE_MS
        self.clock = Clock(self.gate.now)
        self.serves = serves_over(self.store, clock=self.clock)
        self.sequence = 0
        self.checkpoints = MemoryCheckpoints(self.clock)
        self.writers, self.readers = Clients(engine, WRITING, 1), Clients(engine, READING, 2)
        self.client = engine.connect(WRITING)
        migrate(self.client, 1)
        leased = self.leased
        self.queries = Queries(self.checkpoints, self.readers, self.clock, ttl=ttl, leased=leased)
        self.completeness = CompletenessQueries(self.checkpoints, self.readers, self.clock, ttl)
        self.registry = CollectorRegistry()
        cells = CellQueries(self.checkpoints, self.readers, self.clock, ttl)
        clients = ClientInspection(cells, self.clock, every_s=60, window_s=3_600)
        self.watch = Watch([clients], self.registry, self.clock)
        self.leases = {}

    async def leased(self, campaign):
        return self.leases.get(campaign, {})

    async def open(self):
        await self.gate.open(date(2026, 9, 20), date(2026, 9, 23))

    def ago(self, minutes):
        """When the minute began that began so many minutes before this one."""
        return self.minute - minutes * MINUTE_MS

    async def serve(self, served, minutes_ago=0, price=PRICE, **kind):
        count = a_count(**{"sdk": "ios/12.1", **kind}, served=served, micros=served * price)
        self.sequence += 1
        report = a_report(count, minute=self.ago(minutes_ago), sequence=self.sequence)
        [answer] = await told(self.serves, report)
        assert answer.status.value == "recorded"

    async def render(self, times, minutes_ago=0, *, token=None, **render):
        """So many impressions render that were minted in that minute."""
        for _ in range(times):
            at = min(self.ago(minutes_ago) + 1_000, self.gate.now)
            minted = self.clients.token(at=at, **{"placement": f"p-{self.clients.uuid()}", **(token or {})})
            await self.gate.send(self.clients.render(minted, **{"on_screen_at": at, "client_at": at, **render}))

    async def project(self):
        ports = Ports(store=self.store, checkpoints=self.checkpoints, sink=Tables(self.writers), now=self.clock)
        projector = Projector(ports, "one", Metrics(CollectorRegistry()))
        while await projector.step():
            continue
        verification = await verify(self.store, self.client, 1, await self.store.head())
        assert verification.good, verification

    async def pace(self, campaign="campaign-1", **changes):
        asked = {"since": self.ago(120), "until": self.minute + MINUTE_MS, "campaign": campaign, **changes}
        return await self.queries.pacing(Pacing(**asked))

    def app(self):
        async def unready():
            return None

        return desk_app(
            Desk(
                queries=self.queries,
                store=self.store,
                access=ACCESS,
                unready=unready,
                registry=self.registry,
                now=self.clock,
                extras=(*served_routes(self.completeness, self.clock), *monitor_routes(self.watch)),
            )
        )

    async def get(self, path, parameters=None, token="reporter"):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app()), base_url="http://desk") as http:
            return await http.get(path, params=parameters, headers={"authorization": f"Bearer {token}"})

    async def rows(self, **parameters):
        answer = await self.get("/v1/completeness", parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["rows"]

    def close(self):
        self.writers.close()
        self.readers.close()
        self.client.close()


@pytest.fixture
def run():
    def run(test, **changes):
        async def main():
            await world.open()
            await test(world)

        with an_engine() as engine:
            world = World(engine, **changes)
            try:
                asyncio.run(main())
            finally:
                world.close()

    return run


def test_what_is_served_is_in_flight_until_it_renders(run):
    async def test(world):
        await world.serve(10)
        await world.project()
        [euros] = (await world.pace()).currencies
        assert (euros.in_flight_ads, euros.in_flight_micros, euros.spent_micros) == (10, 10 * PRICE, 0)
        await world.render(4)
        await world.project()
        [euros] = (await world.pace()).currencies
        assert (euros.in_flight_ads, euros.in_flight_micros, euros.spent_micros) == (6, 6 * PRICE, 4 * PRICE)
        assert euros.reserved_micros == 6 * PRICE

    run(test)


@pytest.mark.parametrize(("surface", "minutes"), [("feed", 10), ("reels", 20)])
def test_it_leaves_after_its_surfaces_time_at_the_end_of_the_minute(run, surface, minutes):
    async def test(world):
        await world.serve(10, surface=surface)
        world.clock.at = world.minute + MINUTE_MS + minutes * MINUTE_MS - 1
        await world.project()
        [euros] = (await world.pace(until=world.clock.at)).currencies
        assert euros.in_flight_ads == 10
        world.clock.pass_by(1)
        assert (await world.pace(until=world.clock.at)).currencies == []

    run(test)


def test_minutes_stand_by_themselves(run):
    """More renders than serves in one minute, because its report is missing, are not taken off another's."""

    async def test(world):
        await world.serve(10, 3)
        await world.serve(2, 2)
        await world.render(1, 3)
        await world.render(5, 2)
        await world.project()
        answer = await world.pace()
        [euros] = answer.currencies
        assert (euros.in_flight_ads, euros.in_flight_micros) == (9, 9 * PRICE)
        assert [(minute.at, minute.served, minute.rendered, minute.in_flight_ads) for minute in answer.in_flight] == [
            (world.ago(3), 10, 1, 9),
            (world.ago(2), 2, 5, 0),
        ]

    run(test)


def test_prices_leave_with_the_very_ads_that_had_them(run):
    async def test(world):
        await world.serve(2, price=1_000)
        await world.serve(1, price=9_000)
        await world.render(1, token={"price_micros": 9_000})
        await world.render(1, token={"price_micros": 1_000}, agent="bot")
        await world.project()
        [euros] = (await world.pace()).currencies
        assert (euros.in_flight_ads, euros.in_flight_micros, euros.spent_micros) == (1, 1_000, 9_000)

    run(test)


def test_reserved_is_in_flight_and_uncertain_and_awaiting_a_view(run):
    async def test(world):
        world.leases["campaign-1"] = {"EUR": 700, "USD": 5}
        await world.serve(10)
        await world.render(2, on_screen_at=None)
        await world.render(3, token={"billing_event": "viewable"})
        await world.render(1)
        await world.project()
        euros, dollars = (await world.pace()).currencies
        assert (euros.in_flight_micros, euros.uncertain_micros, euros.awaiting_view_micros) == (
            4 * PRICE,
            2 * PRICE,
            3 * PRICE,
        )
        assert euros.reserved_micros == 9 * PRICE
        assert (euros.spend_low_micros, euros.spend_high_micros) == (PRICE, 10 * PRICE)
        assert (euros.leased_micros, euros.overshoot_bound_micros) == (700, 6 * PRICE + 700)
        assert (dollars.currency, dollars.overshoot_bound_micros, dollars.spend_high_micros) == ("USD", 5, 0)

    run(test)


def test_an_ad_that_is_prefetched_stays_in_flight_until_it_is_shown(run):
    async def test(world):
        token = world.clients.token(at=world.minute + 1_000)
        await world.serve(1)
        await world.gate.send(world.clients.render(token, prefetched=True, on_screen_at=None))
        await world.project()
        [euros] = (await world.pace()).currencies
        assert (euros.in_flight_ads, euros.gross) == (1, 0)
        await world.gate.send(world.clients.render(token))
        await world.project()
        [euros] = (await world.pace()).currencies
        assert (euros.in_flight_ads, euros.gross) == (0, 1)

    run(test)


def test_other_campaigns_and_replayed_data_have_nothing_in_flight_here(run):
    async def test(world):
        await world.serve(10, campaign="campaign-2")
        await world.render(1)
        await world.project()
        [euros] = (await world.pace()).currencies
        assert euros.in_flight_ads == 0
        [euros] = (await world.pace("campaign-2")).currencies
        assert (euros.in_flight_ads, euros.gross) == (10, 0)
        assert (await world.pace("campaign-2", data_set=DataSet.REPLAY)).in_flight == []

    run(test)


def test_served_is_rendered_or_not_counted_or_in_flight_or_lost(run):
    async def test(world):
        await world.serve(100, 30)
        await world.render(90, 30)
        await world.render(4, 30, prefetched=True, on_screen_at=None)
        await world.serve(50)
        await world.render(20)
        await world.render(3, prefetched=True, on_screen_at=None)
        await world.project()
        [row] = await world.rows()
        assert (row["served"], row["rendered"], row["not_counted"]) == (150, 110, 4)
        assert (row["in_flight"], row["lost"], row["unreported"]) == (30, 6, 0)
        assert row["loss_rate"] == 0.06
        assert 0.02 < row["loss_low"] < 0.06 < row["loss_high"] < 0.13

    run(test)


def test_what_rendered_without_being_reported_stands_apart(run):
    async def test(world):
        await world.render(5, 30)
        await world.render(2)
        await world.serve(3, 30)
        await world.project()
        [row] = await world.rows()
        assert (row["served"], row["rendered"], row["lost"], row["in_flight"]) == (3, 7, 0, 0)
        assert row["unreported"] == 4
        assert row["served"] + row["unreported"] == row["rendered"]

    run(test)


def test_the_books_balance_in_every_cut(run):
    async def test(world):
        for minutes in (1, 5, 12, 30, 90):
            for sdk in ("ios/12.1", "ios/12.2"):
                for surface in ("feed", "reels"):
                    await world.serve(4 + minutes % 5, minutes, sdk=sdk, surface=surface)
                    await world.render(3, minutes, sdk=sdk, token={"surface": Surface(surface)})
        await world.project()
        for cut in ({}, {"dimensions": "sdk,surface"}, {"granularity": "minute"}, {"dimensions": "campaign"}):
            rows = await world.rows(**cut)
            assert rows
            for row in rows:
                left = row["rendered"] + row["not_counted"] + row["in_flight"] + row["lost"]
                assert row["served"] + row["unreported"] == left
        assert len(await world.rows(dimensions="sdk,surface")) == 4
        assert len(await world.rows(granularity="minute", sdk="ios/12.2", surface="reels")) == 5
        assert len(await world.rows(granularity="hour")) >= 2

    run(test)


def test_a_report_that_is_missing_is_told(run):
    async def test(world):
        for sequence in (1, 2, 5):
            world.sequence = sequence - 1
            await world.serve(1)
        await world.project()
        answer = (await world.get("/v1/completeness")).json()
        assert (answer["reports"], answer["sources"], answer["reports_missing"]) == (3, 1, 3)
        text = io.StringIO()
        Console(file=text, width=200).print(completeness_table(answer))
        assert "3 reports are missing" in text.getvalue()

    run(test)


def test_double_fires_and_repeats_are_shown_by_sdk(run):
    async def test(world):
        shown = world.clients.token(at=world.minute + 1_000, placement="slot")
        again = world.clients.token(at=world.minute + 1_000, placement="slot")
        for token in (shown, again, shown):
            await world.gate.send(world.clients.render(token, sdk="twice/1"))
        await world.project()
        [row] = await world.rows(dimensions="sdk")
        assert (row["sdk"], row["double_fires"], row["duplicate_renders"]) == ("twice/1", 1, 1)

    run(test)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"surface": "billboard"}, "surface"),
        ({"since": "2026-09-21T00:00:00Z", "until": "2026-09-20T00:00:00Z"}, "until"),
        ({"limit": "0"}, "limit"),
        ({"sdk": "x" * 129}, "sdk"),
        ({"dimensions": "sdk,sdk"}, "dimensions"),
    ],
)
def test_a_question_that_cannot_be_asked_names_what_is_wrong(run, asked, field):
    async def test(world):
        answer = await world.get("/v1/completeness", asked)
        assert (answer.status_code, answer.json()["field"]) == (400, field)

    run(test)


def test_a_parameter_that_is_none_is_refused(run):
    async def test(world):
        for path in ("/v1/completeness", "/v1/monitors"):
            assert (await world.get(path, {"planet": "1"})).status_code == 400
            assert (await world.get(path, token="gate")).status_code == 403

    run(test)


async def traffic(world, faults=None, *, minutes=(30, 31, 32), served=400):
    """Three versions on a feed, counted straight into the ledger; *faults* are shares that differ for version 12.2."""
    usual = {"lost": 0.01, "double_fires": 0.0, "missing": 0.01}
    for sdk in ("ios/12.1", "ios/12.2", "ios/12.3"):
        shares = {**usual, **(faults or {})} if sdk == "ios/12.2" else usual
        for minute in minutes:
            await world.serve(served, minute, sdk=sdk)
            rows(world, sdk, minute, served, shares)
    missing = (faults or usual).get("missing", 0.01)
    await count_numbers(
        world,
        [
            (sdk, minute, share)
            for minute in minutes
            for sdk, share in (("ios/12.1", 0.01), ("ios/12.2", missing), ("ios/12.3", 0.01))
        ],
    )


async def count_numbers(world, cells):
    counts = tuple(
        SequenceCount(world.ago(minute), Surface.FEED, sdk, 400, int(400 * share), 0, 0, 0)
        for sdk, minute, share in cells
    )
    event = SequencesCounted(cause=world.clients.uuid(), digest="", counted_at=world.clock(), counts=counts)
    world.sequence += 1
    stream = f"sequences-test-{world.sequence}"
    append = Append(stream=stream, expected=0, cause=event.cause, digest="", events=(event,))
    assert await world.store.append([append], world.clock()) == [Appended()]


def rows(world, sdk, minute, served, shares):
    """Rendered impressions by the hundred would take minutes; the table is what the view would have made of them."""
    heard = served - int(served * shares["lost"])
    world.client.command(
        "INSERT INTO served_minute_1 (minute, data_set, campaign, currency, surface, format, sdk, heard, rendered, "
        f"double_fires, duplicate_renders) VALUES ({world.ago(minute) // 1_000}, 'live', 'campaign-1', 'EUR', 'feed', "
        f"'display', '{sdk}', {heard}, {heard}, {int(heard * shares['double_fires'])}, 4)"
    )


async def looks(world, times):
    ports = Ports(store=world.store, checkpoints=world.checkpoints, sink=Tables(world.writers), now=world.clock)
    projector = Projector(ports, "one", Metrics(CollectorRegistry()))
    while await projector.step():
        continue
    for _ in range(times):
        await world.watch.look()
    return (await world.get("/v1/monitors")).json()


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ({"lost": 0.12}, Check.LOST),
        ({"double_fires": 0.08}, Check.DOUBLE_FIRES),
        ({"missing": 0.1}, Check.MISSING_NUMBERS),
    ],
)
def test_a_version_at_fault_raises_an_alarm_that_everybody_sees(run, fault, check):
    async def test(world):
        assert (await world.get("/v1/monitors")).json() == {"alarms": [], "looks": [], "findings": []}
        await traffic(world, fault)
        with capture_logs() as logs:
            answer = await looks(world, 2)
        assert [(alarm["check"], alarm["surface"], alarm["subject"]) for alarm in answer["alarms"]] == [
            (check.value, "feed", "ios/12.2")
        ]
        assert [(line["event"], line["check"], line["subject"]) for line in logs if "alarm" in line["event"]] == [
            ("alarm started", check.value, "ios/12.2")
        ]
        told_ = generate_latest(world.registry).decode()
        assert f'impledger_monitor_alarm{{check="{check.value}",subject="ios/12.2",surface="feed"}} 1.0' in told_
        text = io.StringIO()
        Console(file=text, width=200).print(monitors_table(answer))
        assert "1 alarm;" in text.getvalue()

    run(test)


def test_an_alarm_ends_when_its_reason_is_out_of_sight(run):
    async def test(world):
        await traffic(world, {"lost": 0.12})
        await looks(world, 2)
        assert len(world.watch.alarms) == 1
        world.clock.pass_by(3 * 3_600_000)
        with capture_logs() as logs:
            answer = await looks(world, 3)
        assert answer["alarms"] == []
        assert [line["event"] for line in logs if "alarm" in line["event"]] == ["alarm ended"]
        assert "impledger_monitor_alarm{" not in generate_latest(world.registry).decode()

    run(test)


def test_what_gates_count_by_themselves_does_not_disturb_a_comparison(run):
    async def test(world):
        await world.serve(3)
        await world.project()
        through = await world.store.head()
        await count_numbers(world, [("ios/12.1", 30, 0.1)])
        await looks(world, 1)
        assert (await world.store.head()) > through
        assert (await verify(world.store, world.client, 1, through)).good

    run(test)


def test_without_a_fault_there_is_no_alarm(run):
    async def test(world):
        await traffic(world)
        answer = await looks(world, 3)
        assert answer["alarms"] == []
        assert {finding["check"] for finding in answer["findings"]} == set(CLIENT_CHECKS)
        assert all(finding["p_value"] is not None for finding in answer["findings"])

    run(test)


def test_losses_are_not_compared_where_delivery_does_not_know_the_sdk(run):
    async def test(world):
        for minute in (30, 31, 32):
            await world.serve(1_200, minute, sdk="")
            for sdk in ("ios/12.1", "ios/12.2"):
                rows(world, sdk, minute, 600, {"lost": 0.0, "double_fires": 0.0})
        answer = await looks(world, 2)
        assert answer["alarms"] == []
        untested = [finding for finding in answer["findings"] if finding["check"] == "lost"]
        assert [finding["subject"] for finding in untested] == [""]
        assert untested[0]["untested"].startswith("delivery and clients do not name")

    run(test)


def test_what_may_still_render_is_not_lost(run):
    async def test(world):
        await traffic(world, {"lost": 0.5}, minutes=(1, 2, 3))
        answer = await looks(world, 2)
        assert not [finding for finding in answer["findings"] if finding["check"] == "lost"]

    run(test)


def test_the_time_of_each_surface_is_read_from_its_setting():
    ttl = parse_ttl("600 reels=900 audience_network=1800")
    assert [ttl.of_s(surface) for surface in (Surface.FEED, Surface.REELS, Surface.AUDIENCE_NETWORK)] == [
        600,
        900,
        1_800,
    ]
    assert ttl.longest_s == 1_800
    for wrong in ("", "x", "0", "600 reels", "600 mars=1", "600 reels=86401"):
        with pytest.raises(ValueError):
            parse_ttl(wrong)


def test_omid_types_that_begin_leave_the_flight(run):
    async def test(world):
        token = {"surface": Surface.AUDIENCE_NETWORK}
        await world.serve(2, surface="audience_network")
        await world.render(1, token=token, on_screen_at=None, omid_type=OmidType.LOADED.value)
        await world.render(1, token=token, on_screen_at=None, omid_type=OmidType.BEGIN_TO_RENDER.value)
        await world.project()
        [euros] = (await world.pace()).currencies
        assert (euros.in_flight_ads, euros.gross) == (1, 1)

    run(test)
