"""Everything on EventStoreDB's double as another process; then the double is killed under load, and comes back."""

import asyncio
from dataclasses import replace

import pytest
from esdbkit import killed, port_of, started
from helpers_processes import eventually

from domain.reasons import Reason
from ml.traffic.generator import Plan
from service.books import check_books
from service.campaigning import Authority
from service.campaigns_check import check_campaigns
from service.demo import drive
from service.keyfiles import load_or_make_keys
from service.reader import Desk
from service.settings import Settings
from service.spooling import is_drained
from service.stage import on_free_ports, stage, watch_over

pytestmark = [pytest.mark.slow, pytest.mark.machine]

PLAN = Plan(seed=29, rate=120, seconds=12)
SENT_BEFORE, AWAY_S = 250, 4.0
DRAINED_WITHIN_S = 150.0


async def away_for_a_while(double, data):
    process, url = double
    await asyncio.to_thread(killed, process)
    await asyncio.sleep(AWAY_S)
    return await asyncio.to_thread(started, data, port_of(url))


def test_every_render_is_answered_while_eventstoredb_is_away_and_kept_once(tmp_path):
    double = started(tmp_path / "log")
    settings = replace(
        on_free_ports(Settings()),
        data_dir=tmp_path / "data",
        ledger_url=double[1],
        campaigns=Authority.REGISTRY.value,
    )

    async def main(supervisor):
        keys = load_or_make_keys(settings.data_dir)
        watch = asyncio.create_task(watch_over(supervisor))
        flowing = asyncio.Event()

        async def strike():
            await flowing.wait()
            return await away_for_a_while(double, tmp_path / "log")

        def show(live, _):
            if live.sent >= SENT_BEFORE:
                flowing.set()

        away = asyncio.create_task(strike())
        async with Desk(settings) as desk:
            tally, _ = await drive(settings, keys, PLAN, desk, show)
            again, _ = await away
            try:
                await asyncio.to_thread(eventually, lambda: is_drained(settings), DRAINED_WITHIN_S)
                books = await check_books(settings, tally)
                checked = await check_campaigns(settings, mend=False)
            finally:
                watch.cancel()
                await asyncio.to_thread(killed, again)
        return tally, books, checked

    with stage(settings, keep=True) as (_, supervisor):
        tally, books, checked = asyncio.run(main(supervisor))
    assert (tally.unanswered, tally.disagreements, tally.misaligned) == (0, 0, 0)
    assert tally.by_reason()[Reason.DEGRADED] > PLAN.rate * AWAY_S / 4
    assert books.problems == []
    assert books.invariants == {"I1": True, "I2": True, "I3": True, "I4": True}
    assert checked.budgets.differences == []
