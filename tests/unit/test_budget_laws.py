"""Laws of leases: whatever gates do in whatever order, what is spent and held covers the ledger and fits the limit."""

import asyncio

from budgetkit import PRICE, SpendingGate, World
from hypothesis import given as for_all
from hypothesis import strategies as st

from commands.spend import spends

LIMIT = 50 * PRICE
gates = st.integers(0, 3)
steps = st.one_of(
    st.tuples(st.just("batch"), gates, st.integers(1, 20)),
    st.tuples(st.just("tick"), gates, st.just(0)),
    st.tuples(st.just("die"), gates, st.just(0)),
    st.tuples(st.just("close"), gates, st.just(0)),
    st.tuples(st.just("bury"), st.just(0), st.just(0)),
    st.tuples(st.just("time"), st.just(0), st.sampled_from([100, 1_000, 4_900, 10_000])),
)


async def do(world, running, step):
    what, at, much = step
    match what:
        case "batch":
            await running[at].batch(much)
        case "tick":
            await running[at].budget.tick()
        case "die":
            running[at] = SpendingGate(world)
        case "close":
            assert await running[at].budget.close()
            running[at] = SpendingGate(world)
        case "bury":
            await world.upkeep.bury()
        case "time":
            world.pass_by(much)


async def money(world):
    """What the ledger has, what is booked, what is held."""
    written = sum(spend.micros for commit in await world.ledger.read_all(0, 10_000) for spend in spends(commit))
    [bound] = await world.budgets.bounds(["c-1"]) or [None]
    return (written, 0, 0) if bound is None else (written, bound.spent_micros, bound.held_micros)


@for_all(story=st.lists(steps, max_size=30))
def test_what_is_spent_and_held_covers_the_ledger_and_never_passes_the_limit(story):
    async def main():
        world = World()
        await world.open(budget_micros=LIMIT)
        running = [SpendingGate(world) for _ in range(4)]
        for step in story:
            await do(world, running, step)
            written, spent, held = await money(world)
            assert written <= spent + held <= LIMIT
        for gate in running:
            await gate.budget.close()
        world.pass_by(10_000)
        await world.upkeep.bury()
        written, spent, held = await money(world)
        assert (written, held) == (spent, 0)
        assert (await world.check()).differences == []

    asyncio.run(main())


@for_all(
    limit=st.integers(1, 60 * PRICE),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    price=st.integers(1, 3 * PRICE),
)
def test_who_is_refused_finds_nothing_but_what_others_have_leased(limit, sizes, price):
    async def main():
        world = World()
        await world.open(budget_micros=limit)
        workers = [SpendingGate(world) for _ in sizes]
        batches = zip(workers, sizes, strict=True)
        events = await asyncio.gather(*(worker.batch(size, price=price) for worker, size in batches))
        refused = any(event.reason for batch in events for event in batch)
        unspent = sum(purse.left for worker in workers for purse in worker.leases.purses.values())
        written, spent, held = await money(world)
        assert written == sum(event.after.billable_micros for batch in events for event in batch) == held - unspent
        assert (limit - spent - held < price) if refused else written == sum(sizes) * price
        if len(sizes) == 1:
            assert written == min(limit // price, sizes[0]) * price

    asyncio.run(main())
