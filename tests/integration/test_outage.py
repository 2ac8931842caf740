"""PostgreSQL is away for seconds under load: every render is answered, and afterwards stands in the ledger once."""

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import replace

import httpx
import psutil
import pytest
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

PLAN = Plan(seed=23, rate=500, seconds=12)
SENT_BEFORE, AWAY_S = 1_000, 4.0
DRAINED_WITHIN_S = 150.0


async def kill(supervisor, watch):
    """Kill PostgreSQL, and let nobody start it again for a while."""
    watch.cancel()
    with suppress(asyncio.CancelledError):
        await watch
    [child] = [child for child in supervisor.states() if child.name == "postgres"]
    os.kill(child.pid, signal.SIGKILL)
    await asyncio.sleep(AWAY_S)
    return asyncio.create_task(watch_over(supervisor))


async def freeze(supervisor, watch):
    """PostgreSQL neither answers nor refuses."""
    [child] = [child for child in supervisor.states() if child.name == "postgres"]
    everyone = [child.pid, *_children(child.pid)]
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(AWAY_S)
    for pid in everyone:
        os.kill(pid, signal.SIGCONT)
    return watch


def _children(pid):
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


async def ready_after(settings, seconds):
    """Ask the gate whether it is ready."""
    await asyncio.sleep(seconds)
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"http://{settings.host}:{settings.gate_port}/readyz")
    return answer.status_code, answer.text


@pytest.mark.parametrize(
    ("outage", "authority"),
    [
        pytest.param(kill, Authority.TOKEN, marks=pytest.mark.soak),
        pytest.param(kill, Authority.REGISTRY, marks=pytest.mark.soak),
        (freeze, Authority.REGISTRY),
        pytest.param(freeze, Authority.TOKEN, marks=pytest.mark.soak),
    ],
)
def test_every_render_is_answered_while_postgresql_is_away_and_kept_once(outage, authority, tmp_path):
    settings = replace(on_free_ports(Settings()), data_dir=tmp_path / "data", campaigns=authority.value)

    async def main(supervisor):
        keys = load_or_make_keys(settings.data_dir)
        watch = asyncio.create_task(watch_over(supervisor))
        flowing = asyncio.Event()

        async def strike():
            await flowing.wait()
            asking = asyncio.create_task(ready_after(settings, AWAY_S * 3 / 4))
            watch_after = await outage(supervisor, watch)
            assert await asking == (200, "ready, spooling\n")
            return watch_after

        def show(live, _):
            if live.sent >= SENT_BEFORE:
                flowing.set()

        away = asyncio.create_task(strike())
        async with Desk(settings) as desk:
            tally, _ = await drive(settings, keys, PLAN, desk, show)
            watch = await away
            books = await check_books(settings, tally)
            await asyncio.to_thread(eventually, lambda: is_drained(settings), DRAINED_WITHIN_S)
            later = await check_books(settings, tally)
            checked = await check_campaigns(settings, mend=False)
        watch.cancel()
        return tally, (books, later), checked

    with stage(settings, keep=True) as (_, supervisor):
        tally, books, checked = asyncio.run(main(supervisor))
    assert (tally.unanswered, tally.disagreements, tally.misaligned) == (0, 0, 0)
    assert tally.by_reason()[Reason.DEGRADED] > PLAN.rate * AWAY_S / 4
    for one in books:
        assert one.problems == []
        assert one.invariants == {"I1": True, "I2": True, "I3": True, "I4": True}
    if authority is Authority.REGISTRY:
        assert checked.budgets.differences == []
