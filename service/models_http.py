"""`/v1/models` on the gate: models, which of them are in force, and how they compare. Changing it needs `admin`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Struct
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.routing import Route

from domain.ids import digest_of
from domain.placement_events import Role, Stage
from domain.placements import InForce, role_of
from domain.placing import (
    PlacementCommand,
    PlacementRefusal,
    PlacementRefused,
    PlaceModel,
    RetireModel,
    RollBack,
)
from ml.models.artifact import CorruptArtifact, SchemaMismatch
from ml.registry.registry import MODEL_BYTES_MAX, PAGE_MAX, Compared, ModelEntry, PlacementRow
from service.access import Access
from service.clock import now_ms
from service.endpoints import JSON, body_of, guarded, json_reply
from service.modelling import Modelling
from service.parameters import member_of, number_of, only_known, rfc3339
from service.problems import (
    BadDocument,
    BadParameter,
    ModelConflict,
    NoSuchThing,
    Reply,
    RequestError,
    UnsupportedMedia,
    UnusableModel,
)

BODY_MAX_BYTES = 8_192
PAGE_DEFAULT = 50
HOURS_DEFAULT, HOURS_MAX = 24, 840
MODEL_MEDIA = "application/octet-stream"
_KEY_DIGITS = 12
_HOUR_MS = 3_600_000
_VERSION_MAX = 1 << 30

REFUSED_AS: Mapping[PlacementRefusal, type[RequestError]] = {
    PlacementRefusal.UNKNOWN_MODEL: NoSuchThing,
    PlacementRefusal.SCHEMA_MISMATCH: UnusableModel,
    PlacementRefusal.REQUEST_REUSED: ModelConflict,
    PlacementRefusal.NO_CHAMPION: ModelConflict,
    PlacementRefusal.IS_CHAMPION: ModelConflict,
    PlacementRefusal.NOT_PLACED: ModelConflict,
    PlacementRefusal.NOTHING_BEFORE: ModelConflict,
    PlacementRefusal.CHANGED_SINCE: ModelConflict,
    PlacementRefusal.BAD_SHARE: UnusableModel,
    PlacementRefusal.BAD_REASON: UnusableModel,
    PlacementRefusal.ROLE_OF_STAGE: UnusableModel,
    PlacementRefusal.TOO_MANY: ModelConflict,
}

Name = Annotated[str, Meta(max_length=64, pattern=r"\A[^\0]*\Z")]
_PLACED_AS = {"promote": Role.CHAMPION, "shadow": Role.CHALLENGER, "canary": Role.CANARY}


class Placing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be done with *model*. With `roll_back` it is the one of *stage* to be taken back, empty if none is."""

    request_id: UUID
    action: Literal["promote", "shadow", "canary", "retire", "roll_back"]
    model: Name
    share: float = 0.0
    stage: Stage = Stage.S2
    reason: str


class ModelsHttp:
    """The endpoints."""

    def __init__(self, modelling: Modelling, access: Access) -> None:
        self._modelling = modelling
        self._access = access

    def routes(self) -> list[Route]:
        """Whoever may read reports may see models; to change them takes `admin`."""

        def route(path: str, method: str, scope: str, answer: Any) -> Route:
            return Route(path, guarded(self._access, scope, answer), methods=[method])

        return [
            route("/v1/models", "GET", "report", self._list),
            route("/v1/models", "POST", "admin", self._add),
            route("/v1/models/placements", "GET", "report", self._history),
            route("/v1/models/placements", "POST", "admin", self._place),
            route("/v1/models/comparisons", "GET", "report", self._compared),
            route("/v1/models/{model}", "GET", "report", self._show),
        ]

    async def _list(self, request: Request) -> Reply:
        asked = request.query_params
        only_known(asked, {"after", "limit", "stage"})
        limit = _limited(asked, "limit", PAGE_DEFAULT, PAGE_MAX)
        stage = member_of("stage", asked["stage"], Stage) if "stage" in asked else None
        entries = await self._modelling.page(asked.get("after", ""), limit, stage)
        placements = await self._modelling.placements()
        stages = {stage: _in_force(placements.of(stage)) for stage in Stage}
        rows = [shown(entry, placements.of(entry.stage)) for entry in entries]
        last = entries[-1].model if len(entries) == limit else None
        return json_reply({"in_force": stages, "gate": self._modelling.serving, "models": rows, "next": last})

    async def _show(self, request: Request) -> Reply:
        entry = await self._modelling.find(request.path_params["model"])
        if entry is None:
            raise NoSuchThing("the registry has no such model")
        placements = await self._modelling.placements()
        return json_reply(shown(entry, placements.of(entry.stage)) | {"card": entry.card})

    async def _add(self, request: Request) -> Reply:
        if request.headers.get("content-type", "").partition(";")[0].strip() != MODEL_MEDIA:
            raise UnsupportedMedia(f"send a model as {MODEL_MEDIA}")
        data = await body_of(request, MODEL_BYTES_MAX)
        try:
            entry, is_new = await self._modelling.add(data, self._by(request))
        except (CorruptArtifact, SchemaMismatch) as error:
            raise UnusableModel(str(error)) from error
        placements = await self._modelling.placements()
        body = msgspec.json.encode(shown(entry, placements.of(entry.stage)))
        return Reply(201 if is_new else 200, body, JSON)

    async def _place(self, request: Request) -> Reply:
        asked = await _document(request)
        try:
            recorded = await self._modelling.handle(_command(asked, self._by(request)))
        except PlacementRefused as refused:
            if refused.refusal is PlacementRefusal.NOT_PLACED and await self._modelling.find(asked.model) is None:
                raise NoSuchThing("the registry has no such model") from refused
            raise REFUSED_AS[refused.refusal](str(refused)) from refused
        in_force = {stage: _in_force(recorded.placements.of(stage)) for stage in Stage}
        changed = recorded.placed is not None
        return json_reply({"changed": changed, "in_force": in_force, "gate": self._modelling.serving})

    async def _history(self, request: Request) -> Reply:
        asked = request.query_params
        only_known(asked, {"before", "limit"})
        limit = _limited(asked, "limit", PAGE_DEFAULT, PAGE_MAX)
        before = _limited(asked, "before", _VERSION_MAX, _VERSION_MAX)
        rows = await self._modelling.history(before, limit)
        last = rows[-1].version if len(rows) == limit else None
        return json_reply({"placements": [_placed(row) for row in rows], "next": last})

    async def _compared(self, request: Request) -> Reply:
        asked = request.query_params
        only_known(asked, {"hours"})
        hours = _limited(asked, "hours", HOURS_DEFAULT, HOURS_MAX)
        now = now_ms()
        rows = await self._modelling.compared(now - now % _HOUR_MS - (hours - 1) * _HOUR_MS, PAGE_MAX)
        return json_reply({"hours": [_compared(row) for row in rows]})

    def _by(self, request: Request) -> str:
        return self._access.key_of(request.headers.get("authorization"), _KEY_DIGITS)


def shown(entry: ModelEntry, in_force: InForce) -> dict[str, Any]:
    """Return *entry* as the API shows it."""
    until = int(entry.card.get("trained_until", 0))
    return {
        "model": entry.model,
        "stage": entry.stage,
        "role": role_of(in_force, entry.model),
        "features": entry.features,
        "sha256": entry.sha256,
        "bytes": entry.size,
        "added_at": rfc3339(entry.added_at),
        "added_by": entry.by,
        "ledger_range": entry.card.get("ledger_range"),
        "trained_until": rfc3339(until) if until else None,
        "rows": entry.card.get("rows"),
    }


def _command(asked: Placing, by: str) -> PlacementCommand:
    digest = digest_of(asked)
    told = {"cause": asked.request_id, "digest": digest, "by": by, "reason": asked.reason, "decided_at": now_ms()}
    if asked.action == "retire":
        return RetireModel(**told, model=asked.model)  # type: ignore[arg-type]
    if asked.action == "roll_back":
        return RollBack(**told, stage=asked.stage, seen=asked.model)  # type: ignore[arg-type]
    return PlaceModel(**told, model=asked.model, role=_PLACED_AS[asked.action], share=asked.share)  # type: ignore[arg-type]


async def _document(request: Request) -> Placing:
    body = await body_of(request, BODY_MAX_BYTES)
    try:
        return msgspec.json.decode(body, type=Placing)
    except msgspec.ValidationError as error:
        raise UnusableModel(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadDocument("the document is not JSON") from error


def _limited(parameters: QueryParams, name: str, default: int, most: int) -> int:
    number = number_of(parameters, name, default)
    if number is None or not 1 <= number <= most:
        raise BadParameter(f"{name}: must be 1 to {most}")
    return number


def _in_force(stage: InForce) -> dict[str, Any]:
    canary = stage.canary
    return {
        "champion": None if stage.champion is None else stage.champion.model,
        "since": rfc3339(stage.champion_since) if stage.champions else None,
        "before": [ref.model for ref in stage.before],
        "challenger": None if stage.challenger is None else stage.challenger.model,
        "canary": None if canary is None else canary.ref.model,
        "share": None if canary is None else canary.share,
    }


def _placed(row: PlacementRow) -> dict[str, Any]:
    placed = row.placed
    return {
        "version": row.version,
        "at": rfc3339(placed.decided_at),
        "stage": placed.stage,
        "role": placed.role,
        "model": None if placed.model is None else placed.model.model,
        "share": placed.share or None,
        "rolled_back": placed.rolled_back,
        "by": placed.by,
        "reason": placed.reason,
    }


def _compared(row: Compared) -> dict[str, Any]:
    key, rows = row.key, max(row.rows, 1)
    return {
        "hour": rfc3339(key.hour),
        "role": key.role,
        "champion": key.champion,
        "other": key.other,
        "currency": key.currency or None,
        "rows": row.rows,
        "agreement": row.agreed / rows,
        "stricter": row.stricter,
        "milder": row.milder,
        "difference_mean": row.difference_sum / rows,
        "difference_abs_mean": row.difference_abs_sum / rows,
        "difference_max": row.difference_max,
        "money_micros": row.money_micros,
    }
