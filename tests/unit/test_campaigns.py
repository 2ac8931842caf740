"""Commands about campaigns over the event store: once, in order, whatever is retried or raced."""

import asyncio

import pytest
from budgetkit import World, a_change, an_opening
from gatekit import NOW
from msgspec.structs import replace

from commands.campaigns import ROUNDS_MAX, id_of, stream_of
from domain.campaign import CampaignRefusal, CampaignRefused
from domain.ids import digest_of
from ledger.codec import decode
from ledger.store import Conflict, LedgerUnavailable


def run(test):
    asyncio.run(test(World()))


async def refusal(call):
    with pytest.raises(CampaignRefused) as caught:
        await call
    return caught.value.refusal


def test_a_campaign_has_a_stream_of_its_own():
    async def test(world):
        recorded = await world.campaigns.handle("c-1", an_opening(by="0a1b"))
        assert recorded.is_new
        [commit] = (await world.ledger.read_streams(["campaign-c-1"], 10))["campaign-c-1"]
        [event] = decode(commit.data)
        assert (event.by, event.decided_at) == ("0a1b", NOW)
        assert await world.campaigns.read("c-1") == recorded.campaign
        assert await world.campaigns.read("c-2") is None

    run(test)


def test_a_command_that_comes_again_is_answered_as_it_was_then():
    async def test(world):
        opening = an_opening()
        first = await world.campaigns.handle("c-1", opening)
        await world.campaigns.handle("c-1", a_change(paused=True))
        again = await world.campaigns.handle("c-1", replace(opening, decided_at=NOW + 5))
        assert (again.campaign, again.is_new) == (first.campaign, False)

    run(test)


def test_the_id_of_a_request_is_kept_for_its_campaign_alone():
    async def test(world):
        opening = an_opening()
        await world.campaigns.handle("c-1", opening)
        assert (await world.campaigns.handle("c-2", opening)).is_new
        again = world.campaigns.handle("c-1", replace(opening, digest="another"))
        assert await refusal(again) is CampaignRefusal.REQUEST_REUSED

    run(test)


def test_a_lost_answer_is_found_again_by_the_retry():
    async def test(world):
        append = world.ledger.append

        async def lost(appends, recorded_at):
            await append(appends, recorded_at)
            raise LedgerUnavailable("after")

        opening = an_opening()
        world.ledger.append = lost
        with pytest.raises(LedgerUnavailable):
            await world.campaigns.handle("c-1", opening)
        world.ledger.append = append
        recorded = await world.campaigns.handle("c-1", opening)
        assert (recorded.campaign.version, recorded.is_new) == (1, False)

    run(test)


def test_of_two_changes_at_once_one_wins_and_the_other_is_told():
    async def test(world):
        await world.open("c-1")
        read = world.campaigns._events
        met = asyncio.Event()

        async def both_read_first(stream):
            found = await read(stream)
            if met.is_set():
                return found
            met.set()
            await world.campaigns.handle("c-1", a_change(budget_micros=9))
            return found

        world.campaigns._events = both_read_first
        assert (
            await refusal(world.campaigns.handle("c-1", a_change(budget_micros=8))) is CampaignRefusal.VERSION_CHANGED
        )
        assert (await world.campaigns.read("c-1")).budget_micros == 9

    run(test)


def test_a_stream_that_never_stands_still_is_given_up():
    async def test(world):
        calls = []

        async def conflict(appends, _):
            calls.append(appends)
            return [Conflict(0)]

        world.ledger.append = conflict
        with pytest.raises(LedgerUnavailable):
            await world.campaigns.handle("c-1", an_opening())
        assert len(calls) == ROUNDS_MAX

    run(test)


@pytest.mark.parametrize("id_", ["", "a b", "-x", "a/b", "ü", "x" * 129, "a\n", ".x"])
def test_a_name_that_fits_no_address_is_refused(id_):
    async def test(world):
        assert await refusal(world.campaigns.handle(id_, an_opening())) is CampaignRefusal.BAD_NAME

    run(test)


@pytest.mark.parametrize("zone", ["", "Berlin", "right/Europe/Berlin", "../etc/passwd", "+01:00"])
def test_a_time_zone_that_is_no_iana_name_is_refused(zone):
    async def test(world):
        opening = an_opening(time_zone=zone)
        assert await refusal(world.campaigns.handle("c-1", opening)) is CampaignRefusal.UNKNOWN_TIME_ZONE

    run(test)


def test_a_viewability_pack_that_the_rules_do_not_have_is_refused():
    async def test(world):
        opening = an_opening(viewability_pack="mrx")
        assert await refusal(world.campaigns.handle("c-1", opening)) is CampaignRefusal.UNKNOWN_PACK

    run(test)


def test_streams_and_ids_belong_together():
    assert id_of(stream_of("a-b")) == "a-b"
    assert id_of("rejects-eu-1") is None
    assert id_of(object()) is None


def test_equal_contents_have_equal_digests():
    assert digest_of("c", {"a": 1, "b": 2}) == digest_of("c", {"b": 2, "a": 1}) != digest_of("c", {"a": 1})
