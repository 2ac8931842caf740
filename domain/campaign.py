"""
One campaign: what was bought, how it may be changed, and whether a moment is in its flight.

`decide` gives events for commands, `evolve` accepts exactly what `decide` emits.
"""

from collections.abc import Iterable
from enum import StrEnum
from functools import reduce
from typing import TypeAlias, assert_never

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from domain.campaign_events import (
    BudgetChanged,
    CampaignEvent,
    CampaignOpened,
    CampaignPaused,
    CampaignResumed,
    FlightChanged,
)
from domain.currency import CURRENCIES, MONEY_MAX
from domain.ids import TIME_MAX_MS, CauseId
from domain.impression import ImpossibleTransition
from domain.vocabulary import BillingEvent

CHANGES_MAX = 8_000
"""Events of one campaign, so that its stream is read in one go."""
PAUSES_MAX = 256
_PAUSE_KEPT_MS = 8 * 86_400_000
"""Longer than a token lives: nothing that happened in an older pause can still arrive."""


class Campaign(Struct, frozen=True, kw_only=True, gc=False):
    """
    What a campaign's events say. Times are epoch ms; `flight_end` is the last moment inside.

    `pauses` are the recent ones that are over, each from its first moment to before its last; `paused_at` begins the
    one that is not. `version` counts the events.
    """

    id: str
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
    paused_at: int | None = None
    pauses: tuple[tuple[int, int], ...] = ()
    opened_at: int
    changed_at: int
    version: int = 1


class Absorbed(Struct, frozen=True):
    """What one cause led to: the digest of its content, and the campaign's version after it."""

    digest: str
    version: int


class Unopened(Struct, frozen=True):
    """Nobody has opened it."""


class Opened(Struct, frozen=True):
    campaign: Campaign
    absorbed: dict[CauseId, Absorbed]


CampaignState: TypeAlias = Unopened | Opened


class CampaignRefusal(StrEnum):
    ALREADY_OPEN = "ALREADY_OPEN"
    NOT_OPEN = "NOT_OPEN"
    REQUEST_REUSED = "REQUEST_REUSED"
    """The request's id came before with another content."""
    VERSION_CHANGED = "VERSION_CHANGED"
    """Somebody changed the campaign since the caller saw it."""
    BAD_FLIGHT = "BAD_FLIGHT"
    BAD_BUDGET = "BAD_BUDGET"
    UNKNOWN_CURRENCY = "UNKNOWN_CURRENCY"
    UNKNOWN_TIME_ZONE = "UNKNOWN_TIME_ZONE"
    UNKNOWN_PACK = "UNKNOWN_PACK"
    BAD_NAME = "BAD_NAME"
    TOO_MANY_CHANGES = "TOO_MANY_CHANGES"


class CampaignRefused(Exception):
    """The command cannot be done on the campaign as it stands; nothing was changed."""

    def __init__(self, refusal: CampaignRefusal, why: str) -> None:
        super().__init__(why)
        self.refusal = refusal


class OpenCampaign(Struct, frozen=True, kw_only=True):
    cause: CauseId
    digest: str
    by: str = ""
    decided_at: int
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


class ChangeCampaign(Struct, frozen=True, kw_only=True):
    """
    What is None or unset stays as it is; `daily_budget_micros` None takes the daily budget away.

    `seen_version` is the version of the campaign that the caller decided on.
    """

    cause: CauseId
    digest: str
    by: str = ""
    decided_at: int
    seen_version: int
    flight_start: int | None = None
    flight_end: int | None = None
    budget_micros: int | None = None
    daily_budget_micros: int | UnsetType | None = UNSET
    paused: bool | None = None


CampaignCommand: TypeAlias = OpenCampaign | ChangeCampaign


def in_flight(campaign: Campaign, at: int) -> bool:
    """Tell whether what happens at *at* (epoch ms) is inside the flight and in no pause."""
    if not campaign.flight_start <= at <= campaign.flight_end:
        return False
    if campaign.paused_at is not None and at >= campaign.paused_at:
        return False
    return not campaign.pauses or not any(begin <= at < end for begin, end in campaign.pauses)


def decide_campaign(state: CampaignState, command: CampaignCommand) -> tuple[CampaignEvent, ...]:
    """
    Return the events that *command* leads to in *state*; none if its cause is absorbed or it changes nothing.

    Raises:
        CampaignRefused: with the reason; nothing happened.
    """
    if isinstance(state, Opened) and (known := state.absorbed.get(command.cause)) is not None:
        if known.digest != command.digest:
            raise CampaignRefused(CampaignRefusal.REQUEST_REUSED, "the request's id came before with another content")
        return ()
    match command:
        case OpenCampaign():
            return _open(state, command)
        case ChangeCampaign():
            return _change(state, command)
        case _:
            assert_never(command)


def evolve_campaign(campaign: Campaign, event: CampaignEvent) -> Campaign:
    """
    Return *campaign* after *event*, which is no opening.

    Raises:
        ImpossibleTransition: `decide_campaign` would not have emitted *event*.
    """
    at, version = event.decided_at, campaign.version + 1
    match event:
        case FlightChanged(flight_start=start, flight_end=end):
            return replace(campaign, flight_start=start, flight_end=end, changed_at=at, version=version)
        case BudgetChanged(budget_micros=budget, daily_budget_micros=daily):
            return replace(campaign, budget_micros=budget, daily_budget_micros=daily, changed_at=at, version=version)
        case CampaignPaused():
            if campaign.paused_at is not None:
                raise ImpossibleTransition(campaign, event, "it is paused already")
            return replace(campaign, paused_at=at, changed_at=at, version=version)
        case CampaignResumed():
            if campaign.paused_at is None:
                raise ImpossibleTransition(campaign, event, "it is not paused")
            pauses = (*campaign.pauses, (campaign.paused_at, max(campaign.paused_at, at)))
            kept = tuple(pause for pause in pauses if pause[1] > at - _PAUSE_KEPT_MS)[-PAUSES_MAX:]
            return replace(campaign, paused_at=None, pauses=kept, changed_at=at, version=version)
        case CampaignOpened():
            raise ImpossibleTransition(campaign, event, "it is open already")
        case _:
            assert_never(event)


def opened_campaign(id_: str, event: CampaignOpened) -> Campaign:
    """Return the campaign *id_* as *event* opens it."""
    return Campaign(
        id=id_,
        advertiser=event.advertiser,
        account=event.account,
        currency=event.currency,
        time_zone=event.time_zone,
        billing_event=event.billing_event,
        viewability_pack=event.viewability_pack,
        flight_start=event.flight_start,
        flight_end=event.flight_end,
        budget_micros=event.budget_micros,
        daily_budget_micros=event.daily_budget_micros,
        opened_at=event.decided_at,
        changed_at=event.decided_at,
    )


def fold_campaign(id_: str, events: Iterable[CampaignEvent], state: CampaignState | None = None) -> CampaignState:
    """
    Return the state of the campaign *id_* after *events*.

    Raises:
        ImpossibleTransition: an event cannot follow on what is before it.
    """

    def step(before: CampaignState, event: CampaignEvent) -> CampaignState:
        return _evolve(id_, before, event)

    return reduce(step, events, Unopened() if state is None else state)


def _evolve(id_: str, state: CampaignState, event: CampaignEvent) -> Opened:
    if isinstance(event, CampaignOpened) and isinstance(state, Unopened):
        return Opened(opened_campaign(id_, event), {event.cause: Absorbed(event.digest, 1)})
    if isinstance(state, Unopened):
        raise ImpossibleTransition(state, event, "it is not open")
    campaign = evolve_campaign(state.campaign, event)
    # the events of one cause stand in one append, so the last of them has the final word
    return Opened(campaign, {**state.absorbed, event.cause: Absorbed(event.digest, campaign.version)})


def _open(state: CampaignState, command: OpenCampaign) -> tuple[CampaignEvent, ...]:
    if isinstance(state, Opened):
        raise CampaignRefused(CampaignRefusal.ALREADY_OPEN, "the campaign is open already, by another request")
    if command.currency not in CURRENCIES:
        raise CampaignRefused(CampaignRefusal.UNKNOWN_CURRENCY, "currency is no active code of ISO 4217")
    _check_names(command.advertiser, command.account)
    _check_flight(command.flight_start, command.flight_end)
    _check_budget(command.budget_micros, command.daily_budget_micros)
    return (
        CampaignOpened(
            cause=command.cause,
            digest=command.digest,
            by=command.by,
            decided_at=command.decided_at,
            advertiser=command.advertiser,
            account=command.account,
            currency=command.currency,
            time_zone=command.time_zone,
            billing_event=command.billing_event,
            viewability_pack=command.viewability_pack,
            flight_start=command.flight_start,
            flight_end=command.flight_end,
            budget_micros=command.budget_micros,
            daily_budget_micros=command.daily_budget_micros,
        ),
    )


def _change(state: CampaignState, command: ChangeCampaign) -> tuple[CampaignEvent, ...]:
    if isinstance(state, Unopened):
        raise CampaignRefused(CampaignRefusal.NOT_OPEN, "nobody has opened the campaign")
    campaign = state.campaign
    if command.seen_version != campaign.version:
        raise CampaignRefused(
            CampaignRefusal.VERSION_CHANGED,
            f"the campaign is at version {campaign.version}, not {command.seen_version}",
        )
    events = (*_flight(campaign, command), *_budget(campaign, command), *_pause(campaign, command))
    if campaign.version + len(events) > CHANGES_MAX:
        raise CampaignRefused(CampaignRefusal.TOO_MANY_CHANGES, f"a campaign has at most {CHANGES_MAX} changes")
    return events


def _flight(campaign: Campaign, command: ChangeCampaign) -> tuple[CampaignEvent, ...]:
    start = campaign.flight_start if command.flight_start is None else command.flight_start
    end = campaign.flight_end if command.flight_end is None else command.flight_end
    _check_flight(start, end)
    if (start, end) == (campaign.flight_start, campaign.flight_end):
        return ()
    event = FlightChanged(
        cause=command.cause,
        digest=command.digest,
        by=command.by,
        decided_at=command.decided_at,
        flight_start=start,
        flight_end=end,
    )
    return (event,)


def _budget(campaign: Campaign, command: ChangeCampaign) -> tuple[CampaignEvent, ...]:
    budget = campaign.budget_micros if command.budget_micros is None else command.budget_micros
    asked = command.daily_budget_micros
    daily = campaign.daily_budget_micros if isinstance(asked, UnsetType) else asked
    _check_budget(budget, daily)
    if (budget, daily) == (campaign.budget_micros, campaign.daily_budget_micros):
        return ()
    event = BudgetChanged(
        cause=command.cause,
        digest=command.digest,
        by=command.by,
        decided_at=command.decided_at,
        budget_micros=budget,
        daily_budget_micros=daily,
    )
    return (event,)


def _pause(campaign: Campaign, command: ChangeCampaign) -> tuple[CampaignEvent, ...]:
    if command.paused is None or command.paused is (campaign.paused_at is not None):
        return ()
    kind = CampaignPaused if command.paused else CampaignResumed
    return (kind(cause=command.cause, digest=command.digest, by=command.by, decided_at=command.decided_at),)


def _check_names(*names: str) -> None:
    """As in tokens: databases take no U+0000, and a name is shown on one line."""
    if any(char < " " for name in names for char in name):
        raise CampaignRefused(CampaignRefusal.BAD_NAME, "advertiser and account have no control characters")


def _check_flight(start: int, end: int) -> None:
    if end < start:
        raise CampaignRefused(CampaignRefusal.BAD_FLIGHT, "flight_end is before flight_start")
    if not 0 <= start <= end <= TIME_MAX_MS:
        raise CampaignRefused(CampaignRefusal.BAD_FLIGHT, "a flight is within the years 1970 to 9999, UTC")


def _check_budget(budget: int, daily: int | None) -> None:
    if not 1 <= budget <= MONEY_MAX or (daily is not None and not 1 <= daily <= MONEY_MAX):
        raise CampaignRefused(CampaignRefusal.BAD_BUDGET, f"a budget is 1 to {MONEY_MAX} micros")
