"""`/v1/reevaluations`: what looking again would have otherwise, summed up and one by one. Needs the scope `audit`."""

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from commands.reevaluated import LISTED_MAX, Group, Reevaluated, ReevaluatedStore, Wanted
from commands.reevaluations import Backlog, Reevaluations
from domain.reevaluation import Why
from service.access import Access
from service.endpoints import guarded, json_reply
from service.parameters import after_of, flag_of, member_of, only_known, page_limit, rfc3339, time_of, uuid_of
from service.problems import NoSuchThing, Reply

SCOPE = "audit"
_LIMIT = 100
_SINCE_MS = 7 * 86_400_000
_ASKED = frozenset({"since", "why", "changes", "campaign", "after", "limit"})


class ReevaluationsHttp:
    """The endpoints; nothing here changes anything. `clock` gives epoch ms."""

    def __init__(self, found: ReevaluatedStore, noted: Reevaluations, access: Access, clock: Callable[[], int]) -> None:
        self._found = found
        self._noted = noted
        self._access = access
        self._clock = clock

    def routes(self) -> list[Route]:
        return [
            Route("/v1/reevaluations", guarded(self._access, SCOPE, self._list)),
            Route("/v1/reevaluations/summary", guarded(self._access, SCOPE, self._sum_up)),
            Route("/v1/reevaluations/{impression}", guarded(self._access, SCOPE, self._find)),
        ]

    async def _list(self, request: Request) -> Reply:
        only_known(request.query_params, _ASKED)
        wanted = self._wanted(request)
        found = await self._found.page(wanted)
        is_full = bool(found) and len(found) == wanted.limit
        last = f"{found[-1].looked_at}_{found[-1].impression}" if is_full else None
        return json_reply({"reevaluations": [_told(one) for one in found], "after": last})

    async def _sum_up(self, request: Request) -> Reply:
        only_known(request.query_params, {"since"})
        since = self._since(request)
        groups, backlog = await self._found.groups(since), await self._noted.backlog(self._clock())
        return json_reply(
            {
                "since": rfc3339(since),
                "groups": [_told_group(one) for one in groups],
                "due": [_told_backlog(one) for one in backlog],
            }
        )

    async def _find(self, request: Request) -> Reply:
        only_known(request.query_params, ())
        found = await self._found.find(uuid_of(request.path_params["impression"], "impression"))
        if found is None:
            raise NoSuchThing("the impression was not looked at again, or that is forgotten")
        return json_reply(_told(found))

    def _wanted(self, request: Request) -> Wanted:
        parameters = request.query_params
        why = parameters.get("why")
        return Wanted(
            since=self._since(request),
            why=None if why is None else member_of("why", why, Why),
            changes_only=flag_of(parameters, "changes"),
            campaign=parameters.get("campaign", ""),
            after=after_of(parameters),
            limit=page_limit(parameters, _LIMIT, LISTED_MAX),
        )

    def _since(self, request: Request) -> int:
        since = time_of(request.query_params, "since")
        return max(0, self._clock() - _SINCE_MS) if since is None else since


def _told(one: Reevaluated) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(one)
    times = {name: rfc3339(told[name]) for name in ("known_at", "looked_at", "event_at")}
    return {**told, **times}


def _told_group(one: Group) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(one)
    return told


def _told_backlog(one: Backlog) -> dict[str, Any]:
    return {"why": one.why, "due": one.due, "failing": one.failing, "oldest_at": rfc3339(one.oldest_at)}
