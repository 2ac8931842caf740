"""One ad shown in one session: mints its instances and writes its renders and views."""

from collections.abc import Callable
from math import exp
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from domain.ids import mint, minted_at
from domain.render import Kind
from domain.token import Token, TokenKey, mint_token
from domain.vocabulary import OmidType, Surface
from ml.traffic import habits
from ml.traffic.draw import Span, Weighted
from ml.traffic.events import Claims, Event, Truth, event_of
from ml.traffic.families import OF_DEED, is_held_out
from ml.traffic.fingerprints import Screen
from ml.traffic.looks import Look, Take
from ml.traffic.market import Campaign, Creative, Placement, Sdk
from ml.traffic.people import Person
from ml.traffic.serving import Serve

_UUID4_MASK = ~(0xF << 76 | 0x3 << 62)
_UUID4_BITS = 0x4 << 76 | 0x2 << 62
_LOOK_MAX_MS = 3_700_000
_VIEWED_SDK_TIME = Span(35, 640)
_OMID = Weighted(
    {
        OmidType.BEGIN_TO_RENDER: 0.63,
        OmidType.ONE_PIXEL: 0.21,
        OmidType.VIEWABLE: 0.13,
        OmidType.AUDIBLE: 0.03,
    }.items()
)


def _nobody_asks(_: Serve) -> None:
    """Most runs do not want to know what was served."""


class Minter(Struct, frozen=True):
    """What delivery mints ad instances with, in one cell; `served` is told of each that it mints for its region."""

    key_id: str
    key: TokenKey
    shard_key: bytes
    region: str
    epoch: int = 1
    served: Callable[[Serve], None] = _nobody_asks


class Rig(Struct, frozen=True):
    """What sends other people's events again: under its own name, device and address."""

    who: int
    user: str
    device: str
    network: str
    agent: str
    actor: str = "replayer"

    def claims(self) -> dict[str, Any]:
        """Return what it says of itself instead of whom it repeats."""
        names = {"user": self.user, "device": self.device, "network": self.network, "agent": self.agent}
        return {**names, "session": None, "sdk_seq": None, "fingerprint": None}


class Session(Struct, kw_only=True):
    """Somebody's visit to one surface with one device; its clock is `clock_ms` ahead of the true one."""

    person: Person
    surface: Surface
    placements: list[Placement]
    sdk: Sdk
    user: str | None
    device: str | None
    network: str
    agent: str | None
    clock_ms: int
    shard: int
    name: str
    left: int
    seq: int = 0

    @property
    def take(self) -> Take | None:
        """What of a recording comes now."""
        takes = self.person.takes
        return takes[-self.left] if takes else None

    def gap_ms(self, rng: Random) -> int:
        """Return how many ms after this ad the next one comes."""
        take = self.take
        return self.person.gap.whole(rng) if take is None else take.gap_ms


class Slot(NamedTuple):
    """What is shown where, how large, and when its flight is (epoch ms)."""

    campaign: Campaign
    creative: Creative
    placement: Placement
    size: Screen
    flight_start: int
    flight_end: int


class Ad(NamedTuple):
    """One ad instance, with the token that delivery signed."""

    impression: UUID
    token: str


class Shot:
    """
    One ad on one screen at *now* (epoch ms), whatever is told about it afterwards.

    The first event that is sent and proves that it was shown is the one that counts; all further ones repeat it.
    """

    rigs: list[Rig]
    """Who repeats events; there are some where a deed asks for them."""

    def __init__(self, rng: Random, minter: Minter, session: Session, slot: Slot, now: int) -> None:
        self.rng = rng
        self.session = session
        self.slot = slot
        self.now = now
        self.deed = "plain"
        self.sent: list[tuple[int, int, Event, Truth | None]] = []
        """When, for which time, what, and the truth about it where it is new."""
        self._minter = minter
        self._first: UUID | None = None
        self._story: tuple[str, bool, bool] | None = None
        self._lost = session.sdk.loses + (slot.campaign.habits.lost if session.person.human else 0.0)

    @property
    def region(self) -> str:
        return self._minter.region

    @property
    def countable(self) -> bool:
        """Whether a perfect system would count it: a person, a visible slot, a running flight."""
        return self.session.person.human and not self.slot.placement.cheats and self._in_flight

    @property
    def _in_flight(self) -> bool:
        return self.slot.flight_start <= self.now <= self.slot.flight_end

    def ad(self, served_before_ms: int | None = None, **changes: Any) -> Ad:
        """Mint an ad instance that was served *served_before_ms* ago; *changes* are fields of its token."""
        before_ms = habits.SERVED_BEFORE_MS.whole(self.rng) if served_before_ms is None else served_before_ms
        at = self.now - before_ms
        impression = mint(at, self.session.shard, self.rng.getrandbits(62))
        campaign = self.slot.campaign
        if changes.get("region", self.region) == self.region:
            self._minter.served(
                Serve(
                    at,
                    campaign.name,
                    campaign.surface,
                    self.slot.creative.format,
                    self.session.sdk.name,
                    campaign.currency,
                    campaign.price_micros,
                )
            )
        return self.token_for(impression, **changes)

    def token_for(self, impression: UUID, **changes: Any) -> Ad:
        campaign, creative, placement, _, flight_start, flight_end = self.slot
        token = Token(
            impression=impression,
            ad=creative.ad,
            creative=creative.name,
            campaign=campaign.name,
            advertiser=campaign.advertiser,
            placement=placement.name,
            publisher=placement.publisher,
            surface=campaign.surface,
            format=creative.format,
            region=self._minter.region,
            epoch=self._minter.epoch,
            currency=campaign.currency,
            price_micros=campaign.price_micros,
            flight_start=flight_start,
            flight_end=flight_end,
            billing_event=campaign.billing_event,
            viewability_pack=campaign.viewability_pack,
        )
        return Ad(
            impression,
            mint_token(replace(token, **changes) if changes else token, self._minter.key_id, self._minter.key),
        )

    def render(self, ad: Ad, at: int, *, proof: bool = True, **changes: Any) -> Event:
        """Write a render of *ad* that began at *at*, with or without *proof* of it; *changes* are fields of it."""
        claims = self._claims(ad, at)
        if proof:
            claims |= self._proof(at)
            if self.rng.random() < self.slot.campaign.habits.measured:
                claims |= self._measures(self._so_far(ad))
        return self._event(ad, claims | changes if changes else claims)

    def _so_far(self, ad: Ad) -> Look:
        """Nobody has seen it longer than it is there; who makes it up does not ask."""
        seen = self.look()
        if self.slot.placement.look is not None:
            return seen
        return seen._replace(ms=min(seen.ms, self.now - minted_at(ad.impression)))

    def view(self, ad: Ad, at: int, seen: Look) -> Event:
        """Write a view of *ad* that ended at *at*."""
        claims = self._claims(ad, at)
        claims |= self._measures(seen)
        claims["kind"] = Kind.VIEW
        return self._event(ad, claims)

    def look(self) -> Look:
        rng, habit, person = self.rng, self.slot.campaign.habits, self.session.person
        take = self.session.take
        said = self.slot.placement.look if take is None else take.look
        if said is not None:
            return said
        if person.gaze is not None:
            return person.gaze.look(rng)
        whole = rng.random() < habit.seen_whole
        ratio = 1.0 if whole else round(rng.random() ** (1 / habit.ratio_bend), 3)
        ms = min(int(habit.look_ms * exp(rng.gauss(0, 1) * habit.look_spread)), _LOOK_MAX_MS)
        return Look(ratio, ms, rng.random() < habit.clicks)

    def send(self, event: Event, after_ms: int = 0, *, shows: bool = True, by: Rig | None = None) -> bool:
        """
        Send *event* *after_ms* from now; tell whether the device does, for some are lost on it.

        *shows* is false for what does not prove that the ad was shown; *by* is who sends it in somebody's name.
        """
        if self.rng.random() < self._lost:
            return False
        at = self.now + after_ms
        self.sent.append((at, 0, event, self._truth(event, at, shows=shows, by=by)))
        return True

    def send_again(self, event: Event, after_ms: int, attempt: int) -> None:
        """Send *event*, which was sent before, for the *attempt*th time, from 0."""
        self.sent.append((self.now + after_ms, attempt, event, None))

    def send_view(self, ad: Ad, began_after_ms: int = 0, upload_ms: int = 0) -> None:
        """Send the view that follows on a render, if this campaign's ads send one."""
        rng, habit = self.rng, self.slot.campaign.habits
        if self.session.person.views and rng.random() < habit.views:
            seen = self.look()
            after_ms = began_after_ms + seen.ms + upload_ms + _VIEWED_SDK_TIME.whole(rng)
            self.send(self.view(ad, self.now + began_after_ms + seen.ms, seen), after_ms, shows=False)

    def _truth(self, event: Event, at: int, *, shows: bool, by: Rig | None) -> Truth:
        who: Person | Rig = by or self.session.person
        repeats = self._first if shows else None
        if self._story is None:
            self._story = self._told()
        family, held_out, is_paid = self._story
        if shows and repeats is None:
            self._first = event.event_id
        human = by is None and self.session.person.human
        placement = self.slot.placement
        return Truth(
            event_id=event.event_id,
            impression_id=event.impression_id,
            at_ms=at,
            kind=event.kind,
            actor=who.actor,
            deed=self.deed,
            family=family,
            human=human,
            counts=shows and repeats is None and is_paid and by is None,
            who=who.who,
            campaign=self.slot.campaign.name,
            publisher=placement.publisher,
            invalid=not human or placement.cheats != "" or (repeats is not None and self.deed == "double_fire"),
            held_out=held_out,
            duplicate_of=repeats,
        )

    def _told(self) -> tuple[str, bool, bool]:
        """Return what all events share: the family, whether one that is held out is in it, whether it counts."""
        parts = (self.session.person.actor, self.slot.placement.cheats, self.session.sdk.fault)
        return self._family(), any(map(is_held_out, parts)), self.countable

    def _family(self) -> str:
        """Return the part of it that is not ordinary; bots before places, places before what befell the event."""
        person, cheats = self.session.person, self.slot.placement.cheats
        if not person.human:
            return person.actor
        if cheats:
            return cheats
        if self.deed != "plain":
            return self.session.sdk.fault if self.deed == "double_fire" else OF_DEED.get(self.deed, self.deed)
        if self.session.sdk.in_seconds or self.session.sdk.local_time:
            return self.session.sdk.fault
        return person.actor if self._in_flight else "outside_flight"

    def _claims(self, ad: Ad, at: int) -> dict[str, Any]:
        session = self.session
        person = session.person
        session.seq += 1
        return {
            "event_id": UUID(int=self.rng.getrandbits(128) & _UUID4_MASK | _UUID4_BITS),
            "token": ad.token,
            "client_at": at + session.clock_ms,
            "width": self.slot.size.width,
            "height": self.slot.size.height,
            "sdk": session.sdk.name,
            "sdk_seq": session.seq,
            "session": session.name,
            "user": session.user,
            "device": session.device,
            "country": person.country,
            "agent": session.agent,
            "network": session.network,
            "auto_refresh": self.slot.placement.auto_refresh,
            "stack_depth": self.slot.placement.stack if session.sdk.tells_depth else None,
            "fingerprint": person.fingerprint if session.sdk.tells_device else None,
        }

    def _event(self, ad: Ad, claims: dict[str, Any]) -> Event:
        session = self.session
        return event_of(Claims(**claims), ad.impression, session.clock_ms if session.sdk.tells_sent else None)

    def _measures(self, seen: Look) -> dict[str, Any]:
        shown_ms, seen_ms = self.slot.creative.duration_ms, seen.ms
        if self.session.sdk.in_seconds:
            shown_ms, seen_ms = shown_ms and shown_ms // 1_000, seen_ms // 1_000
        return {"visible_ratio": seen.ratio, "visible_ms": seen_ms, "duration_ms": shown_ms, "clicked": seen.clicked}

    def _proof(self, at: int) -> dict[str, Any]:
        if self.session.surface is Surface.AUDIENCE_NETWORK:
            return {"omid_type": _OMID.draw(self.rng)}
        return {"on_screen_at": at + self.session.clock_ms}


Play = Callable[[Shot], None]
