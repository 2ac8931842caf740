"""
How commits stand in EventStoreDB: one event of ours is one event there, and one commit is one append of them.

A stream is named `{namespace}.{name}`, an impression's `{namespace}.impression-{id}`. The metadata of each event say
which one of how many of its commit it is; those of the first say the rest. A commit's position is that of its last
event, so that resuming after it never begins in the middle of another.

Where the server cannot append to a stream (see `ledger/eventstoredb_look.py`), the stream goes on in
`{namespace}.1~{name}`, and so on: its *segments*, read one after the other.

What others wrote under our names, or what is damaged, is read as commits too, so that it stops nobody who is about
something else: whoever decodes one is told.
"""

import os
import re
from contextlib import suppress
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.aggregates import LedgerEvent
from ledger.codec import SCHEMA_VERSION, split, unreadable, written
from ledger.store import Append, Commit, StreamId

EVENT_BYTES_MAX = 1 << 20
"""The server's default limit of one append is as much; larger ones are refused before they are sent."""
_IMPRESSION = "impression-"
_SEGMENT = re.compile(r"(\d+)~(.+)", re.DOTALL)
_NOBODY = UUID(int=0)
_ENCODER = msgspec.json.Encoder()


class _Unreadable(Exception):
    """What stands in the store was not written by this adapter, or in part only."""


class Note(Struct, frozen=True, gc=False, omit_defaults=True):
    """
    The metadata of an event: it is the one at `index` of `count` of its commit.

    The rest stands in the first one's only: `version` is that of the first event in the whole stream, over segments.
    """

    count: int
    index: int = 0
    cause: UUID | None = None
    digest: str = ""
    version: int = 0
    recorded_at: int = 0
    schema: int = 0


class Written(Struct, frozen=True, gc=False):
    """One event as the store keeps it. `position` is its commit position, `id` what we called it."""

    stream: str
    revision: int
    position: int
    id: int
    note: bytes
    data: bytes


class Draft(Struct, frozen=True, gc=False):
    """One event to be written."""

    kind: str
    note: bytes
    data: bytes


_NOTE = msgspec.json.Decoder(Note)


class Names:
    """Names of streams in one *namespace*; several may share a server."""

    def __init__(self, namespace: str) -> None:
        if not re.fullmatch(r"[a-z0-9_]{1,40}", namespace):
            raise ValueError(f"namespace {namespace!r} is not 1 to 40 of a-z, 0-9 and _")
        self.prefix = f"{namespace}."
        self.days = f"{namespace}:days"
        self.displaced = f"{namespace}:displaced"
        self.layout = f"{namespace}:layout"

    def of(self, stream: StreamId, segment: int = 0) -> str:
        """
        Return the name of a *segment* of *stream*.

        Raises:
            ValueError: a name that could be taken for an impression's or a segment's.
        """
        if not isinstance(stream, str):
            stream = f"{_IMPRESSION}{stream}"
        elif stream.startswith(_IMPRESSION) or _SEGMENT.match(stream):
            raise ValueError(f"no stream may be called {stream!r}")
        return f"{self.prefix}{segment}~{stream}" if segment else f"{self.prefix}{stream}"

    def pattern(self, prefix: str = "") -> str:
        """Return the anchored pattern of all streams that begin with *prefix*, whichever their segments."""
        return f"^{re.escape(self.prefix)}" + (rf"(\d+~)?{re.escape(prefix)}" if prefix else "")

    def stream(self, name: str) -> StreamId:
        """Return the stream that *name* is a segment of; what others called like an impression is a text."""
        found = name[len(self.prefix) :]
        if match := _SEGMENT.match(found):
            found = match[2]
        if found.startswith(_IMPRESSION):
            with suppress(ValueError):
                return UUID(found[len(_IMPRESSION) :])
        return found


def drafts(append: Append, recorded_at: int) -> list[Draft]:
    """
    Return what is to be written for *append*.

    Raises:
        ValueError: it is larger than the server takes.
    """
    first = Note(
        count=len(append.events),
        cause=append.cause,
        digest=append.digest,
        version=append.expected,
        recorded_at=recorded_at,
        schema=SCHEMA_VERSION,
    )
    notes = [_ENCODER.encode(first)]
    notes += [b'{"count":%d,"index":%d}' % (first.count, index) for index in range(1, first.count)]
    _, stored = split(written(append))
    found = [
        Draft(_kind(event), note, bytes(data)) for event, note, data in zip(append.events, notes, stored, strict=True)
    ]
    if sum(len(one.data) + len(one.note) for one in found) + 256 * len(found) > EVENT_BYTES_MAX:
        raise ValueError(f"an append of {first.count} events is larger than {EVENT_BYTES_MAX} bytes")
    return found


def nonce() -> int:
    """Return what the ids of one append's events begin with: 112 random bits, and room for their index."""
    return int.from_bytes(os.urandom(14)) << 16


def ends_commit(event: Written) -> bool:
    """Tell whether *event* is the last of its commit; one that cannot be read is a commit by itself."""
    try:
        note = _note(event)
    except _Unreadable:
        return True
    return note.index >= note.count - 1


def is_within_commit(event: Written) -> bool:
    """Tell whether events before *event* belong to its commit."""
    with suppress(_Unreadable):
        return _note(event).index > 0
    return False


def unreadable_commit(stream: StreamId, why: str, *, position: int = 0, version: int = 0) -> Commit:
    """Return what stands for one event of *stream* that cannot be read; *version* is its own."""
    return Commit(
        position=position,
        stream=stream,
        version=version,
        count=1,
        cause=_NOBODY,
        digest="",
        recorded_at=0,
        data=unreadable(why),
    )


class Gatherer:
    """Makes commits of events that come in order: one whenever an event `ends_commit`."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._open: dict[str, tuple[Note, list[bytes]]] = {}

    def add(self, event: Written) -> Commit | None:
        """Return the commit that *event* completes; of one that is none of ours or not whole, the data say so."""
        try:
            return self._add(event)
        except _Unreadable as error:
            self._open.pop(event.stream, None)
            if not ends_commit(event):
                return None
            stream = self._names.stream(event.stream)
            return unreadable_commit(stream, str(error), position=event.position, version=event.revision)

    def _add(self, event: Written) -> Commit | None:
        note = _note(event)
        if note.index == 0:
            first, datas = note, [event.data]
        else:
            first, datas = self._open.get(event.stream, (note, []))
            datas.append(event.data)
        if len(datas) != note.index + 1 or first.count != note.count:
            raise _Unreadable(f"{event.stream} at {event.position}: a commit without its beginning")
        if len(datas) < note.count:
            self._open[event.stream] = (first, datas)
            return None
        self._open.pop(event.stream, None)
        if first.cause is None:
            raise _Unreadable(f"{event.stream} at {event.position}: a commit without a cause")
        return Commit(
            position=event.position,
            stream=self._names.stream(event.stream),
            version=first.version,
            count=first.count,
            cause=first.cause,
            digest=first.digest,
            recorded_at=first.recorded_at,
            data=b"[%d,%s]" % (first.schema, b",".join(datas)),
        )


def _note(event: Written) -> Note:
    try:
        return _NOTE.decode(event.note)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Unreadable(f"{event.stream} at {event.position}: {error}") from error


def _kind(event: LedgerEvent) -> str:
    tag = event.__struct_config__.tag
    return tag if isinstance(tag, str) else type(event).__name__
