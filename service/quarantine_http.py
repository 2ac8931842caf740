"""The operator's endpoints of the gate: list, explain and replay what is in quarantine. All need the scope `admin`."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from msgspec import Struct
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from commands.quarantine_entries import (
    LISTED_MAX,
    Entry,
    EntryCode,
    EntryState,
    Group,
    NotInQuarantine,
    QuarantineError,
    Wanted,
)
from commands.quarantine_replay import Explained, Fix, Quarantine, Replayed
from service.access import Access
from service.endpoints import Answer, body_of, guarded, json_reply, read_as, request_id_of
from service.parameters import flag_of, member_of, members_of, number_of, only_known, rfc3339, time_of
from service.problems import BadParameter, Reply
from service.quarantine_metrics import QuarantineMetrics

SCOPE = "admin"
FIX_MAX_BYTES = 65_536
_LIMIT = 100
_ASKED = frozenset({"since", "until", "code", "state", "order", "after", "limit"})
_GROUPED = _ASKED - {"order", "after"}
_NAME = re.compile(r"[0-9a-f]{32}")
_AFTER = re.compile(r"(\d{1,15})-([0-9a-f]{32})")

log = structlog.get_logger(__name__)


class _Asked(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a replay."""

    patch: dict[str, Any] = {}
    suggested: bool = False
    dry_run: bool = False


class QuarantineHttp:
    """The endpoints. *check_admission* raises `Overloaded` while clients' renders wait: they go before any replay."""

    def __init__(
        self, quarantine: Quarantine, access: Access, metrics: QuarantineMetrics, check_admission: Callable[[], None]
    ) -> None:
        self._quarantine = quarantine
        self._access = access
        self._metrics = metrics
        self._check_admission = check_admission

    def routes(self) -> list[Route]:
        return [
            Route("/v1/quarantine", self._route(self._entries)),
            Route("/v1/quarantine/summary", self._route(self._summary)),
            Route("/v1/quarantine/{name}", self._route(self._explain)),
            Route("/v1/quarantine/{name}/replay", self._route(self._replay), methods=["POST"]),
        ]

    async def _entries(self, request: Request) -> Reply:
        only_known(request.query_params, _ASKED)
        wanted = _wanted(request, self._quarantine.clock())
        found = await self._quarantine.store.entries(wanted)
        is_full = bool(found) and len(found) == wanted.limit
        last = f"{found[-1].received_at}-{found[-1].name}" if is_full else None
        return json_reply({"entries": [_entry(entry) for entry in found], "after": last})

    async def _summary(self, request: Request) -> Reply:
        only_known(request.query_params, _GROUPED)
        wanted = _wanted(request, self._quarantine.clock())
        return json_reply({"groups": [_group(group) for group in await self._quarantine.store.groups(wanted)]})

    async def _explain(self, request: Request) -> Reply:
        only_known(request.query_params, {"raw"})
        raw = flag_of(request.query_params, "raw")
        name = _name(request)
        explained = await self._quarantine.explain(name, raw=raw)
        key = self._key(request)
        log.info("quarantined body shown", entry=name, raw=raw, key=key, request_id=request_id_of(request))
        return json_reply(_explained(explained))

    async def _replay(self, request: Request) -> Reply:
        name, body = _name(request), await body_of(request, FIX_MAX_BYTES)
        asked = read_as(body or b"{}", _Asked, "{patch, suggested, dry_run}")
        self._check_admission()
        try:
            done = await self._quarantine.replay(name, Fix(asked.patch, asked.suggested), dry_run=asked.dry_run)
        except QuarantineError as error:
            self._metrics.replayed(type(error).__name__)
            raise
        if not asked.dry_run:
            self._metrics.replayed("again" if done.again else done.entry.state.value)
            log.info(
                "quarantined body replayed",
                entry=name,
                state=done.entry.state.value,
                outcome=done.entry.outcome,
                fixed=done.entry.fixed,
                key=self._key(request),
                request_id=request_id_of(request),
            )
        return json_reply(_replayed(done))

    def _route(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        return guarded(self._access, SCOPE, answer)

    def _key(self, request: Request) -> str:
        return self._access.key_of(request.headers.get("authorization"))


def _wanted(request: Request, now: int) -> Wanted:
    parameters = request.query_params
    limit = number_of(parameters, "limit", _LIMIT) or 0
    if not 1 <= limit <= LISTED_MAX:
        raise BadParameter(f"limit: must be 1 to {LISTED_MAX}")
    order = parameters.get("order", "newest")
    if order not in {"newest", "oldest"}:
        raise BadParameter("order: must be newest or oldest")
    until = time_of(parameters, "until")
    after = _AFTER.fullmatch(parameters.get("after", ""))
    if "after" in parameters and after is None:
        raise BadParameter("after: must be what an answer before gave")
    wanted = Wanted(
        now=now,
        since=time_of(parameters, "since") or 0,
        codes=_codes(parameters),
        states=members_of(parameters, "state", EntryState),
        newest_first=order == "newest",
        after=None if after is None else (int(after[1]), after[2]),
        limit=limit,
    )
    return wanted if until is None else msgspec.structs.replace(wanted, until=until)


def _codes(parameters: QueryParams) -> tuple[EntryCode, ...]:
    """Return the codes that are asked for; an empty one is none of them, and not all."""
    named = [part for text in parameters.getlist("code") for part in text.split(",")]
    return tuple(member_of("code", part, EntryCode) for part in named)


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    if not _NAME.fullmatch(name):
        raise NotInQuarantine("names are 32 hexadecimal digits, as the list has them")
    return name


def _entry(entry: Entry) -> dict[str, Any]:
    times = {name: rfc3339(getattr(entry, name)) for name in ("received_at", "last_at", "expires_at")}
    settled_at = None if entry.settled_at is None else rfc3339(entry.settled_at)
    told: dict[str, Any] = msgspec.to_builtins(entry)
    del told["key_day"]
    return {**told, **times, "settled_at": settled_at}


def _group(group: Group) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(group)
    return {**told, "first_at": rfc3339(group.first_at), "last_at": rfc3339(group.last_at)}


def _explained(explained: Explained) -> dict[str, Any]:
    return {
        "entry": _entry(explained.entry),
        "impression_id": explained.impression_id,
        "flaws": [
            {"path": flaw.path, "says": flaw.says, "found": flaw.found, "is_mendable": flaw.is_mendable}
            for flaw in explained.flaws
        ],
        "body": explained.body,
        "fix": explained.fix,
        "leaves_out": explained.leaves_out,
        "advice": explained.advice,
    }


def _replayed(done: Replayed) -> dict[str, Any]:
    return {
        "entry": _entry(done.entry),
        "dry_run": done.dry_run,
        "again": done.again,
        "known": done.known,
        "reasons": done.reasons,
        "answer": done.answer,
    }
