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

import msgspec
from msgspec import Struct

from domain.ids import CauseId
from ledger.eventstoredb_client import CallFailed, Failure, Node, read_stream
from ledger.eventstoredb_connection import Connection, events
from ledger.eventstoredb_layout import Gatherer, Names, Written
from ledger.eventstoredb_register import Register
from ledger.store import Commit, StreamId

CAUSES_KNOWN_MAX = 100_000
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
    """A stream's place, the commit of the cause that was looked for, and the id of that commit's last event."""

    place: Place
    found: Commit | None = None
    found_id: int = 0


class Places:
    """
    Places of streams that are no impressions', with the causes in them, so that appending does not read them again.

    They are true only if nobody else wrote; the expected version says so. Causes beyond CAUSES_KNOWN_MAX are forgotten,
    the oldest first: a stream that long recognises its last ones.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[Place, dict[CauseId, None]]] = OrderedDict()
        self._causes = 0

    def get(self, stream: str, expected: int, cause: CauseId) -> Place | None:
        """Return the place of *stream* if it has *expected* events, and *cause* is in none of them."""
        known = self._known.get(stream)
        return None if known is None or known[0].next != expected or cause in known[1] else known[0]

    def put(self, stream: str, place: Place, causes: dict[CauseId, None]) -> None:
        self.drop(stream)
        self._known[stream] = (place, causes)
        self._causes += len(causes)
        self._shrink(stream)

    def advance(self, stream: str, cause: CauseId, place: Place) -> None:
        """Note that *cause* was appended, and *place* is where the stream goes on."""
        known = self._known.get(stream)
        if known is None:
            return
        known[1][cause] = None
        self._known[stream] = (place, known[1])
        self._known.move_to_end(stream)
        self._causes += 1
        self._shrink(stream)

    def drop(self, stream: str) -> None:
        if (known := self._known.pop(stream, None)) is not None:
            self._causes -= len(known[1])

    def _shrink(self, kept: str) -> None:
        while self._causes > CAUSES_KNOWN_MAX:
            first = next(iter(self._known))
            if first != kept:
                self.drop(first)
                continue
            oldest = self._known[kept][1]
            del oldest[next(iter(oldest))]
            self._causes -= 1


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
        """Return how *stream* stands, and the commit of *cause*. What was learnt of others than impressions is kept."""
        seen, causes = Look(Place()), dict[CauseId, None]()
        async with self._connection.use() as node, aclosing(self._commits(node, stream, seen.place)) as commits:
            async for commit, last in commits:
                causes[commit.cause] = None
                if commit.cause == cause:
                    seen.found, seen.found_id = commit, last.id
        if isinstance(stream, str):
            known.put(stream, seen.place, causes)
        return seen

    async def first(self, stream: StreamId, limit: int) -> list[Commit]:
        """Return the first *limit* commits of *stream*."""
        found: list[Commit] = []
        async with self._connection.use() as node, aclosing(self._commits(node, stream, Place())) as commits:
            async for commit, _ in commits:
                found.append(commit)
                if len(found) == limit:
                    break
        return found

    async def _commits(
        self, node: Node, stream: StreamId, place: Place
    ) -> AsyncGenerator[tuple[Commit, Written], None]:
        for segment in range(self._segments.get(self._names.of(stream), 0) + 1):
            place.segment, place.base = segment, place.next
            gatherer = Gatherer(self._names)
            async with aclosing(events(node, read_stream(self._names.of(stream, segment)))) as found:
                async for event in found:
                    if (commit := gatherer.add(event)) is not None:
                        place.next = commit.version + commit.count
                        yield commit, event
