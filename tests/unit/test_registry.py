"""The gate's copy of campaigns: loaded when asked for, followed by position, honest about its age."""

import asyncio

import pytest
from budgetkit import World, a_change, an_opening
from hypothesis import given as for_all
from hypothesis import strategies as st

from commands.registry import STALE_AFTER_S, Registry
from ledger.store import LedgerUnavailable


def run(test):
    async def main():
        await test(World())

    asyncio.run(main())


async def loaded(world, *ids):
    await world.registry.load(world.registry.missing(ids))
    return [world.registry.look(id_) for id_ in ids]


def test_a_campaign_is_known_once_it_was_loaded():
    async def test(world):
        await world.open("a", budget_micros=77)
        assert world.registry.look("a") is None
        assert world.registry.missing(["a", "b"]) == ["a", "b"]
        a, b = await loaded(world, "a", "b")
        assert (a.budget_micros, a.version, a.time_zone, b) == (77, 1, "Europe/Berlin", None)
        assert world.registry.missing(["a", "b"]) == []

    run(test)


def test_a_change_is_known_once_it_was_followed():
    async def test(world):
        await world.open("a")
        await loaded(world, "a")
        await world.campaigns.handle("a", a_change(budget_micros=5, paused=True))
        assert await world.registry.follow() == 1
        campaign = world.registry.look("a")
        assert (campaign.budget_micros, campaign.version) == (5, 3)
        assert campaign.paused_at is not None

    run(test)


def test_a_campaign_that_nobody_knew_is_known_soon_after_it_was_opened():
    async def test(world):
        assert await loaded(world, "new") == [None]
        await world.open("new")
        assert world.registry.missing(["new"]) == []
        await world.registry.follow()
        assert world.registry.missing(["new"]) == ["new"]
        [campaign] = await loaded(world, "new")
        assert campaign.id == "new"

    run(test)


def test_a_change_that_happens_while_a_stream_is_read_is_not_missed():
    async def test(world):
        await world.open("a")
        await world.registry.follow()
        read = world.ledger.read_streams

        async def slow(streams, limit):
            found = await read(streams, limit)
            await world.campaigns.handle("a", a_change(budget_micros=9))
            await world.open("b")
            await world.registry.follow()
            return found

        world.ledger.read_streams = slow
        original = world.campaigns._events
        world.campaigns._events = lambda stream: plain(read, stream)
        await world.registry.load(["a", "b"])
        del world.ledger.read_streams
        world.campaigns._events = original
        assert world.registry.missing(["a", "b"]) == ["a", "b"]
        a, b = await loaded(world, "a", "b")
        assert (a.budget_micros, b.version) == (9, 1)

    async def plain(read, stream):
        from commands.campaigns import events_of  # noqa: PLC0415

        return events_of((await read([stream], 100)).get(stream, []))

    run(test)


def test_it_is_stale_when_it_was_not_followed_for_a_minute():
    async def test(world):
        assert world.registry.is_stale
        await world.registry.follow()
        world.pass_by(STALE_AFTER_S * 1_000)
        assert not world.registry.is_stale
        world.pass_by(1)
        assert world.registry.is_stale
        await world.registry.follow()
        assert world.registry.age_s == 0

    run(test)


def test_a_ledger_that_does_not_answer_leaves_the_copy_as_it_is():
    class Down:
        async def campaigns(self, *_):
            raise LedgerUnavailable("down")

    async def test(world):
        await world.open("a")
        await loaded(world, "a")
        world.registry._tails = Down()
        world.pass_by(70_000)
        with pytest.raises(LedgerUnavailable):
            await world.registry.follow()
        assert world.registry.look("a").version == 1
        assert world.registry.is_stale

    run(test)


def test_many_changes_are_followed_in_pages():
    async def test(world):
        ids = [f"c-{number}" for number in range(21)]
        for id_ in ids:
            await world.open(id_)
        await loaded(world, *ids)
        for version in range(1, 101):
            for id_ in ids:
                await world.campaigns.handle(id_, a_change(version, budget_micros=version + 5_000))
        assert await world.registry.follow() == 2_100
        assert {world.registry.look(id_).budget_micros for id_ in ids} == {5_100}

    run(test)


def test_what_nobody_asks_for_is_forgotten_and_loaded_again():
    async def test(world):
        registry = Registry(world.ledger, world.tails, campaigns_max=8, clock=world.monotonic)
        ids = [f"c-{number}" for number in range(20)]
        for id_ in ids:
            await world.open(id_)
            await registry.load([id_])
            registry.look("c-0")
            assert len(registry) <= 8
        assert registry.look("c-0") is not None
        assert registry.look("c-1") is None
        assert registry.missing(["c-1"]) == ["c-1"]

    run(test)


actions = st.lists(
    st.tuples(st.sampled_from(["open", "change", "load", "follow"]), st.sampled_from(["a", "b", "c"])), max_size=30
)


@for_all(story=actions)
def test_once_followed_the_copy_says_what_the_streams_say(story):
    async def main():
        world = World()
        registry = Registry(world.ledger, world.tails, campaigns_max=4, clock=world.monotonic)
        for what, id_ in story:
            known = await world.campaigns.read(id_)
            if what == "open" and known is None:
                await world.campaigns.handle(id_, an_opening())
            elif what == "change" and known is not None:
                await world.campaigns.handle(id_, a_change(known.version, budget_micros=known.version + 500))
            elif what == "load":
                await registry.load(registry.missing([id_]))
            elif what == "follow":
                await registry.follow()
        await registry.follow()
        for id_ in "abc":
            copy, told = registry.look(id_), await world.campaigns.read(id_)
            if copy is not None:
                assert (copy.version, copy.budget_micros) == (told.version, told.budget_micros)
            elif registry.missing([id_]) == []:
                assert told is None

    asyncio.run(main())
