"""`LedgerTails` on a ledger in segments: its index knows campaigns' streams and the later commits of impressions."""

from commands.campaigns import STREAM_PREFIX
from commands.ledger_tails import Later
from ledger.segments import SegmentStore
from ledger.store import Commit


class SegmentTails:
    """`LedgerTails` of *store*."""

    def __init__(self, store: SegmentStore) -> None:
        self._store = store

    async def campaigns(self, after: int, limit: int) -> list[Commit]:
        return await self._store.read_named(STREAM_PREFIX, after, limit)

    async def campaigns_head(self) -> int:
        return await self._store.head_named(STREAM_PREFIX)

    async def later(self, after: int, limit: int, through: int | None = None) -> Later:
        return Later(*await self._store.read_later(after, limit, through))

    async def close(self) -> None: ...
