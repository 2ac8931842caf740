"""Opens the campaigns that the generator shows, through the admin API; some with a budget that the run will cross."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID, uuid5

import httpx

from ml.traffic.generator import Plan
from ml.traffic.market import Campaign
from service.keyfiles import Keys
from service.processes import LauncherError
from service.settings import Settings

SMALL_EVERY = 4
"""Every so many-th campaign has a small budget."""
SMALL_SHARE = 0.3
"""Of what its renders would cost if all campaigns were shown alike."""
AMPLE_SHARE = 1_000
_ANSWER_MAX_S = 10.0
_TAKEN = 409
_REQUESTS = UUID("8f7f2f0e-6f43-4f7a-9c6a-3c1d0c2f5b11")
_TIME_ZONES = {"EUR": "Europe/Berlin", "USD": "America/New_York"}


class CampaignNotOpened(LauncherError):
    """The gate refused a campaign of the demo."""


async def open_campaigns(settings: Settings, keys: Keys, plan: Plan, campaigns: Sequence[Campaign], now: int) -> None:
    """
    Open *campaigns*; one that is open already, from an earlier run on the same data, gets as much money again.

    *now* is epoch ms.

    Raises:
        CampaignNotOpened: with the gate's own words.
        httpx.HTTPError: the gate did not answer.
    """
    headers = {"authorization": f"Bearer {keys.operator}"}
    url = f"http://{settings.host}:{settings.gate_port}"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_ANSWER_MAX_S) as http:
        for document in _documents(plan, campaigns, now):
            response = await http.post("/v1/campaigns", json=document)
            if response.status_code == _TAKEN:
                response = await _again(http, document)
            if response.is_error:
                raise CampaignNotOpened(f"campaign {document['campaign']}: {response.text}")


async def _again(http: httpx.AsyncClient, document: dict[str, Any]) -> httpx.Response:
    path = f"/v1/campaigns/{document['campaign']}"
    known = (await http.get(path)).json()
    change = {
        "request_id": document["request_id"],
        "flight_start": document["flight_start"],
        "flight_end": document["flight_end"],
        "budget_micros": known["budget_micros"] + document["budget_micros"],
    }
    return await http.patch(path, json=change, headers={"if-match": f'"{known["version"]}"'})


def _documents(plan: Plan, campaigns: Sequence[Campaign], now: int) -> Iterator[dict[str, Any]]:
    renders = plan.rate * plan.seconds / len(campaigns)
    for number, campaign in enumerate(campaigns):
        share = SMALL_SHARE if number % SMALL_EVERY == 0 else AMPLE_SHARE
        yield {
            "request_id": str(uuid5(_REQUESTS, f"{campaign.name} {now}")),
            "campaign": campaign.name,
            "advertiser": campaign.advertiser,
            "account": f"account-of-{campaign.advertiser}-{campaign.currency}",
            "currency": campaign.currency,
            "time_zone": _TIME_ZONES[campaign.currency],
            "billing_event": campaign.billing_event.value,
            "viewability_pack": campaign.viewability_pack,
            "flight_start": now + campaign.flight_from_ms,
            "flight_end": now + campaign.flight_to_ms,
            "budget_micros": max(1, int(renders * share)) * campaign.price_micros,
        }
