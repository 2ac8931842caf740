"""
The events of a `campaign-{id}` stream: facts, never edited.

Times are epoch ms, money integer micros of the campaign's currency. `by` tells which key asked: the first hex digits of
its SHA-256.
"""

from typing import TypeAlias

from msgspec import Struct

from domain.ids import CauseId
from domain.vocabulary import BillingEvent


class _Event(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    cause: CauseId
    digest: str
    by: str = ""
    decided_at: int


class CampaignOpened(_Event, frozen=True, kw_only=True, tag="CampaignOpened"):
    """
    What an advertiser bought. Currency, time zone, billing event and viewability pack never change afterwards.

    `time_zone` is the account's, by its IANA name: it tells where billing periods and days of the budget begin.
    """

    advertiser: str
    account: str
    currency: str
    time_zone: str
    billing_event: BillingEvent
    viewability_pack: str
    flight_start: int
    flight_end: int
    budget_micros: int
    daily_budget_micros: int | None = None


class FlightChanged(_Event, frozen=True, kw_only=True, tag="FlightChanged"):
    flight_start: int
    flight_end: int


class BudgetChanged(_Event, frozen=True, kw_only=True, tag="BudgetChanged"):
    """`budget_micros` is for the whole life of the campaign, `daily_budget_micros` for each day of the account."""

    budget_micros: int
    daily_budget_micros: int | None = None


class CampaignPaused(_Event, frozen=True, kw_only=True, tag="CampaignPaused"):
    """What happens from `decided_at` on is outside the flight."""


class CampaignResumed(_Event, frozen=True, kw_only=True, tag="CampaignResumed"):
    """What happens from `decided_at` on is inside the flight again."""


CampaignEvent: TypeAlias = CampaignOpened | FlightChanged | BudgetChanged | CampaignPaused | CampaignResumed
