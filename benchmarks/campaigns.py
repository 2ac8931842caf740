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

from commands.budget import Budget
from commands.budget_leases import Leases
from commands.budget_memory import MemoryBudgets
from commands.budget_postgres import PostgresBudgets
from commands.budget_purse import LeaseRules
from commands.budget_store import BudgetStore, Exchange, Line
from commands.campaigns import Campaigns
from commands.funding import Ask, Funds
from commands.ledger_tails import MemoryTails
from commands.ledger_tails_postgres import PostgresTails
from commands.registry import Registry
from domain.campaign import ChangeCampaign, OpenCampaign
from domain.ids import mint
from domain.token import Token
from domain.vocabulary import BillingEvent, Format, Surface
from ledger.memory import MemoryStore
from ledger.postgres import PostgresStore
from ledger.postgres_connection import PostgresConnection
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
        flight_start=NOW - MONTH + number,
        flight_end=NOW + MONTH + number,
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


def _budget(store: BudgetStore, registry: Registry, head: Callable[[], object]) -> Budget:
    leases = Leases(
        store,
        LeaseRules(patience_s=5.0),
        campaign=registry.look,
        head=head,  # type: ignore[arg-type]
        name=lambda: "bench",
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
    asks = [Ask(a_token(f"c{dice.randrange(CAMPAIGNS):08}", n), NOW, ()) for n in range(BATCH)]
    clock, spent = time.thread_time_ns, dict.fromkeys(("ready", "fund", "keep", "settle"), 0)
    accounts = [("c1", 20_000 + ask.sold.impression.int % 50) for ask in asks]
    await budget.ensure(dict.fromkeys(accounts, 1 << 40))
    alone = {"reserve": 0, "settle_alone": 0}
    for _ in range(ROUNDS):
        began = clock()
        await funds.ready(asks)
        ready = clock()
        funded = [funds.fund(sold, event_at, reasons) for sold, event_at, reasons in asks]
        done = clock()
        for one, ask in zip(funded, asks, strict=True):
            assert one.grant is not None
            funds.keep(one.grant, ask.sold.price_micros)
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
        if _ % 20 == 0:
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
