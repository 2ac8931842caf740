"""A sink of one process, for tests and trials: keeps rows, and each block once."""

from collections.abc import Sequence

from ledger.store import Commit
from projections.checkpoints import Range
from projections.rows import Answered, Fact, answers, rows
from projections.served import ServedRows, served_rows


class MemoryTables:
    """A `Sink` that keeps rows in lists, per generation."""

    def __init__(self) -> None:
        self.facts: dict[int, list[Fact]] = {}
        self.answers: dict[int, list[Answered]] = {}
        self.served: dict[int, list[ServedRows]] = {}
        """Of each block."""
        self._written: set[tuple[int, Range]] = set()

    async def write(self, generation: int, block: Range, commits: Sequence[Commit], began_at: int) -> int:  # noqa: ARG002
        facts = [fact for commit in commits for fact in rows(commit)]
        counts = [count for commit in commits for count in answers(commit)]
        served = served_rows(commits)
        if (generation, block) not in self._written:
            self._written.add((generation, block))
            self.facts.setdefault(generation, []).extend(facts)
            self.answers.setdefault(generation, []).extend(counts)
            self.served.setdefault(generation, []).append(served)
        return len(facts) + len(counts) + served.total
