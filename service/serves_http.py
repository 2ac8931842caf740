"""`POST /v1/serves`: ad servers report what they served."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from commands.serves import ReportAnswer, ReportStatus, Serves
from service.access import Access
from service.problems import (
    REPORT_MALFORMED,
    REPORT_REFUSALS,
    BadDocument,
    BodyTooLarge,
    MethodNotAllowed,
    Problem,
    Reply,
    ScopeMissing,
    TooManyReports,
    UnsupportedMedia,
    document,
    problem_of,
    reply_for,
)

BODY_MAX_BYTES = 1 << 20
REPORTS_MAX = 100
COUNTS_MAX = 2_000
"""In all reports of one request: reading and appending more at once would hold up decisions by milliseconds."""
_JSON = "application/json"
_INTERNAL = 500

_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODER = msgspec.json.Encoder()

log = structlog.get_logger()


class ServesApp:
    """The endpoint as an ASGI application; *body_max_bytes* is the gate's limit, this one's own is lower."""

    def __init__(self, serves: Serves, access: Access, registry: CollectorRegistry, *, body_max_bytes: int) -> None:
        self._serves = serves
        self._access = access
        self._body_max_bytes = min(body_max_bytes, BODY_MAX_BYTES)
        self._reports = Counter(
            "impledger_serve_reports", "Reports of serves answered", ("status", "reason"), registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request_id = request.headers.get("x-request-id", "")[:64] or uuid4().hex
        try:
            reply = await self._record(request, request_id)
        except Exception as error:
            reply = reply_for(error, request_id)
            if problem_of(error).status == _INTERNAL:
                log.exception("request failed", request_id=request_id)
        headers = {**dict(reply.headers), "x-request-id": request_id.encode("latin-1", "replace").decode("latin-1")}
        await Response(reply.body, reply.status, headers, reply.media_type)(scope, receive, send)

    async def _record(self, request: Request, request_id: str) -> Reply:
        if request.method != "POST":
            raise MethodNotAllowed("send reports with POST")
        if "decide" not in self._access.scopes(request.headers.get("authorization")):
            raise ScopeMissing("this needs the scope decide")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            raise UnsupportedMedia(f"send {_JSON}")
        raws, is_single = _split(await _body(request, self._body_max_bytes))
        if len(raws) > REPORTS_MAX:
            raise TooManyReports(f"at most {REPORTS_MAX} reports go in one request")
        answers = await self._serves.record(raws)
        for answer in answers:
            self._reports.labels(answer.status.value, answer.reason.value if answer.reason else "").inc()
        if is_single:
            return _single(answers[0], request_id)
        return Reply(200, _ENCODER.encode(answers), _JSON)


def _split(body: bytes) -> tuple[Sequence[bytes | msgspec.Raw], bool]:
    """Return the reports in *body* unread, so that one that cannot be read leaves its neighbours alone."""
    if body.lstrip()[:1] != b"[":
        return [body], True
    try:
        return _RAWS.decode(body), False
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadDocument("the document is not a JSON array; nothing of it was taken") from error


async def _body(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLarge(f"a body has at most {limit} bytes")
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge(f"a body has at most {limit} bytes")
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise BadDocument("the client went away") from error
    return b"".join(chunks)


def _single(answer: ReportAnswer, request_id: str) -> Reply:
    if answer.status is ReportStatus.RECORDED:
        return Reply(200, _ENCODER.encode(answer), _JSON)
    problem: Problem = REPORT_MALFORMED if answer.reason is None else REPORT_REFUSALS[answer.reason]
    facts: dict[str, Any] = {"outcome": answer}
    return document(problem, request_id, **facts)
