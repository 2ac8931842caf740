"""`/v1/drills`: have the gate behave as if something were missing, and see what it is on. Needs the scope `admin`."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from commands.ladder import Drill, DrillRefused, Ladder
from service.access import Access
from service.parameters import rfc3339
from service.problems import UNFORESEEN, BadDocument, BodyTooLarge, MethodNotAllowed, Reply, problem_of, reply_for

SCOPE = "admin"
BODY_MAX_BYTES = 4_096
SECONDS = 30.0

log = structlog.get_logger(__name__)


class _Asked(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request for a drill."""

    rung: str
    seconds: float = SECONDS


class DrillsHttp:
    """The endpoints. *now* gives epoch ms."""

    def __init__(self, ladder: Ladder, access: Access, now: Callable[[], int]) -> None:
        self._ladder = ladder
        self._access = access
        self._now = now

    def routes(self) -> list[Route]:
        any_method = ["GET", "POST", "DELETE", "PUT", "PATCH"]
        return [
            Route("/v1/drills", self._guarded(self._drills), methods=any_method),
            Route("/v1/drills/{rung}", self._guarded(self._stop), methods=any_method),
        ]

    async def _drills(self, request: Request) -> object:
        if request.method == "GET":
            return self._standing()
        if request.method != "POST":
            raise MethodNotAllowed("ask with GET, begin with POST")
        asked = await _asked(request)
        drill = self._ladder.drill(asked.rung, asked.seconds)
        log.warning("drill begun", rung=drill.rung.value, seconds=asked.seconds, key=self._key(request))
        return self._told(drill)

    async def _stop(self, request: Request) -> object:
        if request.method != "DELETE":
            raise MethodNotAllowed("end a drill with DELETE")
        rung = str(request.path_params["rung"])
        if not self._ladder.stop(rung):
            raise DrillRefused("no drill of that rung is under way")
        return self._standing()

    def _standing(self) -> dict[str, Any]:
        ladder = self._ladder
        return {
            "in_force": ladder.in_force,
            "drills": [self._told(drill) for drill in ladder.drills],
            "drillable": ladder.drillable,
            "decisions": ladder.decisions,
        }

    def _told(self, drill: Drill) -> dict[str, Any]:
        left_s = max(0.0, drill.ends_at - self._ladder.clock())
        return {
            "rung": drill.rung,
            "seconds_left": round(left_s, 3),
            "ends_at": rfc3339(self._now() + int(left_s * 1_000)),
        }

    def _key(self, request: Request) -> str:
        return self._access.key_of(request.headers.get("authorization"))

    def _guarded(self, answer: Callable[[Request], Awaitable[object]]) -> Callable[[Request], Awaitable[Response]]:
        """Let callers with the scope through, and turn every error into its problem document."""

        async def endpoint(request: Request) -> Response:
            request_id = request.headers.get("x-request-id", "")[:64] or uuid4().hex
            try:
                self._access.require(request.headers.get("authorization"), SCOPE)
                reply = Reply(200, msgspec.json.encode(await answer(request)), "application/json")
            except Exception as error:
                reply = reply_for(error, request_id)
                if problem_of(error) is UNFORESEEN:
                    log.exception("request failed", request_id=request_id)
            headers = {**dict(reply.headers), "cache-control": "no-store"}
            headers["x-request-id"] = request_id.encode("latin-1", "replace").decode("latin-1")
            return Response(reply.body, reply.status, headers, reply.media_type)

        return endpoint


async def _asked(request: Request) -> _Asked:
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > BODY_MAX_BYTES:
                raise BodyTooLarge(f"a drill is asked for in at most {BODY_MAX_BYTES} bytes")
            chunks.append(chunk)
        return msgspec.json.decode(b"".join(chunks), type=_Asked)
    except ClientDisconnect as error:
        raise BadDocument("the client went away") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadDocument("the body is not {rung, seconds}") from error
