"""Money of what was decided without the ledger: booked once, however the spool comes into the ledger, and bounded."""

import asyncio
import random
from collections import Counter
from datetime import date

import pytest
from budgetkit import SpendingGate, World, a_change
from gatekit import PRICE, Minter
from msgspec.structs import replace
from spoolkit import AbsentStore, SpoolGate

from commands.activity import Conduct
from commands.budget_spool import LABEL, SpoolMoney
from domain.events import ImpressionDeduped, ImpressionReconciled
from domain.reasons import Reason, Verdict
from domain.vocabulary import Rung
from ledger.spool import segments_of
from ledger.store import Conflict, LedgerUnavailable

CAMPAIGN = "campaign-1"


def money_of(world):
    async def wait(seconds):
        world.pass_by(int(seconds * 1_000))

    return SpoolMoney(world.budgets, world.upkeep, world.ledger.head, wait)


async def a_gate(world, root, first=None, **kept):
    spending = SpendingGate(world)
    await spending.registry.load([CAMPAIGN])
    gate = SpoolGate(
        root,
        world.ledger,
        None if first is None else first.holding_store,
        None if first is None else first.day_keys,
        funds=spending.funds,
        money=money_of(world),
        **kept,
    )
    gate.budget, gate.registry = spending.budget, spending.registry
    await gate.open(date(2026, 9, 10), date(2026, 9, 23))
    await gate.warm()
    return gate


def run(test, tmp_path, kept=None, **opening):
    async def main():
        world = World(ledger=AbsentStore())
        await world.open(CAMPAIGN, **{"budget_micros": 1_000 * PRICE, **opening})
        await test(world, await a_gate(world, tmp_path / "spool", **(kept or {})), Minter())

    asyncio.run(main())


async def settle(world, *gates):
    """Everything is reported, buried and booked."""
    for gate in gates:
        await gate.budget.tick()
        await gate.budget.tick()
    for _ in range(3):
        world.pass_by(11_000)
        await world.upkeep.bury()
        await world.upkeep.book_corrections()


async def reasons_of(gate, tokens):
    return [(await gate.state(token.impression)).standing.reason for token in tokens]


async def decision_of(gate, token):
    [found] = [event for event in await gate.events(token.impression) if isinstance(event, ImpressionDeduped)]
    return found


def test_what_was_spooled_names_the_spool_as_who_reports_its_money_and_is_booked(tmp_path):
    async def test(world, gate, clients):
        token = clients.token()
        with world.ledger.away():
            [answer] = await gate.send(clients.render(token))
        assert (answer.verdict, answer.reason, answer.rung) == (Verdict.UNCERTAIN, Reason.DEGRADED, Rung.SPOOLED)
        await gate.backlog.work()
        decision = await decision_of(gate, token)
        assert (decision.funding.lease, decision.funding.registry_version) == (LABEL + gate.owned.owner, 1)
        assert (await gate.state(token.impression)).standing.billable_micros == PRICE
        assert await world.booked(CAMPAIGN) == PRICE
        await settle(world, gate)
        assert (await world.check()).differences == []

    run(test, tmp_path)


def test_a_second_outage_of_the_same_gate_is_booked_too(tmp_path):
    async def test(world, gate, clients):
        for outages in (1, 2, 3):
            with world.ledger.away():
                await gate.send(clients.render(), clients.render())
            await gate.backlog.work()
            assert await world.booked(CAMPAIGN) == outages * 2 * PRICE
        await settle(world, gate)
        assert (await world.check()).differences == []

    run(test, tmp_path)


def test_what_was_spooled_is_booked_though_an_operator_moved_it_to_a_folder_of_another_name(tmp_path):
    async def test(world, gate, clients):
        with world.ledger.away():
            await gate.send(clients.render(), clients.render())
        gate.die()
        (gate.root / "put-back").mkdir()
        for path in segments_of(gate.owned.folder):
            path.rename(gate.root / "put-back" / f"{gate.owned.owner}-{path.name}")
        heir = await a_gate(world, gate.root, gate)
        assert heir.backlog.adopt() == 2
        await heir.backlog.work()
        assert await world.booked(CAMPAIGN) == 2 * PRICE
        await settle(world, heir)
        assert (await world.check()).differences == []

    run(test, tmp_path)


def test_what_was_sent_and_never_arrived_is_booked_though_its_lease_was_settled_without_it(tmp_path):
    async def test(world, gate, clients):
        token = clients.token()
        with world.ledger.away("before"):
            await gate.send(clients.render(token))
        await gate.send(clients.render())  # the outcome of the lost append is doubted now
        await settle(world, gate)
        assert await world.booked(CAMPAIGN) == PRICE
        await gate.backlog.work()
        assert (await decision_of(gate, token)).funding.lease == LABEL + gate.owned.owner
        await settle(world, gate)
        assert await world.booked(CAMPAIGN) == 2 * PRICE
        assert (await world.check()).differences == []

    run(test, tmp_path)


def test_what_was_sent_and_did_arrive_is_booked_under_its_lease_alone(tmp_path):
    async def test(world, gate, clients):
        token = clients.token()
        with world.ledger.away("after"):
            await gate.send(clients.render(token))
        await gate.send(clients.render())
        await gate.backlog.work()
        await settle(world, gate)
        assert not (await decision_of(gate, token)).funding.lease.startswith(LABEL)
        assert await world.booked(CAMPAIGN) == 2 * PRICE
        assert (await world.check()).differences == []

    run(test, tmp_path)


def test_what_a_budget_does_not_cover_is_exhausted_when_it_is_decided_again(tmp_path):
    async def test(world, gate, clients):
        await gate.send(*(clients.render() for _ in range(4)))
        await settle(world, gate)
        tokens = [clients.token() for _ in range(10)]
        with world.ledger.away():
            await gate.send(*(clients.render(token) for token in tokens))
        await gate.backlog.work()
        told = Counter([(await gate.state(token.impression)).standing.reason for token in tokens])
        assert told == {None: 6, Reason.BUDGET_EXHAUSTED: 4}
        await settle(world, gate)
        assert await world.booked(CAMPAIGN) == 10 * PRICE
        assert (await world.check()).differences == []

    run(test, tmp_path, budget_micros=10 * PRICE)


def test_what_a_double_fire_gives_back_pays_for_another_that_was_spooled(tmp_path):
    async def test(world, gate, clients):
        other, first, again = clients.token(), clients.token(placement="one"), clients.token(placement="one")
        with world.ledger.away():
            await gate.send(clients.render(other), clients.render(first, user="u"), clients.render(again, user="u"))
        await gate.backlog.work()
        assert await reasons_of(gate, [other, first, again]) == [None, None, Reason.DOUBLE_FIRE]
        await settle(world, gate)
        assert await world.booked(CAMPAIGN) == 2 * PRICE
        assert (await world.check()).differences == []

    run(test, tmp_path, budget_micros=2 * PRICE)


def test_of_two_double_fires_that_nothing_is_left_for_none_is_paid(tmp_path):
    async def test(world, gate, clients):
        before, first, again = clients.token(), clients.token(placement="one"), clients.token(placement="one")
        await gate.send(clients.render(before))
        await settle(world, gate)
        with world.ledger.away():
            await gate.send(clients.render(first, user="u"), clients.render(again, user="u"))
        await gate.backlog.work()
        assert await reasons_of(gate, [first, again]) == [Reason.BUDGET_EXHAUSTED] * 2
        await settle(world, gate)
        assert await world.booked(CAMPAIGN) == PRICE

    run(test, tmp_path, budget_micros=PRICE)


class Abusive:
    """Counters that find the renders of some `impressions` abusive."""

    impressions = frozenset()

    def look(self, renders):
        return {at: Conduct(abusive=True) for at, one in enumerate(renders) if one.impression in self.impressions}

    def count(self, claims): ...

    def recall(self, impression, events): ...


def test_what_an_abusive_client_gives_back_pays_for_those_that_were_spooled_before_it(tmp_path):
    activity = Abusive()

    async def test(world, gate, clients):
        tokens = [clients.token() for _ in range(50)]
        bots = [clients.token() for _ in range(4)]
        activity.impressions = {token.impression for token in bots}
        with world.ledger.away():
            await gate.send(*map(clients.render, tokens + bots))
        await gate.backlog.work()
        assert Counter(await reasons_of(gate, tokens)) == {None: 48, Reason.BUDGET_EXHAUSTED: 2}
        assert await reasons_of(gate, bots) == [Reason.RATE_ABUSIVE] * 4
        await settle(world, gate)
        assert await world.booked(CAMPAIGN) == 48 * PRICE

    run(test, tmp_path, {"activity": activity}, budget_micros=48 * PRICE)


@pytest.mark.parametrize("meanwhile", ["", "book", "bury book", "tick book", "tick tick book"])
def test_what_the_first_try_gave_back_is_not_asked_for_again_by_the_second(tmp_path, meanwhile):
    async def test(world, gate, clients):
        tokens = [clients.token() for _ in range(40)]
        await gate.budget.tick()
        with world.ledger.away():
            await gate.send(*map(clients.render, tokens))
        append, calls = world.ledger.append, []

        async def failing(appends, recorded_at):
            calls.extend(append for append in appends[:1] if isinstance(append.events[0], ImpressionReconciled))
            if len(calls) == 2:
                calls.append("failed")
                raise LedgerUnavailable("once")
            return await append(appends, recorded_at)

        world.ledger.append = failing
        with pytest.raises(LedgerUnavailable):
            await gate.backlog.work()
        works = {"tick": gate.budget.tick, "bury": world.upkeep.bury, "book": world.upkeep.book_corrections}
        for work in meanwhile.split():
            await works[work]()
        world.pass_by(500)
        await gate.backlog.work()
        assert Counter(await reasons_of(gate, tokens)) == {None: 36, Reason.BUDGET_EXHAUSTED: 4}
        await settle(world, gate)
        assert await world.booked(CAMPAIGN) == 36 * PRICE
        assert (await world.check()).differences == []

    run(test, tmp_path, budget_micros=36 * PRICE)


def test_what_one_outage_gave_back_is_there_for_the_next_once_the_budget_is_raised(tmp_path):
    async def test(world, gate, clients):
        with world.ledger.away():
            await gate.send(*(clients.render() for _ in range(8)))
        await gate.backlog.work()
        await world.campaigns.handle(CAMPAIGN, a_change(budget_micros=11 * PRICE))
        await gate.registry.follow()
        await gate.send(clients.render())
        await gate.budget.tick()
        tokens = [clients.token() for _ in range(5)]
        with world.ledger.away():
            await gate.send(*map(clients.render, tokens))
        await gate.backlog.work()
        assert Counter(await reasons_of(gate, tokens)) == {None: 4, Reason.BUDGET_EXHAUSTED: 1}
        await settle(world, gate)
        assert await world.booked(CAMPAIGN) == 11 * PRICE

    run(test, tmp_path, budget_micros=6 * PRICE)


def test_a_drop_that_the_ledger_refuses_for_now_gives_nothing_back(tmp_path):
    async def test(world, gate, clients):
        tokens = [clients.token() for _ in range(6)]
        with world.ledger.away():
            await gate.send(*map(clients.render, tokens))
        append, refused = world.ledger.append, []

        async def refusing(appends, recorded_at):
            if refused or not isinstance(appends[0].events[0], ImpressionReconciled):
                return await append(appends, recorded_at)
            refused.append(appends[0])
            return [Conflict(3), *await append(appends[1:], recorded_at)]

        world.ledger.append = refusing
        await gate.backlog.work()
        assert Counter(await reasons_of(gate, tokens)) == {None: 4, Reason.BUDGET_EXHAUSTED: 2}

    run(test, tmp_path, budget_micros=4 * PRICE)


def test_a_correction_that_cannot_be_read_gives_nothing_back_and_stops_nothing(tmp_path):
    async def test(world, gate, clients):
        with world.ledger.away():
            await gate.send(clients.render(), clients.render(), clients.render())
        await gate.backlog.work()
        *_, (place, last) = [
            (place, one) for place, one in enumerate(world.ledger._log) if b"BUDGET_EXHAUSTED" in one.data
        ]
        world.ledger._log[place] = replace(last, data=b"damaged")
        assert await gate.money.over([CAMPAIGN]) == {CAMPAIGN: PRICE}

    run(test, tmp_path, budget_micros=PRICE)


def test_a_campaign_that_ended_before_the_render_is_out_of_flight_also_without_the_ledger(tmp_path):
    async def test(world, gate, clients):
        with world.ledger.away():
            [answer] = await gate.send(clients.render(clients.token()))
        assert (answer.verdict, answer.reason, answer.provisional) == (Verdict.DROPPED, Reason.OUTSIDE_FLIGHT, True)

    run(test, tmp_path, flight_start=1, flight_end=2)


def test_an_unknown_campaign_waits_for_the_registry_and_is_decided_when_it_knows(tmp_path):
    async def test(world, gate, clients):
        token = clients.token(campaign="c-2")
        with world.ledger.away():
            [answer] = await gate.send(clients.render(token))
        assert (answer.verdict, answer.reason) == (Verdict.UNCERTAIN, Reason.REGISTRY_BEHIND)
        await world.open("c-2", budget_micros=1_000 * PRICE)
        await gate.funds.ready([(token, world.ms, ())])
        await gate.backlog.work()
        assert (await gate.state(token.impression)).standing.billable_micros == PRICE
        await settle(world, gate)
        assert (await world.check()).differences == []

    run(test, tmp_path)


def test_replayed_history_takes_nobodys_money(tmp_path):
    async def test(world, gate, clients):
        token = clients.token()
        with world.ledger.away():
            await gate.send(clients.render(token, received_at=clients.now))
        await gate.backlog.work()
        assert (await decision_of(gate, token)).funding is None
        assert await world.booked(CAMPAIGN) == 0

    run(test, tmp_path)


def test_replayed_history_is_not_dropped_for_want_of_money(tmp_path):
    async def test(world, gate, clients):
        replayed, paid = clients.token(), [clients.token() for _ in range(3)]
        with world.ledger.away():
            await gate.send(clients.render(replayed, received_at=clients.now), *map(clients.render, paid))
        await gate.backlog.work()
        assert await reasons_of(gate, [replayed]) == [None]
        assert Counter(await reasons_of(gate, paid)) == {None: 1, Reason.BUDGET_EXHAUSTED: 2}

    run(test, tmp_path, budget_micros=PRICE)


@pytest.mark.parametrize("seed", range(60))
def test_no_order_of_draining_burying_and_dying_books_anything_twice_or_never(seed, tmp_path):
    dice = random.Random(seed)

    async def test(world, gate, clients):
        gates = [gate, await a_gate(world, tmp_path / "spool", gate)]
        for _ in range(dice.randint(10, 30)):
            at = dice.randrange(2)
            match dice.randrange(7):
                case 0 | 1:
                    with world.ledger.away(dice.choice(["", "asleep", "before", "after"])):
                        await gates[at].send(*(clients.render() for _ in range(dice.randint(1, 4))))
                case 2:
                    gates[at].die()
                    gates[at] = await a_gate(world, tmp_path / "spool", gate)
                    gates[at].backlog.adopt()
                case 3 | 4:
                    with world.ledger.away(dice.choice(["", "", "before", "after"])):
                        try:
                            await gates[at].backlog.work()
                        except LedgerUnavailable:
                            assert world.ledger.mode
                case 5:
                    world.pass_by(dice.choice([100, 1_500, 12_000]))
                    await world.upkeep.bury()
                case _:
                    await gates[at].budget.tick()
        gates[0].backlog.adopt()
        for one in gates:
            await one.backlog.work()
        await settle(world, *gates)
        assert (await world.check()).differences == []

    run(test, tmp_path)
