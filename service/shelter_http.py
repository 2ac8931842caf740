"""Sheltering over HTTP: orders (scope `admin`), and what cells say to and bring each other (scope `forward`)."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog
from starlette.requests import Request
from starlette.routing import Route

from commands.shelter_arrivals import ENVELOPES_MAX, Arrivals, Envelope
from domain.shelter import Signed
from service.access import Access
from service.clock import now_ms
from service.endpoints import body_of, guarded, json_reply, read_as
from service.problems import BadParameter, NoSuchThing, Reply, TooManyEnvelopes
from service.shelter_files import FORWARD
from service.sheltering import Sheltering, order_facts

ADMIN = "admin"
ORDER_MAX_BYTES = 131_072
ENVELOPES_MAX_BYTES = 4 << 20

log = structlog.get_logger(__name__)


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
            Route("/v1/shelter", guarded(self._access, ADMIN, self._status)),
            Route("/v1/shelter/orders", guarded(self._access, ADMIN, self._order), methods=["POST"]),
            Route("/v1/shelter/orders/{order_id}/revoke", guarded(self._access, ADMIN, self._revoke), methods=["POST"]),
            Route("/v1/shelter/testimonies", guarded(self._access, FORWARD, self._testimonies)),
            Route("/v1/sheltered", guarded(self._access, FORWARD, self._arrive), methods=["POST"]),
        ]

    async def _status(self, _: Request) -> Reply:
        return json_reply(await self._sheltering.status())

    async def _order(self, request: Request) -> Reply:
        signed = read_as(await body_of(request, ORDER_MAX_BYTES), Signed, "by, payload and signature")
        now = now_ms()
        standing = await self._sheltering.book.take(signed, now)
        log.warning("shelter order taken", **self._told(request, order_facts(standing, now)))
        return json_reply(order_facts(standing, now))

    async def _revoke(self, request: Request) -> Reply:
        now = now_ms()
        standing = await self._sheltering.book.revoke(_order_id(request), now)
        if standing is None:
            raise NoSuchThing("this cell knows no shelter order of that id")
        log.warning("shelter order revoked", **self._told(request, order_facts(standing, now)))
        return json_reply(order_facts(standing, now))

    async def _testimonies(self, _: Request) -> Reply:
        return json_reply(self._sheltering.lookout.testimonies())

    async def _arrive(self, request: Request) -> Reply:
        envelopes = read_as(await body_of(request, ENVELOPES_MAX_BYTES), list[Envelope], "a list of envelopes")
        if len(envelopes) > ENVELOPES_MAX:
            raise TooManyEnvelopes(f"at most {ENVELOPES_MAX} go in one request")
        self._check_admission()
        receipts = await self._arrivals.take(envelopes)
        for receipt in receipts:
            self._sheltering.arrived.labels(receipt.fate.value).inc()
        return json_reply(receipts)

    def _told(self, request: Request, facts: dict[str, Any]) -> dict[str, Any]:
        key = self._access.key_of(request.headers.get("authorization"))
        return {"order": str(facts["order_id"]), "region": facts["region"], "until": facts["valid_until"], "key": key}


def closed_routes(access: Access) -> list[Route]:
    """Return what a gate without a file of trusted keys answers to its operator."""

    async def closed(_: Request) -> Reply:
        raise NoSuchThing(
            "this gate shelters no other region; set IMPLEDGER_SHELTER_TRUST to the file of trusted keys "
            "(docs/cells.md) and restart it"
        )

    paths = ("/v1/shelter", "/v1/shelter/orders", "/v1/shelter/orders/{order_id}/revoke")
    return [Route(path, guarded(access, ADMIN, closed), methods=["GET", "POST"]) for path in paths]


def _order_id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["order_id"])
    except ValueError as error:
        raise BadParameter("order_id: must be the UUID of an order") from error
