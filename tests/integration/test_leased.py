"""What gates hold of a budget, as pacing asks for it."""

import asyncio

import pytest
from budgetkit import NOW, PACKS, TODAY, an_opening

from commands.budget_postgres import PostgresBudgets
from commands.budget_store import Exchange, Line
from commands.campaigns import Campaigns
from ledger.postgres import PostgresStore
from ledger.postgres_connection import PostgresConnection
from ledger.store import LedgerUnavailable
from service.leased import Leased

pytestmark = pytest.mark.slow


def test_what_is_leased_and_what_may_be_spent_beyond_it_is_told_in_the_campaigns_currency(postgres_url):
    async def main():
        store, connection = PostgresStore(postgres_url), PostgresConnection(postgres_url, 5.0)
        leased = Leased(postgres_url, store, lambda: NOW)
        assert await leased("c-1") == {}
        campaigns = Campaigns(store, packs=PACKS, clock=lambda: NOW)
        await campaigns.handle("c-1", an_opening(currency="USD"))
        assert await leased("c-1") == {}
        line = Line(campaign="c-1", day=TODAY, version=1, limit_micros=1_000, need=300, stale=70)
        await PostgresBudgets(connection).exchange(
            Exchange(holder="gate-a", seq=1, reported=0, after=0, ttl_ms=60_000, lines=(line,))
        )
        assert await leased("c-1") == {"USD": 370}
        assert await leased("c-2") == {}
        for open_ in (leased, connection, store):
            await open_.close()

    asyncio.run(main())


def test_a_store_that_does_not_answer_is_told():
    async def main():
        url = "postgresql:///nothing?host=/nowhere"
        leased = Leased(url, PostgresStore(url), lambda: NOW)
        with pytest.raises(LedgerUnavailable):
            await leased("c-1")

    asyncio.run(main())
