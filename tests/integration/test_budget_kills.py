"""kill -9 of the gate in the middle of real traffic: not a micro is booked that the ledger does not have."""

import asyncio
from dataclasses import replace

import pytest
from test_kills import PLAN, kill

from commands.budget_postgres import PostgresBudgets
from ledger.postgres_connection import PostgresConnection
from service.books import check_books
from service.campaigns_check import check_campaigns
from service.demo import drive
from service.keyfiles import load_or_make_keys
from service.reader import Desk
from service.settings import Settings
from service.stage import on_free_ports, stage, watch_over
from service.wiring import database_url

pytestmark = [pytest.mark.slow, pytest.mark.machine]

BURIED_WITHIN_S = 40


async def buried(budgets):
    """Wait until no holder is left that was not heard of in time: the killed gates have been looked up."""
    for _ in range(BURIED_WITHIN_S):
        if sum(not holder.is_buried for holder in (await budgets.state()).holders) <= 1:
            return
        await asyncio.sleep(1)
    raise AssertionError("killed gates are not buried")


def test_a_gate_killed_twice_leaves_every_budget_as_the_ledger_has_it(tmp_path):
    settings = replace(on_free_ports(Settings()), data_dir=tmp_path / "data", campaigns="registry")

    async def main(supervisor):
        keys = load_or_make_keys(settings.data_dir)
        watch = asyncio.create_task(watch_over(supervisor))
        killing = asyncio.create_task(kill(supervisor, "gate"))
        connection = PostgresConnection(database_url(settings), 10.0)
        budgets = PostgresBudgets(connection)
        async with Desk(settings) as desk:
            tally, _ = await drive(settings, keys, PLAN, desk, lambda *_: None)
            await killing
            books = await check_books(settings, tally)
        await buried(budgets)
        checked = await check_campaigns(settings, mend=False)
        await connection.close()
        watch.cancel()
        return tally, books, checked

    with stage(settings, keep=True) as (_, supervisor):
        tally, books, checked = asyncio.run(main(supervisor))
    assert books.problems == []
    assert (checked.unlike, checked.budgets.differences) == ([], [])
    assert checked.budgets.accounts > 40
    assert tally.by_reason()["BUDGET_EXHAUSTED"] > 0
