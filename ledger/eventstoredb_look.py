"""
Looking at one stream whole: over its segments, for a cause, and for where the next append goes.

A stream goes on in another segment where the server's index takes it for another stream and gives up (a collision of 64
bits, then more than a hundred entries of the other). That is written down in a register before the first append to
the segment, and the register is read beside the streams: who sees an append sees where it is.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from copy import copy

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from domain.ids import CauseId
from ledger.codec import is_unreadable
from ledger.eventstoredb_client import CallFailed, Failure, Node, read_stream
from ledger.eventstoredb_connection import Connection, events
from ledger.eventstoredb_layout import Gatherer, Names, Written, unreadable_commit
from ledger.eventstoredb_register import Register
from ledger.store import Commit, StreamId

STREAMS_MAX = 50_000
"""Streams whose places are known; an impression's takes some 550 bytes."""
CAUSES_MAX = 20_000
SEGMENTS_MAX = 8


class Displaced(Struct, frozen=True):
    """The stream whose first segment is `name` goes on in `segment`."""

    name: str
    segment: int


class Place(Struct, gc=False):
    """Where a stream's next event goes: it is number *next* of the stream, and the *segment* begins at *base*."""

    next: int = 0
    segment: int = 0
    base: int = 0

    @property
    def revision(self) -> int:
        """The revision that the segment is expected to have, -1 for no stream."""
        return self.next - self.base - 1


class Look(Struct):
    """
    A stream's place, the commit of the cause that was looked for, and the id of that commit's last event.

    Where not all of it `is_readable`, the cause may stand there too.
    """

    place: Place
    found: Commit | None = None
    found_id: int = 0
    is_readable: bool = True


class Places:
    """
    Places of the streams that were used last, with the causes in them, so that an append does not read them again.

    They are true only if nobody else wrote, which the expected version tells. Of a stream with more causes than
    CAUSES_MAX the oldest are forgotten: it recognises its last ones.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[StreamId, tuple[Place, dict[CauseId, None]]] = OrderedDict()

    def get(self, stream: StreamId, cause: CauseId) -> tuple[Place, dict[CauseId, None]] | None:
        """Return the place of *stream* and the causes before it, if *cause* is none of them."""
        known = self._known.get(stream)
        return None if known is None or cause in known[1] else known

    def put(self, stream: StreamId, place: Place, causes: dict[CauseId, None]) -> None:
        """Know *stream* as it was read, unless it is known further: a slow read may end after a quick one."""
        known = self._known.get(stream)
        if known is not None and known[0].next > place.next:
            return
        self._known[stream] = (place, causes)
        self._known.move_to_end(stream)
        if len(self._known) > STREAMS_MAX:
            self._known.popitem(last=False)
        while len(causes) > CAUSES_MAX:
            del causes[next(iter(causes))]

    def advance(self, stream: StreamId, cause: CauseId, place: Place, *, expected: int) -> None:
        """Note that *cause* was appended at version *expected*; *place* is where the stream goes on."""
        known = self._known.get(stream)
        if known is not None and known[0].next == expected:
            known[1][cause] = None
            self.put(stream, place, known[1])
        elif expected == 0:
            self.put(stream, place, {cause: None})


class Looker:
    """Reads streams over their segments."""

    def __init__(self, connection: Connection, names: Names, displaced: Register) -> None:
        self._connection = connection
        self._names = names
        self._register = displaced
        self._segments: dict[str, int] = {}
        self._lock = asyncio.Lock()

    async def learn(self) -> None:
        """Learn which streams go on elsewhere."""
        async with self._lock:
            for value in await self._register.news():
                found = msgspec.json.decode(value, type=Displaced)
                self._segments[found.name] = max(found.segment, self._segments.get(found.name, 0))

    async def displace(self, stream: StreamId, segment: int) -> None:
        """
        Write down that *stream* goes on in *segment*, and know it.

        Raises:
            CallFailed: the register did not answer, or somebody else wrote to it.
        """
        name = self._names.of(stream)
        if self._segments.get(name, 0) >= segment:
            return
        await self._register.add([msgspec.json.encode(Displaced(name, segment))])
        await self.learn()
        if self._segments.get(name, 0) < segment:
            raise CallFailed(Failure.AWAY, "the register of displaced streams changed")

    async def look(self, stream: StreamId, cause: CauseId, known: Places) -> Look:
        """Return how *stream* stands, and the commit of *cause*; only what is not *known* is read."""
        before = known.get(stream, cause)
        place, causes = (Place(), {}) if before is None else (copy(before[0]), before[1])
        seen = Look(place)
        async with self._connection.use() as node, aclosing(self._commits(node, stream, place)) as commits:
            async for commit, last in commits:
                if is_unreadable(commit.data):
                    seen.is_readable = False
                    continue
                causes[commit.cause] = None
                if commit.cause == cause:
                    seen.found, seen.found_id = commit, last.id
        if seen.is_readable:
            known.put(stream, copy(place), causes)
        return seen

    async def first(self, stream: StreamId, limit: int, known: Places) -> list[Commit]:
        """
        Return the first *limit* commits of *stream*; a stream that was read whole is *known*.

        A tombstone is one more commit that cannot be read: what stood there is not what is not there.
        """
        found: list[Commit] = []
        place = Place()
        try:
            async with self._connection.use() as node, aclosing(self._commits(node, stream, place)) as commits:
                async for commit, _ in commits:
                    found.append(commit)
                    if len(found) == limit:
                        return found
        except CallFailed as error:
            if error.failure is not Failure.DELETED:
                raise
            return [*found, unreadable_commit(stream, str(error), version=place.next)]
        if found and not any(is_unreadable(commit.data) for commit in found):
            known.put(stream, place, dict.fromkeys(commit.cause for commit in found))
        return found

    async def _commits(
        self, node: Node, stream: StreamId, place: Place
    ) -> AsyncGenerator[tuple[Commit, Written], None]:
        """Yield the commits from *place* on, each with its last event, and move *place* with them."""
        revision = place.revision + 1
        for segment in range(place.segment, self._segments.get(self._names.of(stream), 0) + 1):
            if segment > place.segment:
                place.segment, place.base, revision = segment, place.next, 0
            gatherer = Gatherer(self._names)
            async with aclosing(events(node, read_stream(self._names.of(stream, segment), revision))) as found:
                async for event in found:
                    if (commit := gatherer.add(event)) is not None:
                        if is_unreadable(commit.data):
                            commit = replace(commit, version=place.base + event.revision)
                        place.next = commit.version + commit.count
                        yield commit, event
