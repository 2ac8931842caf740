"""What of the ledger the write side follows by position: campaigns' own commits, and later commits of impressions."""

from typing import Protocol

from msgspec import Struct

from commands.campaigns import id_of
from ledger.memory import MemoryStore
from ledger.store import Commit, check_limit


class Looked(Struct, frozen=True):
    """What a look found, in order of position; `through` is how far it saw: up to there is nothing else."""

    commits: list[Commit]
    through: int


class LedgerTails(Protocol):
    """
    Reads by position that never skip what commits later (P5), each within a limit.

    Every call raises `LedgerUnavailable` if the store does not answer, `ValueError` if the limit is no read's.
    """

    async def campaigns(self, after: int, limit: int) -> Looked:
        """Return up to *limit* commits of `campaign-*` streams with positions over *after*."""

    async def later(self, after: int, limit: int, through: int | None = None) -> Looked:
        """
        Return up to *limit* commits that are not the first of their impression, with positions over *after*.

        Looks no further than *through*, if that is given.
        """

    async def close(self) -> None:
        """Let go of what was opened for it; the store itself stays open."""


class MemoryTails:
    """`LedgerTails` of a store in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def campaigns(self, after: int, limit: int) -> Looked:
        check_limit(limit)
        commits = await self._all(after)
        return _up_to(limit, [commit for commit in commits if id_of(commit.stream) is not None], commits, after)

    async def later(self, after: int, limit: int, through: int | None = None) -> Looked:
        check_limit(limit)
        commits = [commit for commit in await self._all(after) if through is None or commit.position <= through]
        found = [commit for commit in commits if not isinstance(commit.stream, str) and commit.version > 0]
        return _up_to(limit, found, commits, after)

    async def close(self) -> None: ...

    async def _all(self, after: int) -> list[Commit]:
        commits: list[Commit] = []
        while page := await self._store.read_all(commits[-1].position if commits else after, 1_000):
            commits += page
        return commits


def _up_to(limit: int, found: list[Commit], looked: list[Commit], after: int) -> Looked:
    if len(found) > limit:
        return Looked(found[:limit], found[limit - 1].position)
    return Looked(found, looked[-1].position if looked else after)
