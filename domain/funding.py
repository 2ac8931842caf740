"""What stood behind one decision's money, and how far the registry and the token agree on a flight."""

from msgspec import Struct

from domain.campaign import Campaign, in_flight
from domain.reasons import Reason
from domain.standing import Standing
from domain.token import Token
from domain.vocabulary import Rung


class Funding(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    What a decision was made with, so that replaying it needs neither registry nor leases.

    `registry_version` is the version of the campaign (0: the registry knew none). `lease` labels the period of a gate's
    lease in which the money is reported. `lease_left_micros` is what the lease had before this render (None: no lease
    was asked): it paid if that was at least the price.
    """

    registry_version: int = 0
    lease: str = ""
    lease_left_micros: int | None = None
    rung: Rung = Rung.FULL


def committed_micros(standing: Standing | None) -> int:
    """Return what *standing* takes from a budget: billable, awaiting a view, or uncertain."""
    return 0 if standing is None else standing.billable_micros + standing.reserved_micros


def judge_flight(campaign: Campaign | None, token: Token, event_at: int, is_stale: bool) -> tuple[Reason, ...]:  # noqa: FBT001 (called per render)
    """
    Return the reasons that registry and token give together, in order of precedence.

    A fresh registry decides alone: it knows of pauses and of flights that were moved after the token was minted. On a
    stale copy only what copy and token agree on is decided, everything else waits for the registry. A campaign that
    the registry does not know is never dropped for that: a valid token says that somebody sold it.
    """
    if campaign is not None and not is_stale and campaign.currency == token.currency:
        return () if in_flight(campaign, event_at) else (Reason.OUTSIDE_FLIGHT,)
    by_token = token.flight_start <= event_at <= token.flight_end
    if campaign is None or campaign.currency != token.currency:
        return (Reason.REGISTRY_BEHIND,) if by_token else (Reason.OUTSIDE_FLIGHT, Reason.REGISTRY_BEHIND)
    by_registry = in_flight(campaign, event_at)
    if by_registry is not by_token:
        return (Reason.REGISTRY_BEHIND,)
    return () if by_registry else (Reason.OUTSIDE_FLIGHT,)
