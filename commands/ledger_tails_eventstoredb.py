"""
`LedgerTails` on EventStoreDB: the server leaves out the streams that are not asked for.

It cannot leave out the first commits of impressions, which stand in the same streams as the later ones: `later` reads
past them, at the cost of a read of everything.
"""

from commands.campaigns import STREAM_PREFIX
from commands.ledger_tails import Looked
from ledger.eventstoredb import EventStoreDbStore
from ledger.store import check_limit

WINDOW = 10_000
"""Commits that one look for later ones passes over at most."""
_IMPRESSIONS = "impression-"


class EventStoreDbTails:
    """`LedgerTails` of *store*."""

    def __init__(self, store: EventStoreDbStore) -> None:
        self._store = store

    async def campaigns(self, after: int, limit: int) -> Looked:
        head = await self._store.head()  # what was there before the read, the read has seen
        commits = await self._store.read_named(STREAM_PREFIX, after, limit)
        last = commits[-1].position if commits else after
        return Looked(commits, last if len(commits) == limit else max(last, head))

    async def later(self, after: int, limit: int, through: int | None = None) -> Looked:
        check_limit(limit)
        page = await self._store.read_named(_IMPRESSIONS, after, WINDOW)
        looked = page if through is None else [commit for commit in page if commit.position <= through]
        found = [commit for commit in looked if commit.version > 0 and not isinstance(commit.stream, str)]
        if len(found) >= limit:
            return Looked(found[:limit], found[limit - 1].position)
        if through is not None and len(looked) < len(page):
            return Looked(found, max(after, through))
        return Looked(found, looked[-1].position if looked else after)

    async def close(self) -> None: ...
