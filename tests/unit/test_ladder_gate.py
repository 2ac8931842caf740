"""Each rung in a whole gate: given what is missing, when a render comes, then this is decided and named."""

import asyncio
from datetime import date

import pytest
from budgetkit import SpendingGate, World
from counterskit import RATE_RULES
from gatekit import NOW, PRICE, Minter
from ladderkit import Clock, Counted, LadderGate
from spoolkit import SpoolGate

from commands.barred import BarredStore
from commands.ladder import Ladder
from commands.observing import PROBE_EVERY_S, SLOW_S
from domain.reasons import Reason, Verdict
from domain.vocabulary import Rung
from service.activity import CountedActivity

CAMPAIGN = "campaign-1"
MEASURED = {"visible_ratio": 1.0, "visible_ms": 300}
HOUR_MS = 3_600_000


async def a_gate(*stores, **kept):
    gate = LadderGate(*stores, **kept)
    await gate.open(date(2026, 9, 10), date(2026, 9, 23))
    return gate


def run(test):
    asyncio.run(test(Minter()))


async def named(gate, answer):
    scored = await gate.scored(answer)
    assert answer.rung is scored.rung
    return scored.rung, scored.rungs


def test_nothing_missing_but_the_model_is_model_fallback_alone():
    async def test(clients):
        gate = await a_gate()
        [answer] = await gate.send(clients.render(**MEASURED))
        assert await named(gate, answer) == (Rung.MODEL_FALLBACK, ())
        assert gate.ladder.decisions == {**dict.fromkeys(Rung, 0), Rung.MODEL_FALLBACK: 1}

    run(test)


@pytest.mark.parametrize("missing", ["visible_ratio", "visible_ms", "width"])
def test_a_measure_that_a_client_did_not_send_is_named_render_by_render(missing):
    async def test(clients):
        gate = await a_gate()
        whole, partial = await gate.send(clients.render(**MEASURED), clients.render(**{**MEASURED, missing: None}))
        assert await named(gate, whole) == (Rung.MODEL_FALLBACK, ())
        assert await named(gate, partial) == (Rung.MODEL_FALLBACK, (Rung.PARTIAL_CLIENT,))

    run(test)


def test_as_if_measures_were_missing_no_signal_comes_of_them_and_the_screen_stays():
    async def test(clients):
        gate = await a_gate(counters=Counted(Clock()))
        gate.counters.look = lambda _: {}
        stacked = {**MEASURED, "stack_depth": 9}
        [before] = await gate.send(clients.render(**stacked))
        gate.ladder.drill("partial_client", 10)
        during, tiny = await gate.send(clients.render(**stacked), clients.render(**stacked, width=1, height=1))
        gate.clock.pass_by(10)
        [after] = await gate.send(clients.render(**stacked))
        assert before.reason is after.reason is Reason.RISK_GREY
        assert (during.verdict, tiny.reason) == (Verdict.VALID, Reason.AREA_INVISIBLE)
        assert await named(gate, during) == (Rung.MODEL_FALLBACK, (Rung.PARTIAL_CLIENT,))
        assert await named(gate, after) == (Rung.MODEL_FALLBACK, ())

    run(test)


def test_without_counters_nobody_is_abusive_and_all_is_counted_along():
    async def test(clients):
        gate = await a_gate()
        [before] = await gate.send(clients.render(**MEASURED))
        gate.ladder.drill("partial_counters", 10)
        during = await gate.send(*(clients.render(**MEASURED) for _ in range(3)))
        gate.clock.pass_by(10)
        [after] = await gate.send(clients.render(**MEASURED))
        assert before.reason is after.reason is Reason.RATE_ABUSIVE
        assert {answer.verdict for answer in during} == {Verdict.VALID}
        assert await named(gate, during[0]) == (Rung.MODEL_FALLBACK, (Rung.PARTIAL_COUNTERS,))
        assert (gate.counters.looked, gate.counters.counted) == (2, 5)

    run(test)


def test_counters_that_raise_stop_no_decision_and_are_asked_again_once_they_are_well():
    async def test(clients):
        gate = await a_gate()
        gate.counters.raises = True
        answers = []
        for _ in range(4):
            answers += await gate.send(clients.render(**MEASURED))
        assert {answer.verdict for answer in answers} == {Verdict.VALID}
        for answer in answers:
            assert await named(gate, answer) == (Rung.MODEL_FALLBACK, (Rung.PARTIAL_COUNTERS,))
        assert gate.ladder.counters.is_down
        assert Rung.PARTIAL_COUNTERS in gate.ladder.in_force
        gate.counters.raises = False
        while gate.ladder.counters.is_down:
            gate.clock.pass_by(PROBE_EVERY_S)
            await gate.send(clients.render(**MEASURED))
            assert gate.clock.now < 1_010
        [well] = await gate.send(clients.render(**MEASURED))
        assert (well.reason, gate.guarded.says) == (Reason.RATE_ABUSIVE, "ZeroDivisionError")

    run(test)


def test_counters_that_are_too_slow_are_given_up_after_a_few_batches():
    async def test(clients):
        gate = await a_gate()
        gate.counters.seconds = 2 * SLOW_S
        for _ in range(10):
            await gate.send(clients.render(**MEASURED))
        assert gate.ladder.counters.is_down
        assert gate.counters.looks < 6

    run(test)


def test_a_gate_that_has_not_watched_an_hour_says_so_and_what_it_knows_for_certain_still_counts():
    async def test(clients):
        gate = await a_gate(counters=CountedActivity(RATE_RULES, NOW - HOUR_MS // 2))
        same = {**MEASURED, "user": "one"}
        limit = RATE_RULES.abusive.per_10s
        answers = await gate.send(*(clients.render(**same) for _ in range(limit + 1)))
        assert await named(gate, answers[0]) == (Rung.MODEL_FALLBACK, (Rung.PARTIAL_COUNTERS,))
        assert [answer.reason for answer in answers].count(Reason.RATE_ABUSIVE) == 1
        assert gate.counters.is_cold(NOW)
        assert not gate.counters.is_cold(NOW + HOUR_MS)

    run(test)


def test_a_gate_that_recalled_the_whole_ledger_has_nothing_to_miss():
    async def test(clients):
        counters = CountedActivity(RATE_RULES, NOW)
        counters.recall_whole()
        gate = await a_gate(counters=counters)
        [answer] = await gate.send(clients.render(**MEASURED))
        assert await named(gate, answer) == (Rung.MODEL_FALLBACK, ())

    run(test)


def test_under_load_only_what_nothing_stands_against_goes_without_a_score():
    async def test(clients):
        gate = await a_gate(counters=CountedActivity(RATE_RULES, NOW - 2 * HOUR_MS))
        gate.ladder.drill("shed", 10)
        plain = [clients.render(**MEASURED) for _ in range(100)]
        bots = [clients.render(**MEASURED, agent="a bot") for _ in range(20)]
        stacks = [clients.render(**MEASURED, stack_depth=9) for _ in range(20)]
        answers = await gate.send(*plain, *bots, *stacks)
        rungs = [answer.rung for answer in answers]
        shed = [answer for answer in answers if answer.rung is Rung.SHED]
        assert 80 <= len(shed) <= 98
        assert Rung.SHED not in rungs[100:]
        assert {answer.verdict for answer in answers[:100]} == {Verdict.VALID}
        assert {answer.reason for answer in answers[100:120]} == {Reason.AGENT_DECLARED_BOT}
        assert await named(gate, shed[0]) == (Rung.SHED, ())
        assert gate.shedding.shed == len(shed) == gate.ladder.decisions[Rung.SHED]
        assert not (await gate.scored(shed[0])).features
        assert (await gate.scored(answers[-1])).features

    run(test)


def test_under_load_rates_are_still_looked_at():
    async def test(clients):
        gate = await a_gate()
        gate.ladder.drill("shed", 10)
        answers = await gate.send(*(clients.render(**MEASURED) for _ in range(20)))
        assert {answer.reason for answer in answers} == {Reason.RATE_ABUSIVE}
        assert gate.shedding.shed == 0

    run(test)


def test_under_load_repeats_and_double_fires_are_found_as_ever():
    async def test(clients):
        gate = await a_gate()
        gate.counters.look = lambda _: {}
        gate.ladder.drill("shed", 10)
        token = clients.token()
        again = clients.token(placement=token.placement)
        first, repeat = await gate.send(clients.render(token, **MEASURED), clients.render(token, **MEASURED))
        [double] = await gate.send(clients.render(again, **MEASURED, user=f"user-{token.placement}"))
        reasons = (first.reason, repeat.reason, double.reason)
        assert reasons == (None, Reason.DUPLICATE_RENDER, Reason.DOUBLE_FIRE)

    run(test)


def test_a_retry_of_what_was_shed_gets_the_first_answer_once_the_load_is_over():
    async def test(clients):
        gate = await a_gate()
        gate.ladder.drill("shed", 10)
        events = [clients.render(**MEASURED) for _ in range(20)]
        first = await gate.send(*events)
        gate.clock.pass_by(10)
        assert await gate.send(*events) == first

    run(test)


def test_stale_lists_are_used_and_named():
    async def test(clients):
        gate = await a_gate()
        gate.ladder.drill("stale_lists", 10)
        [bot] = await gate.send(clients.render(**MEASURED, agent="a bot"))
        assert bot.reason is Reason.AGENT_DECLARED_BOT
        assert await named(gate, bot) == (Rung.STALE_LISTS, (Rung.MODEL_FALLBACK,))

    run(test)


async def a_spending_gate(world, clock):
    """A gate with registry and budgets that can be barred."""
    ladder = Ladder(clock)
    spending = SpendingGate(world, ladder=ladder)
    await spending.registry.follow()
    gate = LadderGate(world.ledger, funds=spending.funds)
    gate.ladder = ladder
    gate.ingest._ladder = ladder
    gate.counters.look = lambda _: {}
    await gate.open(date(2026, 9, 10), date(2026, 9, 23))
    return gate, spending


def test_a_registry_that_cannot_be_reached_decides_on_its_last_copy_and_doubts_its_negatives():
    async def test(clients):
        world, clock = World(), Clock()
        await world.open(CAMPAIGN, budget_micros=100 * PRICE)
        gate, _ = await a_spending_gate(world, clock)
        [before] = await gate.send(clients.render(**MEASURED))
        gate.ladder.drill("stale_registry", 10)
        [known] = await gate.send(clients.render(**MEASURED))
        [unknown] = await gate.send(clients.render(clients.token(campaign="another"), **MEASURED))
        clock.pass_by(10)
        [after] = await gate.send(clients.render(**MEASURED))
        assert [one.verdict for one in (before, known, after)] == [Verdict.VALID] * 3
        assert await named(gate, known) == (Rung.STALE_REGISTRY, (Rung.MODEL_FALLBACK,))
        assert (unknown.verdict, unknown.reason) == (Verdict.UNCERTAIN, Reason.REGISTRY_BEHIND)
        assert after.rung is Rung.MODEL_FALLBACK

    run(test)


def test_a_lease_store_that_cannot_be_reached_admits_up_to_the_stated_bound_and_comes_back_by_itself():
    async def test(clients):
        world, clock = World(), Clock()
        await world.open(CAMPAIGN, budget_micros=1_000 * PRICE)
        gate, spending = await a_spending_gate(world, clock)
        [before] = await gate.send(clients.render(**MEASURED))
        gate.ladder.drill("stale_budget", 10)
        await spending.budget.tick()
        during = []
        for _ in range(30):
            during += await gate.send(*(clients.render(**MEASURED) for _ in range(10)))
        [last] = during[-1:]
        assert (last.verdict, last.reason) == (Verdict.UNCERTAIN, Reason.DEGRADED)
        assert await named(gate, last) == (Rung.STALE_BUDGET, (Rung.MODEL_FALLBACK,))
        assert before.rung is during[0].rung is Rung.MODEL_FALLBACK  # what was leased is spent first
        clock.pass_by(10)
        await spending.budget.tick()
        [after] = await gate.send(clients.render(**MEASURED))
        assert (after.verdict, after.rung) == (Verdict.VALID, Rung.MODEL_FALLBACK)

    run(test)


def test_as_if_the_ledger_were_away_renders_are_spooled_and_brought_in_afterwards(tmp_path):
    async def test(clients):
        gate = SpoolGate(tmp_path, ladder=Ladder(clock := Clock()))
        await gate.open(date(2026, 9, 10), date(2026, 9, 23))
        await gate.warm()
        gate.ingest._store = BarredStore(gate.store, lambda: gate.ladder.is_without(Rung.SPOOLED))
        gate.ladder.drill("spooled", 10)
        [during] = await gate.send(event := clients.render(**MEASURED))
        assert (during.verdict, during.reason, during.rung) == (Verdict.UNCERTAIN, Reason.DEGRADED, Rung.SPOOLED)
        assert await gate.events(during.impression_id) == []
        assert gate.ladder.decisions[Rung.SPOOLED] == 1
        clock.pass_by(10)
        assert await gate.backlog.work() == 1
        [after] = await gate.send(clients.render(**MEASURED))
        assert after.verdict is Verdict.VALID
        state = await gate.state(gate.token_of(event).impression)
        assert state.standing.verdict is Verdict.VALID

    run(test)
