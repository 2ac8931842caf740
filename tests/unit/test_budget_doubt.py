"""A gate's budgets when the store is slow, down, or has given it up, and when it leaves."""

import asyncio
from collections import Counter

import pytest
from budgetkit import (
    PRICE,
    SpendingGate,
    a_token,
    paid,
    reasons_of,
    run_world,
    settled,
)
from damagekit import damage, mend

from commands.budget_purse import LeaseRules
from domain.reasons import Reason
from domain.vocabulary import Rung
from ledger.store import LedgerUnavailable

EXHAUSTED = Reason.BUDGET_EXHAUSTED


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

    run_world(test)


def test_a_gate_that_never_reached_the_store_bills_nothing():
    async def test(world):
        await world.open()
        world.budgets.is_down = True
        gate = SpendingGate(world)
        assert reasons_of(await gate.batch(2)) == [Reason.DEGRADED] * 2
        world.budgets.is_down = False
        await settled(world, gate, 3)
        assert await world.booked() == 2 * PRICE

    run_world(test)


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

    run_world(test)


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

    run_world(test)


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

    run_world(test)


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

    run_world(test)


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

    run_world(test)


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

    run_world(test)


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

    run_world(test)


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

    run_world(test)


def test_closing_reports_and_returns_everything():
    async def test(world):
        await world.open(budget_micros=100 * PRICE)
        gate = SpendingGate(world)
        await gate.batch(3)
        assert await gate.budget.close()
        state = await world.budgets.state()
        assert ([holder.is_buried for holder in state.holders], state.spent["c-1", 0]) == ([True], 3 * PRICE)
        assert (await world.bound()).held_micros == 0

    run_world(test)


def test_closing_while_the_store_is_down_says_so():
    async def test(world):
        await world.open()
        gate = SpendingGate(world)
        await gate.batch(3)
        world.budgets.is_down = True
        assert not await gate.budget.close()

    run_world(test)


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

    run_world(test)


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

    run_world(test)
