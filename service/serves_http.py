"""`POST /v1/serves`: ad servers report what they served."""

from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from commands.serves import ReportAnswer, ReportStatus, Serves
from service.access import Access
from service.endpoints import JSON, body_of, media_type_of, refusal, request_id_of, response, split
from service.problems import (
    REPORT_MALFORMED,
    REPORT_REFUSALS,
    MethodNotAllowed,
    Problem,
    Reply,
    ScopeMissing,
    TooManyReports,
    UnsupportedMedia,
    document,
)

BODY_MAX_BYTES = 1 << 20
REPORTS_MAX = 100
COUNTS_MAX = 2_000
"""In all reports of one request: reading and appending more at once would hold up decisions by milliseconds."""

_ENCODER = msgspec.json.Encoder()


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
        request_id = request_id_of(request)
        try:
            reply = await self._record(request, request_id)
        except Exception as error:  # noqa: BLE001 (told to the caller, and logged if it is ours)
            reply = refusal(error, request_id)
        await response(reply, request_id)(scope, receive, send)

    async def _record(self, request: Request, request_id: str) -> Reply:
        if request.method != "POST":
            raise MethodNotAllowed("send reports with POST", "POST")
        if "decide" not in self._access.scopes(request.headers.get("authorization")):
            raise ScopeMissing("this needs the scope decide")
        if media_type_of(request.headers.get("content-type", "")) != JSON:
            raise UnsupportedMedia(f"send {JSON}")
        raws, is_single = split(await body_of(request, self._body_max_bytes))
        if len(raws) > REPORTS_MAX:
            raise TooManyReports(f"at most {REPORTS_MAX} reports go in one request")
        answers = await self._serves.record(raws)
        for answer in answers:
            self._reports.labels(answer.status.value, answer.reason.value if answer.reason else "").inc()
        if is_single:
            return _single(answers[0], request_id)
        return Reply(200, _ENCODER.encode(answers), JSON)


def _single(answer: ReportAnswer, request_id: str) -> Reply:
    if answer.status is ReportStatus.RECORDED:
        return Reply(200, _ENCODER.encode(answer), JSON)
    problem: Problem = REPORT_MALFORMED if answer.reason is None else REPORT_REFUSALS[answer.reason]
    facts: dict[str, Any] = {"outcome": answer}
    return document(problem, request_id, **facts)
