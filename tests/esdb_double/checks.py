"""The server's rules of expected versions, idempotency and deletion, in the order in which it asks them."""

from collections.abc import Sequence
from dataclasses import dataclass

from .log import LAST, Log, Proposed, Stream, tombstone

ANY, NO_STREAM, EXISTS = -2, -1, -4
INVALID = -(1 << 31)
"""What the index answers when it looked through too many entries of other streams: no version at all."""


@dataclass(slots=True, frozen=True)
class Written:
    """Written now, or the very same events were there: then *position* is the old one."""

    revision: int
    position: int


@dataclass(slots=True, frozen=True)
class WrongVersion:
    current: int


@dataclass(slots=True, frozen=True)
class Deleted:
    pass


def append(log: Log, stream: str, expected: int, events: Sequence[Proposed]) -> Written | WrongVersion | Deleted:  # noqa: PLR0911 (the server's questions, one after the other)
    """Append *events*; they are read from the next `flush` on."""
    with log.changed:
        known = log.stream(stream)
        if known.tombstoned:
            return Deleted()
        current = last_number(log, stream)
        if current == INVALID:
            return WrongVersion(INVALID)
        if expected == EXISTS:
            if known.soft_deleted:
                return Deleted()
            if current < 0 and not log.stream(f"$${stream}").records:
                return WrongVersion(current)
        found = _found(log, stream, expected, events, current)
        if found is not None:
            return found
        if expected >= NO_STREAM and expected != current and not (expected == NO_STREAM and known.soft_deleted):
            return WrongVersion(current)
        if known.soft_deleted:
            log.set_metadata(stream, {"$tb": current + 1})
        last = log.write(stream, current + 1, events)[-1]
        return Written(last.revision, last.position)


def last_number(log: Log, stream: str) -> int:
    """
    Return the revision of the last event as the index finds it.

    The index knows hashes of names only. It looks from the highest version of all streams with the hash down, and gives
    up after so many entries of others.
    """
    own = log.stream(stream)
    others = log.sharing(stream)
    if not others:
        return own.last
    between = sum(1 for other in others for record in other.records if record.revision > own.last)
    return INVALID if between > log.collision_limit else own.last


def _found(
    log: Log, stream: str, expected: int, events: Sequence[Proposed], current: int
) -> Written | WrongVersion | None:
    """Return the old write if *events* are there already, by their ids alone; a wrong version if some of them are."""
    if expected in {ANY, EXISTS}:
        places = [log.recent.get(event.id) for event in events]
        if not places or places[0] is None or places[0][0] != stream:
            return None
        if any(place is None or place[0] != stream for place in places):
            return WrongVersion(current)
        return _old(log.stream(stream), places[-1][1])
    if expected >= current:
        return None
    records = log.stream(stream).records
    for at, event in enumerate(events, expected + 1):
        if at >= len(records) or records[at].event.id != event.id:
            return None if at == expected + 1 else WrongVersion(current)
    return _old(log.stream(stream), expected + len(events))


def _old(stream: Stream, revision: int) -> Written:
    return Written(revision, stream.records[revision].position)


def delete(log: Log, stream: str, expected: int) -> WrongVersion | Deleted | None:
    """Delete *stream* softly: what is there is not read any more, revisions go on."""
    with log.changed:
        known, current = log.stream(stream), last_number(log, stream)
        if known.tombstoned or (expected == EXISTS and known.soft_deleted):
            return Deleted()
        if current < 0 or (expected >= NO_STREAM and expected != current):
            return WrongVersion(current)
        if not known.soft_deleted:
            log.set_metadata(stream, {"$tb": LAST})
        log.flush()
        return None


def bury(log: Log, stream: str, expected: int) -> WrongVersion | Deleted | None:
    """Put a tombstone on *stream*: it is gone for ever, also for writers."""
    with log.changed:
        known = log.stream(stream)
        if known.tombstoned:
            return Deleted()
        if expected == EXISTS and known.last < 0:
            return WrongVersion(known.last)
        if expected >= NO_STREAM and expected != known.last:
            return WrongVersion(known.last)
        log.write(stream, LAST, [tombstone()])
        log.flush()
        return None
