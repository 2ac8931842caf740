"""What registry and budgets cost: CPU per render, memory per campaign, time per exchange; prints JSON."""

import argparse
import asyncio
import json
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from msgspec.structs import replace

from commands.budget import Budget
from commands.budget_leases import Leases
from commands.budget_memory import MemoryBudgets
from commands.budget_postgres import PostgresBudgets
from commands.budget_purse import LeaseRules
from commands.budget_store import BudgetStore, Exchange, Line
from commands.campaigns import Campaigns
from commands.funding import Funds
from commands.ledger_tails import MemoryTails
from commands.ledger_tails_postgres import PostgresTails
from commands.registry import Registry
from domain.campaign import ChangeCampaign, OpenCampaign
from domain.ids import mint
from domain.reasons import Reason
from domain.token import Token
from domain.vocabulary import BillingEvent, Format, Surface
from ledger.memory import MemoryStore
from ledger.postgres import PostgresStore
from ledger.postgres_connection import PostgresConnection
from ledger.store import LedgerUnavailable
from service.embedded_postgres import PostgresServer
from service.migrate import migrate_postgres
from service.serving import calm_collector
from service.stage import machine

NOW = 1_790_000_000_000
MONTH = 30 * 86_400_000
BATCH, ROUNDS, CAMPAIGNS = 512, 400, 200
MANY = 20_000


def main() -> None:
    calm_collector()
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--postgres", action="store_true", help="measure exchanges and following, too")
    figures = {"per_render_ns": asyncio.run(_per_render()), "memory": asyncio.run(_memory())}
    if arguments.parse_args().postgres:
        with TemporaryDirectory() as folder:
            server = PostgresServer(Path(folder))
            server.start()
            try:
                migrate_postgres(server.url)
                figures["exchange_us"] = asyncio.run(_exchanges(server.url))
                figures["overshoot"] = asyncio.run(_overshoot(server.url))
                figures["followed_after_ms"] = asyncio.run(_followed(server.url))
            finally:
                server.stop()
    print(json.dumps({**figures, "machine": machine()}, indent=2))


def an_opening(number: int) -> OpenCampaign:
    return OpenCampaign(
        cause=UUID(int=number + 1),
        digest="d",
        decided_at=NOW,
        advertiser=f"advertiser-{number % 1_000}",
        account=f"account-{number % 1_000}",
        currency="EUR",
        time_zone="Europe/Berlin",
        billing_event=BillingEvent.IMPRESSION,
        viewability_pack="mrc",
        flight_start=NOW - MONTH + number % MANY,
        flight_end=NOW + MONTH + number % MANY,
        budget_micros=1 << 50,
    )


def a_token(campaign: str, number: int) -> Token:
    return Token(
        impression=mint(NOW, 7, number),
        ad="ad",
        creative="creative",
        campaign=campaign,
        advertiser="advertiser",
        placement="placement",
        publisher="publisher",
        surface=Surface.FEED,
        format=Format.DISPLAY,
        region="eu",
        epoch=1,
        currency="EUR",
        price_micros=2_345,
        flight_start=NOW - MONTH,
        flight_end=NOW + MONTH,
        billing_event=BillingEvent.IMPRESSION,
        viewability_pack="mrc",
    )


async def _opened(store: MemoryStore | PostgresStore, count: int) -> Campaigns:
    campaigns = Campaigns(store, packs=["mrc"], clock=lambda: NOW)
    for number in range(count):
        await campaigns.handle(f"c{number:08}", an_opening(number))
    return campaigns


def _budget(store: BudgetStore, registry: Registry, head: Callable[[], object], name: str = "bench") -> Budget:
    leases = Leases(
        store,
        LeaseRules(patience_s=5.0),
        campaign=registry.look,
        head=head,  # type: ignore[arg-type]
        name=lambda: name,
        clock=time.monotonic,
    )
    return Budget(leases)


async def _per_render() -> dict[str, int]:
    ledger = MemoryStore()
    await _opened(ledger, CAMPAIGNS)
    registry = Registry(ledger, MemoryTails(ledger), campaigns_max=1 << 20, clock=time.monotonic)
    budget = _budget(MemoryBudgets(lambda: NOW), registry, ledger.head)
    funds = Funds(registry, budget)
    dice = random.Random(1)
    asks = [(a_token(f"c{dice.randrange(CAMPAIGNS):08}", n), NOW, ()) for n in range(BATCH)]
    clock, spent = time.thread_time_ns, dict.fromkeys(("ready", "fund", "keep", "settle"), 0)
    accounts = [("c1", 20_000 + sold.impression.int % 50) for sold, _, _ in asks]
    await budget.ensure(dict.fromkeys(accounts, 1 << 40))
    alone = {"reserve": 0, "settle_alone": 0}
    for turn in range(ROUNDS):
        began = clock()
        await funds.ready(asks)
        ready = clock()
        funded = [funds.fund(sold, event_at, reasons) for sold, event_at, reasons in asks]
        done = clock()
        for one, (sold, _, _) in zip(funded, asks, strict=True):
            assert one.grant is not None
            funds.keep(one.grant, sold.price_micros)
        kept = clock()
        funds.settle([one.grant for one in funded if one.grant is not None], is_appended=True)
        settled = clock()
        grants = [budget.reserve(account, 0, 1) for account in accounts]
        reserved = clock()
        budget.settle(grants, is_appended=True)
        for name, took in zip(spent, (ready - began, done - ready, kept - done, settled - kept), strict=True):
            spent[name] += took
        alone["reserve"] += reserved - settled
        alone["settle_alone"] += clock() - reserved
        if turn % 20 == 0:
            await budget.tick()
    return {name: took // (ROUNDS * BATCH) for name, took in {**spent, **alone}.items()}


async def _memory() -> dict[str, object]:
    ledger = MemoryStore()
    await _opened(ledger, MANY)
    registry = Registry(ledger, MemoryTails(ledger), campaigns_max=2 * MANY + 2, clock=time.monotonic)
    await registry.follow()
    names = [f"c{number:08}" for number in range(MANY)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    began = time.perf_counter()
    await registry.load(registry.missing(names))
    took = time.perf_counter() - began
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(registry) == MANY
    return {"bytes_per_campaign": round((after - before) / MANY), "load_us_under_trace": round(took / MANY * 1e6, 1)}


async def _exchanges(url: str) -> dict[str, object]:
    """An exchange of so many accounts that report, keep and ask; the wall time of one, and that per account."""
    connection = PostgresConnection(url, 30.0)
    store, seq, figures = PostgresBudgets(connection), 0, {}
    for size in (1, 10, 100, 1_000, 5_000):
        took = []
        for _ in range(max(5, 2_000 // size)):
            seq += 1
            lines = [
                Line(
                    campaign=f"c{n:08}", day=20_000, version=1, limit_micros=1 << 50, spent=5, keep=10, need=3, ahead=20
                )
                for n in range(size)
            ]
            asked = Exchange(holder="bench", seq=seq, reported=seq, after=0, ttl_ms=10_000, lines=lines)
            began = time.perf_counter()
            await store.exchange(asked)
            took.append((time.perf_counter() - began) * 1e6)
        took.sort()
        figures[str(size)] = {
            "p50": round(statistics.median(took)),
            "p99": round(took[int(len(took) * 0.99)]),
            "p50_per_account": round(statistics.median(took) / size, 1),
        }
    await connection.close()
    return figures


class _Line:
    """One gate's way to the budget store, which can be cut."""

    def __init__(self, store: BudgetStore) -> None:
        self._store = store
        self.is_cut = False

    async def exchange(self, asked: Exchange) -> object:
        if self.is_cut:
            raise LedgerUnavailable("cut off")
        return await self._store.exchange(asked)


async def _overshoot(url: str) -> dict[str, object]:
    """Four gates spend one budget at a steady rate; when half a second's worth is left, all lose the store at once."""
    gates, renders, every_s, price = 4, 20, 0.02, 2_000
    ledger, connections = PostgresStore(url), [PostgresConnection(url, 5.0) for _ in range(gates + 1)]
    per_s = gates * renders / every_s * price
    limit = int(per_s * 4.5)
    opening = replace(an_opening(1 << 91), budget_micros=limit)
    await Campaigns(ledger, packs=["mrc"], clock=lambda: NOW).handle("crossed", opening)
    registry = Registry(ledger, PostgresTails(connections[0]), campaigns_max=100, clock=time.monotonic)
    await registry.load(["crossed"])
    lines = [_Line(PostgresBudgets(connection)) for connection in connections[1:]]
    budgets = [_budget(line, registry, ledger.head, f"gate-{n}") for n, line in enumerate(lines)]  # type: ignore[arg-type]
    billed = {"leased": 0, "beyond a lease": 0, "uncertain": 0, "exhausted": 0}

    async def spend(budget: Budget, line: _Line) -> None:
        began = time.monotonic()
        account = ("crossed", 20_000)
        for batch in range(int(9 / every_s)):
            await asyncio.sleep(max(0.0, began + batch * every_s - time.monotonic()))
            line.is_cut = time.monotonic() - began > 4.0
            await budget.ensure({account: renders * price})
            grants = [budget.reserve(account, price, 1) for _ in range(renders)]
            for grant in grants:
                kind = "leased" if grant.is_leased else "beyond a lease" if grant.is_over else "uncertain"
                billed["exhausted" if grant.reason is Reason.BUDGET_EXHAUSTED else kind] += price
            budget.settle(grants, is_appended=True)

    running = [asyncio.create_task(budget.run()) for budget in budgets]
    spending = [asyncio.create_task(spend(budget, line)) for budget, line in zip(budgets, lines, strict=True)]
    await asyncio.sleep(4.1)
    [bound] = await PostgresBudgets(connections[0]).bounds(["crossed"])
    await asyncio.gather(*spending)
    for task in running:
        task.cancel()
    for connection in connections:
        await connection.close()
    await ledger.close()
    paid = billed["leased"] + billed["beyond a lease"]
    return {
        "gates": gates,
        "spend_per_s_micros": int(per_s),
        "limit_micros": limit,
        "stated_when_cut": {"held_micros": bound.held_micros, "stale_micros": bound.stale_micros}
        | {"spent_micros": bound.spent_micros, "overshoot_bound_micros": bound.overshoot_micros},
        "billed_micros": billed,
        "overshoot_micros": max(0, paid - limit),
    }


async def _followed(url: str) -> dict[str, float]:
    """From the answer to a change until the registry of a gate that polls twice a second has it."""
    ledger, connection = PostgresStore(url), PostgresConnection(url, 5.0)
    campaigns = await _opened(ledger, 1)
    registry = Registry(ledger, PostgresTails(connection), campaigns_max=100, clock=time.monotonic)
    await registry.load(["c00000000"])

    async def poll() -> None:
        while True:
            await registry.follow()
            await asyncio.sleep(0.5)

    polling, took, polls = asyncio.create_task(poll()), [], []
    dice = random.Random(1)
    for version in range(1, 41):
        await asyncio.sleep(dice.random() * 0.5)
        command = ChangeCampaign(
            cause=UUID(int=(1 << 90) + version),
            digest="d",
            decided_at=NOW,
            seen_version=version,
            budget_micros=1_000 + version,
        )
        await campaigns.handle("c00000000", command)
        began = time.perf_counter()
        while (known := registry.look("c00000000")) is None or known.version <= version:
            await asyncio.sleep(0.002)
        took.append((time.perf_counter() - began) * 1e3)
    polling.cancel()
    for _ in range(200):
        began = time.perf_counter()
        await registry.follow()
        polls.append((time.perf_counter() - began) * 1e3)
    await ledger.close()
    await connection.close()
    took.sort()
    return {
        "p50": round(statistics.median(took), 1),
        "worst_of_40": round(took[-1], 1),
        "one_poll_p50": round(statistics.median(polls), 3),
    }


if __name__ == "__main__":
    main()
