"""`/v1/dead-letters`: lists and replays messages that no worker could process. Needs the scope `admin`."""

import re
from typing import Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.routing import Route

from commands.dead_letters import LISTED_MAX, DeadLetters, Letter, LetterState, NoSuchLetter
from service.access import Access
from service.endpoints import guarded, json_reply, request_id_of
from service.parameters import members_of, number_of, only_known, rfc3339
from service.problems import BadParameter, Reply

SCOPE = "admin"
_LIMIT = 100
_NAME = re.compile(r"[0-9a-f]{32}")
_AFTER = re.compile(r"(\d{1,15})-([0-9a-f]{32})")

log = structlog.get_logger(__name__)


class DeadLettersHttp:
    """The endpoints. To replay a letter is to write it down: a scheduler sends it within seconds."""

    def __init__(self, letters: DeadLetters, access: Access) -> None:
        self._letters = letters
        self._access = access

    def routes(self) -> list[Route]:
        return [
            Route("/v1/dead-letters", guarded(self._access, SCOPE, self._list)),
            Route("/v1/dead-letters/{name}", guarded(self._access, SCOPE, self._find)),
            Route("/v1/dead-letters/{name}/replay", guarded(self._access, SCOPE, self._replay), methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Reply:
        parameters = request.query_params
        only_known(parameters, {"state", "after", "limit"})
        limit = number_of(parameters, "limit", _LIMIT) or 0
        if not 1 <= limit <= LISTED_MAX:
            raise BadParameter(f"limit: must be 1 to {LISTED_MAX}")
        after = _AFTER.fullmatch(parameters.get("after", ""))
        if "after" in parameters and after is None:
            raise BadParameter("after: must be what an answer before gave")
        states = members_of(parameters, "state", LetterState) or tuple(LetterState)
        place = None if after is None else (int(after[1]), after[2])
        found = await self._letters.letters(states, place, limit)
        is_full = bool(found) and len(found) == limit
        last = f"{found[-1].last_at}-{found[-1].name}" if is_full else None
        return json_reply({"letters": [_told(letter) for letter in found], "after": last})

    async def _find(self, request: Request) -> Reply:
        return json_reply(_told(_found(await self._letters.find(_name(request)))))

    async def _replay(self, request: Request) -> Reply:
        letter = _found(await self._letters.replay(_name(request)))
        key = self._access.key_of(request.headers.get("authorization"))
        log.info("dead letter replayed", letter=letter.name, key=key, request_id=request_id_of(request))
        return json_reply(_told(letter))


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    if not _NAME.fullmatch(name):
        raise NoSuchLetter
    return name


def _found(letter: Letter | None) -> Letter:
    if letter is None:
        raise NoSuchLetter
    return letter


def _told(letter: Letter) -> dict[str, Any]:
    message = letter.message
    told = {"queue": message.queue, "actor": message.actor, "args": msgspec.to_builtins(message.args)}
    times = {"times": letter.times, "first_at": rfc3339(letter.first_at), "last_at": rfc3339(letter.last_at)}
    return {"name": letter.name, "state": letter.state, **told, **times, "error": letter.error}
