"""Several workers on one budget, on PostgreSQL: never a micro too many, and as many renders paid as by one."""

import asyncio
import sys
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from budget_worker import Worker
from budgetkit import PRICE, TODAY, a_change, paid, reasons_of

from commands.budget_upkeep import Upkeep, check_budgets
from commands.registry import Registry
from domain.reasons import Reason

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]


@asynccontextmanager
async def workers(url, count, **changes):
    made = [Worker(url) for _ in range(count)]
    await made[0].world.open(**changes)
    yield made
    for worker in made:
        await worker.let_go()


async def differences(worker):
    world = worker.world
    registry = Registry(world.ledger, world.tails, campaigns_max=100, clock=world.monotonic)
    return (await check_budgets(world.ledger, world.budgets, registry)).differences


async def bound(worker):
    [found] = await worker.world.budgets.bounds(["c-1"])
    return found


@pytest.mark.parametrize("count", [1, 4])
def test_a_budget_crossed_inside_one_batch_pays_as_many_with_one_worker_as_with_four(postgres_url, count):
    async def main():
        async with workers(postgres_url, count, budget_micros=100 * PRICE + 50) as made:
            batches = await asyncio.gather(*(worker.batch("c-1", 200 // count) for worker in made))
            counts = Counter(reason for events in batches for reason in reasons_of(events))
            assert counts == {None: 100, Reason.BUDGET_EXHAUSTED: 100}
            for worker in made:
                assert await worker.gate.budget.close()
            found = await bound(made[0])
            assert (found.spent_micros, found.held_micros) == (100 * PRICE, 0)
            assert await differences(made[0]) == []

    asyncio.run(main())


def test_four_workers_spend_a_budget_to_the_last_render_and_no_further(postgres_url):
    async def main():
        async with workers(postgres_url, 4, budget_micros=1_000 * PRICE) as made:

            async def spend(worker, size):
                events = []
                for _ in range(40):
                    events += await worker.batch("c-1", size)
                return events

            spent = await asyncio.gather(
                *(spend(worker, size) for worker, size in zip(made, (3, 7, 11, 19), strict=True))
            )
            for worker in made:
                await worker.gate.budget.close()
            left = 1_000 * PRICE - sum(map(paid, spent))
            assert left >= 0
            # what others had leased and not spent when a worker found nothing free comes back, and is paid now
            last = await made[0].batch("c-1", 400)
            assert paid(last) == left
            await made[0].gate.budget.close()
            assert (await bound(made[0])).spent_micros == 1_000 * PRICE
            assert await differences(made[0]) == []

    asyncio.run(main())


def test_days_and_the_whole_are_kept_by_all_workers(postgres_url):
    async def main():
        changes = {"budget_micros": 90 * PRICE, "daily_budget_micros": 40 * PRICE}
        async with workers(postgres_url, 4, **changes) as made:
            batches = await asyncio.gather(*(worker.batch("c-1", 30) for worker in made))
            assert sum(map(paid, batches)) == 40 * PRICE
            for worker in made:
                await worker.gate.budget.close()
            state = await made[0].world.budgets.state()
            assert state.spent == {("c-1", 0): 40 * PRICE, ("c-1", TODAY): 40 * PRICE}

    asyncio.run(main())


def test_a_raised_budget_reaches_all_workers(postgres_url):
    async def main():
        async with workers(postgres_url, 2, budget_micros=10 * PRICE) as made:
            one, other = made
            await one.batch("c-1", 20)
            await other.batch("c-1", 1)
            await one.world.campaigns.handle("c-1", a_change(budget_micros=15 * PRICE))
            for worker in made:
                await worker.gate.registry.follow()
                await worker.gate.budget.tick()
            await other.batch("c-1", 1)
            await other.gate.budget.tick()
            spent = paid(await other.batch("c-1", 20)) + paid(await one.batch("c-1", 20))
            await other.gate.budget.close()
            await one.gate.budget.close()
            assert (await bound(one)).spent_micros <= 15 * PRICE
            assert spent >= 3 * PRICE

    asyncio.run(main())


def test_processes_share_a_budget_and_one_that_dies_costs_it_nothing(postgres_url):
    async def main():
        async with workers(postgres_url, 1, budget_micros=1_000 * PRICE) as [watcher]:
            runs = await asyncio.gather(
                *(process(postgres_url, "c-1", 20, 10, end) for end in ("close", "close", "close", "die"))
            )
            assert [code for _, code in runs] == [0, 0, 0, 9]
            paid_renders = sum(counts[0] for counts, _ in runs)
            assert sum(counts[2] for counts, _ in runs) == 800
            assert 0 < paid_renders <= 800
            assert (await bound(watcher)).held_micros > 0
            with psycopg.connect(postgres_url) as connection:
                connection.execute("update budget_holders set expires_at = expires_at - 10000")
            world = watcher.world
            assert await Upkeep(world.ledger, world.tails, world.budgets, watcher.gate.registry).bury() == 1
            found = await bound(watcher)
            assert (found.spent_micros, found.held_micros) == (paid_renders * PRICE, 0)
            assert await differences(watcher) == []
            assert paid(await watcher.batch("c-1", 1_000)) == (1_000 - paid_renders) * PRICE

    asyncio.run(main())


async def process(*words):
    started = await asyncio.create_subprocess_exec(
        sys.executable, str(TESTS / "budget_worker.py"), *map(str, words), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await started.communicate()
    return list(map(int, out.split())), started.returncode
