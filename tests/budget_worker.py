"""
One worker as a process of its own: decides batches of a campaign against PostgreSQL and prints what came of them.

Started by tests as `python budget_worker.py URL CAMPAIGN BATCHES RENDERS END`; END is `close`, or `die` for one that
never gives its lease back.
"""

import asyncio
import os
import sys
from collections import Counter
from secrets import token_hex

from budgetkit import PRICE, SpendingGate, World, a_token, paid
from gatekit import NOW

from commands.budget_postgres import PostgresBudgets
from commands.budget_purse import LeaseRules
from commands.ledger_tails_postgres import PostgresTails
from domain.ids import mint
from ledger.postgres import PostgresStore
from ledger.postgres_connection import PostgresConnection


class Worker:
    """A gate with connections of its own, on the real clock of its event loop."""

    def __init__(self, url, rules=None):
        self.store = PostgresStore(url)
        self.connections = [PostgresConnection(url, 10.0) for _ in range(2)]
        self.world = World(ledger=self.store, budgets=PostgresBudgets(self.connections[0]))
        self.world.tails = PostgresTails(self.connections[1])
        self.world.monotonic = asyncio.get_running_loop().time
        self.world.names = iter(lambda: token_hex(6), "")
        self.gate = SpendingGate(self.world, rules or LeaseRules(patience_s=10.0))
        self.gate.leases._name = lambda: token_hex(6)
        self.gate.leases._start_over()

    async def batch(self, campaign, renders):
        tokens = [a_token(campaign, impression=mint(NOW, 7, int(token_hex(8), 16))) for _ in range(renders)]
        return await self.gate.decide(tokens)

    async def close(self):
        await self.gate.budget.close()
        await self.let_go()

    async def let_go(self):
        await self.store.close()
        for connection in self.connections:
            await connection.close()


async def work(url, campaign, batches, renders, end):
    worker = Worker(url)
    counts, money = Counter(), 0
    for _ in range(batches):
        events = await worker.batch(campaign, renders)
        counts.update(event.reason.value if event.reason else "paid" for event in events)
        money += paid(events)
    assert money == counts["paid"] * PRICE
    sys.stdout.write(f"{counts['paid']} {counts['BUDGET_EXHAUSTED']} {counts.total()}\n")
    sys.stdout.flush()
    if end == "die":
        os._exit(9)
    await worker.close()


if __name__ == "__main__":
    _, url_, campaign_, batches_, renders_, end_ = sys.argv
    asyncio.run(work(url_, campaign_, int(batches_), int(renders_), end_))
