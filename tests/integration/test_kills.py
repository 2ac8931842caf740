"""kill -9 of a process in the middle of real traffic: no answered render is lost, none counts twice, all come back."""

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from ml.traffic.generator import Plan
from service.books import check_books
from service.demo import drive
from service.keyfiles import load_or_make_keys
from service.reader import Desk
from service.settings import Settings
from service.stage import on_free_ports, stage, watch_over

pytestmark = [pytest.mark.slow, pytest.mark.machine]

PLAN = Plan(seed=11, rate=700, seconds=9)
KILL_AFTER_S = (3.0, 5.5)


async def kill(supervisor, victim):
    for after_s in KILL_AFTER_S:
        await asyncio.sleep(after_s - (0 if after_s == KILL_AFTER_S[0] else KILL_AFTER_S[0]))
        [child] = [child for child in supervisor.states() if child.name == victim]
        if child.pid is not None:
            os.kill(child.pid, signal.SIGKILL)


@pytest.mark.parametrize("victim", ["gate", "desk", "postgres"])
def test_a_process_killed_twice_in_the_middle_costs_no_answer(victim, tmp_path):
    settings = replace(on_free_ports(Settings()), data_dir=tmp_path / "data")

    async def main(supervisor):
        keys = load_or_make_keys(settings.data_dir)
        watch = asyncio.create_task(watch_over(supervisor))
        killing = asyncio.create_task(kill(supervisor, victim))
        async with Desk(settings) as desk:
            tally, _ = await drive(settings, keys, PLAN, desk, lambda *_: None)
            await killing
            books = await check_books(settings, tally)
        watch.cancel()
        return tally, books

    with stage(settings, keep=True) as (_, supervisor):
        tally, books = asyncio.run(main(supervisor))
        restarts = {child.name: child.restarts for child in supervisor.states()}
    assert restarts[victim] >= 1
    assert tally.answered > 5_000
    assert (tally.unanswered, tally.disagreements, tally.misaligned) == (0, 0, 0)
    assert books.problems == []
    assert books.invariants == {"I1": True, "I2": True, "I3": True, "I4": True}
