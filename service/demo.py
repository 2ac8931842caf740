"""
`impledger demo`: the main job on this machine, and whether the books are right afterwards.

Starts everything, drives generated traffic over HTTP as clients would, shows what happens, waits until the desk has
shown everything, and recomputes I1-I4 from ledger and ClickHouse.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from msgspec import Struct

from commands.budget_upkeep import Difference
from domain.reasons import Reason
from ledger.store import READ_MAX
from ml.traffic.client import LoadClient
from ml.traffic.events import TruthFile
from ml.traffic.generator import Plan, Traffic
from ml.traffic.serving import AdServer, ServeLog
from ml.traffic.shot import Minter
from ml.traffic.tally import Live, Tally
from service.books import Books, check_books
from service.campaigning import Authority
from service.campaigns_check import check_campaigns
from service.clock import now_ms
from service.demo_campaigns import open_campaigns
from service.demo_serves import Served, in_short_times, served_of
from service.keyfiles import Keys, load_or_make_keys
from service.processes import LauncherError
from service.reader import Desk
from service.settings import Settings
from service.spooling import is_drained
from service.stage import machine, stage, start_model, watch_over
from service.supervisor import Supervisor
from service.wiring import open_store

SAMPLE_S = 0.2
SHOW_S = 0.5
LEAD_MS = 200
_DRAINED_WITHIN_S, _DRAIN_LOOK_S = 120.0, 0.25
PLANNED_MAX = 200_000
"""Traffic up to this many events is made before it is sent, which leaves more of the machine to the system."""


class Budgets(Struct, frozen=True, kw_only=True):
    """What became of the budgets: accounts of campaigns and days, and those that are otherwise than the ledger."""

    accounts: int
    over_budget: int
    differences: list[Difference]


class LedgerInUse(LauncherError):
    """The demo was to run on a ledger that others' traffic is in."""

    next_step = "Choose a new folder with IMPLEDGER_DATA_DIR, or leave --keep out."


class DemoReport(Struct, frozen=True, kw_only=True):
    """What happened. Latencies are of requests, at the client; `lag_p99_s` is the age of what the desk shows."""

    renders: int
    views: int
    accepted: int
    seconds: float
    decisions_per_s: float
    statuses: dict[str, int]
    verdicts: dict[str, int]
    reasons: dict[str, int]
    gross: int
    net: int
    givt: int
    sivt: int
    undecided: int
    billable_micros: dict[str, int]
    p50_ms: float
    p99_ms: float
    within_50_ms: float
    within_50_ms_or_marked: float
    lag_p99_s: float
    resends: int
    unanswered: int
    disagreements: int
    invariants: dict[str, bool]
    problems: list[str]
    served: Served
    budgets: Budgets
    data_dir: str
    machine: dict[str, object]

    @property
    def holds(self) -> bool:
        return all(self.invariants.values()) and not self.budgets.differences


Show = Callable[[Live, float], None]
"""Shows a moment of the run and the desk's lag in seconds."""


def demo(settings: Settings, plan: Plan, *, keep: bool, show: Show, tell: Callable[[str], None]) -> DemoReport:
    """
    Run the demo and return its report; *tell* hears what is done at the moment.

    Raises:
        LauncherError: the machine is not fit for it; the text says why.
        LedgerInUse: there are impressions of others in its books.
    """
    tell("starting PostgreSQL, Valkey, gate, desk, work and scheduler")
    alone = replace(settings, campaigns=Authority.REGISTRY.value, cell="", cell_map="")
    settings = in_short_times(alone)
    with stage(settings, keep=keep) as (staged, supervisor):
        return asyncio.run(_demo(staged, supervisor, plan, show, tell))


async def check_unused(settings: Settings) -> None:
    """
    See to it that the books will be those of the demo alone.

    Raises:
        LedgerInUse: the ledger begins with impressions already.
        LedgerUnavailable: it did not answer.
    """
    store = open_store(settings)
    try:
        is_used = any(isinstance(commit.stream, UUID) for commit in await store.read_all(0, READ_MAX))
    finally:
        await store.close()
    if is_used:
        raise LedgerInUse(
            f"The ledger of {settings.data_dir} has impressions already, and a demo checks the books of its own alone."
        )


async def _demo(
    settings: Settings, supervisor: Supervisor, plan: Plan, show: Show, tell: Callable[[str], None]
) -> DemoReport:
    keys = load_or_make_keys(settings.data_dir)
    watch = asyncio.create_task(watch_over(supervisor))
    try:
        await check_unused(settings)
        await start_model(settings, tell)
        tell(f"driving {plan.seconds:g} s of traffic at {plan.rate:g} events/s (seed {plan.seed})")
        async with Desk(settings) as desk:
            tally, lags = await drive(settings, keys, plan, desk, show)
            await _drained(settings, tell)
            tell("waiting until the desk has shown everything, then checking the books")
            books = await check_books(settings, tally)
            tell("asking what of all that was served has rendered")
            served = await served_of(settings)
            checked = await check_campaigns(settings, mend=False)
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
    assert checked.budgets is not None, "a demo runs on the registry"
    reasons = tally.by_reason()
    budgets = Budgets(
        accounts=checked.budgets.accounts,
        over_budget=reasons.get(Reason.BUDGET_EXHAUSTED.value, 0),
        differences=checked.budgets.differences,
    )
    return _report(settings, tally, books, lags, (served, budgets))


async def _drained(settings: Settings, tell: Callable[[str], None]) -> None:
    """Wait for what was answered while the ledger was away; what is not in it by then the books count as spooled."""
    give_up_at = time.monotonic() + _DRAINED_WITHIN_S
    if not is_drained(settings):
        tell("waiting until what was answered without the ledger is in it")
    while not is_drained(settings) and time.monotonic() < give_up_at:  # noqa: ASYNC110 (files tell nobody)
        await asyncio.sleep(_DRAIN_LOOK_S)


async def drive(settings: Settings, keys: Keys, plan: Plan, desk: Desk, show: Show) -> tuple[Tally, list[float]]:
    """Send the traffic of *plan*; return the tally and samples of the desk's lag in seconds."""
    log = ServeLog(f"demo-{now_ms()}", settings.region)
    minter = Minter(keys.mint_with, keys.token_keys()[keys.mint_with], keys.shard, settings.region, served=log)
    gate = f"http://{settings.host}:{settings.gate_port}"
    with TruthFile(settings.data_dir / "truth.jsonl") as truth:
        traffic = Traffic(plan, minter, truth)
        if settings.campaigns == Authority.REGISTRY:
            await open_campaigns(settings, keys, plan, traffic.market.all, now_ms())
        client = LoadClient(gate, keys.operator, seed=plan.seed)
        lags: list[float] = []
        sampling = asyncio.create_task(_sample(desk, client, lags, show))
        events = plan.rate * plan.seconds
        sendings = traffic.planned(now_ms) if events <= PLANNED_MAX else traffic.sendings(now_ms() + LEAD_MS)
        over = asyncio.Event()
        serving = asyncio.create_task(AdServer(gate, keys.operator, log).run(over))
        tally = await client.run(sendings)
        over.set()
        await serving
        sampling.cancel()
        with suppress(asyncio.CancelledError):
            await sampling
    return tally, lags


async def _sample(desk: Desk, client: LoadClient, lags: list[float], show: Show) -> None:
    shown_at = 0.0
    clock = asyncio.get_running_loop().time
    while True:
        lag = await desk.lag()
        if lag is not None:
            lags.append(lag.lag_s)
        if clock() - shown_at >= SHOW_S:
            shown_at = clock()
            show(client.live(), lags[-1] if lags else 0.0)
        await asyncio.sleep(SAMPLE_S)


def _report(
    settings: Settings, tally: Tally, books: Books, lags: list[float], more: tuple[Served, Budgets]
) -> DemoReport:
    served, budgets = more
    lags.sort()
    decided = sum(row.events for row in tally.rows if row.answer.status == "decided")
    return DemoReport(
        renders=tally.renders,
        views=tally.views,
        accepted=tally.answered,
        seconds=round(tally.seconds, 2),
        decisions_per_s=round(decided / tally.seconds, 1),
        statuses=tally.by_status(),
        verdicts=tally.by_verdict(),
        reasons=tally.by_reason(),
        gross=books.gross,
        net=books.net,
        givt=books.givt,
        sivt=books.sivt,
        undecided=books.undecided,
        billable_micros=books.billable_micros,
        p50_ms=round(tally.p50_ms, 2),
        p99_ms=round(tally.p99_ms, 2),
        within_50_ms=round(tally.within_budget, 5),
        within_50_ms_or_marked=round(tally.within_budget_or_marked, 5),
        lag_p99_s=round(lags[int(len(lags) * 0.99)], 3) if lags else 0.0,
        resends=tally.resends,
        unanswered=tally.unanswered,
        disagreements=tally.disagreements,
        invariants=books.invariants,
        problems=books.problems,
        served=served,
        budgets=budgets,
        data_dir=str(Path(settings.data_dir)),
        machine=machine(),
    )
