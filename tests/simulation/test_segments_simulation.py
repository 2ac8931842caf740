"""
Several writers of one ledger in segments, faults of EventStoreDB and breaks on both sides of every write, from a seed.

What is told and what is real is the same, every cause once, and a reader that polls all along sees every commit once,
in the order in which it stays.
"""

import asyncio
import random
from uuid import UUID

import pytest
from esdb_double import Fault, Node, chance
from esdbkit import everything
from segmentskit import Breaking, stores_on
from test_eventstoredb_simulation import LOST, QUICK, Batch, Client, _judge

from domain.ids import mint

SEEDS = 12
NOON = 1_790_000_000_000
WRITERS, CAUSES, BATCHES = 3, 14, 4

pytestmark = pytest.mark.slow


async def _poll(store, is_over):
    """Return what a reader sees that asks again and again for what comes after the last commit that it saw."""
    seen, after = [], 0
    while True:
        last_round = is_over.is_set()
        page = await store.read_all(after, 5)
        seen += page
        after = seen[-1].position if seen else 0
        if not page:
            if last_round:
                return seen
            await asyncio.sleep(0)


async def _simulate(node, url, seed):
    dice = random.Random(seed)
    rate = dice.choice([0.02, 0.1, 0.2])
    breaks = [Breaking(seed=seed * 10 + n, chance=0.0) for n in range(WRITERS)]
    urls = f"{node.url}&layout=segments", url
    async with (
        stores_on(urls, *breaks, deadline_s=0.2) as stores,
        stores_on(urls, Breaking(), deadline_s=30) as [reader],
    ):
        kinds = [*QUICK * 8, *LOST, Fault.WRONG_VERSION]
        node.append_faults = chance(seed, rate, kinds)
        for one in breaks:
            one.chance = rate
        streams = [mint(NOON, 7, dice.getrandbits(62)) for _ in range(CAUSES // 3)] + ["serves-eu-1"]
        told: list = []
        clients: list = [Batch(dice, stores, told=told) for _ in range(BATCHES)]
        for _ in range(CAUSES):
            stream, cause = dice.choice(streams), UUID(int=dice.getrandbits(128))
            # The same cause twice: the client gave up waiting and asks another worker meanwhile.
            clients += [Client(dice, stores, stream=stream, cause=cause, told=told) for _ in range(dice.choice([1, 2]))]
        is_over = asyncio.Event()
        async with asyncio.timeout(90):
            polled = asyncio.create_task(_poll(reader, is_over))
            await asyncio.gather(*(client.run() for client in clients))
            is_over.set()
            seen = await polled
        commits = await everything(reader)
        assert seen == commits
        _judge(commits, told)


def _run(url, seed):
    with Node() as node:
        node.collision_breaks_calls = (None, Fault.DENIED, Fault.CUT)[seed % 3]
        asyncio.run(_simulate(node, url, seed))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_commits_proposed_and_claimed_through_any_faults_are_real_exactly_once_and_in_one_order(postgres_url, seed):
    _run(postgres_url, seed)
