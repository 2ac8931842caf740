"""The spool as a gate has it: what it measures, what makes it ready, who drains and when."""

import asyncio
import os
import time
from dataclasses import replace
from datetime import date

import pytest
from gatekit import PACK, KitGate, Minter
from prometheus_client import CollectorRegistry
from spoolkit import AbsentHolding, AbsentStore

from commands.budget_spool import SpoolMoney
from commands.items import Status
from commands.ladder import Ladder
from commands.recent import RecentSlots
from commands.stranded import Stranded
from domain.reasons import Reason, Verdict
from ledger.breaker import Breaker, BreakerRules, Guard
from ledger.spool import SpoolFull
from ledger.store import LedgerUnavailable
from service import spooling
from service.problems import PROBLEMS, problem_of
from service.processes import LauncherError
from service.settings import Settings
from service.spooling import GateSpool, _Pace, spool_dir


class Database:
    """Answers what a probe asks, or does not."""

    def __init__(self):
        self.is_away = False

    async def fetch(self, statement, arguments):
        assert (statement, arguments) == ("select 1", [])
        if self.is_away:
            raise LedgerUnavailable("away")
        return [(1,)]


class World:
    def __init__(self, tmp_path, **settings):
        self.settings = replace(Settings(), data_dir=tmp_path, **settings)
        self.store = AbsentStore()
        self.database = Database()

    async def start(self):
        spool = GateSpool(self.settings, self.store, self.database, Ladder(time.monotonic), lambda: float("inf"))
        gate = KitGate(spool.store, AbsentHolding(self.store), spooling=spool)
        spool.decide_with(
            gate.ingest,
            keyring=gate.keyring,
            pack=PACK,
            activity=gate.activity,
            funds=None,
            money=SpoolMoney(None, None, self.store.head),
            clock=lambda: gate.now,
        )
        await gate.open(date(2026, 9, 10), date(2026, 9, 23))
        day = gate.now // 86_400_000
        await gate.keyring.ensure([day - 1, day, day + 1], gate.now, b"f" * 32)
        gate.spool = spool
        return gate


def measured(spool):
    registry = CollectorRegistry()
    registry.register(spool)
    return {
        (sample.name.removeprefix("impledger_"), *sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }


def test_an_outage_shows_in_the_metrics_and_so_does_its_end(tmp_path):
    async def main():
        world = World(tmp_path)
        gate = await world.start()
        clients, spool = Minter(), gate.spool
        assert measured(spool)["spool_bytes",] == 0
        with world.store.away("before"):
            await gate.send(clients.render(), clients.render())
            shown = measured(spool)
            assert shown["spool_bytes",] > 100
            assert (shown["spool_segments",], shown["spool_answered_total",]) == (1, 2)
            assert 0 <= shown["spool_oldest_seconds",] < 60
        await spool.drain()
        shown = measured(spool)
        assert (shown["spool_bytes",], shown["spool_drained_total",], shown["spool_redecided_total",]) == (0, 2, 0)
        assert (shown["breaker_open", "ledger"], shown["breaker_open", "database"]) == (0, 0)
        assert (shown["spool_damaged_segments",], shown["spool_has_room",]) == (0, 1)
        await spool.close()
        assert list(spool_dir(world.settings).iterdir()) == [spool_dir(world.settings) / "guard"]

    asyncio.run(main())


def test_an_open_breaker_asks_nobody_drains_nothing_and_closes_by_probes(tmp_path):
    async def main():
        world = World(tmp_path)
        gate = await world.start()
        clients, spool = Minter(), gate.spool
        breaker = spool._guards["ledger"].breaker
        now = [1_000.0]
        breaker.clock = lambda: now[0]
        with world.store.away("before"):
            for _ in range(BreakerRules().failures + 1):
                await gate.send(clients.render())
                now[0] += BreakerRules().silence_s
            assert not spool.is_asking
            world.store.append = None  # whoever asks it now fails
            [answer] = await gate.send(clients.render())
            assert (answer.verdict, answer.reason) == (Verdict.UNCERTAIN, Reason.DEGRADED)
            await spool.drain()
            del world.store.append
        assert measured(spool)["breaker_open", "ledger"] == 1
        now[0] += BreakerRules().pause_s
        for _ in range(BreakerRules().probes):
            await spool.probe()
        assert spool.is_asking
        await spool.drain()
        assert measured(spool)["spool_drained_total",] == BreakerRules().failures + 2
        assert measured(spool)["breaker_openings_total", "ledger"] == 1

    asyncio.run(main())


def test_the_database_of_quarantine_is_probed_by_itself(tmp_path):
    async def main():
        world = World(tmp_path)
        gate = await world.start()
        breaker = gate.spool.guard_database.breaker
        breaker.is_open = True
        breaker._changed_at = -1e9
        world.database.is_away = True
        for _ in range(5):
            await gate.spool.probe()
        assert breaker.is_open
        assert gate.spool.is_asking
        world.database.is_away = False
        for _ in range(BreakerRules().probes):
            await gate.spool.probe()
        assert not breaker.is_open

    asyncio.run(main())


def test_a_full_spool_is_not_ready_and_its_refusal_is_told(tmp_path):
    async def main():
        world = World(tmp_path, spool_max_mb=1)
        gate = await world.start()
        clients = Minter()
        assert gate.spool.is_ready
        gate.spool._spool._max_bytes = 100
        with world.store.away("before"), pytest.raises(SpoolFull) as caught:
            await gate.send(*(clients.render() for _ in range(5)))
        assert problem_of(caught.value) in PROBLEMS.values()
        assert problem_of(caught.value).status == 503
        assert measured(gate.spool)["spool_refused_total",] == 5
        gate.spool._spool._max_bytes = 0
        assert not gate.spool.is_ready

    asyncio.run(main())


def test_a_gate_adopts_what_a_dead_one_left_before_it_is_joined(tmp_path):
    async def main():
        world = World(tmp_path)
        dead = await world.start()
        with world.store.away("before"):
            [answer] = await dead.send(Minter().render())
        assert answer.status is Status.DECIDED
        await dead.spool._spool.close()
        dead.spool._owned._lock = _closed(dead.spool._owned._lock)
        heir = await world.start()
        shown = measured(heir.spool)
        assert (shown["spool_adopted_total",], shown["spool_segments",]) == (1, 1)
        await heir.spool.drain()
        shown = measured(heir.spool)
        assert (shown["spool_segments",], shown["spool_drained_total",]) == (0, 1)

    asyncio.run(main())


def test_what_is_to_be_done_again_is_probing_draining_and_adopting(tmp_path):
    async def main():
        gate = await World(tmp_path).start()
        for every_s, work in gate.spool.works():
            assert every_s > 0
            await work()

    asyncio.run(main())


def test_a_folder_that_cannot_be_used_is_told_with_its_setting(tmp_path):
    (tmp_path / "file").write_text("")
    world = World(tmp_path, spool_dir=str(tmp_path / "file" / "below"))
    with pytest.raises(LauncherError, match="IMPLEDGER_SPOOL_DIR"):
        GateSpool(world.settings, world.store, world.database, Ladder(time.monotonic), lambda: float("inf"))


def test_nothing_stranded_writes_nothing(tmp_path):
    async def main():
        gate = await World(tmp_path).start()
        nothing = Stranded(
            now=0,
            ready=(),
            sent=(),
            counts=(),
            malformed=(),
            slots=RecentSlots(0, 0),
            first=lambda _: None,
            remember=lambda *_: None,
        )
        assert await gate.spool.take(nothing) == []
        assert measured(gate.spool)["spool_segments",] == 0

    asyncio.run(main())


def _closed(file):
    os.close(file)
    return os.open(os.devnull, os.O_RDONLY)


@pytest.mark.parametrize(
    ("asked_ago_s", "missed_ago_s", "rests_s"), [(9.0, 0.1, 0.0), (0.1, 9.0, 0.2), (0.1, 0.1, 0.5), (9.0, 9.0, 0.0)]
)
def test_draining_rests_only_while_somebody_asks_and_longer_where_one_waited_too_long(
    monkeypatch, asked_ago_s, missed_ago_s, rests_s
):
    rested, now = [], 1_000.0

    async def sleep(seconds):
        rested.append(seconds)

    guard = Guard(Breaker(BreakerRules(), lambda: now), 1.0)
    guard.asked_at, guard.missed_at = now - asked_ago_s, now - missed_ago_s
    monkeypatch.setattr(spooling.time, "monotonic", lambda: now)
    monkeypatch.setattr(spooling.asyncio, "sleep", sleep)
    pace = _Pace(guard)
    now += 0.1
    asyncio.run(pace.rest())
    assert rested == [pytest.approx(rests_s)]
