"""Whether a render is in its campaign's flight, as far as registry and token agree on it."""

from typing import Protocol

from domain.campaign import Campaign, in_flight
from domain.reasons import Reason


class Sold(Protocol):
    """What delivery signed of a sale: a token has it, and what a client claims with one. Times are epoch ms."""

    @property
    def campaign(self) -> str: ...

    @property
    def currency(self) -> str: ...

    @property
    def price_micros(self) -> int: ...

    @property
    def flight_start(self) -> int: ...

    @property
    def flight_end(self) -> int: ...


def judge_flight(campaign: Campaign | None, sold: Sold, event_at: int, is_stale: bool) -> tuple[Reason, ...]:  # noqa: FBT001 (called per render)
    """
    Return the reasons that registry and token give together, in order of precedence.

    A fresh registry decides alone: it knows of pauses and of flights that were moved after the token was minted. On a
    stale copy only what copy and token agree on is decided, everything else waits for the registry. A campaign that
    the registry does not know is never dropped for that: a valid token says that somebody sold it.
    """
    if campaign is not None and not is_stale and campaign.currency == sold.currency:
        return () if in_flight(campaign, event_at) else (Reason.OUTSIDE_FLIGHT,)
    by_token = sold.flight_start <= event_at <= sold.flight_end
    if campaign is None or campaign.currency != sold.currency:
        return (Reason.REGISTRY_BEHIND,) if by_token else (Reason.OUTSIDE_FLIGHT, Reason.REGISTRY_BEHIND)
    by_registry = in_flight(campaign, event_at)
    if by_registry is not by_token:
        return (Reason.REGISTRY_BEHIND,)
    return () if by_registry else (Reason.OUTSIDE_FLIGHT,)
