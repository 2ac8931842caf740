"""`LedgerTails` on the ledger's own tables: commits become visible in order of position, so no later one is skipped."""

from commands.ledger_tails import Looked
from ledger.compact import Compact
from ledger.postgres import COMMIT_COLUMNS, commit_of
from ledger.postgres_connection import PostgresConnection
from ledger.store import check_limit

WINDOW = 50_000
"""Positions that one look for later commits passes over at most."""
_OF_CAMPAIGNS = "stream >= 'campaign-' and stream < 'campaign.'"
_CAMPAIGNS = (
    f"select {COMMIT_COLUMNS} from stream_commits where {_OF_CAMPAIGNS} and position > %s order by position limit %s"  # noqa: S608
)
# One statement, one snapshot: nothing up to the head that it names can appear afterwards.
_LATER = f"""
with head as (
    select least(%(after)s::bigint + {WINDOW}, %(through)s::bigint, coalesce(max(position), 0)) as through
    from impression_commits
)
select null, null, null, null, null, null, through, null from head
union all
(
    select {COMMIT_COLUMNS} from impression_commits
    where position > %(after)s and position <= (select through from head) and version > 0
    order by position limit %(limit)s
)
"""  # noqa: S608


class PostgresTails:
    """`LedgerTails` on *connection* to the ledger's database."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection
        self._compact = Compact()

    async def campaigns(self, after: int, limit: int) -> Looked:
        check_limit(limit)
        rows = await self._connection.fetch(_CAMPAIGNS, [after, limit])
        commits = [commit_of(row, self._compact) for row in rows]
        return Looked(commits, commits[-1].position if commits else after)

    async def later(self, after: int, limit: int, through: int | None = None) -> Looked:
        check_limit(limit)
        arguments = {"after": after, "limit": limit, "through": through}
        first, *rows = await self._connection.fetch(_LATER, arguments)
        commits = sorted([commit_of(row, self._compact) for row in rows], key=lambda commit: commit.position)
        return Looked(commits, commits[-1].position if len(commits) == limit else max(after, int(first[6])))

    async def close(self) -> None:
        await self._connection.close()
