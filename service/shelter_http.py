"""Sheltering over HTTP: orders (scope `admin`), and what cells say to and bring each other (scope `forward`)."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID, uuid4

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from commands.shelter_arrivals import ENVELOPES_MAX, Arrivals, Envelope
from domain.shelter import Signed
from service.access import Access
from service.problems import (
    UNFORESEEN,
    BadDocument,
    BadParameter,
    BodyTooLarge,
    NoSuchThing,
    Reply,
    TooManyEnvelopes,
    problem_of,
    reply_for,
)
from service.shelter_files import FORWARD
from service.sheltering import Sheltering, now_ms, order_facts

ADMIN = "admin"
ORDER_MAX_BYTES = 131_072
ENVELOPES_MAX_BYTES = 4 << 20

log = structlog.get_logger(__name__)
_ENCODER = msgspec.json.Encoder()
_T = TypeVar("_T")

Answer = Callable[[Request], Awaitable[object]]


class ShelterHttp:
    """The endpoints. *check_admission* raises `Overloaded` while clients' renders wait: they go first."""

    def __init__(
        self, sheltering: Sheltering, arrivals: Arrivals, access: Access, check_admission: Callable[[], None]
    ) -> None:
        self._sheltering = sheltering
        self._arrivals = arrivals
        self._access = access
        self._check_admission = check_admission

    def routes(self) -> list[Route]:
        return [
            Route("/v1/shelter", self._guarded(self._status, ADMIN)),
            Route("/v1/shelter/orders", self._guarded(self._order, ADMIN), methods=["POST"]),
            Route("/v1/shelter/orders/{order_id}/revoke", self._guarded(self._revoke, ADMIN), methods=["POST"]),
            Route("/v1/shelter/testimonies", self._guarded(self._testimonies, FORWARD)),
            Route("/v1/sheltered", self._guarded(self._arrive, FORWARD), methods=["POST"]),
        ]

    async def _status(self, _: Request) -> object:
        return await self._sheltering.status()

    async def _order(self, request: Request) -> object:
        signed = await _document(request, ORDER_MAX_BYTES, Signed, "by, payload and signature")
        now = now_ms()
        standing = await self._sheltering.book.take(signed, now)
        log.warning("shelter order taken", **self._told(request, order_facts(standing, now)))
        return order_facts(standing, now)

    async def _revoke(self, request: Request) -> object:
        now = now_ms()
        standing = await self._sheltering.book.revoke(_order_id(request), now)
        if standing is None:
            raise NoSuchThing("this cell knows no shelter order of that id")
        log.warning("shelter order revoked", **self._told(request, order_facts(standing, now)))
        return order_facts(standing, now)

    async def _testimonies(self, _: Request) -> object:
        return self._sheltering.lookout.testimonies()

    async def _arrive(self, request: Request) -> object:
        envelopes = await _document(request, ENVELOPES_MAX_BYTES, list[Envelope], "a list of envelopes")
        if len(envelopes) > ENVELOPES_MAX:
            raise TooManyEnvelopes(f"at most {ENVELOPES_MAX} go in one request")
        self._check_admission()
        receipts = await self._arrivals.take(envelopes)
        for receipt in receipts:
            self._sheltering.arrived.labels(receipt.fate.value).inc()
        return receipts

    def _told(self, request: Request, facts: dict[str, Any]) -> dict[str, Any]:
        key = self._access.key_of(request.headers.get("authorization"))
        return {"order": str(facts["order_id"]), "region": facts["region"], "until": facts["valid_until"], "key": key}

    def _guarded(self, answer: Answer, scope: str) -> Callable[[Request], Awaitable[Response]]:
        """Let callers with *scope* through, and turn every error into its problem document."""

        async def endpoint(request: Request) -> Response:
            request_id = request.headers.get("x-request-id", "")[:64] or uuid4().hex
            try:
                self._access.require(request.headers.get("authorization"), scope)
                reply = Reply(200, _ENCODER.encode(await answer(request)), "application/json")
            except Exception as error:
                reply = reply_for(error, request_id)
                if problem_of(error) is UNFORESEEN:
                    log.exception("request failed", request_id=request_id)
            headers = {**dict(reply.headers), "cache-control": "no-store"}
            headers["x-request-id"] = request_id.encode("latin-1", "replace").decode("latin-1")
            return Response(reply.body, reply.status, headers, reply.media_type)

        return endpoint


def _order_id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["order_id"])
    except ValueError as error:
        raise BadParameter("order_id: must be the UUID of an order") from error


async def _document(request: Request, limit: int, kind: type[_T], what: str) -> _T:
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge(f"the body has at most {limit} bytes")
            chunks.append(chunk)
        return msgspec.json.decode(b"".join(chunks), type=kind)
    except ClientDisconnect as error:
        raise BadDocument("the client went away") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadDocument(f"the body is not {what}") from error
