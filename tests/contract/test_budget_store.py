"""The promises B1-B5 of the budget store, kept by every adapter."""

import asyncio

import psycopg
import pytest
from deskkit import Clock
from msgspec.structs import replace

from commands.budget_memory import MemoryBudgets
from commands.budget_postgres import PostgresBudgets
from commands.budget_store import BOUNDS_MAX, Bound, Corrected, Exchange, Granted, Holder, Line, Void
from commands.spend import belongs_to
from ledger.postgres_connection import PostgresConnection
from ledger.store import LedgerUnavailable

TTL_MS = 10_000
DAY = 20_000


class MemoryWorld:
    def __init__(self):
        self._clock = Clock()
        self.store = MemoryBudgets(self._clock)

    async def later(self, milliseconds):
        self._clock.pass_by(milliseconds)

    async def close(self):
        return


class PostgresWorld:
    """The database's clock is the clock of leases, so the test moves their ends back."""

    def __init__(self, url):
        self._url = url
        self._connection = PostgresConnection(url, 5.0)
        self.store = PostgresBudgets(self._connection)

    async def later(self, milliseconds):
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            await connection.execute("update budget_holders set expires_at = expires_at - %s", [milliseconds])

    async def close(self):
        await self._connection.close()


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def run(request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None

    def on(test):
        async def main():
            world = MemoryWorld() if url is None else PostgresWorld(url)
            try:
                await test(world, world.store)
            finally:
                await world.close()

        asyncio.run(main())

    return on


def a_line(campaign="c-1", **changes):
    told = {"version": 1, "limit_micros": 1_000, "day": DAY}
    return Line(campaign=campaign, **{**told, **changes})


def an_exchange(*lines, holder="gate-a", seq=1, **changes):
    return Exchange(
        **{"holder": holder, "seq": seq, "reported": 0, "after": 0, "ttl_ms": TTL_MS, "lines": lines} | changes
    )


async def spent(store, campaign="c-1", day=0):
    return (await store.state()).spent[campaign, day]


async def bound(store, campaign="c-1"):
    [found] = await store.bounds([campaign])
    return found


def test_what_is_needed_is_granted_as_far_as_there_is_money(run):
    async def test(_, store):
        assert await store.exchange(an_exchange(a_line(need=700))) == {("c-1", DAY): Granted(700, 300)}
        assert await store.exchange(an_exchange(a_line(need=700), holder="gate-b")) == {("c-1", DAY): Granted(300, 0)}
        assert await store.exchange(an_exchange(a_line(need=1), holder="gate-c")) == {("c-1", DAY): Granted(0, 0)}
        assert (await bound(store)).held_micros == 1_000

    run(test)


def test_ahead_of_need_an_eighth_of_what_is_left_is_granted_at_most(run):
    async def test(_, store):
        assert (await store.exchange(an_exchange(a_line(need=200, ahead=800))))["c-1", DAY].micros == 300
        granted = await store.exchange(an_exchange(a_line(need=600, ahead=50), holder="gate-b"))
        assert granted["c-1", DAY] == Granted(600 + 12, 88)
        granted = await store.exchange(an_exchange(a_line(need=80, ahead=9), holder="gate-c"))
        assert granted["c-1", DAY] == Granted(80, 8)

    run(test)


def test_a_campaign_that_nobody_has_told_the_limit_of_gets_nothing(run):
    async def test(_, store):
        asked = an_exchange(a_line(need=5, version=-1, limit_micros=None))
        assert await store.exchange(asked) == {("c-1", DAY): Granted(0, 0)}
        assert await bound(store) == Bound(
            campaign="c-1", limit_micros=None, spent_micros=0, held_micros=0, stale_micros=0
        )

    run(test)


def test_lines_that_neither_ask_nor_keep_anything_are_not_answered(run):
    async def test(_, store):
        assert await store.exchange(an_exchange(a_line())) == {}
        assert await store.exchange(an_exchange(seq=2)) == {}
        assert await store.exchange(an_exchange(a_line(keep=5), seq=3)) == {("c-1", DAY): Granted(0, 995)}

    run(test)


def test_the_days_of_a_campaign_share_its_limit_and_each_keeps_to_its_own(run):
    async def test(_, store):
        lines = [a_line(need=400, daily_limit_micros=300), a_line(need=800, day=DAY + 1, daily_limit_micros=900)]
        granted = await store.exchange(an_exchange(*lines))
        assert granted["c-1", DAY] == Granted(300, 0)
        assert granted["c-1", DAY + 1].micros == 600
        again = an_exchange(a_line(day=DAY + 1, need=900, daily_limit_micros=900), holder="gate-b")
        assert (await store.exchange(again))["c-1", DAY + 1].micros == 100

    run(test)


def test_the_limit_of_the_latest_version_holds_whoever_tells_it_last(run):
    async def test(_, store):
        await store.exchange(an_exchange(a_line(version=3, limit_micros=50)))
        await store.exchange(an_exchange(a_line(version=2, limit_micros=9_000), holder="gate-b"))
        assert (await bound(store)).limit_micros == 50
        await store.exchange(
            an_exchange(a_line(version=4, limit_micros=80, daily_limit_micros=7), holder="gate-b", seq=2)
        )
        assert (await store.exchange(an_exchange(a_line(version=3, need=60), seq=2)))["c-1", DAY].micros == 7
        await store.exchange(an_exchange(a_line(version=5, limit_micros=80), holder="gate-b", seq=3))
        assert (await store.exchange(an_exchange(a_line(version=4, need=60, keep=7), seq=3)))["c-1", DAY].micros == 60

    run(test)


def test_what_is_reported_is_booked_and_leaves_what_is_held(run):
    async def test(_, store):
        await store.exchange(an_exchange(a_line(need=700)))
        await store.exchange(an_exchange(a_line(spent=450, keep=250), seq=2, reported=1))
        assert await spent(store) == await spent(store, day=DAY) == 450
        assert (await bound(store)).held_micros == 250
        [holder] = (await store.state()).holders
        assert holder == Holder(name="gate-a", seq=2, reported=1, after=0)

    run(test)


def test_money_of_an_unknown_day_counts_for_the_campaign_alone(run):
    async def test(_, store):
        line = a_line(day=0, version=-1, limit_micros=None, spent=40)
        await store.exchange(an_exchange(line, reported=1))
        assert (await store.state()).spent == {("c-1", 0): 40}
        assert (await store.exchange(an_exchange(a_line(need=2_000), seq=2, reported=1)))["c-1", DAY].micros == 960

    run(test)


def test_a_report_that_comes_again_is_booked_once(run):
    async def test(_, store):
        await store.exchange(an_exchange(a_line(need=700)))
        report = an_exchange(a_line(spent=450, keep=250), seq=2, reported=1)
        await store.exchange(report)
        await store.exchange(replace(report, seq=3))
        assert await spent(store) == 450
        assert (await bound(store)).held_micros == 250

    run(test)


def test_an_exchange_that_is_executed_late_changes_nothing(run):
    async def test(_, store):
        await store.exchange(an_exchange(a_line(need=100), seq=2))
        assert await store.exchange(an_exchange(a_line(need=500, keep=0), seq=1)) == {}
        assert await store.exchange(an_exchange(a_line(need=500, keep=0), seq=2)) == {}
        assert (await bound(store)).held_micros == 100

    run(test)


def test_a_grant_whose_answer_was_lost_is_free_again_once_the_holder_says_what_it_has(run):
    async def test(_, store):
        await store.exchange(an_exchange(a_line(need=800)))
        await store.exchange(an_exchange(a_line(keep=0, need=0), seq=2))
        assert (await bound(store)).held_micros == 0
        assert (await store.exchange(an_exchange(a_line(need=900), holder="gate-b")))["c-1", DAY].micros == 900

    run(test)


def test_a_holder_is_due_when_it_was_not_heard_of_for_its_time(run):
    async def test(world, store):
        await store.exchange(an_exchange(a_line(need=10), after=17))
        await world.later(TTL_MS - 1_000)
        assert await store.due(10) == []
        await world.later(1_000)
        assert await store.due(10) == [Holder(name="gate-a", seq=1, reported=0, after=17)]
        await store.exchange(an_exchange(seq=2))
        assert await store.due(10) == []

    run(test)


def test_a_buried_holder_spent_what_the_ledger_says_and_the_rest_is_free(run):
    async def test(world, store):
        await store.exchange(an_exchange(a_line(need=700), a_line("c-2", need=100)))
        await world.later(TTL_MS)
        [dead] = await store.due(10)
        assert await store.bury(dead, {("c-1", DAY): 60}, 99)
        assert await spent(store) == await spent(store, day=DAY) == 60
        assert [found.held_micros for found in await store.bounds(["c-1", "c-2"])] == [0, 0]
        assert await store.due(10) == []
        assert not await store.bury(dead, {("c-1", DAY): 60}, 99)
        assert await spent(store) == 60

    run(test)


def test_who_is_heard_of_is_not_buried(run):
    async def test(world, store):
        await store.exchange(an_exchange(a_line(need=700)))
        await world.later(TTL_MS)
        [dead] = await store.due(10)
        await store.exchange(an_exchange(a_line(keep=700), seq=2))
        assert not await store.bury(dead, {("c-1", DAY): 60}, 99)
        await world.later(TTL_MS)
        assert not await store.bury(dead, {("c-1", DAY): 60}, 99)
        assert (await bound(store)).held_micros == 700

    run(test)


def test_a_buried_holder_that_comes_back_is_void_and_looked_at_once_more(run):
    async def test(world, store):
        await store.exchange(an_exchange(a_line(need=700)))
        await world.later(TTL_MS)
        [dead] = await store.due(10)
        await store.bury(dead, {}, 99)
        for seq in (2, 3):
            with pytest.raises(Void):
                await store.exchange(an_exchange(a_line(keep=700, need=10), seq=seq))
        assert (await bound(store)).held_micros == 0
        assert await store.due(10) == []
        await world.later(TTL_MS)
        [again] = await store.due(10)
        assert (again.name, again.after, again.booked_through, again.is_void) == ("gate-a", 99, 99, True)
        assert not await store.bury(dead, {("c-1", DAY): 5}, 99)
        assert await store.bury(again, {("c-1", DAY): 5}, 120)
        assert await spent(store) == 5
        with pytest.raises(Void):
            await store.exchange(an_exchange(seq=4))

    run(test)


def test_a_grave_is_forgotten_after_a_day(run):
    async def test(world, store):
        await store.exchange(an_exchange(a_line(need=700)))
        await world.later(TTL_MS)
        [dead] = await store.due(10)
        await store.bury(dead, {}, 99)
        await world.later(86_400_000)
        assert await store.due(10) == []
        assert (await store.state()).holders == []

    run(test)


def test_a_period_of_unknown_outcome_is_held_under_its_own_name_until_the_ledger_is_asked(run):
    async def test(world, store):
        await store.exchange(an_exchange(a_line(need=700), after=3))
        orphaned = an_exchange(
            a_line(spent=450, keep=250), seq=2, reported=1, after=8, orphan="gate-a.1", orphan_after=5
        )
        await store.exchange(orphaned)
        await store.exchange(replace(orphaned, seq=3))
        assert await spent(store) == 0
        assert (await bound(store)).held_micros == 700
        await world.later(TTL_MS)
        await store.exchange(an_exchange(seq=4, reported=1))
        [orphan] = await store.due(10)
        assert (orphan.name, orphan.after) == ("gate-a.1", 5)
        assert await store.bury(orphan, {("c-1", DAY): 200}, 50)
        assert await spent(store) == 200
        assert (await bound(store)).held_micros == 250
        assert [holder.name for holder in (await store.state()).holders] == ["gate-a"]

    run(test)


def test_a_holder_that_leaves_is_forgotten_after_a_day_unless_it_holds_something(run):
    async def test(world, store):
        await store.exchange(an_exchange(a_line(need=5)))
        await store.leave("gate-a")
        assert not (await store.state()).holders[0].is_buried
        await store.exchange(an_exchange(a_line(), seq=2))
        await store.leave("gate-a")
        assert await store.corrected() == Corrected(0, None), "nothing waits for it any more"
        await world.later(TTL_MS + 86_400_000)
        assert await store.due(10) == []
        assert (await store.state()).holders == []

    run(test)


def test_an_exchange_that_is_executed_after_its_holder_left_books_nothing_again(run):
    async def test(world, store):
        await store.exchange(an_exchange(a_line(need=700), after=3))
        report = an_exchange(a_line(spent=450), seq=2, reported=1, after=9)
        await store.exchange(report)
        await store.exchange(replace(report, seq=3))
        await store.leave("gate-a")
        for late in (report, replace(report, seq=4)):
            with pytest.raises(Void):
                await store.exchange(late)
        assert (await spent(store), (await bound(store)).held_micros) == (450, 0)
        await world.later(TTL_MS)
        [holder] = await store.due(10)
        assert holder.after == 9, "only what came after its last report is looked through"
        assert not belongs_to("gate-a.1", holder)

    run(test)


def test_corrections_are_booked_in_order_and_once(run):
    async def test(_, store):
        assert await store.corrected() == Corrected(0, None)
        assert await store.book(0, 40, {"c-1": -300, "c-2": 10})
        assert not await store.book(0, 40, {"c-1": -300})
        assert await store.book(40, 41, {})
        assert await store.corrected() == Corrected(41, None)
        assert (await store.state()).spent == {("c-1", 0): -300, ("c-2", 0): 10}
        assert (await store.exchange(an_exchange(a_line(need=5_000))))["c-1", DAY].micros == 1_300

    run(test)


def test_corrections_wait_for_what_holders_have_not_reported(run):
    async def test(world, store):
        await store.exchange(an_exchange(after=70))
        await store.exchange(an_exchange(after=30, holder="gate-b"))
        assert await store.corrected() == Corrected(0, 30)
        await store.exchange(an_exchange(after=90, holder="gate-b", seq=2))
        assert await store.corrected() == Corrected(0, 70)
        await world.later(TTL_MS)
        for dead in await store.due(10):
            await store.bury(dead, {}, 95)
        assert await store.corrected() == Corrected(0, None)

    run(test)


def test_what_is_mended_is_added(run):
    async def test(_, store):
        await store.mend({})
        await store.mend({("c-1", 0): 30, ("c-1", DAY): 20})
        await store.mend({("c-1", 0): -10})
        assert (await store.state()).spent == {("c-1", 0): 20, ("c-1", DAY): 20}

    run(test)


def test_the_bound_is_what_is_held_and_what_may_be_spent_without_the_store(run):
    async def test(_, store):
        await store.exchange(an_exchange(a_line(need=700, stale=120)))
        await store.exchange(an_exchange(a_line(need=100, stale=30), holder="gate-b"))
        found = await bound(store)
        assert (found.held_micros, found.stale_micros, found.overshoot_micros) == (800, 150, 0)
        await store.exchange(an_exchange(a_line(spent=700, keep=0, need=200, stale=120), seq=2, reported=1))
        found = await bound(store)
        assert (found.spent_micros, found.held_micros, found.overshoot_micros) == (700, 300, 150)
        assert await store.bounds(["nobody"]) == []
        with pytest.raises(ValueError, match="more than"):
            await store.bounds(["c"] * (BOUNDS_MAX + 1))

    run(test)


def test_more_spent_than_there_was_is_told_as_less_than_nothing_free(run):
    async def test(_, store):
        await store.exchange(an_exchange(a_line(need=900)))
        granted = await store.exchange(an_exchange(a_line(spent=1_300, keep=0, need=1), seq=2, reported=1))
        assert granted == {("c-1", DAY): Granted(0, -300)}

    run(test)


@pytest.mark.slow
def test_a_store_that_is_not_there_is_unavailable():
    async def main():
        store = PostgresBudgets(PostgresConnection("postgresql:///nothing?host=/nowhere", 1.0))
        for call in (store.exchange(an_exchange()), store.due(1), store.state(), store.corrected()):
            with pytest.raises(LedgerUnavailable):
                await call

    asyncio.run(main())


@pytest.mark.slow
def test_many_holders_at_once_never_get_more_than_there_is(postgres_url):
    """Each on its own connection, over the same campaigns in other orders, while it is mended: no deadlock."""

    async def holder(name, names):
        connection = PostgresConnection(postgres_url, 10.0)
        store, got = PostgresBudgets(connection), dict.fromkeys(names, 0)
        for seq in range(1, 31):
            lines = [a_line(one, version=seq, need=7, keep=got[one]) for one in names]
            for (campaign, _), granted in (await store.exchange(an_exchange(*lines, holder=name, seq=seq))).items():
                got[campaign] += granted.micros
        await connection.close()
        return got

    async def mender(names):
        connection = PostgresConnection(postgres_url, 10.0)
        store = PostgresBudgets(connection)
        for number in range(60):
            await store.mend({(one, DAY * (at % 2)): 1 - 2 * (number % 2) for at, one in enumerate(names)})
        await connection.close()
        return dict.fromkeys(names, 0)

    async def main():
        names = [f"c-{number}" for number in range(40)]
        gates = [holder(f"gate-{n}", names[n:] + names[:n]) for n in range(6)]
        held = await asyncio.gather(*gates, mender(names))
        for one in names:
            assert sum(got[one] for got in held) == 1_000

    asyncio.run(main())
