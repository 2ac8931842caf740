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
from esdb_double import Fault, Node, chance
from esdbkit import NOON, an_append, everything, followed, impression, trying

from domain.ids import mint
from ledger.codec import decode
from ledger.store import AlreadyAppended, Appended, Conflict, LedgerUnavailable

SEEDS = 20
SLOW_SEEDS = 400
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
WORKERS, CAUSES, TRIES_MAX = 3, 24, 200


@pytest.fixture(scope="module")
def node():
    with Node() as one:
        yield one


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


async def _simulate(node, url, seed):
    dice = random.Random(seed)
    async with trying(node, url) as tried:
        stores = [await tried.store(deadline_s=0.12, window=4) for _ in range(WORKERS)]
        kinds = [*QUICK * 8, *LOST]
        node.append_faults = chance(seed, dice.choice([0.1, 0.3, 0.5]), kinds)
        node.read_faults = chance(seed + 1, 0.05, [Fault.UNAVAILABLE, Fault.NOT_LEADER])
        streams = [mint(NOON, 7, dice.getrandbits(62)) for _ in range(CAUSES // 3)] + ["serves-eu-1"]
        told: list = []
        clients = []
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


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_batch_retried_through_any_faults_is_written_exactly_once(node, seed):
    asyncio.run(_simulate(node, _namespace(node, seed), seed))


@pytest.mark.slow
def test_no_faults_of_many_more_seeds_write_anything_twice(node):
    for seed in range(1_000, 1_000 + SLOW_SEEDS):
        asyncio.run(_simulate(node, _namespace(node, seed), seed))


def _namespace(node, seed):
    address, _, options = node.url.partition("?")
    return f"{address}/seed_{seed}_{impression().int & 0xFFFFFF}?{options}"
