"""The whole gate with registry and budgets: what a render takes, what it is told, and what its events say of it."""

import asyncio
from collections import Counter
from datetime import date

import pytest
from budgetkit import BERLIN, TODAY, SpendingGate, World, a_change
from gatekit import NOW, PRICE, KitGate, Minter

from commands.account_days import QUARTER_MS
from commands.budget_upkeep import check_budgets
from domain.events import ImpressionDeduped
from domain.funding import committed_micros
from domain.reasons import Reason, Verdict
from domain.vocabulary import Rung

CAMPAIGN = "campaign-1"
MINUTE = 60_000
DAY = 86_400_000
PLENTY = 1_000 * PRICE


async def gates(world, number=1):
    """Gates that share ledger, holding and budgets, each with leases of its own."""
    made = []
    for _ in range(number):
        first = made[0] if made else None
        spending = SpendingGate(world)
        await spending.registry.follow()
        gate = KitGate(
            world.ledger,
            None if first is None else first.holding_store,
            None if first is None else first.day_keys,
            funds=spending.funds,
        )
        gate.budget = spending.budget
        gate.registry = spending.registry
        made.append(gate)
    await made[0].open(date(2026, 9, 10), date(2026, 9, 23))
    return made


def run(test):
    asyncio.run(test(World(), Minter()))


def decision_in(events):
    [decision] = [event for event in events if isinstance(event, ImpressionDeduped) and event.before is None]
    return decision


def test_a_budget_crossed_inside_one_batch_pays_exactly_what_it_has():
    async def test(world, clients):
        await world.open(CAMPAIGN, budget_micros=7 * PRICE)
        [gate] = await gates(world)
        answers = await gate.send(*(clients.render() for _ in range(20)))
        told = Counter((answer.verdict, answer.reason) for answer in answers)
        assert told == {(Verdict.VALID, None): 7, (Verdict.DROPPED, Reason.BUDGET_EXHAUSTED): 13}
        assert [answer.verdict for answer in answers[:7]] == [Verdict.VALID] * 7

    run(test)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_budget_crossed_by_many_workers_is_never_overspent(workers):
    async def test(world, clients):
        await world.open(CAMPAIGN, budget_micros=50 * PRICE)
        all_gates = await gates(world, workers)
        answers = []
        for _ in range(6):
            for gate in all_gates:
                answers += await gate.send(*(clients.render() for _ in range(40 // workers)))
                await gate.budget.tick()
                world.pass_by(1_000)
        valid = sum(answer.verdict is Verdict.VALID for answer in answers)
        # What is left lies in purses that cannot pay one render each.
        assert 50 - workers < valid <= 50
        assert {answer.reason for answer in answers} == {None, Reason.BUDGET_EXHAUSTED}

    run(test)


def test_what_is_over_budget_is_recorded_and_not_billed():
    async def test(world, clients):
        await world.open(CAMPAIGN, budget_micros=PRICE)
        [gate] = await gates(world)
        tokens = [clients.token(), clients.token()]
        await gate.send(*map(clients.render, tokens))
        paid, refused = [decision_in(await gate.events(token.impression)) for token in tokens]
        assert (paid.after.billable_micros, refused.after.billable_micros) == (PRICE, 0)
        assert paid.funding.lease_left_micros == PRICE
        assert refused.funding.lease_left_micros == 0
        assert paid.funding.registry_version == refused.funding.registry_version > 0

    run(test)


def test_an_unknown_campaign_is_uncertain_and_known_ones_count():
    async def test(world, clients):
        await world.open("another")
        [gate] = await gates(world)
        [early] = await gate.send(clients.render())
        assert (early.verdict, early.reason, early.provisional) == (Verdict.UNCERTAIN, Reason.REGISTRY_BEHIND, True)
        await world.open(CAMPAIGN, budget_micros=PLENTY)
        await gate.registry.follow()
        [known] = await gate.send(clients.render())
        assert known.verdict is Verdict.VALID

    run(test)


def test_a_paused_campaign_is_out_of_flight_within_one_look():
    async def test(world, clients):
        opened = await world.open(CAMPAIGN, budget_micros=PLENTY)
        [gate] = await gates(world)
        [before] = await gate.send(clients.render())
        await world.campaigns.handle(CAMPAIGN, a_change(opened.version, paused=True))
        await gate.registry.follow()
        gate.now = NOW + MINUTE
        [earlier] = await gate.send(clients.render())
        [after] = await gate.send(clients.render(client_at=NOW + 1, on_screen_at=NOW + 1))
        assert (before.reason, earlier.reason, after.reason) == (None, None, Reason.OUTSIDE_FLIGHT)

    run(test)


def test_a_stale_registry_shows_in_the_rung():
    async def test(world, clients):
        await world.open(CAMPAIGN, budget_micros=PLENTY)
        [gate] = await gates(world)
        await gate.send(clients.render())
        world.pass_by(2 * MINUTE)
        [answer] = await gate.send(clients.render())
        _, scored, _ = await gate.events(answer.impression_id)
        assert scored.rung is answer.rung
        assert scored.rung in {Rung.STALE_REGISTRY, Rung.STALE_BUDGET}

    run(test)


def test_neither_a_retry_nor_a_repeat_takes_money():
    async def test(world, clients):
        await world.open(CAMPAIGN, budget_micros=2 * PRICE)
        [gate] = await gates(world)
        token = clients.token()
        event = clients.render(token)
        await gate.send(event)
        for _ in range(3):
            await gate.send(event, clients.render(token))
        gate.restart()
        await gate.send(event, clients.render(token))
        [answer] = await gate.send(clients.render())
        assert answer.verdict is Verdict.VALID

    run(test)


def test_a_bot_takes_no_money_and_history_neither():
    async def test(world, clients):
        await world.open(CAMPAIGN, budget_micros=PRICE)
        [gate] = await gates(world)
        await gate.send(*(clients.render(agent="some bot") for _ in range(5)))
        await gate.send(*(clients.render(received_at=NOW - 1) for _ in range(5)))
        [answer] = await gate.send(clients.render())
        assert answer.verdict is Verdict.VALID

    run(test)


def test_a_prefetched_ad_takes_its_money_when_it_is_shown():
    async def test(world, clients):
        await world.open(CAMPAIGN, budget_micros=PRICE)
        [gate] = await gates(world)
        token = clients.token()
        await gate.send(clients.render(token, prefetched=True, on_screen_at=None))
        [other] = await gate.send(clients.render())
        [shown] = await gate.send(clients.render(token))
        assert other.verdict is Verdict.VALID
        assert (shown.verdict, shown.reason) == (Verdict.DROPPED, Reason.BUDGET_EXHAUSTED)

    run(test)


def test_what_was_fetched_before_midnight_and_shown_after_it_is_of_the_day_on_which_it_was_shown():
    async def test(world, clients):
        midnight = next(at for at in range(NOW - NOW % QUARTER_MS, NOW + DAY, QUARTER_MS) if BERLIN.day(at) > TODAY)
        await world.open(CAMPAIGN, budget_micros=PLENTY, daily_budget_micros=PLENTY)
        [gate] = await gates(world)
        clients.now = gate.now = midnight - MINUTE
        token = clients.token()
        await gate.send(clients.render(token, prefetched=True, on_screen_at=None))
        clients.now = gate.now = midnight + MINUTE
        [shown] = await gate.send(clients.render(token))
        await gate.budget.tick()
        checked = await check_budgets(world.ledger, world.budgets, gate.registry)
        assert (shown.verdict, checked.differences) == (Verdict.VALID, [])
        assert (await world.budgets.state()).spent[CAMPAIGN, TODAY + 1] == PRICE

    run(test)


def test_a_retry_that_is_the_last_for_long_holds_up_no_report():
    async def test(world, clients):
        await world.open(CAMPAIGN, budget_micros=PLENTY)
        [gate] = await gates(world)
        token = clients.token()
        again = clients.render(token, on_screen_at=None)
        await gate.send(clients.render(token, prefetched=True, on_screen_at=None), clients.render(), again)
        gate.restart()
        await gate.send(again)
        await gate.budget.tick()
        assert (await world.budgets.state()).spent[CAMPAIGN, 0] == PRICE

    run(test)


async def proved(gate, clients, token, **changes):
    """Answer to a render that proves what the one before it did not."""
    await gate.send(clients.render(token, on_screen_at=None))
    [answer] = await gate.send(clients.render(token, **changes))
    return answer


def test_a_proof_counts_in_a_flight_that_was_made_longer_after_the_token():
    async def test(world, clients):
        await world.open(CAMPAIGN, budget_micros=PLENTY)
        [gate] = await gates(world)
        answer = await proved(gate, clients, clients.token(flight_end=NOW - MINUTE))
        assert (answer.verdict, answer.reason) == (Verdict.VALID, None)

    run(test)


def test_a_proof_from_a_pause_is_out_of_flight_and_gives_the_money_back():
    async def test(world, clients):
        opened = await world.open(CAMPAIGN, budget_micros=PRICE)
        [gate] = await gates(world)
        await world.campaigns.handle(CAMPAIGN, a_change(opened.version, paused=True))
        await gate.registry.follow()
        gate.now = NOW + MINUTE
        token = clients.token()
        answer = await proved(gate, clients, token, client_at=NOW + 1)
        assert (answer.verdict, answer.reason) == (Verdict.DROPPED, Reason.OUTSIDE_FLIGHT)
        assert committed_micros((await gate.state(token.impression)).standing) == 0

    run(test)


def test_a_proof_for_a_campaign_that_nobody_knows_is_uncertain_as_without_it():
    async def test(world, clients):
        [gate] = await gates(world)
        answer = await proved(gate, clients, clients.token())
        assert (answer.verdict, answer.reason) == (Verdict.UNCERTAIN, Reason.REGISTRY_BEHIND)

    run(test)


@pytest.mark.parametrize("batches", [1, 2])
def test_a_proof_that_drops_gives_the_money_back_whichever_batch_it_comes_in(batches):
    async def test(world, clients):
        await world.open(CAMPAIGN, budget_micros=PRICE)
        [gate] = await gates(world)
        token = clients.token()
        events = [clients.render(token, on_screen_at=None), clients.render(token, agent="some bot")]
        for batch in [events] if batches == 1 else [[event] for event in events]:
            await gate.send(*batch)
        for _ in range(2):
            world.pass_by(1_000)
            await gate.budget.tick()
        await world.upkeep.book_corrections()
        checked = await check_budgets(world.ledger, world.budgets, gate.registry)
        assert checked.differences == []
        assert (await world.budgets.state()).spent.get((CAMPAIGN, 0), 0) == 0

    run(test)


@pytest.mark.parametrize("live_first", [True, False])
def test_an_impression_takes_money_if_its_first_render_was_live(live_first):
    async def test(world, clients):
        await world.open(CAMPAIGN, budget_micros=PLENTY)
        [gate] = await gates(world)
        token = clients.token()
        live, history = {}, {"received_at": NOW - 1}
        first, second = (live, history) if live_first else (history, live)
        await gate.send(clients.render(token, prefetched=True, on_screen_at=None, **first))
        [answer] = await gate.send(clients.render(token, **second))
        await gate.budget.tick()
        checked = await check_budgets(world.ledger, world.budgets, gate.registry)
        assert (answer.verdict, checked.differences) == (Verdict.VALID, [])
        assert (await world.budgets.state()).spent.get((CAMPAIGN, 0), 0) == (PRICE if live_first else 0)

    run(test)


def test_the_proof_of_replayed_history_asks_no_registry():
    async def test(world, clients):
        [gate] = await gates(world)
        token = clients.token()
        await gate.send(clients.render(token, on_screen_at=None, received_at=NOW - 1))
        [answer] = await gate.send(clients.render(token, received_at=NOW))
        assert answer.verdict is Verdict.VALID

    run(test)
