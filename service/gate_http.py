"""The write API: `POST /v1/impressions` as bare ASGI in front of Starlette, which serves what is not hot."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any
from uuid import uuid4

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from commands.batcher import Batcher, Overloaded
from commands.intake import Intake
from commands.items import Answer, Caller, Item, Status
from commands.quarantine import sent_by
from commands.shelter import Shelter
from service.access import Access
from service.endpoints import JSON, NDJSON, check_encoding, media_type_of, refusal, split
from service.gate_metrics import GateMetrics
from service.misdirected import misdirected, with_homes
from service.problems import (
    RETRY_AFTER_S,
    BadDocument,
    BodyTooLarge,
    MethodNotAllowed,
    Reply,
    TooManyRenders,
    UnsupportedMedia,
    document,
    problem_of_status,
)
from service.settings import Settings
from service.sheltered_requests import all_busy, merged, others

BODY_SMALL_BYTES = 65_536
KEYLESS_BODIES_MAX_BYTES = 1 << 28
"""
Of what callers without a key have sent of bodies that are not here as a whole: they may take their time over them, and
there may be many. Beyond it their bodies must be small.
"""
_ENCODER = msgspec.json.Encoder()


class GateApp:
    """The gate as an ASGI application; everything but the hot path goes to *inner*. *watch* sees all that comes."""

    def __init__(  # noqa: PLR0913 (its collaborators)
        self,
        *,
        intake: Intake,
        batcher: Batcher,
        access: Access,
        settings: Settings,
        metrics: GateMetrics,
        inner: ASGIApp,
        watch: Callable[[Sequence[Item]], None] = lambda _: None,
        shelter: Shelter | None = None,
    ) -> None:
        self._shelter = shelter
        self._intake = intake
        self._batcher = batcher
        self._access = access
        self._settings = settings
        self._metrics = metrics
        self._inner = inner
        self._watch = watch
        self._keyless_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/v1/impressions":
            await self._inner(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        request_id = headers.get(b"x-request-id", "")[:64] or uuid4().hex
        began = perf_counter()
        try:
            reply = await self._impressions(scope, headers, receive, request_id)
        except Exception as error:  # noqa: BLE001 (told to the caller, and logged if it is ours)
            reply = refusal(error, request_id)
            self._metrics.failed(reply.status)
        self._metrics.took(perf_counter() - began)
        await _send(send, reply, request_id)

    async def _impressions(self, scope: Scope, headers: dict[bytes, str], receive: Receive, request_id: str) -> Reply:
        if scope["method"] != "POST":
            raise MethodNotAllowed("send renders with POST", "POST")
        scopes = self._access.scopes(headers.get(b"authorization"))
        media_type = media_type_of(headers.get(b"content-type", ""))
        if media_type not in {JSON, NDJSON}:
            raise UnsupportedMedia(f"send {JSON} or {NDJSON}")
        check_encoding(headers.get(b"content-encoding", ""))
        self._batcher.check_admission()
        body = await self._body(receive, headers, is_known=bool(scopes))
        raws, is_single = split(body, media_type)
        if len(raws) > self._settings.renders_max:
            raise TooManyRenders(f"at most {self._settings.renders_max} renders go in one request")
        client = scope.get("client")
        caller = Caller(scopes, headers.get(b"user-agent"), client[0] if client else None)
        kept: dict[int, Answer] = {}
        if self._shelter is not None and not self._shelter.is_closed:
            kept = await self._shelter.take(raws, caller)
        items = await self._intake.prepare(others(raws, kept), caller)
        self._watch(items)
        self._metrics.received(items)
        answers = await self._batcher.submit(sent_by(caller, items))
        if self._intake.homes is not None:
            answers = with_homes(items, answers)
            if kept:
                answers = merged(kept, answers)
            busy = all_busy(answers, request_id, is_single=is_single) if kept else None
            if (reply := misdirected(answers, request_id, is_single=is_single) or busy) is not None:
                self._metrics.answered(answers)
                return reply
        self._metrics.answered(answers)
        shown = answers if "decide" in scopes else [_veiled(answer) for answer in answers]
        if is_single:
            return _single(shown[0], answers[0], request_id)
        if media_type == NDJSON:
            return Reply(200, b"".join(_ENCODER.encode(answer) + b"\n" for answer in shown), NDJSON)
        return Reply(200, _ENCODER.encode(shown), JSON)

    async def _body(self, receive: Receive, headers: dict[bytes, str], *, is_known: bool) -> bytes:
        limit = self._settings.body_max_bytes
        too_large = BodyTooLarge(f"a body has at most {limit} bytes")
        declared = headers.get(b"content-length", "")
        if declared.isdigit() and int(declared) > limit:
            raise too_large
        chunks, size, counted = [], 0, 0
        try:
            while True:
                message: Any = await receive()
                if message["type"] == "http.disconnect":
                    raise BadDocument("the client went away")
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise too_large
                chunks.append(chunk)
                if not message.get("more_body"):
                    return b"".join(chunks)
                if not is_known:
                    self._keyless_bytes += len(chunk)
                    counted += len(chunk)
                    if self._keyless_bytes > KEYLESS_BODIES_MAX_BYTES and size > BODY_SMALL_BYTES:
                        raise Overloaded("too much is on its way from callers without a key")
        finally:
            self._keyless_bytes -= counted


def _veiled(answer: Answer) -> Answer:
    """What a caller without the `decide` scope sees: the answer must not be an oracle for fraud."""
    if answer.status in {Status.REFUSED, Status.QUARANTINED, Status.DEFERRED}:
        return answer
    return Answer(event_id=answer.event_id, impression_id=answer.impression_id, status=Status.ACCEPTED)


def _single(shown: Answer, answer: Answer, request_id: str) -> Reply:
    problem = problem_of_status(answer.status, answer.reason)
    if problem is None:
        return Reply(200, _ENCODER.encode(shown), JSON)
    headers = (("retry-after", str(RETRY_AFTER_S)),) if problem.status == 503 else ()
    return document(problem, request_id, headers=headers, outcome=shown)


async def _send(send: Send, reply: Reply, request_id: str) -> None:
    headers = [
        (b"content-type", reply.media_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
        (b"x-request-id", request_id.encode("latin-1", "replace")),
        *((name.encode(), value.encode()) for name, value in reply.headers),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
