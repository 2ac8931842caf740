"""What an answer waits for has a time: stores that never answer keep it no longer than that."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager
from datetime import date

import pytest
from budgetkit import SpendingGate, World
from gatekit import NOW, PRICE, KitGate, Minter

from commands.budget_postgres import PostgresBudgets
from commands.countdown import ANSWER_WITHIN_S, BUSY_SHARE, EACH_S, SMALL_MAX, Busyness, Countdown, finishes
from commands.funding import READY_WITHIN_S
from commands.holding_memory import MemoryDayKeys
from commands.intake import KEYS_WITHIN_S
from commands.items import Status
from commands.keyring import DAY_MS
from domain.reasons import Reason, Verdict
from ledger.breaker import Breaker, BreakerRules, Guard, NotAsked
from ledger.postgres_connection import PostgresConnection
from ledger.store import LedgerUnavailable
from service.laddering import GateLadder

CAMPAIGN = "campaign-1"
HANGING_S = 5.0
"""How long a connection waits for a server by itself."""
GENEROUS_S = 2.0
"""Far more than any answer takes on a busy machine, and far less than a server that hangs."""


@contextmanager
def a_server_that_never_answers():
    """The address of one that takes connections and says nothing."""
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take():
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take)
        thread.start()
        yield f"postgresql://nobody@127.0.0.1:{server.getsockname()[1]}/none"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in taken:
            connection.close()


async def a_gate(world, spending, **kept):
    await spending.registry.follow()
    gate = KitGate(world.ledger, funds=spending.funds, countdown=Countdown(time.monotonic), **kept)
    await gate.open(date(2026, 9, 10), date(2026, 9, 23))
    return gate


def test_a_lease_store_that_hangs_keeps_no_answer():
    async def test(url):
        world, clients = World(), Minter()
        await world.open(CAMPAIGN, budget_micros=100 * PRICE)
        connection = PostgresConnection(url, HANGING_S)
        gate = await a_gate(world, SpendingGate(world, budgets=PostgresBudgets(connection)))
        took = []
        for _ in range(5):
            began = time.monotonic()
            [answer] = await gate.send(clients.render())
            took.append(time.monotonic() - began)
            assert (answer.verdict, answer.reason) == (Verdict.UNCERTAIN, Reason.DEGRADED)
            assert answer.rung == "stale_budget"
        assert took[0] >= READY_WITHIN_S / 2
        assert max(took) < GENEROUS_S
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    with a_server_that_never_answers() as url:
        asyncio.run(test(url))


class HangingLoads:
    """A ledger whose campaigns' streams are never read to the end, until it is `released`."""

    def __init__(self, store):
        self._store = store
        self.released = asyncio.Event()
        self.reads = 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def read_streams(self, streams, limit):
        if isinstance(streams[0], str):
            self.reads += 1
            await self.released.wait()
        return await self._store.read_streams(streams, limit)


def test_a_campaign_that_cannot_be_loaded_in_time_is_doubted_and_there_for_the_next_batch():
    async def test():
        world, clients = World(), Minter()
        await world.open(CAMPAIGN, budget_micros=100 * PRICE)
        spending = SpendingGate(world)
        store = spending.registry._store = HangingLoads(world.ledger)
        gate = await a_gate(world, spending)
        began = time.monotonic()
        for _ in range(3):
            [answer] = await gate.send(clients.render())
            assert (answer.verdict, answer.reason) == (Verdict.UNCERTAIN, Reason.REGISTRY_BEHIND)
        assert time.monotonic() - began < GENEROUS_S
        assert store.reads == 1
        store.released.set()
        await spending.funds._loading
        [answer] = await gate.send(clients.render())
        assert answer.verdict is Verdict.VALID

    asyncio.run(test())


class HangingKeys(MemoryDayKeys):
    """Day keys; that of `slow` is not there until it is `released`."""

    def __init__(self, slow):
        super().__init__()
        self.slow = slow
        self.released = asyncio.Event()
        self.asked = 0

    async def load_or_keep(self, day, wrapped, destroy_at):
        if day == self.slow:
            self.asked += 1
            await self.released.wait()
        return await super().load_or_keep(day, wrapped, destroy_at)


def test_a_day_whose_key_is_late_defers_its_own_renders_only_and_is_fetched_once():
    async def test():
        clients = Minter()
        yesterday = clients.token(at=NOW - DAY_MS)
        keys = HangingKeys(NOW // DAY_MS - 1)
        gate = KitGate(day_keys=keys)
        await gate.open(date(2026, 9, 10), date(2026, 9, 23))
        late = clients.render(yesterday)
        began = time.monotonic()
        answers = await gate.send(late, clients.render())
        assert KEYS_WITHIN_S / 2 < time.monotonic() - began < GENEROUS_S
        assert [answer.status for answer in answers] == [Status.DEFERRED, Status.DECIDED]
        assert str(answers[0].event_id) == late["event_id"]
        assert await gate.events(yesterday.impression) == []
        with pytest.raises(LedgerUnavailable, match="no key"):
            await gate.send(late)
        keys.released.set()
        [again] = await gate.send(late)
        assert (again.status, again.verdict) == (Status.DECIDED, Verdict.VALID)
        assert keys.asked == 1

    asyncio.run(test())


def test_waits_of_one_batch_share_its_time():
    async def test():
        now = 0.0
        countdown = Countdown(lambda: now, within_s=0.04)
        guard = Guard(Breaker(BreakerRules(), time.monotonic), 5.0, countdown.left_s)

        async def never():
            await asyncio.Event().wait()

        async def at_once():
            return "answered"

        assert await guard.call(at_once) == "answered"
        countdown.begin(0)
        now = 0.03
        began = time.monotonic()
        with pytest.raises(LedgerUnavailable, match="within 10 ms"):
            await guard.call(never)
        assert time.monotonic() - began < GENEROUS_S
        now = 0.039
        patient = Guard(Breaker(BreakerRules(), time.monotonic), 5.0, countdown.left_s)
        with pytest.raises(NotAsked, match="no time"):
            await patient.call(at_once)
        countdown.end()
        assert await patient.call(at_once) == "answered"
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("is_busy", "renders", "waited_s", "left_s"),
    [
        (False, 1, 0.0, 0.035),
        (False, SMALL_MAX, 0.0, 0.035),
        (False, SMALL_MAX + 10, 0.0, 0.039),
        (False, 1, 0.02, 0.015),
        (False, 1, 0.3, 0.0),
        (True, 1, 0.0, 0.0354),
        (True, 100, 0.3, 0.075),
    ],
)
def test_a_batch_has_what_its_renders_did_not_wait_and_in_a_busy_gate_what_so_many_need(
    is_busy, renders, waited_s, left_s
):
    countdown = Countdown(lambda: 7.0, is_busy=lambda: is_busy)
    countdown.waited(waited_s)
    countdown.begin(renders)
    assert countdown.left_s() == pytest.approx(left_s)
    countdown.end()
    countdown.begin(1)
    assert countdown.left_s() == pytest.approx(ANSWER_WITHIN_S, abs=2 * EACH_S), "another batch's wait"


def test_a_gate_is_busy_by_the_cpu_time_that_it_has_used_lately():
    at, used = 100.0, 9.0
    busyness = Busyness(lambda: at, lambda: used)
    busyness.tick()
    assert busyness.share == 0, "no time has passed"
    for _ in range(20):
        at, used = at + 0.25, used + 0.2
        busyness.tick()
    assert busyness.share == pytest.approx(0.8, abs=0.01)
    shares = []
    for _ in range(8):
        at += 0.25
        busyness.tick()
        shares.append(busyness.share)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > BUSY_SHARE > shares[-1]


def test_the_ladder_of_a_gate_tells_its_countdown_of_waits_and_of_work(monkeypatch):
    used = 0.0
    monkeypatch.setattr("time.process_time", lambda: used)
    ladder = GateLadder()
    ladder.waited(0.03)
    ladder.countdown.begin(1)
    assert ladder.countdown.left_s() < 0.006
    ladder.countdown.end()

    async def test():
        nonlocal used
        used = 1_000.0
        await ladder.tick()
        ladder.waited(1.0)
        ladder.countdown.begin(1)
        assert ladder.countdown.left_s() > 0, "what waited counts only where there is time to spare"

    asyncio.run(test())


def test_what_is_not_finished_in_time_goes_on_and_its_error_is_nobodys():
    async def test():
        release = asyncio.Event()

        async def fails():
            await release.wait()
            raise ValueError

        task = asyncio.create_task(fails())
        assert not await finishes(task, 0.0)
        release.set()
        await asyncio.wait({task})

    asyncio.run(test())
