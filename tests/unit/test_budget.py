"""A gate's budgets: who pays, who is refused, and what happens when the store is slow, down, or has given one up."""

import asyncio
from collections import Counter

import pytest
from budgetkit import PRICE, TODAY, SpendingGate, World, a_change, a_correction_of, a_token, appending, paid, reasons_of
from damagekit import damage, mend
from gatekit import NOW

from commands.budget_purse import LeaseRules
from domain.reasons import Reason
from domain.vocabulary import Rung
from ledger.store import LedgerUnavailable

EXHAUSTED = Reason.BUDGET_EXHAUSTED


def run(test, **world):
    async def main():
        made = World(**world)
        await test(made)

    asyncio.run(main())


def test_renders_are_paid_in_order_until_the_budget_is_spent():
    async def test(world):
        await world.open(budget_micros=3 * PRICE + 40)
        events = await SpendingGate(world).batch(5)
        assert reasons_of(events) == [None, None, None, EXHAUSTED, EXHAUSTED]
        assert [event.funding.lease_left_micros for event in events] == [340, 240, 140, 40, 40]
        assert {event.funding.lease for event in events} == {"gate1.1"}
        assert {event.funding.registry_version for event in events} == {1}

    run(test)


def test_what_does_not_fit_leaves_room_for_what_costs_less():
    async def test(world):
        await world.open(budget_micros=PRICE + 30)
        events = await SpendingGate(world).decide([a_token(), a_token(price=31), a_token(price=30), a_token(price=0)])
        assert reasons_of(events) == [None, EXHAUSTED, None, None]

    run(test)


@pytest.mark.parametrize("gates", [1, 4])
@pytest.mark.parametrize("renders", [8, 60, 200])
def test_a_budget_crossed_inside_one_batch_pays_as_many_with_one_worker_as_with_four(gates, renders):
    async def test(world):
        await world.open(budget_micros=40 * PRICE + 99)
        batches = await asyncio.gather(*(SpendingGate(world).batch(renders // gates) for _ in range(gates)))
        counts = Counter(reason for batch in batches for reason in reasons_of(batch))
        assert counts[None] == min(40, renders)
        assert counts[EXHAUSTED] == renders - min(40, renders)

    run(test)


def test_what_is_uncertain_takes_money_and_what_is_dropped_takes_none():
    async def test(world):
        await world.open(budget_micros=2 * PRICE)
        reasons = [(Reason.AGENT_DECLARED_BOT,), (Reason.LATE,), (Reason.PREFETCHED,), (Reason.DOUBLE_FIRE,), (), ()]
        events = await SpendingGate(world).decide([a_token() for _ in reasons], reasons)
        assert reasons_of(events) == [*[one[0] for one in reasons[:4]], None, EXHAUSTED]
        assert paid(events) == 2 * PRICE

    run(test)


def test_invalid_traffic_of_an_exhausted_budget_is_out_of_gross_like_everything_else():
    async def test(world):
        await world.open(budget_micros=PRICE)
        gate = SpendingGate(world)
        await gate.batch(2)
        events = await gate.decide([a_token(), a_token()], [(Reason.AGENT_DECLARED_BOT,), (Reason.PREFETCHED,)])
        assert reasons_of(events) == [EXHAUSTED, Reason.PREFETCHED]

    run(test)


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

    run(test)


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

    run(test)


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

    run(test)


def test_the_day_has_a_budget_of_its_own_in_the_accounts_time_zone():
    async def test(world):
        await world.open(budget_micros=100 * PRICE, daily_budget_micros=2 * PRICE)
        gate = SpendingGate(world)
        assert reasons_of(await gate.batch(3)) == [None, None, EXHAUSTED]
        yesterday = await gate.decide([a_token() for _ in range(3)], event_at=NOW - 86_400_000)
        assert reasons_of(yesterday) == [None, None, EXHAUSTED]

    run(test)


def test_a_daily_budget_that_is_set_at_noon_knows_what_the_morning_spent():
    async def test(world):
        await world.open(budget_micros=100 * PRICE)
        gate = SpendingGate(world)
        await gate.batch(4)
        await world.campaigns.handle("c-1", a_change(daily_budget_micros=5 * PRICE))
        await gate.registry.follow()
        await settled(world, gate)
        assert reasons_of(await gate.batch(2)) == [None, EXHAUSTED]

    run(test)


async def settled(world, gate, seconds=2):
    """Let the gate's background work take that many turns."""
    for _ in range(seconds):
        world.pass_by(1_000)
        await gate.budget.tick()


def test_a_raised_budget_pays_again_within_two_ticks():
    async def test(world):
        await world.open(budget_micros=PRICE)
        gate = SpendingGate(world)
        await gate.batch(2)
        await world.campaigns.handle("c-1", a_change(budget_micros=3 * PRICE))
        await gate.registry.follow()
        await settled(world, gate)
        assert reasons_of(await gate.batch(3)) == [None, None, EXHAUSTED]

    run(test)


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

    run(test)


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

    run(test)


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

    run(test)


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

    run(test)


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

    run(test)


def test_while_the_store_is_down_a_gate_bills_no_more_than_it_said_it_might():
    async def test(world):
        await world.open(budget_micros=10**6)
        gate = SpendingGate(world)
        for _ in range(3):
            await gate.batch(10)
            await settled(world, gate, 1)
        stated = (await world.bound()).stale_micros
        held = (await world.bound()).held_micros
        assert stated == 10 * PRICE * LeaseRules().usable_s
        world.budgets.is_down = True
        events = await gate.batch(200)
        rungs = Counter((event.reason, event.funding.rung) for event in events)
        billed = sum(event.after.billable_micros for event in events)
        assert rungs[None, Rung.FULL] == held // PRICE
        assert rungs[None, Rung.STALE_BUDGET] == stated // PRICE
        assert rungs[Reason.DEGRADED, Rung.STALE_BUDGET] == 200 - billed // PRICE
        assert billed <= held + stated
        world.budgets.is_down = False
        await settled(world, gate)
        assert await world.booked() == 230 * PRICE
        assert (await world.check()).differences == []

    run(test)


def test_a_gate_that_never_reached_the_store_bills_nothing():
    async def test(world):
        await world.open()
        world.budgets.is_down = True
        gate = SpendingGate(world)
        assert reasons_of(await gate.batch(2)) == [Reason.DEGRADED] * 2
        world.budgets.is_down = False
        await settled(world, gate, 3)
        assert await world.booked() == 2 * PRICE

    run(test)


def test_a_store_that_hangs_holds_a_batch_up_no_longer_than_patience():
    class Hanging:
        async def exchange(self, _):
            await asyncio.Event().wait()

    async def test(world):
        await world.open()
        gate = SpendingGate(world, LeaseRules(patience_s=0.01), budgets=Hanging())
        assert reasons_of(await gate.batch(2)) == [Reason.DEGRADED] * 2
        assert gate.budget.is_behind
        assert reasons_of(await gate.batch(2)) == [Reason.DEGRADED] * 2

    run(test)


def test_an_old_lease_is_not_used_once_its_holder_could_be_buried():
    async def test(world):
        await world.open(budget_micros=10**6)
        gate = SpendingGate(world)
        await gate.batch(1)
        world.budgets.is_down = True
        world.pass_by(LeaseRules().usable_s * 1_000 - 1)
        assert reasons_of(await gate.batch(1)) == [None]
        world.pass_by(1)
        assert reasons_of(await gate.batch(1)) == [Reason.DEGRADED]

    run(test)


def test_an_exhausted_budget_is_believed_for_a_minute_while_the_store_is_down():
    async def test(world):
        await world.open(budget_micros=PRICE)
        gate = SpendingGate(world)
        await gate.batch(2)
        world.budgets.is_down = True
        world.pass_by(60_000)
        await gate.registry.follow()
        await gate.budget.tick()
        [event] = await gate.batch(1)
        assert (event.reason, event.funding.rung) == (EXHAUSTED, Rung.STALE_BUDGET)
        world.pass_by(1)
        await gate.registry.follow()
        assert reasons_of(await gate.batch(1)) == [Reason.REGISTRY_BEHIND]

    run(test)


def test_an_append_without_an_answer_is_settled_by_the_ledger():
    async def test(world):
        await world.open(budget_micros=10 * PRICE)
        gate = SpendingGate(world)
        await gate.batch(2)
        await settled(world, gate)
        lost = [a_token() for _ in range(3)]
        world.ledger.append = failing_after(world.ledger.append, keep=2)
        with pytest.raises(LedgerUnavailable):
            await gate.decide(lost)
        del world.ledger.append
        await gate.batch(1)
        await settled(world, gate, 5)
        bound = await world.bound()
        assert (bound.spent_micros, bound.held_micros >= 4 * PRICE) == (2 * PRICE, True)
        await settled(world, gate, 12)
        assert await world.upkeep.bury() == 1
        assert await world.booked() == 5 * PRICE
        assert (await world.check()).differences == []
        assert paid(await gate.batch(9)) == 5 * PRICE

    run(test)


def failing_after(append, keep):
    async def some(appends, recorded_at):
        await append(appends[:keep], recorded_at)
        raise LedgerUnavailable("after some")

    return some


def test_a_gate_that_died_costs_the_campaign_nothing_once_its_time_is_up():
    async def test(world):
        await world.open(budget_micros=100 * PRICE)
        dead, alive = SpendingGate(world), SpendingGate(world)
        await dead.batch(3)
        assert (await world.bound()).held_micros > 3 * PRICE
        world.pass_by(9_999)
        await alive.budget.tick()
        assert await world.upkeep.bury() == 0
        world.pass_by(1)
        assert await world.upkeep.bury() == 1
        bound = await world.bound()
        assert (bound.spent_micros, bound.held_micros) == (3 * PRICE, 0)
        assert paid(await alive.batch(200)) == 97 * PRICE

    run(test)


def test_a_gate_that_was_buried_alive_goes_on_with_empty_hands_and_nothing_is_booked_twice():
    async def test(world):
        await world.open(budget_micros=100 * PRICE)
        gate = SpendingGate(world)
        await gate.batch(3)
        world.budgets.is_down = True
        world.pass_by(10_000)
        world.budgets.is_down = False
        assert await world.upkeep.bury() == 1
        world.budgets.is_down = True
        await gate.batch(2)
        world.budgets.is_down = False
        await gate.registry.follow()
        await settled(world, gate, 2)
        assert gate.leases.holder == "gate2"
        await gate.batch(1)
        await settled(world, gate, 12)
        assert await world.upkeep.bury() == 1
        assert await world.booked() == 6 * PRICE
        assert (await world.check()).differences == []

    run(test)


def test_a_commit_that_nobody_can_read_keeps_no_money_of_others_and_is_told():
    async def test(world):
        await world.open(budget_micros=100 * PRICE)
        gate = SpendingGate(world)
        await gate.batch(3)
        impressions = [commit.stream for commit in await world.ledger.read_all(0, 10) if commit.count == 1]
        good = damage(world.ledger, impressions[-1], "a newer schema")
        world.pass_by(10_000)
        assert await world.upkeep.bury() == 1
        bound = await world.bound()
        assert (bound.spent_micros, bound.held_micros) == (2 * PRICE, 0)
        assert (await world.check(mend=True)).unreadable == [good.position]
        mend(world.ledger, good)
        checked = await world.check()
        assert {(one.ledger, one.booked) for one in checked.differences} == {(3 * PRICE, 2 * PRICE)}, "not mended"
        await world.check(mend=True)
        assert (await world.check()).differences == []

    run(test)


def test_what_a_gate_spends_that_begins_while_budgets_are_compared_is_no_difference():
    async def test(world):
        await world.open(budget_micros=100 * PRICE)
        head, late = world.ledger.head, SpendingGate(world)

        async def head_after_a_batch():
            world.ledger.head = head
            await late.batch(3)
            return await head()

        world.ledger.head = head_after_a_batch
        assert (await world.check(mend=True)).differences == []
        await settled(world, late)
        assert await world.booked() == 3 * PRICE
        assert (await world.check()).differences == []

    run(test)


def test_closing_reports_and_returns_everything():
    async def test(world):
        await world.open(budget_micros=100 * PRICE)
        gate = SpendingGate(world)
        await gate.batch(3)
        assert await gate.budget.close()
        state = await world.budgets.state()
        assert ([holder.is_buried for holder in state.holders], state.spent["c-1", 0]) == ([True], 3 * PRICE)
        assert (await world.bound()).held_micros == 0

    run(test)


def test_closing_while_the_store_is_down_says_so():
    async def test(world):
        await world.open()
        gate = SpendingGate(world)
        await gate.batch(3)
        world.budgets.is_down = True
        assert not await gate.budget.close()

    run(test)


def test_nothing_is_kept_of_campaigns_that_nobody_shows_any_more():
    async def test(world):
        gate = SpendingGate(world)
        for number in range(30):
            await world.open(f"c-{number}", budget_micros=1_000 * PRICE)
            await gate.batch(2, f"c-{number}")
        await gate.batch(1, "nobody-knows-it")
        assert len(gate.leases.purses) == 31
        await settled(world, gate, 30)
        assert gate.leases.purses == {}
        assert [(await world.bound(f"c-{number}")).held_micros for number in range(30)] == [0] * 30
        assert (await world.check()).differences == []

    run(test)


def test_many_accounts_are_reported_in_several_periods():
    async def test(world):
        await world.open()
        gate = SpendingGate(world)
        for start in range(0, 6_000, 500):
            await gate.decide([a_token(f"new-{number}") for number in range(start, start + 500)])
        await settled(world, gate, 4)
        assert len((await world.budgets.state()).spent) == 6_000
        assert len({holder.name for holder in (await world.budgets.state()).holders}) == 1
        assert (await world.check()).differences == []

    run(test)
