"""Drills of a whole machine under light load: all is answered, rungs are named, and everything comes back by itself."""

import asyncio
import os
import sys
from dataclasses import replace

import httpx
import msgspec
import pytest
from helpers_processes import ROOT, eventually

from domain.reasons import Reason
from ml.traffic.generator import Plan
from service.books import check_books
from service.campaigning import Authority
from service.campaigns_check import check_campaigns
from service.cli_drill import Drilled
from service.demo import drive
from service.keyfiles import load_or_make_keys
from service.reader import Desk
from service.settings import Settings
from service.spooling import is_drained
from service.stage import on_free_ports, stage, watch_over

pytestmark = [pytest.mark.slow, pytest.mark.machine]

PLAN = Plan(seed=29, rate=150, seconds=28)
SENT_BEFORE = 300
DRAINED_WITHIN_S = 60.0
DRILLS = (("spooled", 4), ("stale_budget", 9))
"""Leases last for some seconds without their store."""


async def command(settings, *words):
    """Run `impledger` beside the machine of *settings*; return its exit code and what it printed."""
    environment = {**os.environ, **settings.environment(), "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service.cli", *words, env=environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return process.returncode, out


async def metrics_of(settings):
    async with httpx.AsyncClient() as http:
        return (await http.get(f"http://{settings.host}:{settings.gate_port}/metrics")).text


def test_a_machine_that_is_drilled_answers_all_names_its_rungs_and_recovers_by_itself(tmp_path):
    settings = replace(on_free_ports(Settings()), data_dir=tmp_path / "data", campaigns=Authority.REGISTRY.value)

    async def main(supervisor):
        keys = load_or_make_keys(settings.data_dir)
        watch = asyncio.create_task(watch_over(supervisor))
        flowing = asyncio.Event()

        async def drills():
            await flowing.wait()
            return [
                await command(settings, "drill", rung, "--seconds", str(seconds), "--json") for rung, seconds in DRILLS
            ]

        def show(live, _):
            if live.sent >= SENT_BEFORE:
                flowing.set()

        drilling = asyncio.create_task(drills())
        async with Desk(settings) as desk:
            tally, _ = await drive(settings, keys, PLAN, desk, show)
            drilled = await drilling
            await asyncio.to_thread(eventually, lambda: is_drained(settings), DRAINED_WITHIN_S)
            books = await check_books(settings, tally)
            checked = await check_campaigns(settings, mend=False)
            metrics = await metrics_of(settings)
            unknown = await command(settings, "drill", "sheded")
        watch.cancel()
        return tally, drilled, books, checked, metrics, unknown

    with stage(settings, keep=True) as (_, supervisor):
        tally, drilled, books, checked, metrics, unknown = asyncio.run(main(supervisor))
    assert (tally.unanswered, tally.disagreements, tally.misaligned) == (0, 0, 0)
    for (code, out), (rung, seconds) in zip(drilled, DRILLS, strict=True):
        assert code == 0
        done = msgspec.json.decode(out, type=Drilled)
        assert (done.rung, done.seconds) == (rung, seconds)
        assert done.decisions[rung] > 0
        assert done.recovered_after_s is not None
        assert f'impledger_rung{{rung="{rung}"}} 0.0' in metrics
    assert tally.by_reason()[Reason.DEGRADED] > 0
    assert books.problems == []
    assert books.invariants == {"I1": True, "I2": True, "I3": True, "I4": True}
    assert checked.budgets.differences == []
    assert unknown[0] == 1
