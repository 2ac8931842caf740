"""The monitors of clients, over embedded ClickHouse: served, heard and numbered side by side."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from screenkit import printed
from servedkit import in_a_world
from structlog.testing import capture_logs

from domain.sequences import SequenceCount, SequencesCounted
from domain.vocabulary import Surface
from ledger.store import Append, Appended
from ml.monitors.checks import CLIENT_CHECKS, Check
from projections.projector import Metrics, Ports, Projector
from projections.tables import Tables
from projections.verify import verify
from service.monitors_screen import monitors_table

pytestmark = pytest.mark.slow


@pytest.fixture
def run():
    return in_a_world


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
    ports = Ports(
        store=world.store, checkpoints=world.checkpoints, sink=Tables(world.writers, world.clock), now=world.clock
    )
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
        assert "1 alarm;" in printed(monitors_table(answer))

    run(test)


def test_many_names_on_one_surface_hide_neither_other_surfaces_nor_the_large_versions_there(run):
    async def test(world):
        await traffic(world, {"lost": 0.12})
        for surface in ("audience_network", "feed"):
            world.client.command(
                "INSERT INTO served_minute_1 (minute, data_set, surface, sdk, served, heard) "
                f"SELECT {world.ago(30) // 1_000}, 'live', '{surface}', toString(number), 1, 1 FROM numbers(100000)"
            )
        answer = await looks(world, 2)
        assert [(alarm["check"], alarm["subject"]) for alarm in answer["alarms"]] == [("lost", "ios/12.2")]
        [look] = answer["looks"]
        assert look["says"].endswith("without the 160009 smallest SDK versions")

    run(test)


def test_names_that_were_left_out_still_tell_that_two_sides_do_not_match(run):
    async def test(world):
        await traffic(world, {"lost": 0.12})
        world.client.command(
            "INSERT INTO served_minute_1 (minute, data_set, surface, sdk, heard) "
            f"SELECT {world.ago(30) // 1_000}, 'live', 'feed', toString(number), 1 FROM numbers(100000)"
        )
        answer = await looks(world, 2)
        assert {one["untested"] is None for one in answer["findings"] if one["check"] == "lost"} == {False}

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
