"""Tables of embedded ClickHouse that hold one small ledger after another, and are asked for reports."""

import asyncio

from builders import HOUR, MINTED
from deskkit import Clock
from msgspec.structs import replace

from projections.checkpoints import MemoryCheckpoints, Range
from projections.engine import READING, WRITING, Clients
from projections.queries import Queries
from projections.reports import Report
from projections.schema import drop, migrate
from projections.tables import Tables

FIRST = MINTED - MINTED % HOUR
"""The hour in which impressions of tests begin; a report is of the ten days from there on, unless asked."""


class World:
    """The tables of one ledger at a time, each in a generation of its own and after the positions of those before."""

    def __init__(self, engine):
        self.engine = engine
        self.clock = Clock(MINTED + 30 * 24 * HOUR)
        self.checkpoints = MemoryCheckpoints(self.clock)
        self.writers, self.readers = Clients(engine, WRITING, 1), Clients(engine, READING, 1)
        self.tables = Tables(self.writers, self.clock)
        self.queries = Queries(self.checkpoints, self.readers, self.clock)
        self.generation, self.head = 0, 0

    def hold(self, commits):
        """Let the tables hold *commits* and nothing else; return them at their positions."""
        placed = [replace(commit, position=commit.position + self.head) for commit in commits]
        asyncio.run(self._write(placed))
        return placed

    def ask(self, **question):
        return asyncio.run(self.queries.report(Report(**{"since": FIRST, "until": FIRST + 240 * HOUR, **question})))

    def rows(self, **question):
        answer = self.ask(**question)
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    async def _write(self, commits):
        if self.generation:
            await self.writers.run(lambda client: drop(client, self.generation))
        self.generation += 1
        generation, block = self.generation, Range(0, self.head + len(commits))
        await self.writers.run(lambda client: migrate(client, generation))
        lease = await self.checkpoints.lease("one", HOUR)
        await self.checkpoints.begin(lease, generation, block)
        await self.tables.write(generation, block, commits, self.clock())
        await self.checkpoints.finish(lease, generation, block, self.clock())
        if generation > 1:
            await self.checkpoints.activate(lease, generation)
        self.head = block.through

    def close(self):
        self.writers.close()
        self.readers.close()
