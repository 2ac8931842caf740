"""What the server keeps: one log of records in order of position, and streams as views of it."""

import json
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

from .journal import Journal

LAST = (1 << 63) - 1
"""Revision of a tombstone, and `$tb` of a stream that was deleted softly."""
_OVERHEAD_BYTES = 100


@dataclass(slots=True, frozen=True)
class Proposed:
    id: UUID
    type: str
    content_type: str
    data: bytes
    metadata: bytes = b""


@dataclass(slots=True, frozen=True)
class Record:
    position: int
    stream: str
    revision: int
    created: int
    event: Proposed


@dataclass(slots=True)
class Stream:
    records: list[Record] = field(default_factory=list)
    truncate_before: int = 0
    max_count: int | None = None
    tombstoned: bool = False

    @property
    def last(self) -> int:
        return self.records[-1].revision if self.records else -1

    @property
    def soft_deleted(self) -> bool:
        return self.truncate_before == LAST

    def readable(self) -> list[Record]:
        first = self.truncate_before
        if self.max_count is not None:
            first = max(first, self.last - self.max_count + 1)
        return [record for record in self.records if record.revision >= first] if first else self.records


class Log:
    """
    The log of one server, or of a cluster that has replicated everything.

    What is written is read from `flush` on, which is when it is on disk, and not before it is `replicated`, as many
    records as that (None: all); writers are told of conflicts with it earlier. `hash_of` is the index's hash of names:
    tests make names collide by it. `collision_limit` is how many entries of other streams the index looks through.
    """

    def __init__(self, data: Path | None = None) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.records: list[Record] = []
        self.streams: dict[str, Stream] = {}
        self.recent: dict[UUID, tuple[str, int]] = {}
        self.hash_of: Callable[[str], object] = str
        self.collision_limit = 100
        self.replicated: int | None = None
        self.visible = 0
        self._buckets: dict[object, set[str]] = {}
        self._end = 0
        self._journal = None if data is None else Journal(data)
        if self._journal is not None:
            for frame in self._journal.replay():
                for position, stream, revision, created, *event in frame:
                    self._apply(Record(position, stream, revision, created, Proposed(UUID(bytes=event[0]), *event[1:])))
            self.visible = len(self.records)
        if not self.records:
            self.write("$settings", 0, [_system("$metadata", {"$acl": {}})])
            self.flush()

    @property
    def end(self) -> int:
        """The position that the next record will have."""
        return self._end

    def stream(self, name: str) -> Stream:
        return self.streams.get(name) or Stream()

    def collide(self, *names: str) -> None:
        """From now on the index takes *names* for one stream."""
        before = self.hash_of
        self.hash_of = lambda name: names[0] if name in names else before(name)
        self._buckets = {}
        for name in self.streams:
            self._buckets.setdefault(self.hash_of(name), set()).add(name)

    def sharing(self, name: str) -> list[Stream]:
        """The other streams that the index takes for *name*."""
        return [self.streams[one] for one in self._buckets.get(self.hash_of(name), ()) if one != name]

    def write(self, stream: str, first: int, events: Sequence[Proposed]) -> list[Record]:
        """Write *events* under consecutive revisions, at once or not at all, without asking."""
        created = time.time_ns() // 100
        records, position = [], self._end
        for at, event in enumerate(events):
            records.append(Record(position, stream, LAST if first == LAST else first + at, created, event))
            position += _size(stream, event)
        if self._journal is not None:
            self._journal.add([_row(record) for record in records])
        for record in records:
            self._apply(record)
            self.recent[record.event.id] = (stream, record.revision)
        return records

    def set_metadata(self, stream: str, values: dict[str, int]) -> None:
        name = f"$${stream}"
        self.write(name, self.stream(name).last + 1, [_system("$metadata", values)])

    def flush(self) -> None:
        """Put on disk what was written; from now on it is read."""
        with self.changed:
            through = len(self.records) if self.replicated is None else min(self.replicated, len(self.records))
            if self._journal is not None:
                self._journal.flush()
            self.visible = through
            self.changed.notify_all()

    def at(self, position: int) -> int:
        """The index of the first record at *position* or later."""
        return bisect_left(self.records, position, hi=self.visible, key=lambda record: record.position)

    def is_boundary(self, position: int) -> bool:
        """A position in the middle of a record cannot be read from."""
        at = self.at(position)
        return at == self.visible or self.records[at].position == position

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()

    def _apply(self, record: Record) -> None:
        if record.stream not in self.streams:
            self.streams[record.stream] = Stream()
            self._buckets.setdefault(self.hash_of(record.stream), set()).add(record.stream)
        stream = self.streams[record.stream]
        self.records.append(record)
        self._end = record.position + _size(record.stream, record.event)
        if record.revision == LAST:
            stream.tombstoned = True
            return
        stream.records.append(record)
        if record.stream.startswith("$$") and record.event.type == "$metadata":
            self._limit(record.stream[2:], json.loads(record.event.data))

    def _limit(self, stream: str, values: dict[str, int]) -> None:
        limited = self.streams.setdefault(stream, Stream())
        self._buckets.setdefault(self.hash_of(stream), set()).add(stream)
        limited.truncate_before = values.get("$tb", 0)
        limited.max_count = values.get("$maxCount")


def _system(kind: str, values: object) -> Proposed:
    return Proposed(uuid4(), kind, "application/json", json.dumps(values).encode())


def tombstone() -> Proposed:
    return Proposed(uuid4(), "$streamDeleted", "application/octet-stream", b"")


def _size(stream: str, event: Proposed) -> int:
    return _OVERHEAD_BYTES + len(stream) + len(event.type) + len(event.data) + len(event.metadata)


def _row(record: Record) -> tuple[object, ...]:
    event = record.event
    return (
        record.position,
        record.stream,
        record.revision,
        record.created,
        event.id.bytes,
        event.type,
        event.content_type,
        event.data,
        event.metadata,
    )
