"""
The one file that knows the client library: channels, messages, and what its failures mean.

esdbclient is frozen and holds for Python below 3.14; its successor kurrentdbclient has the same generated classes, and
nothing else of either is used: names of the public client differ, and it retries on its own, past its deadline.
"""

import re
import sys
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

import grpc
import grpc.aio
from msgspec import Struct

from ledger.eventstoredb_address import Address
from ledger.eventstoredb_layout import Draft, Written

if sys.version_info >= (3, 14):
    from kurrentdbclient.protos.v1 import gossip_pb2, gossip_pb2_grpc, shared_pb2, streams_pb2, streams_pb2_grpc
else:
    from esdbclient.protos.Grpc import gossip_pb2, gossip_pb2_grpc, shared_pb2, streams_pb2, streams_pb2_grpc

NO_STREAM: Final = -1
"""Expected revision of a stream that has no events yet."""
_MESSAGE_BYTES_MAX = 17 << 20
_KEEPALIVE_MS = 10_000
_SEARCH_WINDOW = 1_000
_U64 = (1 << 64) - 1
_ALL = (1 << 63) - 1
_IMPOSSIBLE_REVISION = 1 << 62
_ACTUAL = re.compile(r"Actual version: (-?\d+)$")


class Failure(Enum):
    """What ended a call."""

    AWAY = "did not answer"
    NOT_LEADER = "is not the leader"
    HANDLER = "failed within"
    CUT = "ended the call while it was written to"
    BAD_POSITION = "has no such position"
    DELETED = "has a tombstone there"
    REFUSED = "refused"


class CallFailed(Exception):
    """A call ended without an answer, or with one that is no answer to the question. `leader` is `host:port`."""

    def __init__(self, failure: Failure, detail: str, leader: str | None = None) -> None:
        super().__init__(f"EventStoreDB {failure.value}: {detail}")
        self.failure = failure
        self.leader = leader


class Appended(Struct, frozen=True, gc=False):
    """Written, and *position* is that of the last event."""

    position: int


class WrongVersion(Struct, frozen=True, gc=False):
    """The stream stands otherwise, or the server cannot tell."""


class Gone(Struct, frozen=True, gc=False):
    """The stream has a tombstone."""


class Denied(Struct, frozen=True, gc=False):
    """It will not be written, whatever is tried; *why* is the server's word."""

    why: str


class NotNow(Struct, frozen=True, gc=False):
    """The server could not say whether it was written: busy, starting, without a leader, or late."""

    why: str


Answer = Appended | WrongVersion | Gone | Denied | NotNow
_WRONG_VERSION, _GONE = WrongVersion(), Gone()


def open_channel(address: Address, target: str) -> Any:
    """
    Return a new channel to *target*, `host:port`; it connects when it is first used.

    Raises:
        OSError: a file of certificates cannot be read.
    """
    options = [
        ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_MS),
        # A channel that is opened anew tries at once, whatever an older one to the same target waits for.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if not address.tls:
        return grpc.aio.insecure_channel(target, options=options)
    files = (address.ca_file, address.key_file, address.certificate_file)
    roots, key, chain = (None if path is None else path.read_bytes() for path in files)
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(roots, key, chain), options=options)


class Node:
    """One server, over one channel. All calls require a leader."""

    def __init__(self, address: Address, target: str) -> None:
        self.target = target
        who = (("authorization", address.authorization),) if address.authorization else ()
        self._anyone = (("connection-name", address.connection_name), *who)
        self._metadata = (("requires-leader", "true"), *self._anyone)
        self._channel = open_channel(address, target)
        self._streams: Any = streams_pb2_grpc.StreamsStub(self._channel)  # type: ignore[no-untyped-call]
        self._gossip: Any = gossip_pb2_grpc.GossipStub(self._channel)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        await self._channel.close()

    def read(self, request: Any) -> Any:
        """Begin a read; its responses are iterated, and it is cancelled when enough came."""
        return self._streams.Read(request, metadata=self._metadata)

    def append_many(self) -> Any:
        """Begin a call that takes many appends and answers each."""
        return self._streams.BatchAppend(metadata=self._metadata)

    async def leader(self, timeout_s: float) -> str | None:
        """Return which node leads, `host:port`, as this one knows it."""
        try:
            info = await self._gossip.Read(shared_pb2.Empty(), metadata=self._anyone, timeout=timeout_s)
        except grpc.RpcError as error:
            raise failed(error) from None
        leads = gossip_pb2.MemberInfo.VNodeState.Leader
        for member in info.members:
            if member.is_alive and member.state == leads:
                return f"{member.http_end_point.address}:{member.http_end_point.port}"
        return None

    async def actual_revision(self, name: str, timeout_s: float) -> int | None:
        """
        Return the revision that the server's index has for stream *name*: -1 without one, below that if it cannot tell.

        Asked by a deletion that can never happen, of an impossible revision: the one question whose answer has a place
        for what a collision in the index yields. None: there is a tombstone.
        """
        options = streams_pb2.DeleteReq.Options(
            stream_identifier=shared_pb2.StreamIdentifier(stream_name=name.encode()), revision=_IMPOSSIBLE_REVISION
        )
        try:
            await self._streams.Delete(
                streams_pb2.DeleteReq(options=options), metadata=self._metadata, timeout=timeout_s
            )
        except grpc.RpcError as error:
            found = failed(error)
            if found.failure is Failure.DELETED:
                return None
            if match := _ACTUAL.search(_detail(error)):
                return int(match[1])
            raise found from None
        raise AssertionError("a stream had a revision that none can have")


_KINDS: dict[str, Any] = {}


def append_request(name: str, expected: int, nonce: int, drafts: Sequence[Draft]) -> Any:
    """
    Return the request to append *drafts* to stream *name* at *expected*, a revision or NO_STREAM.

    The events' ids are *nonce*, whose low 16 bits are zero, and their index.
    """
    request = streams_pb2.BatchAppendReq(is_final=True)
    options = request.options
    options.stream_identifier.stream_name = name.encode()
    if expected == NO_STREAM:
        options.no_stream.SetInParent()
    else:
        options.stream_position = expected
    high, low = _signed(nonce >> 64), nonce & _U64
    add = request.proposed_messages.add
    for index, draft in enumerate(drafts):
        message = add()
        message.CopyFrom(_kind(draft.kind))
        message.custom_metadata, message.data = draft.note, draft.data
        id_ = message.id.structured
        id_.most_significant_bits, id_.least_significant_bits = high, _signed(low | index)
    return request


def number(request: Any, serial: int, deadline_s: float) -> None:
    """Mark *request* with the *serial* that its answer will carry, and how long the server may take."""
    request.correlation_id.structured.least_significant_bits = serial
    deadline = request.options.deadline
    deadline.seconds, deadline.nanos = int(deadline_s), int(deadline_s % 1 * 1e9)


def serial_of(response: Any) -> int:
    serial: int = response.correlation_id.structured.least_significant_bits
    return serial


def answer(response: Any) -> Answer:
    """Return what *response* to an append says."""
    if response.HasField("success"):
        return Appended(response.success.position.commit_position)
    details = response.error.details
    if details.Is(shared_pb2.WrongExpectedVersion.DESCRIPTOR):
        return _WRONG_VERSION
    if details.Is(shared_pb2.StreamDeleted.DESCRIPTOR):
        return _GONE
    kind = details.TypeName().rpartition(".")[2]
    if kind in {"AccessDenied", "MaximumAppendSizeExceeded", "InvalidTransaction", "BadRequest"}:
        return Denied(kind)
    return NotNow(response.error.message or kind)


def read_stream(name: str, revision: int, count: int = _ALL) -> Any:
    """Return the request for *count* events of stream *name* from *revision* on."""
    options = streams_pb2.ReadReq.Options(count=count, no_filter=shared_pb2.Empty(), uuid_option=_structured())
    options.stream.stream_identifier.stream_name = name.encode()
    options.stream.revision = revision
    return streams_pb2.ReadReq(options=options)


def read_all(pattern: str, position: int | None, *, backwards: bool = False) -> Any:
    """Return the request for events of streams that match *pattern*, from *position* on or from the first one."""
    options = _all(pattern, position)
    options.count = _ALL
    if backwards:
        options.read_direction = streams_pb2.ReadReq.Options.Backwards
        options.all.end.SetInParent()
    return streams_pb2.ReadReq(options=options)


def subscribe_all(pattern: str, position: int | None) -> Any:
    """Return the request for events of streams that match *pattern* after *position*, and those to come."""
    options = _all(pattern, position)
    options.subscription.SetInParent()
    return streams_pb2.ReadReq(options=options)


def event_of(response: Any) -> Written | None:
    """Return the event in *response*, if it is one that the adapter wrote: those of the server have no metadata."""
    if not response.HasField("event"):
        return None
    event = response.event.event
    if not event.custom_metadata:
        return None
    id_ = event.id.structured
    return Written(
        event.stream_identifier.stream_name.decode(),
        event.stream_revision,
        event.commit_position,
        (id_.most_significant_bits & _U64) << 64 | id_.least_significant_bits & _U64,
        event.custom_metadata,
        event.data,
    )


def is_caught_up(response: Any) -> bool:
    return bool(response.HasField("caught_up"))


def failed(error: Exception) -> CallFailed:
    """Return what *error*, one of RPC_ERRORS, means."""
    if not isinstance(error, grpc.RpcError):
        return CallFailed(Failure.AWAY, str(error))
    code, detail = error.code(), _detail(error)
    if code is grpc.StatusCode.NOT_FOUND and detail == "Leader info available":
        said = {key: value for key, value in error.trailing_metadata() or ()}  # noqa: C416 (it is no sequence of pairs)
        host, port = said.get("leader-endpoint-host"), said.get("leader-endpoint-port")
        return CallFailed(Failure.NOT_LEADER, detail, f"{host}:{port}" if host and port else None)
    failure = {
        grpc.StatusCode.UNKNOWN: Failure.HANDLER,
        grpc.StatusCode.INTERNAL: Failure.CUT,  # a write that fails takes the place of what the server said
        grpc.StatusCode.INVALID_ARGUMENT: Failure.BAD_POSITION,
        grpc.StatusCode.UNAUTHENTICATED: Failure.REFUSED,
        grpc.StatusCode.PERMISSION_DENIED: Failure.REFUSED,
    }.get(code, Failure.AWAY)
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        failure = Failure.DELETED if "is deleted" in detail else Failure.REFUSED
    return CallFailed(failure, detail or code.name)


RPC_ERRORS = (grpc.RpcError, grpc.aio.UsageError)


def _detail(error: grpc.RpcError) -> str:
    return error.details() or ""


def _all(pattern: str, position: int | None) -> Any:
    options = streams_pb2.ReadReq.Options(uuid_option=_structured())
    if position is None:
        options.all.start.SetInParent()
    else:
        options.all.position.commit_position = options.all.position.prepare_position = position
    options.filter.stream_identifier.regex = pattern
    options.filter.max, options.filter.checkpointIntervalMultiplier = _SEARCH_WINDOW, 1
    return options


def _structured() -> Any:
    return streams_pb2.ReadReq.Options.UUIDOption(structured=shared_pb2.Empty())


def _kind(kind: str) -> Any:
    """Filling a map costs more than copying one that is filled."""
    if kind not in _KINDS:
        _KINDS[kind] = streams_pb2.BatchAppendReq.ProposedMessage(
            metadata={"type": kind, "content-type": "application/json"}
        )
    return _KINDS[kind]


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits
