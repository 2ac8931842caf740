"""The read API: reports, pacing, and one impression's story. Everything but the last comes from the projections."""

from asyncio import to_thread
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ledger.store import READ_MAX, EventStore
from projections.queries import Queries
from projections.timeline import Timeline, timeline
from service.access import Access
from service.desk_parameters import output_of, pacing_of, report_of
from service.endpoints import ASTRAY, Answer, guarded, json_reply
from service.parameters import rfc3339
from service.problems import (
    NoSuchThing,
    Reply,
)
from service.report_replies import csv_of, fresh_of, json_of

_ENCODER = msgspec.json.Encoder()


class Extra(NamedTuple):
    """What is served besides: a path, the scope that it needs, and its answer."""

    path: str
    scope: str
    answer: Answer


@dataclass(frozen=True)
class Desk:
    """
    What the read API answers from.

    *queries* answer reports, *paces* pacing, so that delivery does not wait behind reports. *access* knows the callers'
    scopes; *unready* says why questions cannot be answered, if so.
    """

    queries: Queries
    paces: Queries
    store: EventStore
    access: Access
    unready: Callable[[], Awaitable[str | None]]
    registry: CollectorRegistry
    now: Callable[[], int]
    extras: tuple[Extra, ...] = ()


def desk_app(desk: Desk) -> Starlette:
    """Return the read API as an ASGI application."""

    async def report(request: Request) -> Reply:
        asked, as_of = report_of(request.query_params, desk.now())
        answer = await desk.queries.report(asked, as_of)
        output = output_of(request.query_params, request.headers.get("accept", ""))
        return await to_thread(csv_of if output == "csv" else json_of, answer)  # seconds, if it has many rows

    async def pacing(request: Request) -> Reply:
        asked = pacing_of(request.path_params["campaign"], request.query_params, desk.now())
        answer = await desk.paces.pacing(asked)
        body = {
            **fresh_of(answer),
            "campaign": answer.campaign,
            "since": rfc3339(answer.since),
            "until": rfc3339(answer.until),
            "currencies": answer.currencies,
            "minutes": [{**msgspec.to_builtins(pace), "at": rfc3339(pace.at)} for pace in answer.minutes],
            "in_flight": [{**msgspec.to_builtins(pace), "at": rfc3339(pace.at)} for pace in answer.in_flight],
        }
        return json_reply(body)

    async def impression(request: Request) -> Reply:
        found = await _read_impression(desk.store, request.path_params["impression"])
        return json_reply(_told(found))

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        why = await desk.unready()
        return PlainTextResponse("ready\n" if why is None else f"{why}\n", 200 if why is None else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(desk.registry), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            Route("/v1/reports", guarded(desk.access, "report", report)),
            Route("/v1/campaigns/{campaign:path}/pacing", guarded(desk.access, "report", pacing)),
            Route("/v1/impressions/{impression}", guarded(desk.access, "audit", impression)),
            *(Route(extra.path, guarded(desk.access, extra.scope, extra.answer)) for extra in desk.extras),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ],
        exception_handlers=ASTRAY,
    )


async def _read_impression(store: EventStore, text: str) -> Timeline:
    try:
        impression = UUID(text)
    except ValueError as error:
        raise NoSuchThing("impression ids are UUIDs") from error
    commits = (await store.read_streams([impression], READ_MAX)).get(impression)
    if not commits:
        raise NoSuchThing("no render of this impression has arrived")
    return await to_thread(timeline, impression, commits)


def _told(found: Timeline) -> dict[str, Any]:
    cut: dict[str, Any] = msgspec.to_builtins(found.cut)
    return {
        "impression_id": found.impression_id,
        "standing": found.standing,
        "provisional": found.provisional,
        "price_micros": found.price_micros,
        "cut": {**cut, "event_at": rfc3339(found.cut.event_at)},
        "repeats": found.repeats,
        "truncated": found.truncated,
        "incomplete": found.incomplete,
        "timeline": [
            {**msgspec.to_builtins(entry), "at": rfc3339(entry.at), "recorded_at": rfc3339(entry.recorded_at)}
            for entry in found.entries
        ],
    }
