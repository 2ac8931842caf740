"""A view follows on a state that the gate remembers; where that is over, the ledger says so."""

import asyncio
from datetime import date

import pytest
from gatekit import PRICE, KitGate, Minter

from commands.holding_memory import MemoryDayKeys
from commands.items import Status
from domain.events import ImpressionViewed
from domain.vocabulary import BillingEvent
from ledger.codec import decode
from ledger.memory import MemoryStore
from ledger.store import READ_MAX, AlreadyAppended, Conflict


class Watched(MemoryStore):
    """Notes what is read, and what is refused."""

    def __init__(self):
        super().__init__()
        self.reads, self.refused = 0, 0

    async def read_streams(self, streams, limit):
        self.reads += 1
        return await super().read_streams(streams, limit)

    async def append(self, appends, recorded_at):
        outcomes = await super().append(appends, recorded_at)
        self.refused += sum(isinstance(outcome, Conflict | AlreadyAppended) for outcome in outcomes)
        return outcomes


def run(test):
    async def main():
        store, keys = Watched(), MemoryDayKeys()
        gates = [KitGate(store, day_keys=keys) for _ in range(2)]
        gates[1].restart(name="eu-other")
        await gates[0].open(date(2026, 9, 20), date(2026, 9, 22))
        await test(store, *gates, Minter())

    asyncio.run(main())


async def views_of(store, token):
    commits = (await MemoryStore.read_streams(store, [token.impression], READ_MAX))[token.impression]
    return [event for commit in commits for event in decode(commit.data) if isinstance(event, ImpressionViewed)]


def test_views_of_what_this_gate_decided_are_applied_without_reading():
    async def test(store, gate, _, clients):
        token = clients.token(billing_event=BillingEvent.VIEWABLE)
        await gate.send(clients.render(token))
        short, long = clients.view(token, visible_ms=200), clients.view(token)
        for view in (short, long):
            [answer] = await gate.send(view)
            assert answer.status is Status.RECORDED
        assert (store.reads, store.refused) == (0, 0)
        assert (await gate.state(token.impression)).standing.billable_micros == PRICE

    run(test)


def test_a_view_that_would_move_nothing_is_looked_up_before_that_is_said():
    async def test(store, gate, other, clients):
        token = clients.token(billing_event=BillingEvent.VIEWABLE)
        await gate.send(clients.render(token))
        view = clients.view(token)
        await gate.send(view)
        [again] = await gate.send(view)
        assert (again.status, store.reads, store.refused) == (Status.RECORDED, 1, 0)
        [again] = await other.send(view)
        assert (again.status, store.reads, store.refused) == (Status.RECORDED, 2, 0)
        assert len(await views_of(store, token)) == 1

    run(test)


@pytest.mark.parametrize("same", [True, False])
def test_where_another_gate_wrote_meanwhile_the_ledger_has_the_final_word(same):
    async def test(store, gate, other, clients):
        token = clients.token(billing_event=BillingEvent.VIEWABLE)
        await gate.send(clients.render(token))
        first = clients.view(token, visible_ms=200)
        await other.send(first)
        reads = store.reads
        [answer] = await gate.send(first if same else clients.view(token))
        assert (answer.status, store.reads, store.refused) == (Status.RECORDED, reads + 1, 1)
        assert len(await views_of(store, token)) == (1 if same else 2)
        standing = (await gate.state(token.impression)).standing
        assert (standing.billable_micros, standing.reserved_micros) == ((0, PRICE) if same else (PRICE, 0))

    run(test)


def test_what_is_over_is_tried_once_and_then_read():
    async def test(store, gate, other, clients):
        tokens = [clients.token(billing_event=BillingEvent.VIEWABLE) for _ in range(3)]
        await gate.send(*map(clients.render, tokens))
        await other.send(*(clients.view(token, visible_ms=200) for token in tokens[:2]))
        reads = store.reads
        answers = await gate.send(*map(clients.view, tokens))
        assert {answer.status for answer in answers} == {Status.RECORDED}
        assert (store.reads, store.refused) == (reads + 1, 2)
        for token in tokens:
            assert (await gate.state(token.impression)).standing.billable_micros == PRICE

    run(test)


def test_a_gate_that_remembers_nothing_reads():
    async def test(store, gate, _, clients):
        gate.restart(recent_max=0)
        token = clients.token()
        await gate.send(clients.render(token))
        await gate.send(clients.view(token))
        assert store.reads == 1

    run(test)
