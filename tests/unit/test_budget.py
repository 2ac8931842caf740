"""A gate's budgets: who pays, who is refused, and what changes that."""

import asyncio
from collections import Counter

import pytest
from budgetkit import (
    PRICE,
    TODAY,
    SpendingGate,
    a_change,
    a_correction_of,
    a_token,
    appending,
    paid,
    reasons_of,
    run_world,
    settled,
)
from gatekit import NOW

from domain.reasons import Reason

EXHAUSTED = Reason.BUDGET_EXHAUSTED


def test_renders_are_paid_in_order_until_the_budget_is_spent():
    async def test(world):
        await world.open(budget_micros=3 * PRICE + 40)
        events = await SpendingGate(world).batch(5)
        assert reasons_of(events) == [None, None, None, EXHAUSTED, EXHAUSTED]
        assert [event.funding.lease_left_micros for event in events] == [340, 240, 140, 40, 40]
        assert {event.funding.lease for event in events} == {"gate1.1"}
        assert {event.funding.registry_version for event in events} == {1}

    run_world(test)


def test_what_does_not_fit_leaves_room_for_what_costs_less():
    async def test(world):
        await world.open(budget_micros=PRICE + 30)
        events = await SpendingGate(world).decide([a_token(), a_token(price=31), a_token(price=30), a_token(price=0)])
        assert reasons_of(events) == [None, EXHAUSTED, None, None]

    run_world(test)


@pytest.mark.parametrize("gates", [1, 4])
@pytest.mark.parametrize("renders", [8, 60, 200])
def test_a_budget_crossed_inside_one_batch_pays_as_many_with_one_worker_as_with_four(gates, renders):
    async def test(world):
        await world.open(budget_micros=40 * PRICE + 99)
        batches = await asyncio.gather(*(SpendingGate(world).batch(renders // gates) for _ in range(gates)))
        counts = Counter(reason for batch in batches for reason in reasons_of(batch))
        assert counts[None] == min(40, renders)
        assert counts[EXHAUSTED] == renders - min(40, renders)

    run_world(test)


def test_what_is_uncertain_takes_money_and_what_is_dropped_takes_none():
    async def test(world):
        await world.open(budget_micros=2 * PRICE)
        reasons = [(Reason.AGENT_DECLARED_BOT,), (Reason.LATE,), (Reason.PREFETCHED,), (Reason.DOUBLE_FIRE,), (), ()]
        events = await SpendingGate(world).decide([a_token() for _ in reasons], reasons)
        assert reasons_of(events) == [*[one[0] for one in reasons[:4]], None, EXHAUSTED]
        assert paid(events) == 2 * PRICE

    run_world(test)


def test_invalid_traffic_of_an_exhausted_budget_is_out_of_gross_like_everything_else():
    async def test(world):
        await world.open(budget_micros=PRICE)
        gate = SpendingGate(world)
        await gate.batch(2)
        events = await gate.decide([a_token(), a_token()], [(Reason.AGENT_DECLARED_BOT,), (Reason.PREFETCHED,)])
        assert reasons_of(events) == [EXHAUSTED, Reason.PREFETCHED]

    run_world(test)


def test_what_a_decision_does_not_commit_is_there_for_the_next_render():
    async def test(world):
        await world.open(budget_micros=PRICE)
        gate = SpendingGate(world)
        token = a_token()
        await gate.registry.load(["c-1"])
        await gate.budget.ensure({("c-1", TODAY): 2 * PRICE})
        repeat = gate.funds.fund(token, NOW, ())
        assert repeat.reasons == ()
        gate.funds.keep(repeat.grant, 0)
        assert gate.funds.fund(token, NOW, ()).reasons == ()
        assert gate.funds.fund(token, NOW, ()).reasons == (EXHAUSTED,)

    run_world(test)


def test_what_was_not_appended_is_there_again():
    async def test(world):
        await world.open(budget_micros=PRICE)
        gate = SpendingGate(world)
        token = a_token()
        assert reasons_of(await gate.decide([token])) == [None]
        world.pass_by(1_000)
        await gate.decide([a_token(), a_token()])
        assert (await world.bound()).spent_micros + (await world.bound()).held_micros == PRICE
        events = await gate.decide([token])
        assert reasons_of(events) == [EXHAUSTED]

    run_world(test)


def test_a_retry_that_was_appended_before_costs_nothing():
    async def test(world):
        await world.open(budget_micros=5 * PRICE)
        gate = SpendingGate(world)
        token = a_token()
        await gate.decide([token])
        await gate.decide([token])
        await gate.budget.tick()
        await gate.budget.tick()
        assert await world.booked() == PRICE
        assert (await world.check()).differences == []

    run_world(test)


def test_the_day_has_a_budget_of_its_own_in_the_accounts_time_zone():
    async def test(world):
        await world.open(budget_micros=100 * PRICE, daily_budget_micros=2 * PRICE)
        gate = SpendingGate(world)
        assert reasons_of(await gate.batch(3)) == [None, None, EXHAUSTED]
        yesterday = await gate.decide([a_token() for _ in range(3)], event_at=NOW - 86_400_000)
        assert reasons_of(yesterday) == [None, None, EXHAUSTED]

    run_world(test)


def test_a_daily_budget_that_is_set_at_noon_knows_what_the_morning_spent():
    async def test(world):
        await world.open(budget_micros=100 * PRICE)
        gate = SpendingGate(world)
        await gate.batch(4)
        await world.campaigns.handle("c-1", a_change(daily_budget_micros=5 * PRICE))
        await gate.registry.follow()
        await settled(world, gate)
        assert reasons_of(await gate.batch(2)) == [None, EXHAUSTED]

    run_world(test)


def test_a_raised_budget_pays_again_within_two_ticks():
    async def test(world):
        await world.open(budget_micros=PRICE)
        gate = SpendingGate(world)
        await gate.batch(2)
        await world.campaigns.handle("c-1", a_change(budget_micros=3 * PRICE))
        await gate.registry.follow()
        await settled(world, gate)
        assert reasons_of(await gate.batch(3)) == [None, None, EXHAUSTED]

    run_world(test)


def test_a_lowered_budget_stops_what_it_does_not_cover():
    async def test(world):
        await world.open(budget_micros=100 * PRICE)
        gate = SpendingGate(world)
        await gate.batch(4)
        await world.campaigns.handle("c-1", a_change(budget_micros=2 * PRICE))
        await gate.registry.follow()
        await settled(world, gate, 12)
        assert reasons_of(await gate.batch(2)) == [EXHAUSTED, EXHAUSTED]
        assert (await world.bound()).overshoot_micros == 2 * PRICE

    run_world(test)


def test_money_that_a_correction_gives_back_is_spent_again():
    async def test(world):
        await world.open(budget_micros=2 * PRICE)
        gate = SpendingGate(world)
        tokens = [a_token(), a_token(), a_token()]
        events = await gate.decide(tokens)
        correction = a_correction_of(events[0], Reason.AGENT_DECLARED_BOT)
        await world.ledger.append([appending(correction, tokens[0].impression, expected=1)], NOW)
        assert await world.upkeep.book_corrections() < await world.ledger.head()
        await settled(world, gate)
        assert await world.upkeep.book_corrections() == await world.ledger.head()
        await settled(world, gate)
        assert reasons_of(await gate.batch(2)) == [None, EXHAUSTED]
        await settled(world, gate)
        assert (await world.check()).differences == []

    run_world(test)


def test_an_exhausted_campaign_costs_one_question_a_second_however_many_renders_come():
    async def test(world):
        await world.open(budget_micros=PRICE)
        gate = SpendingGate(world)
        await gate.batch(2)
        asked = world.budgets.asked
        for _ in range(50):
            assert set(reasons_of(await gate.batch(3))) == {EXHAUSTED}
        assert world.budgets.asked == asked
        world.pass_by(1_000)
        await gate.batch(3)
        assert world.budgets.asked == asked + 1

    run_world(test)


def test_a_hot_campaign_is_leased_ahead_and_batches_ask_for_nothing():
    async def test(world):
        await world.open(budget_micros=10**9)
        gate = SpendingGate(world)
        for _ in range(3):
            for _ in range(10):
                await gate.batch(20)
            await settled(world, gate, 1)
        asked = world.budgets.asked
        for _ in range(10):
            await gate.batch(20)
        assert world.budgets.asked == asked

    run_world(test)


def test_what_idles_where_money_is_scarce_is_given_back_after_one_tick():
    async def test(world):
        await world.open(budget_micros=80 * PRICE)
        idle, busy = SpendingGate(world), SpendingGate(world)
        await idle.batch(1)
        assert (await world.bound()).held_micros > PRICE
        await busy.batch(100)
        await settled(world, idle, 3)
        events = await busy.batch(100)
        await settled(world, busy, 3)
        assert await world.booked() == 80 * PRICE
        assert (await world.bound()).held_micros == 0
        assert EXHAUSTED in reasons_of(events)

    run_world(test)
