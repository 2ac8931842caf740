"""The list of campaigns follows the ledger, over every adapter; it can be checked and put right."""

import asyncio

import pytest
from budgetkit import World, a_change, an_opening
from gatekit import NOW
from msgspec.structs import replace

from commands.campaign_table import CampaignList, MemoryCampaignTable
from commands.campaign_table_postgres import PostgresCampaignTable
from commands.campaigns import stream_of
from commands.ledger_tails_postgres import PostgresTails
from domain.campaign import Unopened, decide_campaign, opened_campaign
from ledger.postgres import PostgresStore
from ledger.postgres_connection import PostgresConnection
from ledger.store import Append


class Kit:
    def __init__(self, world, table):
        self.world = world
        self.table = table
        self.list = CampaignList(world.ledger, world.tails, table)

    async def open(self, *ids, **changes):
        for id_ in ids:
            await self.world.campaigns.handle(id_, an_opening(**changes))

    async def names(self, after="", limit=100, advertiser=""):
        return [campaign.id for campaign in await self.table.page(after, limit, advertiser)]


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def run(request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None

    def on(test):
        async def main():
            if url is None:
                await test(Kit(World(), MemoryCampaignTable()))
                return
            store, connection = PostgresStore(url), PostgresConnection(url, 5.0)
            world = World(ledger=store, budgets=None)
            world.tails = PostgresTails(connection)
            try:
                await test(Kit(world, PostgresCampaignTable(connection)))
            finally:
                await store.close()
                await connection.close()

        asyncio.run(main())

    return on


def test_campaigns_are_listed_page_by_page_in_order_of_name(run):
    async def test(kit):
        await kit.open("b", "a-1", "C")
        await kit.open("a-2", advertiser="advertiser-2")
        assert await kit.names() == []
        assert await kit.list.follow() == await kit.world.ledger.head()
        assert await kit.names() == ["C", "a-1", "a-2", "b"]
        assert await kit.names(limit=2) == ["C", "a-1"]
        assert await kit.names(after="a-1", limit=2) == ["a-2", "b"]
        assert await kit.names(advertiser="advertiser-2") == ["a-2"]
        assert await kit.table.having(["b", "nobody"]) == {"b"}
        for limit in (0, 1_001):
            with pytest.raises(ValueError, match="limit"):
                await kit.table.page("", limit)

    run(test)


def test_a_name_that_no_database_takes_stops_no_other_campaign(run):
    async def test(kit):
        [opened] = decide_campaign(Unopened(), an_opening())
        of_old = (replace(opened, advertiser="a\0b"),)
        append = Append(stream=stream_of("a"), expected=0, cause=opened.cause, digest="d", events=of_old)
        await kit.world.ledger.append([append], NOW)
        await kit.open("b")
        await kit.list.follow()
        assert await kit.names() == ["a", "b"]
        assert (await kit.table.page("", 1))[0].advertiser == "a\0b"
        assert await kit.list.check() == []

    run(test)


def test_a_change_is_listed_once_it_was_followed(run):
    async def test(kit):
        await kit.open("a")
        await kit.list.follow()
        await kit.world.campaigns.handle("a", a_change(paused=True, budget_micros=77))
        await kit.list.follow()
        [campaign] = await kit.table.page("", 10)
        assert campaign == await kit.world.campaigns.read("a")
        assert (campaign.paused_at, campaign.version) == (NOW, 3)

    run(test)


def test_an_older_row_never_replaces_a_newer_one(run):
    async def test(kit):
        newer = replace(opened_campaign("a", an_opening_event()), version=5)
        await kit.table.put([newer], 10)
        await kit.table.put([replace(newer, version=4, paused_at=1)], 8)
        assert (await kit.table.page("", 1), await kit.table.through()) == ([newer], 10)

    run(test)


def an_opening_event():
    [event] = decide_campaign(Unopened(), an_opening())
    return event


def test_what_is_wrong_in_the_table_is_found_and_put_right(run):
    async def test(kit):
        await kit.open("a", "b", "c")
        await kit.list.follow()
        assert await kit.list.check() == []
        [a, b, _] = await kit.table.page("", 3)
        await kit.table.replace([replace(a, budget_micros=1), replace(b, id="ghost")], ["c"])
        assert await kit.list.check() == ["a", "c", "ghost"]
        assert await kit.list.check(mend=True) == ["a", "c", "ghost"]
        assert await kit.list.check() == []
        assert await kit.names() == ["a", "b", "c"]
        await kit.table.replace([], await kit.names())
        assert await kit.list.check(mend=True) == ["a", "b", "c"]
        assert await kit.names() == ["a", "b", "c"]

    run(test)
