"""
Where rows go: a block of commits becomes one insert per table, whose token is the block's range.

ClickHouse counts a repeated token once, in the table and in every target of its views, so a block may be written again
until it is known to be whole: after a crash, a lost answer, or a view that failed half-way.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from ledger.codec import UnreadableCommit
from ledger.store import Commit
from projections.checkpoints import Range
from projections.engine import Client, Clients
from projections.native import Block
from projections.rows import Fact, answers, rows
from projections.schema import columns
from projections.served import served_rows


class Sink(Protocol):
    async def write(self, generation: int, block: Range, commits: Sequence[Commit]) -> int:
        """
        Write the rows of *commits*, which are those in *block*; return how many. Writing a block again changes nothing.

        Raises:
            TablesUnavailable: some of it may have been written; write the very same block again.
            UnreadableCommit: stored bytes are no events that this program knows, or no row can hold what they say.
        """


class Tables:
    """A `Sink` into ClickHouse; *clients* has one thread, so that blocks go in one after another."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._blocks: dict[str, Block] = {}

    async def write(self, generation: int, block: Range, commits: Sequence[Commit]) -> int:
        return await self._clients.run(lambda client: self._write(client, generation, block, commits))

    def _write(self, client: Client, generation: int, block: Range, commits: Sequence[Commit]) -> int:
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
            self._insert(client, name, (generation, block), added)
        return sum(map(len, found.values()))

    def _insert(self, client: Client, name: str, at: tuple[int, Range], found: Sequence[tuple[Any, ...]]) -> None:
        if not found:
            return
        generation, block = at
        table = f"{name}_{generation}"
        writer = self._blocks.get(table)
        if writer is None:
            writer = self._blocks[table] = Block(columns(client, table))
        try:
            written = writer.encode(found)
        except (KeyError, OverflowError) as error:
            raise UnreadableCommit(f"{name} cannot hold what stands in {block}: {error!r}") from error
        client.raw_insert(
            table,
            writer.names,
            written,
            fmt="Native",
            settings={"insert_deduplication_token": f"{name}:{generation}:{block.after}-{block.through}"},
        )
