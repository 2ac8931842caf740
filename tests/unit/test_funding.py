"""Registry and token together: what is in the flight, what waits, and what a decision says it was made with."""

import asyncio

import pytest
from budgetkit import MONTH, PRICE, SpendingGate, World, a_change, a_token, an_opening, reasons_of
from gatekit import NOW

from domain.campaign import Unopened, decide_campaign, opened_campaign
from domain.flight import judge_flight
from domain.funding import Funding
from domain.reasons import Reason
from domain.vocabulary import Rung

OUTSIDE, BEHIND = Reason.OUTSIDE_FLIGHT, Reason.REGISTRY_BEHIND
ENDED = {"flight_start": NOW - MONTH, "flight_end": NOW - 1}


def a_campaign(**changes):
    [event] = decide_campaign(Unopened(), an_opening(**changes))
    return opened_campaign("c-1", event)


@pytest.mark.parametrize("registry", ["inside", "outside", "unknown", "other currency"])
@pytest.mark.parametrize("token", ["inside", "outside"])
@pytest.mark.parametrize("copy", ["fresh", "stale"])
def test_who_has_the_word_on_a_flight(registry, token, copy):
    expected = {
        ("inside", "inside", "fresh"): (),
        ("inside", "outside", "fresh"): (),
        ("outside", "inside", "fresh"): (OUTSIDE,),
        ("outside", "outside", "fresh"): (OUTSIDE,),
        ("inside", "inside", "stale"): (),
        ("inside", "outside", "stale"): (BEHIND,),
        ("outside", "inside", "stale"): (BEHIND,),
        ("outside", "outside", "stale"): (OUTSIDE,),
    }
    campaigns = {
        "inside": a_campaign(),
        "outside": a_campaign(**ENDED),
        "unknown": None,
        "other currency": a_campaign(currency="USD"),
    }
    unknown = (BEHIND,) if token == "inside" else (OUTSIDE, BEHIND)
    minted = a_token() if token == "inside" else a_token(**ENDED)
    judged = judge_flight(campaigns[registry], minted, NOW, copy == "stale")
    assert judged == expected.get((registry, token, copy), unknown)


def run(test):
    asyncio.run(test(World()))


def test_an_unknown_campaign_is_uncertain_until_it_is_known_and_its_money_is_not_lost():
    async def test(world):
        await world.open("another")
        gate = SpendingGate(world)
        [early] = await gate.batch(1)
        assert early.reason is BEHIND
        assert early.after.reserved_micros == PRICE
        assert early.funding == Funding(lease="gate1.1")
        await world.open("c-1", budget_micros=3 * PRICE)
        await gate.registry.follow()
        for _ in range(2):
            world.pass_by(1_000)
            await gate.budget.tick()
        events = await gate.batch(3)
        assert reasons_of(events) == [None, None, Reason.BUDGET_EXHAUSTED]

    run(test)


def test_a_paused_campaign_is_outside_its_flight_within_one_poll():
    async def test(world):
        await world.open("c-1")
        gate = SpendingGate(world)
        assert reasons_of(await gate.batch(1)) == [None]
        await world.campaigns.handle("c-1", a_change(paused=True, decided_at=NOW))
        await gate.registry.follow()
        assert reasons_of(await gate.batch(1)) == [OUTSIDE]
        assert reasons_of(await gate.decide([a_token()], event_at=NOW - 1)) == [None]

    run(test)


def test_a_flight_that_was_made_longer_overrules_the_token():
    async def test(world):
        await world.open("c-1")
        gate = SpendingGate(world)
        events = await gate.decide([a_token(**ENDED)], [(OUTSIDE,)])
        assert reasons_of(events) == [None]

    run(test)


def test_on_a_copy_that_was_not_followed_for_a_minute_decisions_say_so():
    async def test(world):
        await world.open("c-1", budget_micros=10**6)
        gate = SpendingGate(world)
        await gate.batch(1)
        world.pass_by(60_001)
        await gate.budget.tick()
        [event] = await gate.batch(1)
        assert (event.reason, event.funding.rung) == (None, Rung.STALE_REGISTRY)
        await world.campaigns.handle("c-1", a_change(paused=True, decided_at=NOW))
        [event] = await gate.decide([a_token(**ENDED)])
        assert (event.reason, event.funding.rung) == (BEHIND, Rung.STALE_REGISTRY)

    run(test)


def test_reasons_stand_in_order_of_precedence():
    async def test(world):
        await world.open("c-1", budget_micros=1)
        gate = SpendingGate(world)
        await gate.funds.ready([(a_token(), NOW, ())])
        funded = gate.funds.fund(a_token(), NOW, (Reason.LATE,))
        assert funded.reasons == (Reason.BUDGET_EXHAUSTED, Reason.LATE)
        assert funded.funding.lease_left_micros == 1
        funded = gate.funds.fund(a_token("nobody"), NOW, (Reason.LATE,))
        assert funded.reasons == (BEHIND, Reason.LATE)

    run(test)


def test_what_took_no_money_leaves_no_doubt():
    async def test(world):
        await world.open("c-1", budget_micros=10 * PRICE)
        gate = SpendingGate(world)
        await gate.funds.ready([(a_token(), NOW, ())])
        gate.funds.keep(gate.funds.fund(a_token(), NOW, ()).grant, 0)
        await gate.funds.ready([])
        assert reasons_of(await gate.batch(1)) == [None]
        for _ in range(2):
            world.pass_by(1_000)
            await gate.budget.tick()
        assert await world.booked() == PRICE

    run(test)


def test_an_unsettled_round_is_settled_by_the_ledger():
    async def test(world):
        await world.open("c-1", budget_micros=10 * PRICE)
        gate = SpendingGate(world)
        await gate.funds.ready([(a_token(), NOW, ())])
        assert gate.funds.fund(a_token(), NOW, ()).grant.is_open
        await gate.funds.ready([])
        for _ in range(2):
            world.pass_by(1_000)
            await gate.budget.tick()
        names = [holder.name for holder in (await world.budgets.state()).holders]
        assert names == ["gate1", "gate1.1"]

    run(test)
