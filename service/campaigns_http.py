"""The admin API of campaigns: `/v1/campaigns` on the gate, for callers with the scope `admin`."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import quote
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request
from starlette.routing import Route

from commands.budget_store import Bound
from commands.campaign_table import PAGE_MAX
from domain.campaign import (
    Campaign,
    CampaignCommand,
    CampaignRefusal,
    CampaignRefused,
    ChangeCampaign,
    OpenCampaign,
    in_flight,
)
from domain.ids import digest_of
from domain.render import Millis, Text, millis
from domain.vocabulary import BillingEvent
from service.access import Access
from service.campaigning import Campaigning
from service.clock import now_ms
from service.endpoints import JSON, body_of, guarded, media_type_of
from service.parameters import number_of, only_known, rfc3339
from service.problems import (
    BadDocument,
    BadParameter,
    CampaignConflict,
    CampaignVersionChanged,
    CampaignVersionMissing,
    NoSuchThing,
    Reply,
    RequestError,
    UnsupportedMedia,
    UnusableCampaign,
)

BODY_MAX_BYTES = 65_536
PAGE_DEFAULT = 100
_KEY_DIGITS = 12
"""Of the hash of a key, in the events that it asked for."""
_SCOPE = "admin"

REFUSED_AS: Mapping[CampaignRefusal, type[RequestError]] = {
    CampaignRefusal.ALREADY_OPEN: CampaignConflict,
    CampaignRefusal.NOT_OPEN: NoSuchThing,
    CampaignRefusal.REQUEST_REUSED: CampaignConflict,
    CampaignRefusal.VERSION_CHANGED: CampaignVersionChanged,
    CampaignRefusal.BAD_FLIGHT: UnusableCampaign,
    CampaignRefusal.BAD_BUDGET: UnusableCampaign,
    CampaignRefusal.UNKNOWN_CURRENCY: UnusableCampaign,
    CampaignRefusal.UNKNOWN_TIME_ZONE: UnusableCampaign,
    CampaignRefusal.UNKNOWN_PACK: UnusableCampaign,
    CampaignRefusal.BAD_NAME: UnusableCampaign,
    CampaignRefusal.TOO_MANY_CHANGES: UnusableCampaign,
}

Name = Annotated[str, Meta(min_length=1, max_length=128)]
T = TypeVar("T")


class Opening(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What opens a campaign. Times are epoch ms or RFC 3339, money micros of `currency`."""

    request_id: UUID
    campaign: Name
    advertiser: Name
    account: Name
    currency: Text
    time_zone: Text
    billing_event: BillingEvent
    viewability_pack: Text
    flight_start: Millis
    flight_end: Millis
    budget_micros: int
    daily_budget_micros: int | None = None


class Change(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes a campaign; what is absent stays. `daily_budget_micros: null` takes the daily budget away."""

    request_id: UUID
    flight_start: Millis | None = None
    flight_end: Millis | None = None
    budget_micros: int | None = None
    daily_budget_micros: int | UnsetType | None = UNSET
    paused: bool | None = None


def campaign_routes(campaigning: Campaigning, access: Access) -> list[Route]:
    """Return the routes of the admin API."""

    def by(request: Request) -> str:
        return access.key_of(request.headers.get("authorization"), _KEY_DIGITS)

    async def open_(request: Request) -> Reply:
        asked = await _document(request, Opening)
        return await _done(campaigning, asked.campaign, _opening(asked, by(request)))

    async def change(request: Request) -> Reply:
        id_ = request.path_params["campaign"]
        seen = _seen_version(request.headers.get("if-match"))
        return await _done(
            campaigning,
            id_,
            _change(id_, await _document(request, Change), seen, by(request)),
        )

    async def show(request: Request) -> Reply:
        id_ = request.path_params["campaign"]
        campaign = await campaigning.read(id_)
        if campaign is None:
            raise NoSuchThing("nobody has opened this campaign")
        return _reply(campaign, (await campaigning.bounds([id_])).get(id_))

    async def list_(request: Request) -> Reply:
        after, limit, advertiser = _page_of(request)
        campaigns = await campaigning.page(after, limit, advertiser)
        bounds = await campaigning.bounds([campaign.id for campaign in campaigns])
        rows = [shown(campaign, bounds.get(campaign.id), now_ms()) for campaign in campaigns]
        last = campaigns[-1].id if len(campaigns) == limit else None
        return Reply(200, msgspec.json.encode({"campaigns": rows, "next": last}), JSON)

    return [
        Route("/v1/campaigns", guarded(access, _SCOPE, open_), methods=["POST"]),
        Route("/v1/campaigns", guarded(access, _SCOPE, list_), methods=["GET"]),
        Route("/v1/campaigns/{campaign}", guarded(access, _SCOPE, show), methods=["GET"]),
        Route("/v1/campaigns/{campaign}", guarded(access, _SCOPE, change), methods=["PATCH"]),
    ]


def shown(campaign: Campaign, bound: Bound | None, now: int) -> dict[str, Any]:
    """Return *campaign* as the API shows it; `budget` is what gates have leased and spent of it."""
    return {
        "campaign": campaign.id,
        "version": campaign.version,
        "status": _status(campaign, now),
        "advertiser": campaign.advertiser,
        "account": campaign.account,
        "currency": campaign.currency,
        "time_zone": campaign.time_zone,
        "billing_event": campaign.billing_event,
        "viewability_pack": campaign.viewability_pack,
        "flight_start": rfc3339(campaign.flight_start),
        "flight_end": rfc3339(campaign.flight_end),
        "budget_micros": campaign.budget_micros,
        "daily_budget_micros": campaign.daily_budget_micros,
        "opened_at": rfc3339(campaign.opened_at),
        "changed_at": rfc3339(campaign.changed_at),
        "budget": None
        if bound is None
        else {
            "spent_micros": bound.spent_micros,
            "leased_micros": bound.held_micros,
            "stale_micros": bound.stale_micros,
            "overshoot_bound_micros": bound.overshoot_micros,
        },
    }


def _status(campaign: Campaign, now: int) -> str:
    if campaign.paused_at is not None:
        return "paused"
    if in_flight(campaign, now):
        return "running"
    return "scheduled" if now < campaign.flight_start else "ended"


async def _done(campaigning: Campaigning, id_: str, command: CampaignCommand) -> Reply:
    try:
        recorded = await campaigning.handle(id_, command)
    except CampaignRefused as refused:
        raise REFUSED_AS[refused.refusal](f"{refused.refusal.value}: {refused}") from refused
    status = 201 if recorded.is_new and isinstance(command, OpenCampaign) else 200
    return _reply(recorded.campaign, (await campaigning.bounds([id_])).get(id_), status)


def _reply(campaign: Campaign, bound: Bound | None, status: int = 200) -> Reply:
    headers = (("etag", f'"{campaign.version}"'), ("location", f"/v1/campaigns/{quote(campaign.id)}"))
    return Reply(status, msgspec.json.encode(shown(campaign, bound, now_ms())), JSON, headers)


def _opening(asked: Opening, by: str) -> OpenCampaign:
    return OpenCampaign(
        cause=asked.request_id,
        digest=digest_of(asked),
        by=by,
        decided_at=now_ms(),
        advertiser=asked.advertiser,
        account=asked.account,
        currency=asked.currency,
        time_zone=asked.time_zone,
        billing_event=asked.billing_event,
        viewability_pack=asked.viewability_pack,
        flight_start=millis(asked.flight_start),
        flight_end=millis(asked.flight_end),
        budget_micros=asked.budget_micros,
        daily_budget_micros=asked.daily_budget_micros,
    )


def _change(id_: str, asked: Change, seen_version: int, by: str) -> ChangeCampaign:
    return ChangeCampaign(
        cause=asked.request_id,
        digest=digest_of(id_, asked),
        by=by,
        decided_at=now_ms(),
        seen_version=seen_version,
        flight_start=None if asked.flight_start is None else millis(asked.flight_start),
        flight_end=None if asked.flight_end is None else millis(asked.flight_end),
        budget_micros=asked.budget_micros,
        daily_budget_micros=asked.daily_budget_micros,
        paused=asked.paused,
    )


def _seen_version(header: str | None) -> int:
    """Return the version that the caller saw: the `ETag` it was told, in quotation marks."""
    if header is None:
        raise CampaignVersionMissing("send `If-Match` with the ETag of the campaign that the change is for")
    text = header.strip().strip('"')
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise CampaignVersionChanged("If-Match is no ETag of a campaign")
    return int(text)


def _page_of(request: Request) -> tuple[str, int, str]:
    parameters = request.query_params
    only_known(parameters, {"after", "limit", "advertiser"})
    limit = number_of(parameters, "limit", PAGE_DEFAULT) or 0
    if not 1 <= limit <= PAGE_MAX:
        raise BadParameter(f"limit: must be 1 to {PAGE_MAX}")
    return parameters.get("after", ""), limit, parameters.get("advertiser", "")


async def _document(request: Request, kind: type[T]) -> T:
    if media_type_of(request.headers.get("content-type", "")) != JSON:
        raise UnsupportedMedia(f"send {JSON}")
    body = await body_of(request, BODY_MAX_BYTES)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise UnusableCampaign(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadDocument("the document is not JSON") from error
