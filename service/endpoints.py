"""One endpoint, seen from outside its answer: who may ask, what was sent, and every error as its problem document."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from service.access import Access
from service.problems import (
    UNFORESEEN,
    BadDocument,
    BadParameter,
    BodyTooLarge,
    EncodedBody,
    MethodNotAllowed,
    NoSuchThing,
    Reply,
    problem_of,
    reply_for,
)

T = TypeVar("T")
Answer = Callable[[Request], Awaitable[Reply]]

JSON, NDJSON = "application/json", "application/x-ndjson"
_REQUEST_ID_MAX = 64
_ENCODER = msgspec.json.Encoder()
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])

log = structlog.get_logger(__name__)


def guarded(access: Access, scope: str, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """Let callers with *scope* through, and turn every error into its problem document."""

    async def endpoint(request: Request) -> Response:
        request_id = request_id_of(request)
        try:
            access.require(request.headers.get("authorization"), scope)
            _refuse_nul(request)
            reply = await answer(request)
        except Exception as error:  # noqa: BLE001 (told to the caller, and logged if it is ours)
            reply = refusal(error, request_id)
        return response(reply, request_id, {"cache-control": "no-store"})

    return endpoint


def _refuse_nul(request: Request) -> None:
    """No name of ours has one, and PostgreSQL drops a connection over it."""
    if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:
        raise BadParameter("the address has a U+0000")


def request_id_of(request: Request) -> str:
    """Return the caller's name for *request*, or one of our own, which is the same whenever it is asked for."""
    if not hasattr(request.state, "request_id"):
        request.state.request_id = request.headers.get("x-request-id", "")[:_REQUEST_ID_MAX] or uuid4().hex
    return str(request.state.request_id)


def refusal(error: Exception, request_id: str) -> Reply:
    """Return the problem document for *error*, and log what was not foreseen."""
    if problem_of(error) is UNFORESEEN:
        log.error("request failed", exc_info=error, request_id=request_id)
    return reply_for(error, request_id)


def response(reply: Reply, request_id: str, more: dict[str, str] | None = None) -> Response:
    """Return *reply* as it goes over the wire, with its request's id and *more* headers."""
    told = {"x-request-id": request_id.encode("latin-1", "replace").decode("latin-1")} if request_id else {}
    return Response(reply.body, reply.status, {**dict(reply.headers), **(more or {}), **told}, reply.media_type)


def refused(request: Request, error: Exception) -> Response:
    """Return the problem document for *error*, which no endpoint behind `guarded` has met."""
    request_id = request_id_of(request)
    return response(refusal(error, request_id), request_id)


async def _nothing(request: Request, _: Exception) -> Response:
    return refused(request, NoSuchThing(request.url.path))


async def _wrong_method(request: Request, error: Exception) -> Response:
    told = refused(request, MethodNotAllowed(request.method))
    told.headers.update(getattr(error, "headers", None) or {})
    return told


ASTRAY: Mapping[Any, ExceptionHandler] = {404: _nothing, 405: _wrong_method}
"""What an application of ours answers where no endpoint is, and where one is not for the method."""


def json_reply(value: object) -> Reply:
    return Reply(200, _ENCODER.encode(value), JSON)


async def body_of(request: Request, limit: int) -> bytes:
    """
    Return the body of *request*.

    Raises:
        EncodedBody: it is compressed.
        BodyTooLarge: it has more than *limit* bytes.
        BadDocument: the client went away.
    """
    check_encoding(request.headers.get("content-encoding", ""))
    too_large = BodyTooLarge(f"the body has at most {limit} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large
    except ClientDisconnect as error:
        raise BadDocument("the client went away") from error
    return bytes(body)


def check_encoding(content_encoding: str) -> None:
    """Raise `EncodedBody` for a body that is not sent as it is: what is compressed would be read as broken events."""
    if content_encoding.strip().lower() not in {"", "identity"}:
        raise EncodedBody("send the body as it is, without Content-Encoding")


def media_type_of(content_type: str) -> str:
    """Return the media type in a `Content-Type` header, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def split(body: bytes, media_type: str = JSON) -> tuple[Sequence[bytes | msgspec.Raw], bool]:
    """
    Return the documents in *body* unread, so that one that cannot be read leaves its neighbours alone, and whether it
    is a single one.

    Raises:
        BadDocument: it begins as a JSON array and is none.
    """
    if media_type == NDJSON:
        return [line for line in body.split(b"\n") if line.strip()], False
    if body.lstrip()[:1] != b"[":
        return [body], True
    try:
        return _RAWS.decode(body), False
    except RecursionError as error:
        raise BadDocument("the document is nested too deeply") from error
    except msgspec.DecodeError as error:
        raise BadDocument("the document is not a JSON array; nothing of it was taken") from error


def read_as(body: bytes, kind: type[T], what: str) -> T:
    """Return the JSON in *body* as *kind*; raises `BadDocument`, saying that it is not *what*."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadDocument(f"the body is not {what}") from error
