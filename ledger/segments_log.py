"""
Streams of segments in EventStoreDB, each written by one process only.

A segment stream is a *lane*: its writer made its name, knows its length, and leaves it for good at the first doubt. So
no two writers ever meet, nothing is read in order to write, and revision *n* of a lane is one event, now and for ever.
What is written here is a proposal and means nothing until the index claims it: to write it again elsewhere is harmless.
"""

import secrets
from contextlib import aclosing
from datetime import UTC, datetime

from msgspec import Struct

from ledger.eventstoredb_address import SEGMENTS, read_address
from ledger.eventstoredb_appends import Appender
from ledger.eventstoredb_client import (
    Answer,
    Appended,
    CallFailed,
    Denied,
    Failure,
    NotNow,
    append_request,
    read_stream,
)
from ledger.eventstoredb_connection import Connection, events, within
from ledger.eventstoredb_layout import Draft, Names, nonce
from ledger.eventstoredb_register import Register
from ledger.store import LedgerUnavailable

WINDOW = 16
"""Segments that wait for their answers at a time."""
_KIND = "CommitsProposed"
_HOUR_MS = 3_600_000


class Place(Struct, frozen=True, gc=False):
    """Where an event stands: revision *revision* of the stream called *segment* in the namespace."""

    segment: str
    revision: int


class Lane:
    """A stream of one hour that only this process writes to; `next` is the revision of its next event."""

    def __init__(self, hour: int) -> None:
        started = datetime.fromtimestamp(hour * _HOUR_MS / 1_000, UTC)
        self.hour = hour
        self.name = f"segment-{started:%Y%m%dT%H}-{secrets.token_hex(8)}"
        self.next = 0


class SegmentLog:
    """
    Segments in the EventStoreDB at *url*, an address with `layout=segments`. Belongs to one event loop.

    Raises:
        ValueError: the address cannot be read, or has another layout.
    """

    def __init__(self, url: str, *, deadline_s: float = 5.0) -> None:
        address = read_address(url)
        if address.layout != SEGMENTS:
            raise ValueError(f"the address of a ledger in segments says layout={SEGMENTS}")
        names = Names(address.namespace)
        self.namespace = address.namespace
        self._deadline_s = deadline_s
        self._connection = Connection(address)
        self._appender = Appender(self._connection, WINDOW, deadline_s)
        self._days = Register(self._connection, self._appender, names.days, "DayPrepared")
        self._layout = Register(self._connection, self._appender, names.layout, "LayoutChosen")
        self._free: list[Lane] = []

    async def close(self) -> None:
        await self._appender.close()
        await self._connection.close()

    async def write(self, data: bytes, note: bytes, recorded_at: int) -> Place:
        """
        Write *data* down as one event of the hour of *recorded_at*; return where it stands, for good.

        Raises:
            LedgerUnavailable: nothing certain is known; it may stand somewhere, and nothing will ever point there.
        """
        attempt = _Attempt(self._take(recorded_at // _HOUR_MS), Draft(_KIND, note, data))
        place = await within(self._deadline_s, lambda: self._write(attempt))
        # Only a lane without a doubt comes back.
        self._free.append(attempt.lane)
        return place

    async def read(self, segment: str, revision: int, count: int) -> list[bytes]:
        """
        Return the data of *count* events of *segment* from *revision* on.

        Raises:
            LedgerUnavailable: the store did not answer, or does not have them all.
        """
        return await within(self._deadline_s, lambda: self._read(segment, revision, count))

    async def holds_streams(self) -> bool:
        """Tell whether the namespace is that of a ledger with a stream per impression: those keep their days there."""
        return bool(await within(self._deadline_s, self._days.news))

    async def bind(self) -> None:
        """Say in the namespace that it is laid out in segments, for who opens it as the other layout."""
        await within(self._deadline_s, self._bind)

    async def _bind(self) -> None:
        if not await self._layout.news() and not await self._layout.add([b'{"layout":"segments"}']):
            raise CallFailed(Failure.AWAY, "the layout was not written down yet")

    def _take(self, hour: int) -> Lane:
        self._free = [lane for lane in self._free if lane.hour == hour]
        return self._free.pop() if self._free else Lane(hour)

    async def _write(self, attempt: "_Attempt") -> Place:
        lane = attempt.lane
        request = append_request(self._name(lane.name), lane.next - 1, attempt.nonce, [attempt.draft])
        [answer], failure = await self._appender.send([request])
        if isinstance(answer, Appended):
            lane.next += 1
            return Place(lane.name, lane.next - 1)
        raise self._why_not(attempt, answer, failure)

    def _why_not(self, attempt: "_Attempt", answer: Answer | None, failure: CallFailed | None) -> CallFailed:
        match answer:
            case Denied(why):
                raise LedgerUnavailable(f"EventStoreDB refused: {why}")
            case NotNow(why):
                if "eader" in why:
                    self._connection.leave()
                    self._appender.renew()
                return CallFailed(Failure.AWAY, why)
            case None:
                assert failure is not None, "what has no answer has a reason"
                if failure.failure is Failure.HANDLER:
                    attempt.begin_elsewhere()
                return failure
            case _:
                # A name that collides in the server's index, or an event that was undone: another lane has neither.
                attempt.begin_elsewhere()
                return CallFailed(Failure.AWAY, "the segment's stream does not take its next event")

    async def _read(self, segment: str, revision: int, count: int) -> list[bytes]:
        request = read_stream(self._name(segment), revision, count)
        async with self._connection.use() as node, aclosing(events(node, request)) as found:
            read = [event async for event in found]
        if [event.revision for event in read] != list(range(revision, revision + count)):
            raise CallFailed(Failure.AWAY, f"{segment} at {revision} cannot be read")
        return [event.data for event in read]

    def _name(self, segment: str) -> str:
        """A colon, as in the adapter's registers: readers of the other layout never take it for a stream of theirs."""
        return f"{self.namespace}:{segment}"


class _Attempt:
    """One event on its way; sent again to the same lane it has the same id, so that the server knows it."""

    def __init__(self, lane: Lane, draft: Draft) -> None:
        self.lane = lane
        self.draft = draft
        self.nonce = nonce()

    def begin_elsewhere(self) -> None:
        self.lane = Lane(self.lane.hour)
        self.nonce = nonce()
