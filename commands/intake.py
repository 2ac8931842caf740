"""From bytes to prepared renders: parse, check the token, make pseudonyms, ask the lists, screen."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol
from uuid import UUID

import msgspec
from msgspec import Struct

from commands.clocks import DeviceClocks
from commands.faults import fault_of
from commands.homes import Homes
from commands.items import Caller, Deferred, Fault, Item, Malformed, Ready, Refused, slots_of
from commands.keyring import DAY_MS, KEY_BYTES, Keyring
from domain.events import Versions
from domain.ids import day_of, minted_at
from domain.pack import Pack
from domain.reasons import Reason
from domain.render import RENDER_MAX_BYTES, Fingerprint, Render, content, millis
from domain.screen import REQUEST_REASONS, UNKNOWN_DEVICE, Traits, claim, screen
from domain.token import Token, TokenInvalid, TokenKey, check_token
from domain.vocabulary import AgentClass, DataSet, NetworkClass, Rung
from ledger.store import EventStore, LedgerUnavailable

KEYS_WITHIN_S = 0.03
"""How long a request waits for the keys of days that this process has not met yet."""
_OVERLAP_MS = 3_600_000
_RENDER = msgspec.json.Decoder(Render)
_REPLAY = "replay"
_INGEST = "ingest"


class Lists(Protocol):
    """What the versioned lists say; `version` names them in every decision."""

    version: str

    def agent(self, agent: str | None) -> AgentClass: ...

    def network(self, address: str | None) -> NetworkClass: ...

    def stale(self, now_ms: int) -> bool: ...


class Devices(Protocol):
    """What agent, SDK and fingerprint say of a device, for models to read."""

    def traits(self, agent: str | None, sdk: str | None, fingerprint: Fingerprint | None, at: int) -> Traits:
        """Return what is known at *at* (epoch ms)."""


class _EventIdOnly(Struct):
    event_id: UUID


class _Parsed(Struct, frozen=True, gc=False):
    render: Render
    token: Token
    raw: bytes | msgspec.Raw
    received_at: int
    data_set: DataSet
    days: tuple[int, ...]
    """That the ad was served on, and whose names are about."""


class Intake(Struct, frozen=True, kw_only=True):
    """
    Prepares renders. `clock` gives epoch ms. Without `homes` the cell owns all of its region, without `devices` nothing
    is known of any.
    """

    pack: Pack
    region: str
    token_keys: Mapping[str, TokenKey]
    keyring: Keyring
    lists: Lists
    clocks: DeviceClocks
    store: EventStore
    clock: Callable[[], int]
    homes: Homes | None = None
    devices: Devices | None = None

    async def prepare(self, raws: Sequence[bytes | msgspec.Raw], caller: Caller) -> list[Item]:
        """
        Return one item per render of *raws*, in order; whatever is wrong with one leaves its neighbours alone.

        What names a day whose key cannot be had in time is deferred: nobody would recognise it.

        Raises:
            LedgerUnavailable: no key could be had in time, or a partition could not.
        """
        now = self.clock() if caller.received_at is None else caller.received_at
        parsed: list[_Parsed | Item] = [self._parse(raw, caller, now) for raw in raws]
        days = {day for one in parsed if isinstance(one, _Parsed) for day in one.days}
        if not self.keyring.has(days):
            fresh = secrets.token_bytes(KEY_BYTES)
            if not await self.keyring.ensure_within(sorted(days), now, fresh, KEYS_WITHIN_S):
                parsed = self._deferring(parsed)
        if _REPLAY in caller.scopes and any(
            isinstance(one, _Parsed) and one.data_set is DataSet.REPLAY for one in parsed
        ):
            for day in days:
                on = day_of(day * DAY_MS)
                await self.store.prepare_days(on, on, DataSet.REPLAY)
        rung = Rung.STALE_LISTS if self.lists.stale(now) else Rung.FULL
        return [self._screen(one, caller, rung) if isinstance(one, _Parsed) else one for one in parsed]

    def _deferring(self, parsed: Sequence["_Parsed | Item"]) -> "list[_Parsed | Item]":
        """Defer what has no key; where that would be all of a request, it fails as a whole."""
        found = [
            Deferred(one.render.event_id, one.token.impression)
            if isinstance(one, _Parsed) and not self.keyring.has(one.days)
            else one
            for one in parsed
        ]
        if all(type(one) is Deferred for one in found):
            raise LedgerUnavailable("no key of these renders' days could be had in time")
        return found

    def _parse(self, raw: bytes | msgspec.Raw, caller: Caller, now: int) -> _Parsed | Malformed | Refused:
        if len(raw) > RENDER_MAX_BYTES:
            fault = Fault(code="invalid", detail=f"a render has at most {RENDER_MAX_BYTES} bytes")
            return Malformed(raw, fault, now, _event_id(raw))
        try:
            render = _RENDER.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Malformed(raw, fault_of(error), now, _event_id(raw))
        received_at, data_set = now, DataSet.LIVE
        if render.received_at is not None:
            received_at, data_set = millis(render.received_at), DataSet.REPLAY
            if wrong := self._flaw_of_history(received_at, caller, now):
                return Malformed(raw, wrong, now, render.event_id)
        try:
            token = check_token(render.token, self.token_keys)
        except TokenInvalid:
            return Refused(render.event_id, Reason.TOKEN_INVALID)
        homes = self.homes
        if token.region != self.region if homes is None else not homes.owns(token):
            home = None if homes is None else homes.home_of(token)
            return Refused(render.event_id, Reason.REGION_MISDIRECTED, token.impression, home)
        return _Parsed(render, token, raw, received_at, data_set, _days(token))

    def _flaw_of_history(self, received_at: int, caller: Caller, now: int) -> Fault | None:
        if _REPLAY not in caller.scopes:
            return Fault(code="forbidden", detail="received_at needs the scope replay", path="$.received_at")
        if received_at - now > self.pack.clock_ahead_max_ms:
            return Fault(code="invalid", detail="received_at is in the future", path="$.received_at")
        return None

    def _screen(self, one: _Parsed, caller: Caller, rung: Rung) -> Item:
        render, token, received_at = one.render, one.token, one.received_at
        keys = self.keyring.of(one.days[0])
        if keys is None:
            return Refused(render.event_id, Reason.TOKEN_EXPIRED, token.impression)
        stated = _INGEST in caller.scopes
        agent = render.agent if stated and render.agent is not None else caller.agent
        network = render.network if stated and render.network is not None else caller.network
        person = keys.pseudonyms(render.user, render.device, network, render.session)
        claimed = claim(
            render,
            token,
            self.pack,
            digest=keys.digest(content(render)),
            received_at=received_at,
            person=person,
            clock_offset_ms=self._clock_offset(render, person[1], received_at),
            agent_class=self.lists.agent(agent),
            network_class=self.lists.network(network),
            traits=self._traits(render, agent, received_at),
        )
        reasons = screen(claimed, self.pack)
        if reasons and reasons[0] in REQUEST_REASONS:
            return Refused(render.event_id, reasons[0], token.impression)
        alias = self._alias(one)
        return Ready(
            impression=token.impression,
            kind=render.kind,
            claim=claimed,
            reasons=reasons,
            slots=slots_of(one.data_set, token.placement, token.creative, person[0] or person[1], alias),
            versions=_versions(self.pack.id, self.lists.version),
            rung=rung,
            data_set=one.data_set,
            raw=one.raw,
            alias=alias,
        )

    def _traits(self, render: Render, agent: str | None, received_at: int) -> Traits:
        if self.devices is None:
            return UNKNOWN_DEVICE
        return self.devices.traits(agent, render.sdk, render.fingerprint, received_at)

    def _clock_offset(self, render: Render, device: str, received_at: int) -> int | None:
        """Return how far the client's clock is behind ours, by this event or else by its device's others."""
        if render.sent_at is None:
            return self.clocks.offset_ms(device)
        sent_at = millis(render.sent_at)
        self.clocks.learn(device, sent_at, received_at)
        return received_at - sent_at

    def _alias(self, one: _Parsed) -> str:
        """Return how the day before would name the person, where its names are still about."""
        if len(one.days) == 1 or (before := self.keyring.of(one.days[1])) is None:
            return ""
        return before.pseudonym(one.render.user, b"user") or before.pseudonym(one.render.device, b"device")


@lru_cache(maxsize=8)
def _versions(pack: str, lists: str) -> Versions:
    """One object for all renders screened under the same."""
    return Versions(pack=pack, lists=lists)


def _days(token: Token) -> tuple[int, ...]:
    """
    Return the day that an ad was served on; in its first hour also the day before, whose names are still about.

    Before the first day of 1970, where clocks begin that nobody has set, there is none that an id could be of.
    """
    day, into_it_ms = divmod(minted_at(token.impression), DAY_MS)
    return (day, day - 1) if into_it_ms < _OVERLAP_MS and day > 0 else (day,)


def _event_id(raw: bytes | msgspec.Raw) -> UUID | None:
    try:
        return msgspec.json.decode(raw, type=_EventIdOnly).event_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
