"""
Where rows go: a block of commits becomes one insert per table, whose token is the block's range.

ClickHouse counts a repeated token once, in the table and in every target of its views, so a block may be written again
until it is known to be whole: after a crash, a lost answer, or a view that failed half-way.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from ledger.codec import UnreadableCommit
from ledger.store import Commit
from projections.checkpoints import Range
from projections.engine import Client, Clients
from projections.errors import TablesUnavailable
from projections.native import Block
from projections.rows import Fact, answers, rows
from projections.schema import columns
from projections.served import served_rows

LATE_S = 60.0
"""
What is not inserted so long after its block was begun is not inserted at all: whoever has taken over meanwhile has, and
its token is remembered among a thousand parts, nine minutes of traffic.
"""


class Sink(Protocol):
    async def write(self, generation: int, block: Range, commits: Sequence[Commit]) -> int:
        """
        Write the rows of *commits*, which are those in *block*; return how many. Writing a block again changes nothing.

        Raises:
            TablesUnavailable: some of it may have been written; write the very same block again.
            UnreadableCommit: stored bytes are no events that this program knows, or no row can hold what they say.
        """


_Place: TypeAlias = tuple[int, Range, float]
"""A generation, a block, and when that was begun."""


class Tables:
    """
    A `Sink` into ClickHouse; *clients* has one thread, so that blocks go in one after another.

    *clock* gives seconds, also of a time in which this process stood still.
    """

    def __init__(self, clients: Clients, clock: Callable[[], float] = time.time) -> None:
        self._clients = clients
        self._clock = clock
        self._blocks: dict[str, Block] = {}

    async def write(self, generation: int, block: Range, commits: Sequence[Commit]) -> int:
        began = self._clock()
        return await self._clients.run(lambda client: self._write(client, (generation, block, began), commits))

    def _write(self, client: Client, at: _Place, commits: Sequence[Commit]) -> int:
        facts: list[Fact] = []
        for commit in commits:
            facts += rows(commit)
        counts = [count for commit in commits if isinstance(commit.stream, str) for count in answers(commit)]
        served, reports, sequences = served_rows(commits)
        found: dict[str, Sequence[tuple[Any, ...]]] = {
            "facts": facts,
            "answers": counts,
            "served_minute": served,
            "serve_reports": reports,
            "sequences": sequences,
        }
        for name, added in found.items():
            self._insert(client, name, at, added)
        return sum(map(len, found.values()))

    def _insert(self, client: Client, name: str, at: _Place, found: Sequence[tuple[Any, ...]]) -> None:
        if not found:
            return
        generation, block, began = at
        table = f"{name}_{generation}"
        writer = self._blocks.get(table)
        if writer is None:
            writer = self._blocks[table] = Block(columns(client, table))
        try:
            written = writer.encode(found)
        except (KeyError, OverflowError) as error:
            raise UnreadableCommit(f"{name} cannot hold what stands in {block}: {error!r}") from error
        if self._clock() - began > LATE_S:
            raise TablesUnavailable(f"{block} was begun over {LATE_S:.0f} s ago, and another may have it by now")
        client.raw_insert(
            table,
            writer.names,
            written,
            fmt="Native",
            settings={"insert_deduplication_token": f"{name}:{generation}:{block.after}-{block.through}"},
        )
