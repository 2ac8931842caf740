"""`LedgerTails` on a ledger in segments: its index knows campaigns' streams and the later commits of impressions."""

from commands.campaigns import STREAM_PREFIX
from commands.ledger_tails import Looked
from ledger.segments import SegmentStore


class SegmentTails:
    """`LedgerTails` of *store*."""

    def __init__(self, store: SegmentStore) -> None:
        self._store = store

    async def campaigns(self, after: int, limit: int) -> Looked:
        commits = await self._store.read_named(STREAM_PREFIX, after, limit)
        return Looked(commits, commits[-1].position if commits else after)

    async def later(self, after: int, limit: int, through: int | None = None) -> Looked:
        return Looked(*await self._store.read_later(after, limit, through))

    async def close(self) -> None: ...
