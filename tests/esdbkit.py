"""Stores on doubles of EventStoreDB."""

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from uuid import uuid4

from esdb_double import Node

from domain.aggregates import AnswersCounted
from domain.ids import mint
from domain.vocabulary import DataSet
from ledger.eventstoredb import EventStoreDbStore
from ledger.eventstoredb_all import Mark
from ledger.store import Append, Commit, read_everything

NOON = 1_790_000_000_000
DAY = date(2026, 9, 21)
ROOT = Path(__file__).parents[1]


def impression(entropy=None):
    return mint(NOON, 7, uuid4().int if entropy is None else entropy)


def an_append(stream=None, expected=0, *, cause=None, digest="d", events=3, at=0):
    cause = cause or uuid4()
    return Append(
        stream=impression() if stream is None else stream,
        expected=expected,
        cause=cause,
        digest=digest,
        events=tuple(AnswersCounted(cause=cause, digest="d", unmoved=1, counted_at=at + n) for n in range(events)),
    )


@dataclass
class Tried:
    """What a coroutine of a test has at hand: a node of its own, and stores on it."""

    node: Node
    url: str
    stores: list

    async def store(self, *, url=None, prepared=True, **options):
        store = EventStoreDbStore(url or self.url, **options)
        self.stores.append(store)
        if prepared:
            await store.prepare_days(DAY, DAY, DataSet.LIVE)
        return store


@asynccontextmanager
async def trying(node, url=None):
    tried = Tried(node, url or node.url, [])
    try:
        yield tried
    finally:
        for store in tried.stores:
            await store.close()


def on_a_node(test, **settings):
    """Run the coroutine function *test* with a fresh node."""

    async def main(node):
        async with trying(node) as tried:
            await test(tried)

    with Node(**settings) as node:
        asyncio.run(main(node))


async def everything(store, page=100):
    return [commit async for commit in read_everything(store, page=page)]


async def followed(store, after, count=None):
    """Return what a subscription after *after* yields until it caught up and *count* commits came."""
    found, marks = [], 0
    following = store.follow(after)
    with suppress(StopAsyncIteration):
        while marks == 0 or (count is not None and len(found) < count):
            one = await anext(following)
            if isinstance(one, Commit):
                found.append(one)
            marks += one is Mark.CAUGHT_UP
    await following.aclose()
    return found


def started(data, port=0):
    """Start the double as a process of its own that keeps *data*; return it and its address."""
    command = [sys.executable, "-m", "tests.esdb_double", "--port", str(port), "--data", str(data)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return process, process.stdout.readline().split()[3].rstrip(",")


def killed(process):
    process.kill()
    process.wait(10)
    process.stdout.close()


def port_of(url):
    return int(url.partition("?")[0].rpartition(":")[2])
