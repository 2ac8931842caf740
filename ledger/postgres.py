"""
The event store on PostgreSQL: one row per append, impressions partitioned by the UTC day of their UUIDv7.

One function call per batch takes an advisory lock, so that the order of positions is the order of commits (P5), and
inserts under the key (stream, version), which is global although partitioned, because the partition follows from it.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

from domain.ids import ImpressionId
from domain.vocabulary import DataSet
from ledger.codec import written
from ledger.compact import Compact
from ledger.postgres_arrays import ByteaArray, IntArray, TextArray, UuidArray
from ledger.postgres_connection import PostgresConnection, Row
from ledger.postgres_days import PartitionDays
from ledger.store import (
    AlreadyAppended,
    Append,
    Appended,
    Commit,
    Conflict,
    Outcome,
    StreamId,
    check_appends,
    check_limit,
)

_APPENDED = Appended()

COMMIT_COLUMNS = "stream, version, count, cause, digest, recorded_at, position, data"
_APPEND = {
    table: f"select * from append_{table}(%s, %s, %s, %s, %s, %s, %s)"  # noqa: S608 (names of our own)
    for table in ("impression_commits", "stream_commits")
}
_APPEND_BOTH = (
    f"select true, f.* from ({_APPEND['impression_commits']}) f "  # noqa: S608
    f"union all select false, f.* from ({_APPEND['stream_commits']}) f"
)
_READ_STREAMS = {
    table: (
        f"select c.* from unnest(%s) as s(stream) cross join lateral "  # noqa: S608
        f"(select {COMMIT_COLUMNS} from {table} t where t.stream = s.stream order by version limit %s) c"
    )
    for table in ("impression_commits", "stream_commits")
}
_READ_ALL = f"""
select null::text, c.* from
    (select {COMMIT_COLUMNS} from impression_commits where position > %(after)s order by position limit %(limit)s) c
union all
select c.stream, null::uuid, version, count, cause, digest, recorded_at, position, data from
    (select {COMMIT_COLUMNS} from stream_commits where position > %(after)s order by position limit %(limit)s) c
order by position limit %(limit)s
"""  # noqa: S608
_HEAD = """
select greatest((select coalesce(max(position), 0) from impression_commits),
                (select coalesce(max(position), 0) from stream_commits))
"""
_BEFORE_LAST = """
select coalesce((select position from (
    (select position from impression_commits order by position desc limit %(commits)s::bigint + 1)
    union all
    (select position from stream_commits order by position desc limit %(commits)s::bigint + 1)
) last order by position desc offset %(commits)s::bigint limit 1), 0)
"""


class PostgresStore:
    """An `EventStore` on PostgreSQL. Belongs to one event loop; reads and writes have a connection each."""

    def __init__(self, url: str, *, deadline_s: float = 5.0) -> None:
        self._writer = PostgresConnection(url, deadline_s)
        # Partitions make planning dear; the plan does not depend on the values.
        self._reader = PostgresConnection(url, deadline_s, "-c plan_cache_mode=force_generic_plan")
        self._days = PartitionDays(self._reader, self._writer, "impression_commits", "ledger_days")
        self._compact = Compact()

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.close()

    async def append(self, appends: Sequence[Append], recorded_at: int) -> list[Outcome]:
        if not appends:
            return []
        check_appends(appends)
        await self._days.check(appends)
        # Sorted, so that two writers never wait for each other's rows in opposite order.
        places = range(len(appends))
        impressions = [at for at in places if not isinstance(appends[at].stream, str)]
        others = [at for at in places if isinstance(appends[at].stream, str)]
        impressions.sort(key=lambda at: appends[at].stream.int)  # type: ignore[union-attr]
        others.sort(key=lambda at: str(appends[at].stream))
        outcomes: list[Outcome] = [_APPENDED] * len(appends)
        calls = [
            self._arguments([appends[at] for at in group], recorded_at) for group in (impressions, others) if group
        ]
        if len(calls) > 1:
            rows = await self._writer.fetch(_APPEND_BOTH, [*calls[0], *calls[1]])
            for is_impression, *found in rows:
                at = (impressions if is_impression else others)[found[0] - 1]
                outcomes[at] = self._outcome(appends[at], found)
            return outcomes
        group, table = (impressions, "impression_commits") if impressions else (others, "stream_commits")
        for row in await self._writer.fetch(_APPEND[table], calls[0]):
            at = group[row[0] - 1]
            outcomes[at] = self._outcome(appends[at], row)
        return outcomes

    async def read_streams(self, streams: Sequence[StreamId], limit: int) -> dict[StreamId, list[Commit]]:
        check_limit(limit)
        impressions: list[ImpressionId] = [stream for stream in streams if not isinstance(stream, str)]
        others = [stream for stream in streams if isinstance(stream, str)]
        found: dict[StreamId, list[Commit]] = {}
        for table, keys in (
            ("impression_commits", UuidArray.of(impressions) if impressions else None),
            ("stream_commits", TextArray.of(others) if others else None),
        ):
            if keys is not None:
                for row in await self._reader.fetch(_READ_STREAMS[table], [keys, limit]):
                    found.setdefault(row[0], []).append(commit_of(row, self._compact))
        return found

    async def read_all(self, after: int, limit: int) -> list[Commit]:
        check_limit(limit)
        rows = await self._reader.fetch(_READ_ALL, {"after": after, "limit": limit})
        compact = self._compact
        return [commit_of(row[1:] if row[0] is None else (row[0], *row[2:]), compact) for row in rows]

    async def head(self) -> int:
        [[position]] = await self._reader.fetch(_HEAD, [])
        return int(position)

    async def before_last(self, commits: int) -> int:
        [[position]] = await self._reader.fetch(_BEFORE_LAST, {"commits": commits})
        return int(position)

    async def prepare_days(self, first: date, last: date, data_set: DataSet) -> None:
        await self._days.prepare(first, last, data_set)

    def _arguments(self, appends: Sequence[Append], recorded_at: int) -> list[Any]:
        streams, shrink = [append.stream for append in appends], self._compact.shrink
        return [
            TextArray.of(streams) if isinstance(streams[0], str) else UuidArray.of(streams),  # type: ignore[arg-type]
            IntArray.of([append.expected for append in appends]),
            IntArray.of([len(append.events) for append in appends]),
            UuidArray.of([append.cause for append in appends]),
            TextArray.of([append.digest for append in appends]),
            ByteaArray.of([shrink(written(append)) for append in appends]),
            recorded_at,
        ]

    def _outcome(self, append: Append, row: Sequence[Any]) -> Outcome:
        _, current, version, count, digest, recorded_at, position, data = row
        if position is None or digest != append.digest:
            return Conflict(current)
        found = (append.stream, version, count, append.cause, digest, recorded_at, position, data)
        return AlreadyAppended(commit_of(found, self._compact))


def commit_of(row: Row, compact: Compact) -> Commit:
    """Return the commit in *row*, which has the columns `COMMIT_COLUMNS`."""
    stream, version, count, cause, digest, recorded_at, position, data = row
    return Commit(
        position=position,
        stream=stream,
        version=version,
        count=count,
        cause=cause,
        digest=digest,
        recorded_at=recorded_at,
        data=compact.expand(data),
    )
