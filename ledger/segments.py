"""
The event store in segments: bytes of many commits in one event of EventStoreDB, exactness from an index in PostgreSQL.

First the commits are *proposed*: written down as one event, durable, in a stream that nobody else writes to. Then, in
one transaction, the index *claims* those whose versions and causes allow it, and gives them their positions. A commit
is real once it is claimed, and everything reads what the index says. So whatever fails between the two leaves a
proposal that nothing points to: never a claim without its bytes, and nothing to clean up before others go on.
"""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import date
from itertools import groupby
from typing import Protocol

from domain.vocabulary import DataSet
from ledger.eventstoredb_connection import each
from ledger.segments_codec import Segment, UnreadableSegment, check_name, proposals, read_segment
from ledger.segments_index import Batch, Lost, SegmentIndex, WrongLedger
from ledger.segments_log import Place, SegmentLog
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
_KEPT_BYTES_MAX = 16 << 20
_RUN_MAX = 8
"""Events that one read fetches, 1 MiB each at most; only the commits that were asked for are kept of them."""
_READS_AT_ONCE = 8
_HOLE_MAX = 2
"""Events that nobody wants, read rather than a second call made for those behind them."""


class Log(Protocol):
    """Where segments are written down; see `SegmentLog`."""

    namespace: str

    async def write(self, data: bytes, note: bytes, recorded_at: int) -> Place: ...
    async def read(self, segment: str, revision: int, count: int) -> list[bytes]: ...
    async def holds_streams(self) -> bool: ...
    async def bind(self) -> None: ...
    async def close(self) -> None: ...


class Index(Protocol):
    """What decides which commits are real; see `SegmentIndex`."""

    async def namespace(self) -> str | None: ...
    async def bind(self, namespace: str) -> None: ...
    async def claim(self, place: Place, impressions: Sequence[Append], names: Sequence[Append]) -> list[Lost]: ...
    async def of_positions(self, positions: Sequence[int]) -> list[tuple[int, Batch]]: ...
    async def of_streams(self, streams: Sequence[StreamId], limit: int) -> list[tuple[StreamId, int, Batch]]: ...
    async def after(self, position: int, limit: int) -> list[tuple[int, Batch]]: ...
    async def named(self, prefix: str, after: int, limit: int) -> list[tuple[int, Batch]]: ...
    async def later(self, after: int, limit: int, through: int | None) -> tuple[list[tuple[int, Batch]], int]: ...
    async def head(self) -> int: ...
    async def before_last(self, commits: int) -> int: ...
    async def prepare_days(self, first: date, last: date, data_set: DataSet) -> None: ...
    async def check_days(self, appends: Sequence[Append]) -> None: ...
    async def close(self) -> None: ...


def open_segments(url: str, database_url: str, *, deadline_s: float = 5.0) -> "SegmentStore":
    """
    Return the ledger at *url*, `esdb://...?layout=segments`, whose index is in the database at *database_url*.

    Raises:
        ValueError: the address cannot be read.
    """
    return SegmentStore(SegmentLog(url, deadline_s=deadline_s), SegmentIndex(database_url, deadline_s=deadline_s))


class SegmentStore:
    """An `EventStore` of a *log* of segments and the *index* that says what of it is real."""

    def __init__(self, log: Log, index: Index) -> None:
        self._log = log
        self._index = index
        self._is_bound = False
        self._kept = _Kept()

    async def close(self) -> None:
        await self._log.close()
        await self._index.close()

    async def append(self, appends: Sequence[Append], recorded_at: int) -> list[Outcome]:
        if not appends:
            return []
        check_appends(appends)
        for append in appends:
            check_name(append.stream)
        proposed = proposals(appends, recorded_at)
        await self._check()
        await self._index.check_days(appends)
        outcomes: list[Outcome] = [_APPENDED] * len(appends)
        again: dict[int, int] = {}
        for proposal in proposed:
            note = b'{"commits":%d}' % len(proposal.places)
            place = await self._log.write(proposal.data, note, recorded_at)
            impressions = [appends[at] for at in proposal.impressions]
            names = [appends[at] for at in proposal.names]
            for lost in await self._index.claim(place, impressions, names):
                at = proposal.places[lost.at]
                outcomes[at] = Conflict(lost.current)
                if lost.known is not None:
                    again[at] = lost.known
        if again:
            stored = await self._commits(await self._index.of_positions(list(again.values())))
            by_position = {commit.position: commit for commit in stored}
            for at, position in again.items():
                outcomes[at] = AlreadyAppended(by_position[position])
        return outcomes

    async def read_streams(self, streams: Sequence[StreamId], limit: int) -> dict[StreamId, list[Commit]]:
        check_limit(limit)
        await self._check()
        found: dict[StreamId, list[Commit]] = {}
        places = await self._index.of_streams(list(dict.fromkeys(streams)), limit)
        commits = await self._commits([(position, batch) for _, position, batch in places])
        for (stream, position, _), commit in zip(places, commits, strict=True):
            if commit.stream != stream:
                raise UnreadableSegment(f"position {position}: a commit of another stream than the index says")
            found.setdefault(stream, []).append(commit)
        return found

    async def read_all(self, after: int, limit: int) -> list[Commit]:
        check_limit(limit)
        await self._check()
        return await self._commits(await self._index.after(after, limit))

    async def head(self) -> int:
        await self._check()
        return await self._index.head()

    async def before_last(self, commits: int) -> int:
        await self._check()
        return await self._index.before_last(commits)

    async def read_named(self, prefix: str, after: int, limit: int) -> list[Commit]:
        """Return what `read_all` would of other streams than impressions' whose name begins with *prefix*."""
        check_limit(limit)
        await self._check()
        return await self._commits(await self._index.named(prefix, after, limit))

    async def read_later(self, after: int, limit: int, through: int | None = None) -> tuple[list[Commit], int]:
        """
        Return up to *limit* commits after *after*, and at most *through*, that are not the first of their impression.

        And up to which position there are no others.
        """
        check_limit(limit)
        await self._check()
        found, seen = await self._index.later(after, limit, through)
        commits = await self._commits(found)
        return commits, commits[-1].position if len(commits) == limit else max(after, seen)

    async def prepare_days(self, first: date, last: date, data_set: DataSet) -> None:
        await self._check()
        await self._index.prepare_days(first, last, data_set)

    async def _check(self) -> None:
        """
        See that index and log belong together, once.

        Raises:
            WrongLedger: they do not, or the namespace holds a ledger of the other layout.
        """
        if self._is_bound:
            return
        mine = self._log.namespace
        bound = await self._index.namespace()
        if bound is None:
            if await self._log.holds_streams():
                raise WrongLedger(f"namespace {mine} holds a ledger with a stream per impression")
            await self._log.bind()
            await self._index.bind(mine)
            bound = await self._index.namespace()
        if bound != mine:
            raise WrongLedger(f"the index is that of namespace {bound}, not of {mine}")
        self._is_bound = True

    async def _commits(self, wanted: Sequence[tuple[int, Batch]]) -> list[Commit]:
        """Return the commits at the positions and in the batches of *wanted*, in that order."""
        found: dict[int, Commit] = {}
        of_place: dict[Place, list[tuple[int, int]]] = {}
        for position, batch in wanted:
            of_place.setdefault(batch.place, []).append((position, position - batch.first))

        def take(place: Place, segment: Segment) -> None:
            for position, at in of_place[place]:
                found[position] = segment.commit(at, position)

        async def fetch(segment: str, first: int, count: int) -> None:
            for revision, data in enumerate(await self._log.read(segment, first, count), first):
                if (place := Place(segment, revision)) in of_place:
                    read = read_segment(data)
                    self._kept.put(place, read, len(data))
                    take(place, read)

        missing = []
        for place in sorted(of_place, key=lambda place: (place.segment, place.revision)):
            if (kept := self._kept.get(place)) is None:
                missing.append(place)
            else:
                take(place, kept)
        await each([fetch(*run) for run in _runs(missing)], _READS_AT_ONCE)
        return [found[position] for position, _ in wanted]


class _Kept:
    """The segments that were read last, up to _KEPT_BYTES_MAX bytes: a page may end where the next one begins."""

    def __init__(self) -> None:
        self._segments: OrderedDict[Place, tuple[Segment, int]] = OrderedDict()
        self._bytes = 0

    def get(self, place: Place) -> Segment | None:
        if place not in self._segments:
            return None
        self._segments.move_to_end(place)
        return self._segments[place][0]

    def put(self, place: Place, segment: Segment, size: int) -> None:
        if place in self._segments:
            return
        self._segments[place] = (segment, size)
        self._bytes += size
        while self._bytes > _KEPT_BYTES_MAX:
            self._bytes -= self._segments.popitem(last=False)[1][1]


def _runs(places: Sequence[Place]) -> list[tuple[str, int, int]]:
    """Return segment, first revision and number of events of the reads that fetch *places*, which are sorted."""
    found: list[tuple[str, int, int]] = []
    for segment, of_segment in groupby(places, key=lambda place: place.segment):
        revisions = [place.revision for place in of_segment]
        start = last = revisions[0]
        for revision in revisions[1:]:
            if revision - last - 1 > _HOLE_MAX or revision - start >= _RUN_MAX:
                found.append((segment, start, last - start + 1))
                start = revision
            last = revision
        found.append((segment, start, last - start + 1))
    return found
