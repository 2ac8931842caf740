"""`/v1/drills`: have the gate behave as if something were missing, and see what it is on. Needs the scope `admin`."""

from collections.abc import Callable
from typing import Any

import structlog
from msgspec import Struct
from starlette.requests import Request
from starlette.routing import Route

from commands.ladder import Drill, DrillRefused, Ladder
from service.access import Access
from service.endpoints import body_of, guarded, json_reply, read_as
from service.parameters import rfc3339
from service.problems import MethodNotAllowed, Reply

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
            Route("/v1/drills", guarded(self._access, SCOPE, self._drills), methods=any_method),
            Route("/v1/drills/{rung}", guarded(self._access, SCOPE, self._stop), methods=any_method),
        ]

    async def _drills(self, request: Request) -> Reply:
        if request.method == "GET":
            return json_reply(self._standing())
        if request.method != "POST":
            raise MethodNotAllowed("ask with GET, begin with POST", "GET, POST")
        asked = read_as(await body_of(request, BODY_MAX_BYTES), _Asked, "{rung, seconds}")
        drill = self._ladder.drill(asked.rung, asked.seconds)
        log.warning("drill begun", rung=drill.rung.value, seconds=asked.seconds, key=self._key(request))
        return json_reply(self._told(drill))

    async def _stop(self, request: Request) -> Reply:
        if request.method != "DELETE":
            raise MethodNotAllowed("end a drill with DELETE", "DELETE")
        rung = str(request.path_params["rung"])
        if not self._ladder.stop(rung):
            raise DrillRefused("no drill of that rung is under way")
        return json_reply(self._standing())

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
