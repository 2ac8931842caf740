"""The service of streams: reading, appending one by one and many over one call, deleting."""

import queue
import threading
import time
from typing import TYPE_CHECKING
from uuid import UUID

import grpc
from google.protobuf import any_pb2, empty_pb2

from . import checks, reading
from .checks import ANY, EXISTS, INVALID, NO_STREAM, Deleted, Written, WrongVersion
from .faults import Fault
from .log import Proposed
from .protocol import shared_pb2, status_pb2, streams_pb2, streams_pb2_grpc

if TYPE_CHECKING:
    from .node import Node

APPEND_BYTES_MAX = 1 << 20
_GROUP_MAX = 512
_EVENT_OVERHEAD = 64
_END = object()
_UNKNOWN, _NOT_FOUND, _ALREADY_EXISTS = 2, 5, 6
_HANDLER = "Exception was thrown by handler."


class Broken(Exception):
    """The call ends here, as *fault* says."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class Streams(streams_pb2_grpc.StreamsServicer):
    def __init__(self, node: "Node") -> None:
        self._node = node

    def Read(self, request, context):  # noqa: N802 (the generated class names it)
        node, options = self._node, request.options
        node.enter(context)
        name = options.stream.stream_identifier.stream_name.decode()
        fault = node.read_faults(name)
        if fault in {Fault.LOST_BEFORE, Fault.LOST_AFTER}:
            _hang(context)
            return
        if fault is not None:
            self._break(fault, context)
        try:
            if options.WhichOneof("count_option") == "subscription":
                wanted = context.is_active
                yield from reading.subscription(
                    node.log,
                    options,
                    active=lambda: wanted() and node.serves(context),
                    tail_checkpoint=node.tail_checkpoint,
                )
                if wanted():
                    node.enter(context)
                return
            yield from reading.pages(node.log, options)
        except reading.InvalidPosition:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Trying to read from an invalid position.")
        except reading.StreamIsDeleted as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"Event stream '{error}' is deleted.")

    def Append(self, requests, context):  # noqa: N802
        self._node.enter(context)
        options = next(requests).options
        events = [_proposed(request.proposed_message) for request in requests]
        stream = options.stream_identifier.stream_name.decode()
        fault = self._node.append_faults(stream)
        if fault in {Fault.UNAVAILABLE, Fault.NOT_LEADER, Fault.NO_LEADER, Fault.BUSY, Fault.NOT_READY, Fault.DENIED}:
            self._break(fault, context)
        if fault in {Fault.LOST_BEFORE, Fault.TIMEOUT_BEFORE}:
            _hang(context)
        if _size(events) > APPEND_BYTES_MAX:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Maximum Append Size of 1048576 Exceeded.")
        expected = _expected(options.WhichOneof("expected_stream_revision"), options.revision)
        outcome = checks.append(self._node.log, stream, expected, events)
        self._node.log.flush()
        if fault in {Fault.LOST_AFTER, Fault.TIMEOUT_AFTER}:
            _hang(context)
        if fault is Fault.BROKEN_AFTER:
            self._break(fault, context)
        match outcome:
            case Written(revision, position):
                at = streams_pb2.AppendResp.Position(commit_position=position, prepare_position=position)
                return streams_pb2.AppendResp(
                    success=streams_pb2.AppendResp.Success(current_revision=revision, position=at)
                )
            case WrongVersion(current):
                wrong = streams_pb2.AppendResp.WrongExpectedVersion()
                if current == INVALID:
                    context.abort(grpc.StatusCode.UNKNOWN, _HANDLER)
                if current < 0:
                    wrong.current_no_stream.SetInParent()
                else:
                    wrong.current_revision = current
                return streams_pb2.AppendResp(wrong_expected_version=wrong)
        return context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"Event stream '{stream}' is deleted.")

    def BatchAppend(self, requests, context):  # noqa: N802
        """Each request is answered when it is on disk; what arrived meanwhile goes to disk together."""
        self._node.enter(context)
        waiting: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._drain, args=(requests, waiting), daemon=True).start()
        parts: dict[bytes, tuple] = {}
        unanswered = 0
        while True:
            group = _group(waiting)
            responses, broken = [], None
            for request in group:
                if request is _END:
                    break
                unanswered += request.is_final
                try:
                    if (response := self._one(request, parts, context)) is not None:
                        responses.append(response)
                except Broken as error:
                    broken = error.fault
                    break
            self._node.log.flush()
            self._node.unanswered -= len(responses)
            unanswered -= len(responses)
            yield from responses
            if broken is not None:
                self._break(broken, context)
            if group[-1] is _END:
                if unanswered:
                    _hang(context)
                return

    def _drain(self, requests, waiting: queue.SimpleQueue) -> None:
        try:
            for request in requests:
                self._node.unanswered += 1
                self._node.unanswered_max = max(self._node.unanswered, self._node.unanswered_max)
                waiting.put(request)
        except grpc.RpcError:
            pass
        waiting.put(_END)

    def _one(self, request, parts: dict[bytes, tuple], context) -> streams_pb2.BatchAppendResp | None:
        """Take one request of many; answer it if it is the last part of an append."""
        key = request.correlation_id.SerializeToString()
        if request.HasField("options"):
            parts[key] = (request.options, [])
        if key not in parts:
            return None
        options, events = parts[key]
        events += map(_proposed, request.proposed_messages)
        if not request.is_final:
            return None
        del parts[key]
        response = streams_pb2.BatchAppendResp(
            correlation_id=request.correlation_id, stream_identifier=options.stream_identifier
        )
        fault = self._node.append_faults(options.stream_identifier.stream_name.decode())
        if not self._node.serves(context):
            fault = Fault.NOT_LEADER
        if fault in {Fault.UNAVAILABLE, Fault.NOT_LEADER}:
            raise Broken(fault)
        if fault in _INSTEAD:
            return _error(response, *_INSTEAD[fault])
        return None if fault is Fault.LOST_BEFORE else self._write(response, options, events, fault)

    def _write(self, response, options, events, fault: Fault | None) -> streams_pb2.BatchAppendResp | None:
        if _size(events) > APPEND_BYTES_MAX:
            return _error(response, shared_pb2.MaximumAppendSizeExceeded(maxAppendSize=APPEND_BYTES_MAX))
        stream = options.stream_identifier.stream_name.decode()
        expected = _expected(options.WhichOneof("expected_stream_position"), options.stream_position)
        outcome = checks.append(self._node.log, stream, expected, events)
        if fault is Fault.BROKEN_AFTER:
            raise Broken(fault)
        if fault is Fault.TIMEOUT_AFTER:
            return _error(response, shared_pb2.Timeout())
        return None if fault is Fault.LOST_AFTER else self._answer(response, outcome, options)

    def _answer(self, response, outcome, options) -> streams_pb2.BatchAppendResp:
        match outcome:
            case Written(revision, position):
                response.success.current_revision = revision
                response.success.position.commit_position = position
                response.success.position.prepare_position = position
                return response
            case WrongVersion(current):
                if current == INVALID and (fault := self._node.collision_breaks_calls) is not None:
                    raise Broken(fault)
                wrong = shared_pb2.WrongExpectedVersion()
                if current < 0:
                    wrong.current_no_stream.SetInParent()
                else:
                    wrong.current_stream_revision = current
                return _error(response, wrong, "WrongExpectedVersion", _ALREADY_EXISTS)
            case _:
                deleted = shared_pb2.StreamDeleted(stream_identifier=options.stream_identifier)
                return _error(response, deleted, "StreamDeleted", _NOT_FOUND)

    def Delete(self, request, context):  # noqa: N802
        self._end(checks.delete, request, context)
        return streams_pb2.DeleteResp(no_position=shared_pb2.Empty())

    def Tombstone(self, request, context):  # noqa: N802
        self._end(checks.bury, request, context)
        return streams_pb2.TombstoneResp(no_position=shared_pb2.Empty())

    def _end(self, rule, request, context) -> None:
        self._node.enter(context)
        options = request.options
        stream = options.stream_identifier.stream_name.decode()
        expected = _expected(options.WhichOneof("expected_stream_revision"), options.revision)
        match rule(self._node.log, stream, expected):
            case WrongVersion(current):
                versions = f"Stream: {stream}, Expected version: {expected}, Actual version: {current}"
                said = f"Delete failed due to WrongExpectedVersion. {versions}"
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, said)
            case Deleted():
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"Event stream '{stream}' is deleted.")

    def _break(self, fault: Fault, context) -> None:
        match fault:
            case Fault.NOT_LEADER:
                self._node.refuse_as_follower(context)
            case Fault.UNAVAILABLE | Fault.BROKEN_AFTER:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
            case Fault.DENIED:
                context.abort(grpc.StatusCode.UNKNOWN, _HANDLER)
            case Fault.CUT:
                context.abort(grpc.StatusCode.INTERNAL, "Internal error from Core")
            case Fault.TIMEOUT_BEFORE | Fault.TIMEOUT_AFTER:
                context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "timed out")
            case _:
                context.abort(grpc.StatusCode.UNAVAILABLE, _SAID[fault])


_SAID = {
    Fault.BUSY: "Server Is Busy",
    Fault.NOT_READY: "Server Is Not Ready",
    Fault.NO_LEADER: "No leader info available in response",
}
_INSTEAD = {
    Fault.TIMEOUT_BEFORE: (shared_pb2.Timeout(), ""),
    Fault.DENIED: (shared_pb2.AccessDenied(), ""),
    Fault.WRONG_VERSION: (shared_pb2.WrongExpectedVersion(current_stream_revision=0), "WrongExpectedVersion"),
    **{fault: (empty_pb2.Empty(), said) for fault, said in _SAID.items()},
}
"""What is answered instead of writing."""


def _group(waiting: queue.SimpleQueue) -> list:
    group = [waiting.get()]
    while group[-1] is not _END and len(group) < _GROUP_MAX:
        try:
            group.append(waiting.get_nowait())
        except queue.Empty:
            break
    return group


def _hang(context) -> None:
    """No answer, until the client has had enough."""
    while context.is_active():
        time.sleep(0.01)


def _error(response, details, message: str = "", code: int = _UNKNOWN) -> streams_pb2.BatchAppendResp:
    packed = any_pb2.Any()
    packed.Pack(details)
    response.error.CopyFrom(status_pb2.Status(code=code, message=message, details=packed))
    return response


def _expected(kind: str, revision: int) -> int:
    return {"no_stream": NO_STREAM, "any": ANY, "stream_exists": EXISTS}.get(kind, revision)


def _proposed(message) -> Proposed:
    return Proposed(
        _id(message.id),
        message.metadata["type"],
        message.metadata["content-type"],
        message.data,
        message.custom_metadata,
    )


def _id(value) -> UUID:
    if value.WhichOneof("value") == "structured":
        mask = (1 << 64) - 1
        both = value.structured
        return UUID(int=(both.most_significant_bits & mask) << 64 | both.least_significant_bits & mask)
    return UUID(value.string)


def _size(events: list[Proposed]) -> int:
    return sum(_EVENT_OVERHEAD + len(event.type) + len(event.data) + len(event.metadata) for event in events)
