"""Renders that cannot be read, and views that came too early: kept encrypted, with a time to live."""

import re
import secrets
from collections.abc import Callable, MutableSequence, Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import Protocol
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from commands.items import Caller, Fault, Item, Malformed, Ready
from commands.keyring import DAY_MS, KEY_BYTES, LIFE_DAYS, DayKeys, Keyring
from commands.quarantine_entries import REUSED
from domain.ids import ImpressionId, minted_at
from domain.render import RENDER_MAX_BYTES

DROPPED_MAX = 10_000
"""One call of `drop_expired` deletes at most so much of each kind: nobody waits for more."""
RECORD_KEPT_MS = 30 * DAY_MS
"""For so long after its body is gone, an entry still says that it was there and what became of it."""
_NONCE_BYTES = 12
_AGENT_MAX = 1_024
_NETWORK_MAX = 128
_DETAIL_MAX = 200
_UNKNOWN_FIELD = "Object contains unknown field"
_PLAIN_SDK = re.compile(r"[\w.+/-]{1,64}", re.ASCII)


class Sender(Struct, frozen=True, kw_only=True):
    """
    What is kept, sealed, of who sent a quarantined body: it decides how its replay is screened.

    `may_state`: it had the scope to state agent and network; `may_be_history`: to state when it was received.
    """

    may_state: bool = False
    may_be_history: bool = False
    agent: str | None = None
    network: str | None = None

    def caller(self, received_at: int) -> Caller:
        """Return the sender as the gate saw it, with a body that it received at *received_at* (epoch ms)."""
        scopes = {"ingest": self.may_state, "replay": self.may_be_history}
        return Caller(frozenset(name for name, has in scopes.items() if has), self.agent, self.network, received_at)


NOBODY = Sender()
"""Who sent an entry that was made before senders were kept: one who may state nothing."""


class QuarantinedBody(Struct, frozen=True, kw_only=True):
    """
    In clear stand only error, path, size and SDK; times are epoch ms, `key_day` counts UTC days since 1970.

    `sender` is sealed, too; `times` is how often the body came in the batch.
    """

    name: str
    event_id: UUID | None
    code: str
    detail: str
    path: str
    size: int
    received_at: int
    expires_at: int
    key_day: int
    sealed: bytes
    sdk: str = ""
    sender: bytes | None = None
    times: int = 1


class Held(Struct, frozen=True, kw_only=True):
    """
    What is kept beside the ledger. An event is in one of the first three, or its id is in the ledger, or it is `moved`.

    `reused` are bodies that were refused because their event id is in the ledger with another content.
    """

    waiting: int = 0
    expired: int = 0
    parked: int = 0
    moved: int = 0
    reused: int = 0


class Parking(StrEnum):
    """What becomes of a view that is to be parked."""

    KEPT = "kept"
    REUSED = "reused"
    """Its id is parked already, with another content."""
    FULL = "full"
    """As many are parked of its impression, or in all, as may be."""
    EXPIRED = "expired"
    """The keys of its day were destroyed after it was read."""


class Room(Struct, frozen=True, kw_only=True):
    """How much may be kept: parked views, of one impression and in all, and bodies in quarantine, with their bytes."""

    impression_views: int = 64
    views: int = 1_000_000
    bodies: int = 1_000_000
    body_bytes: int = 1 << 30


ROOM = Room()
ANY_ROOM = Room(impression_views=1 << 62, views=1 << 62, bodies=1 << 62, body_bytes=1 << 62)
"""For what comes out of a spool: that was answered as taken, and the size of the spool bounds it."""


class ParkedView(Struct, frozen=True, kw_only=True):
    """A view whose render has not arrived, sealed under the keys of its impression's day."""

    event_id: UUID
    impression: ImpressionId
    digest: str
    received_at: int
    sealed: bytes


class HoldingStore(Protocol):
    """Where both lie. Keeping the same again changes nothing but how often and when it last came."""

    async def quarantine(self, bodies: Sequence[QuarantinedBody], room: Room) -> set[str]:
        """
        Keep *bodies* as far as there is *room*; return the names of the others, and nothing is known of those.

        One that comes again after its time was up is kept anew, as received when it first was; what is there needs no
        room. Several callers at once may pass it by what they bring.
        """

    async def park(self, views: Sequence[ParkedView], room: Room) -> list[Parking]:
        """Keep *views* as far as there is *room*; return, in order, KEPT (also if it was), REUSED or FULL of each."""

    async def due_views(self, limit: int) -> list[ParkedView]:
        """Return up to *limit* parked views whose impression has a stream by now; what stays comes again in turn."""

    async def unpark(self, event_ids: Sequence[UUID]) -> None: ...

    async def count(self, now: int) -> Held:
        """Return how much is kept as of *now*."""

    async def drop_expired(self, now: int, parked_before: int) -> int:
        """
        Delete quarantined bodies that expired by *now* and views parked before *parked_before*; say how many.

        Of a body its entry stays for another `RECORD_KEPT_MS`, and then counts as well. More than `DROPPED_MAX` of a
        kind are there for the next call.
        """


class Holding:
    """Seals what must be kept for a while and hands it to the store. `clock` gives epoch ms."""

    def __init__(self, store: HoldingStore, keyring: Keyring, ttl_ms: int, clock: Callable[[], int]) -> None:
        self._store = store
        self._keyring = keyring
        self._ttl_ms = ttl_ms
        self._clock = clock

    async def quarantine(self, items: Sequence[Malformed], room: Room = ROOM) -> list[bool]:
        """
        Keep what cannot be read; tell of each, in order, when they are durable, whether there was room for it.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        now = self._clock()
        await self._keyring.ensure([now // DAY_MS], now, secrets.token_bytes(KEY_BYTES))
        bodies = [self._seal(item, now) for item in items]
        refused = await self._store.quarantine(bodies, room)
        return [body.name not in refused for body in bodies]

    async def park(self, items: Sequence[Ready], room: Room = ROOM) -> list[Parking]:
        """
        Keep views until their render arrives; return, when they are durable, what became of each, in order.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        views = [self._parked(item) for item in items]
        parked = iter(await self._store.park([view for view in views if view is not None], room))
        return [Parking.EXPIRED if view is None else next(parked) for view in views]

    async def due_views(self, limit: int, now: int) -> list[tuple[UUID, int, bytes]]:
        """Return up to *limit* parked views whose render arrived: event id, when they were received, body."""
        views = await self._store.due_views(limit)
        await self._keyring.ensure([_day(view.impression) for view in views], now, secrets.token_bytes(KEY_BYTES))
        due = []
        for view in views:
            keys = self._keyring.of(_day(view.impression))
            if keys is not None:
                due.append((view.event_id, view.received_at, keys.unseal(view.sealed, str(view.event_id))))
        return due

    async def unpark(self, event_ids: Sequence[UUID]) -> None:
        await self._store.unpark(event_ids)

    def _seal(self, item: Malformed, now: int) -> QuarantinedBody:
        """
        Seal under the key of today: what is replayed may have been received when keys are destroyed by now.

        Of what is too large for any render no more is kept than says so.
        """
        day = now // DAY_MS
        keys = self._keyring.of(day)
        assert keys is not None, "today's keys are not destroyed yet"
        raw = bytes(item.raw)
        name = _name(item, keys, raw)
        return QuarantinedBody(
            name=name,
            event_id=item.event_id,
            code=item.fault.code,
            detail=_in_clear(item.fault),
            path=item.fault.path[:_DETAIL_MAX],
            size=len(raw),
            received_at=item.received_at,
            expires_at=min(now + self._ttl_ms, (day + LIFE_DAYS) * DAY_MS),
            key_day=day,
            sealed=keys.seal(raw[: RENDER_MAX_BYTES + 1], secrets.token_bytes(_NONCE_BYTES), name),
            sdk=_sdk(raw),
            sender=None if item.caller is None else _sealed_sender(item.caller, keys, name),
        )

    def _parked(self, item: Ready) -> ParkedView | None:
        keys = self._keyring.of(_day(item.impression))
        if keys is None:
            return None
        event_id = item.claim.cause
        return ParkedView(
            event_id=event_id,
            impression=item.impression,
            digest=item.claim.digest,
            received_at=item.claim.received_at,
            sealed=keys.seal(bytes(item.raw), secrets.token_bytes(_NONCE_BYTES), str(event_id)),
        )


def sent_by(caller: Caller, items: MutableSequence[Item]) -> MutableSequence[Item]:
    """Note in *items* who sent what cannot be read."""
    for at, item in enumerate(items):
        if type(item) is Malformed:
            items[at] = replace(item, caller=caller)
    return items


def unsealed_sender(sealed: bytes | None, keys: DayKeys, name: str) -> Sender:
    """Return who sent the body of that *name*; raises `cryptography.exceptions.InvalidTag` if it was tampered with."""
    if sealed is None:
        return NOBODY
    return msgspec.json.decode(keys.unseal(sealed, _sender_of(name)), type=Sender)


def _sealed_sender(caller: Caller, keys: DayKeys, name: str) -> bytes:
    sender = Sender(
        may_state="ingest" in caller.scopes,
        may_be_history="replay" in caller.scopes,
        agent=None if caller.agent is None else caller.agent[:_AGENT_MAX],
        network=None if caller.network is None else caller.network[:_NETWORK_MAX],
    )
    return keys.seal(msgspec.json.encode(sender), secrets.token_bytes(_NONCE_BYTES), _sender_of(name))


def _sender_of(name: str) -> str:
    return f"{name} sender"


def _name(item: Malformed, keys: DayKeys, raw: bytes) -> str:
    """
    Return a name that follows from the event, so that a retry is kept once.

    A body whose event id was reused stands beside the one that could not be read under the same id.
    """
    what = str(item.event_id or keys.digest(raw))
    if item.fault.code == REUSED:
        what = f"{REUSED} {what}"
    return blake2b(what.encode(), digest_size=16).hexdigest()


def _in_clear(fault: Fault) -> str:
    """Return what is wrong without a word of the client's: the name of an unknown field is one."""
    return _UNKNOWN_FIELD if fault.detail.startswith(_UNKNOWN_FIELD) else fault.detail[:_DETAIL_MAX]


class _SdkOnly(Struct):
    sdk: str = ""


def _sdk(raw: bytes) -> str:
    """Return the SDK that the body names, if it can be read and looks like one."""
    try:
        sdk = msgspec.json.decode(raw, type=_SdkOnly).sdk
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return sdk if _PLAIN_SDK.fullmatch(sdk) else ""


def _day(impression: ImpressionId) -> int:
    return minted_at(impression) // DAY_MS
