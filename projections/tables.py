"""
Where rows go: a block of commits becomes one insert per table, whose token is the block's range.

ClickHouse counts a repeated token once, in the table and in every target of its views, so a block may be written again
until it is known to be whole: after a crash, a lost answer, or a view that failed half-way.
"""

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

LATE_MS = 60_000
"""
What is not inserted so long after its block was begun is not inserted at all: whoever has taken over meanwhile has, and
its token is remembered among a thousand parts, which blocks every half a second fill in eight minutes.
"""


class Sink(Protocol):
    async def write(self, generation: int, block: Range, commits: Sequence[Commit], began_at: int) -> int:
        """
        Write the rows of *commits*, which are those in *block*; return how many. Writing a block again changes nothing,
        for a while: *began_at* (epoch ms) is when it was known that nobody else had written it.

        Raises:
            TablesUnavailable: some of it may have been written; begin the very same block again.
            UnreadableCommit: stored bytes are no events that this program knows, or no row can hold what they say.
        """


_Place: TypeAlias = tuple[int, Range, int]
"""A generation, a block, and when that was begun."""


class Tables:
    """A `Sink` into ClickHouse; *clients* has one thread, so that blocks go in one after another. *now*: epoch ms."""

    def __init__(self, clients: Clients, now: Callable[[], int]) -> None:
        self._clients = clients
        self._now = now
        self._blocks: dict[str, Block] = {}

    async def write(self, generation: int, block: Range, commits: Sequence[Commit], began_at: int) -> int:
        return await self._clients.run(lambda client: self._write(client, (generation, block, began_at), commits))

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
        generation, block, began_at = at
        table = f"{name}_{generation}"
        writer = self._blocks.get(table)
        if writer is None:
            writer = self._blocks[table] = Block(columns(client, table))
        try:
            written = writer.encode(found)
        except (KeyError, OverflowError) as error:
            raise UnreadableCommit(f"{name} cannot hold what stands in {block}: {error!r}") from error
        if self._now() - began_at > LATE_MS:
            raise TablesUnavailable(f"{block} was begun over {LATE_MS // 1_000} s ago, and another may have it by now")
        client.raw_insert(
            table,
            writer.names,
            written,
            fmt="Native",
            settings={"insert_deduplication_token": f"{name}:{generation}:{block.after}-{block.through}"},
        )
