"""
The index of a ledger in segments, in PostgreSQL: which proposed commits are real, and in which order.

One function call per proposal takes an advisory lock, so that the order of positions is the order of claims (P5), and
inserts under the key (stream, version), as `ledger/postgres.py` does with whole commits. Bytes stand elsewhere.
"""

from collections.abc import Iterator, Sequence
from datetime import date

from msgspec import Struct

from domain.ids import ImpressionId
from domain.vocabulary import DataSet
from ledger.postgres_arrays import IntArray, TextArray, UuidArray
from ledger.postgres_connection import PostgresConnection, Row
from ledger.postgres_days import PartitionDays
from ledger.segments_codec import COMMITS_MAX, short
from ledger.segments_log import Place
from ledger.store import Append, LedgerError, StreamId

_CLAIM = "select * from claim_segment(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
_BATCH = "b.segment, b.revision, b.first, b.size, b.lost"
_AFTER = f"""
select segment, revision, first, size, lost from (
    select b.*, sum(size - coalesce(cardinality(lost), 0)) over (order by last)
                - (size - coalesce(cardinality(lost), 0)) as before
    from (select * from segment_batches where last > %(after)s order by last limit %(limit)s) b
) b where before < %(limit)s + {COMMITS_MAX} order by last
"""  # noqa: S608 (a number of our own)
_BEFORE_LAST = """
select b.segment, b.revision, b.first, b.size, b.lost, b.later from (
    select b.*, sum(size - coalesce(cardinality(lost), 0)) over (order by last desc)
                - (size - coalesce(cardinality(lost), 0)) as later
    from (select * from segment_batches order by last desc limit %(commits)s::bigint + 1) b
) b where later + size - coalesce(cardinality(lost), 0) > %(commits)s::bigint order by last desc limit 1
"""
_NAMED = f"""
select c.position, {_BATCH} from (
    select position from segment_names where starts_with(stream, %s) and position > %s order by position limit %s
) c cross join lateral (select * from segment_batches b where b.last >= c.position order by b.last limit 1) b
order by c.position
"""  # noqa: S608
# One statement, one snapshot: nothing up to the head that it names can appear afterwards.
_LATER = f"""
with head as (select least(%(through)s::bigint, coalesce(max(last), 0)) as through from segment_batches)
select head.through, found.* from head left join lateral (
    select c.position, {_BATCH} from (
        select position from segment_impressions
        where version > 0 and position > %(after)s and position <= head.through order by position limit %(limit)s
    ) c cross join lateral (select * from segment_batches b where b.last >= c.position order by b.last limit 1) b
) found on true order by found.position
"""  # noqa: S608
_OF_POSITIONS = f"""
select p.position, {_BATCH} from unnest(%s::bigint[]) as p(position) cross join lateral
    (select * from segment_batches b where b.last >= p.position order by b.last limit 1) b
"""  # noqa: S608
_OF_STREAMS = {
    table: (
        f"select c.stream, c.position, {_BATCH} from unnest(%s) as s(stream) "  # noqa: S608 (names of our own)
        f"cross join lateral (select t.stream, t.position from {table} t where t.stream = s.stream "
        f"order by t.version limit %s) c cross join lateral "
        f"(select * from segment_batches b where b.last >= c.position order by b.last limit 1) b"
    )
    for table in ("segment_impressions", "segment_names")
}


class Batch(Struct, frozen=True):
    """A proposal that was claimed: the commit at place *n* is at position *first* + *n*, unless *n* is among *lost*."""

    place: Place
    first: int
    size: int
    lost: frozenset[int]

    def positions(self) -> Iterator[int]:
        return (self.first + at for at in range(self.size) if at not in self.lost)


class Lost(Struct, frozen=True, gc=False):
    """
    The append at place *at* was not claimed: its stream has *current* events.

    `known` is the position of its cause's commit if that has the same digest.
    """

    at: int
    current: int
    known: int | None


class WrongLedger(LedgerError):
    """The index belongs to another ledger, or the ledger to another layout."""


class SegmentIndex:
    """The index in the database at *url*. Belongs to one event loop; reads and writes have a connection each."""

    def __init__(self, url: str, *, deadline_s: float = 5.0) -> None:
        self._writer = PostgresConnection(url, deadline_s)
        # Partitions make planning dear; the plan does not depend on the values.
        self._reader = PostgresConnection(url, deadline_s, "-c plan_cache_mode=force_generic_plan")
        self._days = PartitionDays(self._reader, self._writer, "segment_impressions", "segment_days")

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.close()

    async def namespace(self) -> str | None:
        """Return the namespace of the ledger that this is the index of, if it is one already."""
        rows = await self._reader.fetch("select namespace from segment_ledger", [])
        return str(rows[0][0]) if rows else None

    async def bind(self, namespace: str) -> None:
        """Make this the index of *namespace* unless it is one already."""
        statement = "insert into segment_ledger (namespace) values (%s) on conflict do nothing returning namespace"
        await self._writer.fetch(statement, [namespace])

    async def claim(self, place: Place, impressions: Sequence[Append], names: Sequence[Append]) -> list[Lost]:
        """
        Make the commits proposed at *place* real where their versions and causes allow it; return those that are not.

        Raises:
            LedgerUnavailable: the database did not answer; they may be real.
        """
        rows = await self._writer.fetch(
            _CLAIM,
            [
                place.segment,
                place.revision,
                UuidArray.of([append.stream for append in impressions]),  # type: ignore[misc]
                *_arguments(impressions),
                TextArray.of([str(append.stream) for append in names]),
                *_arguments(names),
            ],
        )
        appends = [*impressions, *names] if rows else []
        return [
            Lost(at, current, position if digest is not None and digest.bytes == short(appends[at].digest) else None)
            for at, current, digest, position in rows
        ]

    async def of_positions(self, positions: Sequence[int]) -> list[tuple[int, Batch]]:
        """Return each of *positions*, which are those of commits, with its batch."""
        rows = await self._reader.fetch(_OF_POSITIONS, [list(positions)])
        return [(row[0], _batch(row[1:])) for row in rows]

    async def of_streams(self, streams: Sequence[StreamId], limit: int) -> list[tuple[StreamId, int, Batch]]:
        """Return stream, position and batch of the first *limit* commits of each of *streams*, in order."""
        impressions: list[ImpressionId] = [stream for stream in streams if not isinstance(stream, str)]
        names = [stream for stream in streams if isinstance(stream, str)]
        found: list[tuple[StreamId, int, Batch]] = []
        for table, keys in (
            ("segment_impressions", UuidArray.of(impressions) if impressions else None),
            ("segment_names", TextArray.of(names) if names else None),
        ):
            if keys is not None:
                rows = await self._reader.fetch(_OF_STREAMS[table], [keys, limit])
                found += [(row[0], row[1], _batch(row[2:])) for row in rows]
        return found

    async def after(self, position: int, limit: int) -> list[tuple[int, Batch]]:
        """Return positions over *position* and their batches in order, up to *limit*."""
        found: list[tuple[int, Batch]] = []
        for row in await self._reader.fetch(_AFTER, {"after": position, "limit": limit}):
            batch = _batch(row)
            found += [(one, batch) for one in batch.positions() if one > position]
        return found[:limit]

    async def named(self, prefix: str, after: int, limit: int) -> list[tuple[int, Batch]]:
        """Return positions over *after* of streams whose name begins with *prefix*, in order, up to *limit*."""
        rows = await self._reader.fetch(_NAMED, [prefix, after, limit])
        return [(row[0], _batch(row[1:])) for row in rows]

    async def later(self, after: int, limit: int, through: int | None) -> tuple[list[tuple[int, Batch]], int]:
        """
        Return positions over *after*, in order, up to *limit*, of commits that are not the first of their impression.

        And up to where all of those are seen, if they are fewer than *limit*; no further than *through*.
        """
        rows = await self._reader.fetch(_LATER, {"after": after, "limit": limit, "through": through})
        return [(row[1], _batch(row[2:])) for row in rows if row[1] is not None], int(rows[0][0])

    async def head(self) -> int:
        rows = await self._reader.fetch("select last from segment_batches order by last desc limit 1", [])
        return int(rows[0][0]) if rows else 0

    async def before_last(self, commits: int) -> int:
        """Return the position of the commit before the last *commits*, 0 without one."""
        rows = await self._reader.fetch(_BEFORE_LAST, {"commits": commits})
        if not rows:
            return 0
        *batch, later = rows[0]
        return list(_batch(batch).positions())[-1 - (commits - int(later))]

    async def prepare_days(self, first: date, last: date, data_set: DataSet) -> None:
        await self._days.prepare(first, last, data_set)

    async def check_days(self, appends: Sequence[Append]) -> None:
        """
        Refuse a call before anything of it is written.

        Raises:
            NoPartition: an impression was minted on a day that was not prepared.
        """
        await self._days.check(appends)


def _arguments(appends: Sequence[Append]) -> tuple[IntArray, IntArray, UuidArray, UuidArray]:
    return (
        IntArray.of([append.expected for append in appends]),
        IntArray.of([len(append.events) for append in appends]),
        UuidArray.of([append.cause for append in appends]),
        UuidArray.of_bytes([short(append.digest) for append in appends]),
    )


def _batch(row: Row | Sequence[object]) -> Batch:
    segment, revision, first, size, lost = row
    return Batch(Place(segment, revision), first, size, frozenset(lost or ()))  # type: ignore[arg-type]
