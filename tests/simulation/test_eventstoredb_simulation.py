"""
Several workers, one EventStoreDB under faults before and after each write, and clients that retry, from a seed.

A batch that is retried through any faults, at any worker, is written exactly once: one worker is told that it wrote,
everybody else gets what it wrote, and what stands in the store is one commit per cause, in the order of its stream.
"""

import asyncio
import random
from collections import Counter
from uuid import UUID

import pytest
from esdb_double import Fault, Node, chance, checks
from esdbkit import NOON, an_append, everything, followed, trying

from domain.ids import mint
from ledger.codec import decode
from ledger.store import AlreadyAppended, Appended, Conflict, LedgerUnavailable

pytestmark = pytest.mark.slow

SEEDS = 15
SOAK_SEEDS = 200
QUICK = [
    Fault.UNAVAILABLE,
    Fault.BROKEN_AFTER,
    Fault.TIMEOUT_BEFORE,
    Fault.TIMEOUT_AFTER,
    Fault.BUSY,
    Fault.NOT_READY,
    Fault.NOT_LEADER,
    Fault.NO_LEADER,
]
LOST = [Fault.LOST_BEFORE, Fault.LOST_AFTER]
WORKERS, CAUSES, BATCHES, BATCH, TRIES_MAX = 3, 18, 2, 6, 300


class Client:
    """Appends to one stream under one cause, again and again at any worker, until it is told."""

    def __init__(self, dice: random.Random, stores, *, stream, cause: UUID, told: list) -> None:
        self.dice, self.stores, self.stream, self.cause, self.told = dice, stores, stream, cause, told

    async def run(self) -> None:
        expected, tries = 0, 0
        while True:
            tries += 1
            assert tries < TRIES_MAX
            append = an_append(self.stream, expected, cause=self.cause, at=tries * 100, events=1 + tries % 3)
            try:
                [outcome] = await self.dice.choice(self.stores).append([append], NOON)
            except LedgerUnavailable:
                continue
            match outcome:
                case Conflict(current):
                    expected = current
                case Appended():
                    self.told.append((self.cause, append.events))
                    return
                case AlreadyAppended(commit):
                    self.told.append((self.cause, decode(commit.data)))
                    return


class Batch:
    """First appends to streams of its own, retried whole at any worker until all are told."""

    def __init__(self, dice: random.Random, stores, *, told: list) -> None:
        self.dice, self.stores, self.told = dice, stores, told
        self.appends = [_first(dice) for _ in range(BATCH)]

    async def run(self) -> None:
        for _ in range(TRIES_MAX):
            try:
                outcomes = await self.dice.choice(self.stores).append(self.appends, NOON)
            except LedgerUnavailable:
                continue
            for append, outcome in zip(self.appends, outcomes, strict=True):
                assert isinstance(outcome, Appended | AlreadyAppended)
                self.told.append((append.cause, append.events))
            return
        raise AssertionError("no try was answered")


def _first(dice):
    return an_append(mint(NOON, 7, dice.getrandbits(62)), cause=UUID(int=dice.getrandbits(128)))


def _collide(node, stream):
    """The index takes *stream* for another one that has more entries than it looks through."""
    node.log.collide("busy", f"ledger.impression-{stream}")
    busy = [checks.Proposed(UUID(int=n), "Busy", "application/json", b"{}") for n in range(150)]
    checks.append(node.log, "busy", checks.ANY, busy)
    node.log.flush()


async def _simulate(node, seed):
    dice = random.Random(seed)
    async with trying(node) as tried:
        stores = [await tried.store(deadline_s=0.2, window=4) for _ in range(WORKERS)]
        kinds = [*QUICK * 8, *LOST]
        node.append_faults = chance(seed, dice.choice([0.05, 0.15, 0.3]), kinds)
        node.read_faults = chance(seed + 1, 0.05, [Fault.UNAVAILABLE, Fault.NOT_LEADER])
        streams = [mint(NOON, 7, dice.getrandbits(62)) for _ in range(CAUSES // 3)] + ["serves-eu-1"]
        if dice.random() < 0.5:
            _collide(node, streams[0])
        told: list = []
        clients: list = [Batch(dice, stores, told=told) for _ in range(BATCHES)]
        for _ in range(CAUSES):
            stream, cause = dice.choice(streams), UUID(int=dice.getrandbits(128))
            # The same cause twice: the client gave up waiting and asks another worker meanwhile.
            clients += [Client(dice, stores, stream=stream, cause=cause, told=told) for _ in range(dice.choice([1, 2]))]
        async with asyncio.timeout(60):
            await asyncio.gather(*(client.run() for client in clients))
        node.append_faults = node.read_faults = lambda _: None
        reader = await tried.store()
        _judge(await everything(reader), told)
        assert await followed(reader, 0) == await everything(reader)


def _judge(commits, told):
    stored = {commit.cause: decode(commit.data) for commit in commits}
    assert len(stored) == len(commits), "a cause stands in the ledger twice"
    assert stored == dict(told), "what was answered is what is stored"
    assert all(stored[cause] == events for cause, events in told)
    lengths: Counter = Counter()
    for commit in commits:
        assert commit.version == lengths[commit.stream]
        lengths[commit.stream] += commit.count


def _run(seed):
    with Node() as node:
        node.collision_breaks_calls = (None, Fault.DENIED, Fault.CUT)[seed % 3]
        asyncio.run(_simulate(node, seed))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_batch_retried_through_any_faults_is_written_exactly_once(seed):
    _run(seed)


@pytest.mark.soak
def test_no_faults_of_many_more_seeds_write_anything_twice():
    for seed in range(1_000, 1_000 + SOAK_SEEDS):
        _run(seed)
