"""Served and rendered side by side, over embedded ClickHouse: completeness, and what is in flight."""

import pytest
from screenkit import printed
from servedkit import PRICE, in_a_world

from domain.serves import MINUTE_MS, parse_ttl
from domain.vocabulary import DataSet, OmidType, Surface
from projections.completeness import CompletenessQueries
from projections.engine import Clients
from projections.queries import Queries
from service.served_screen import completeness_table

pytestmark = pytest.mark.slow


@pytest.fixture
def run():
    return in_a_world


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


def test_a_budget_is_leased_for_live_data_alone(run):
    async def test(world):
        world.leases["campaign-1"] = {"EUR": 700}
        await world.render(1)
        await world.project()
        assert [euros.leased_micros for euros in (await world.pace()).currencies] == [700]
        assert (await world.pace(data_set=DataSet.REPLAY)).currencies == []

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
        assert "3 reports are missing" in printed(completeness_table(answer))
        assert "there are more" not in printed(completeness_table(answer))
        assert "1 rows, and there are more" in printed(completeness_table({**answer, "truncated": True}))

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


@pytest.mark.parametrize("path", ["/v1/completeness", "/v1/campaigns/campaign-1/pacing"])
def test_a_question_that_takes_too_much_is_refused_as_such(run, path):
    async def test(world):
        await world.serve(3)
        await world.project()
        readers = Clients(world.engine, {"max_memory_usage": 1}, 1)
        world.completeness = CompletenessQueries(world.checkpoints, readers, world.clock)
        world.queries = Queries(world.checkpoints, readers, world.clock)
        answer = await world.get(path)
        assert (answer.status_code, answer.json()["title"]) == (422, "The answer takes more than one question may")
        readers.close()

    run(test)
