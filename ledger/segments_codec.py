"""
What one event of a segment holds: many commits, as JSON, with their events as they are written everywhere.

Impressions come first, other streams after them; a commit's place counts through both.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeAlias
from uuid import UUID

import msgspec
from msgspec import Struct

from ledger.codec import written
from ledger.eventstoredb_layout import EVENT_BYTES_MAX
from ledger.store import Append, Commit, LedgerError, StreamId

_ROOM = 4_096
"""What the event's own name, id and metadata may take."""
BYTES_MAX = EVENT_BYTES_MAX - _ROOM
COMMITS_MAX = 4_096


class UnreadableSegment(LedgerError):
    """A segment does not hold what the index says."""


class OfImpression(Struct, frozen=True, array_like=True, gc=False):
    """A commit of an impression's stream, proposed at *version*."""

    stream: UUID
    version: int
    count: int
    cause: UUID
    digest: str
    data: msgspec.Raw


class OfName(Struct, frozen=True, array_like=True, gc=False):
    """A commit of another stream, proposed at *version*."""

    stream: str
    version: int
    count: int
    cause: UUID
    digest: str
    data: msgspec.Raw


Entry: TypeAlias = OfImpression | OfName


class Segment(Struct, frozen=True, gc=False):
    """The event: commits proposed together at *recorded_at*, epoch ms."""

    recorded_at: int
    impressions: tuple[OfImpression, ...]
    names: tuple[OfName, ...]

    def commit(self, at: int, position: int) -> Commit:
        """
        Return the commit at place *at*, which the index has at *position*.

        Raises:
            UnreadableSegment: there is none.
        """
        entries: Sequence[Entry] = self.impressions
        if at >= len(entries):
            at, entries = at - len(entries), self.names
        if not 0 <= at < len(entries):
            raise UnreadableSegment(f"position {position}: the segment is shorter than the index says")
        found = entries[at]
        return Commit(
            position=position,
            stream=found.stream,
            version=found.version,
            count=found.count,
            cause=found.cause,
            digest=found.digest,
            recorded_at=self.recorded_at,
            data=bytes(found.data),
        )


class Proposal(Struct, frozen=True, gc=False):
    """*data* of one event, and the places in the call of the appends in it: *impressions*, then *names*."""

    data: bytes
    impressions: tuple[int, ...]
    names: tuple[int, ...]

    @property
    def places(self) -> tuple[int, ...]:
        return self.impressions + self.names


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Segment)


def proposals(appends: Sequence[Append], recorded_at: int) -> list[Proposal]:
    """
    Return *appends* as events of at most BYTES_MAX bytes and COMMITS_MAX commits.

    Raises:
        ValueError: one append alone is larger.
    """
    found: list[Proposal] = []
    entries: tuple[list[bytes], list[bytes]] = ([], [])
    places: tuple[list[int], list[int]] = ([], [])
    size = 0

    def flush() -> None:
        head = b'{"recorded_at":%d,"impressions":[' % recorded_at
        data = b"".join((head, b",".join(entries[0]), b'],"names":[', b",".join(entries[1]), b"]}"))
        found.append(Proposal(data, tuple(places[0]), tuple(places[1])))
        for kept in (*entries, *places):
            kept.clear()

    for at, append in enumerate(appends):
        is_name = isinstance(append.stream, str)
        made = (
            _ENCODER.encode((append.stream, append.expected, len(append.events), append.cause, append.digest))[:-1]
            + b","
            + written(append)
            + b"]"
        )
        if len(made) + _ROOM > BYTES_MAX:
            raise ValueError(f"an append of {len(append.events)} events is larger than {BYTES_MAX} bytes")
        if size and (size + len(made) + _ROOM > BYTES_MAX or len(places[0]) + len(places[1]) == COMMITS_MAX):
            flush()
            size = 0
        entries[is_name].append(made)
        places[is_name].append(at)
        size += len(made) + 1
    flush()
    return found


def read_segment(data: bytes) -> Segment:
    """
    Return the segment in *data*.

    Raises:
        UnreadableSegment: the bytes are no segment.
    """
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableSegment(f"cannot read a segment: {error!r}") from error


def short(digest: str) -> bytes:
    """Return 16 bytes for the *digest* of a cause: what the index compares; the digest itself stands in the segment."""
    return blake2b(digest.encode(), digest_size=16).digest()


def check_name(stream: StreamId) -> None:
    """Raise `ValueError` where the name of a *stream* could be taken for an impression's."""
    if isinstance(stream, str) and (not stream or stream.startswith("impression-")):
        raise ValueError(f"no stream may be called {stream!r}")
