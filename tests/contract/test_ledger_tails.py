"""Following the ledger by position: campaigns' commits, and later commits of impressions, over every adapter."""

import asyncio

import pytest
from budgetkit import World, a_change, a_correction_of, a_decision, a_token, appending
from gatekit import NOW

from commands.campaigns import stream_of
from commands.ledger_tails import Looked
from commands.ledger_tails_eventstoredb import EventStoreDbTails
from commands.ledger_tails_postgres import PostgresTails
from commands.ledger_tails_segments import SegmentTails
from domain.aggregates import AnswersCounted
from domain.funding import Funding
from domain.reasons import Reason
from ledger.eventstoredb import EventStoreDbStore
from ledger.postgres import PostgresStore
from ledger.postgres_connection import PostgresConnection
from ledger.segments import open_segments
from ledger.store import Append

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("postgres", "segments")]


@pytest.fixture(params=["memory", *SLOW, "eventstoredb"])
def run(request):
    urls = {"postgres": "postgres_url", "eventstoredb": "esdb_url", "segments": "segments_urls"}
    url = request.getfixturevalue(urls[request.param]) if request.param in urls else None

    def on(test):
        async def main():
            if url is None:
                await test(World())
                return
            if request.param in {"eventstoredb", "segments"}:
                in_segments = request.param == "segments"
                store = open_segments(*url) if in_segments else EventStoreDbStore(url)
                world = World(ledger=store)
                world.tails = SegmentTails(store) if in_segments else EventStoreDbTails(store)
                try:
                    await test(world)
                finally:
                    await store.close()
                return
            store, connection = PostgresStore(url), PostgresConnection(url, 5.0)
            world = World(ledger=store)
            world.tails = PostgresTails(connection)
            try:
                await test(world)
            finally:
                await store.close()
                await connection.close()

        asyncio.run(main())

    return on


async def an_impression(world, *, corrected=False):
    token = a_token()
    event = a_decision(token, (), Funding())
    await world.ledger.append([appending(event, token.impression)], NOW)
    if corrected:
        correction = a_correction_of(event, Reason.STACKED)
        await world.ledger.append([appending(correction, token.impression, expected=1)], NOW)
    return token.impression


async def a_count(world, stream="rejects-eu-1"):
    event = AnswersCounted(cause=a_change().cause, digest="", unmoved=1, counted_at=NOW)
    await world.ledger.append([Append(stream=stream, expected=0, cause=event.cause, digest="", events=(event,))], NOW)


def test_campaigns_commits_come_in_order_and_nothing_else(run):
    async def test(world):
        await world.open("a")
        await an_impression(world)
        await a_count(world)
        await a_count(world, "campaigns-of-nobody")
        await world.open("b")
        await world.campaigns.handle("a", a_change(paused=True))
        looked = await world.tails.campaigns(0, 10)
        commits = looked.commits
        assert [commit.stream for commit in commits] == [stream_of(one) for one in ("a", "b", "a")]
        assert [commit.version for commit in commits] == [0, 0, 1]
        assert looked.through == commits[-1].position == await world.ledger.head()
        assert await world.tails.campaigns(0, 1) == Looked(commits[:1], commits[0].position)
        assert (await world.tails.campaigns(commits[0].position, 10)).commits == commits[1:]
        await an_impression(world)
        nothing = await world.tails.campaigns(looked.through, 10)
        assert not nothing.commits
        assert looked.through <= nothing.through <= await world.ledger.head()
        await world.campaigns.handle("a", a_change(paused=False, seen_version=2))
        [change] = (await world.tails.campaigns(nothing.through, 10)).commits
        assert (change.stream, change.version) == (stream_of("a"), 2)

    run(test)


def test_later_commits_of_impressions_come_in_order_and_nothing_else(run):
    async def test(world):
        await world.open("a")
        first = await an_impression(world, corrected=True)
        await an_impression(world)
        second = await an_impression(world, corrected=True)
        await a_count(world)
        later = await world.tails.later(0, 10)
        assert [(commit.stream, commit.version) for commit in later.commits] == [(first, 1), (second, 1)]
        assert later.through >= later.commits[-1].position
        assert await world.tails.later(later.through, 10) == type(later)([], later.through)
        one = await world.tails.later(0, 1)
        assert (one.commits, one.through) == (later.commits[:1], later.commits[0].position)
        none = await world.tails.later(0, 10, through=later.commits[0].position - 1)
        assert (none.commits, none.through) == ([], later.commits[0].position - 1)

    run(test)


def test_an_empty_ledger_has_nothing_to_follow(run):
    async def test(world):
        assert await world.tails.campaigns(0, 1) == Looked([], 0)
        assert (await world.tails.later(0, 1)).through == 0
        for read in (world.tails.campaigns, world.tails.later):
            for limit in (0, 10_001):
                with pytest.raises(ValueError, match="limit"):
                    await read(0, limit)

    run(test)
