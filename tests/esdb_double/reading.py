"""Pages, catch-up and live reading of the log, as protocol messages."""

import re
from collections.abc import Callable, Iterator
from uuid import uuid4

from .log import Log, Record
from .protocol import shared_pb2, streams_pb2

_POLL_S = 0.05
_EMPTY = shared_pb2.Empty()
_FORWARDS = streams_pb2.ReadReq.Options.Forwards


class InvalidPosition(Exception):
    """The position is none of a record."""


class StreamIsDeleted(Exception):
    """The stream has a tombstone."""


Allowed = Callable[[Record], bool]


def pages(log: Log, options) -> Iterator[streams_pb2.ReadResp]:
    """Answer a read that ends."""
    chosen = _of_stream(log, options) if options.WhichOneof("stream_option") == "stream" else _of_all(log, options)
    if chosen is None:
        yield _not_found(options)
        return
    left = options.count
    for record in chosen:
        if not left:
            return
        left -= 1
        yield event_response(record, options)


def _of_stream(log: Log, options) -> Iterator[Record] | None:
    name = options.stream.stream_identifier.stream_name.decode()
    stream = log.streams.get(name)
    if stream is not None and stream.tombstoned:
        raise StreamIsDeleted(name)
    with log.changed:
        shown = log.records[log.visible - 1].position
        records = [] if stream is None else [record for record in stream.readable() if record.position <= shown]
    if not records:
        return None
    where, backwards = options.stream.WhichOneof("revision_option"), options.read_direction != _FORWARDS
    if where == "revision":
        at = options.stream.revision
        records = [record for record in records if (record.revision <= at if backwards else record.revision >= at)]
    elif (where == "end") != backwards:
        records = []
    return iter(records[::-1] if backwards else records)


def _of_all(log: Log, options) -> Iterator[Record]:
    """Forwards a position includes its record, backwards it does not."""
    allowed = allowed_by(options)
    where, backwards = options.all.WhichOneof("all_option"), options.read_direction != _FORWARDS
    with log.changed:
        at, through = (0 if where == "start" else log.visible), log.visible
        if where == "position":
            position = options.all.position.commit_position
            if not log.is_boundary(position):
                raise InvalidPosition(position)
            at = log.at(position)
    span = range(at - 1, -1, -1) if backwards else range(at, through)
    return (log.records[index] for index in span if allowed(log.records[index]))


def subscription(
    log: Log, options, *, active: Callable[[], bool], tail_checkpoint: bool
) -> Iterator[streams_pb2.ReadResp]:
    """Answer a catch-up subscription: what is there, the mark that it caught up, then what comes."""
    if options.WhichOneof("stream_option") == "stream":
        follow = _Stream(log, options)
    else:
        follow = _All(log, options, tail_checkpoint=tail_checkpoint)
    yield streams_pb2.ReadResp(confirmation=streams_pb2.ReadResp.SubscriptionConfirmation(subscription_id=str(uuid4())))
    yield from follow.next()
    yield from follow.caught_up()
    while active():
        found = list(follow.next())
        yield from found
        if not found:
            with log.changed:
                log.changed.wait(_POLL_S)


class _Stream:
    def __init__(self, log: Log, options) -> None:
        self._log, self._options = log, options
        self._name = options.stream.stream_identifier.stream_name.decode()
        where = options.stream.WhichOneof("revision_option")
        last = log.stream(self._name).last
        self._after = {"start": -1, "end": last}.get(where, options.stream.revision)

    def next(self) -> Iterator[streams_pb2.ReadResp]:
        stream = self._log.stream(self._name)
        if stream.tombstoned:
            raise StreamIsDeleted(self._name)
        with self._log.changed:
            shown = self._log.records[self._log.visible - 1].position
            fresh = [one for one in stream.readable() if one.revision > self._after and one.position <= shown]
        for record in fresh:
            self._after = record.revision
            yield event_response(record, self._options)

    def caught_up(self) -> Iterator[streams_pb2.ReadResp]:
        yield streams_pb2.ReadResp(caught_up=streams_pb2.ReadResp.CaughtUp())


class _All:
    """
    Everything, with checkpoints after so many records were looked at.

    Resuming at a position skips the one record that is there, whichever it is. With *tail_checkpoint*, as up to server
    22.10, a checkpoint comes at the tail too, with the position that the next record will have: who resumes from it,
    misses that record.
    """

    def __init__(self, log: Log, options, *, tail_checkpoint: bool) -> None:
        self._log, self._options, self._allowed = log, options, allowed_by(options)
        self._filtered = options.WhichOneof("filter_option") == "filter"
        window = options.filter.max or 32
        self._interval = window * max(1, options.filter.checkpointIntervalMultiplier)
        self._considered = 0
        self._tail_checkpoint = tail_checkpoint
        where = options.all.WhichOneof("all_option")
        self._at = 0 if where == "start" else log.visible
        if where == "position":
            position = options.all.position.commit_position
            if not log.is_boundary(position):
                raise InvalidPosition(position)
            self._at = min(log.at(position) + 1, log.visible)

    def next(self) -> Iterator[streams_pb2.ReadResp]:
        while self._at < self._log.visible:
            record = self._log.records[self._at]
            self._at += 1
            if self._allowed(record):
                yield event_response(record, self._options)
            self._considered += 1
            if self._filtered and self._considered >= self._interval:
                self._considered = 0
                yield checkpoint(record.position)

    def caught_up(self) -> Iterator[streams_pb2.ReadResp]:
        if self._filtered and self._tail_checkpoint:
            yield checkpoint(self._log.end)
        yield streams_pb2.ReadResp(caught_up=streams_pb2.ReadResp.CaughtUp())


def allowed_by(options) -> Allowed:
    if options.WhichOneof("filter_option") != "filter":
        return lambda _: True
    kind = options.filter.WhichOneof("filter")
    expression = getattr(options.filter, kind)
    field = (lambda one: one.stream) if kind == "stream_identifier" else (lambda one: one.event.type)
    if expression.regex:
        search = re.compile(expression.regex).search
        return lambda record: search(field(record)) is not None
    prefixes = tuple(expression.prefix)
    return lambda record: field(record).startswith(prefixes)


def checkpoint(position: int) -> streams_pb2.ReadResp:
    return streams_pb2.ReadResp(
        checkpoint=streams_pb2.ReadResp.Checkpoint(commit_position=position, prepare_position=position)
    )


def event_response(record: Record, options) -> streams_pb2.ReadResp:
    recorded = streams_pb2.ReadResp.ReadEvent.RecordedEvent(
        id=_uuid(record.event.id, options),
        stream_identifier=shared_pb2.StreamIdentifier(stream_name=record.stream.encode()),
        stream_revision=record.revision,
        prepare_position=record.position,
        commit_position=record.position,
        metadata={
            "type": record.event.type,
            "content-type": record.event.content_type,
            "created": str(record.created),
        },
        custom_metadata=record.event.metadata,
        data=record.event.data,
    )
    return streams_pb2.ReadResp(event=streams_pb2.ReadResp.ReadEvent(event=recorded, commit_position=record.position))


def _uuid(value, options) -> shared_pb2.UUID:
    if options.uuid_option.WhichOneof("content") == "structured":
        high, low = value.int >> 64, value.int & ((1 << 64) - 1)
        return shared_pb2.UUID(
            structured=shared_pb2.UUID.Structured(
                most_significant_bits=_signed(high), least_significant_bits=_signed(low)
            )
        )
    return shared_pb2.UUID(string=str(value))


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


def _not_found(options) -> streams_pb2.ReadResp:
    return streams_pb2.ReadResp(
        stream_not_found=streams_pb2.ReadResp.StreamNotFound(stream_identifier=options.stream.stream_identifier)
    )
