"""
Takes in renders of a region that is down, without reading what they say, until their home is back.

Of a body only `event_id` and `token` are decoded, of the token what routes it. Nothing of that is believed: unless this
cell holds the very key of the home that a token names, nobody here can tell whether delivery has signed it. The home
checks everything when it opens the box.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import msgspec
from msgspec import Struct

from commands.homes import Homes
from commands.items import Answer, Caller, Status
from commands.quarantine import Sender
from commands.sealed_box import KEY_BYTES, OVERHEAD_BYTES, Sealer
from commands.shelter_batches import SharedWrites
from commands.shelter_orders import OrderBook
from commands.shelter_store import Key, Room, Sheltered, ShelterStore
from commands.shelter_trust import Trust
from domain.cells import Cell
from domain.ids import ImpressionId
from domain.reasons import Reason, Verdict
from domain.render import RENDER_MAX_BYTES
from domain.token import Token, TokenInvalid, TokenKey, check_token, read_token
from domain.vocabulary import Rung
from ledger.store import LedgerUnavailable

BOX_MAX_BYTES = RENDER_MAX_BYTES + 8_192 + OVERHEAD_BYTES
TOKEN_MAX = 2_048
_AGENT_MAX, _NETWORK_MAX = 1_024, 128
_NO_ROOM = "the shelter of its region has no room; send it again later"
_NO_ANSWER = "the shelter of its region does not answer; send it again later"


class _Named(Struct):
    event_id: UUID
    token: str


class Contents(Struct, frozen=True, array_like=True):
    """What is sealed: the body as it came, and who sent it."""

    body: bytes
    sender: Sender


_NAMED = msgspec.json.Decoder(_Named)
_CONTENTS = msgspec.msgpack.Encoder()


class _Found(Struct, frozen=True):
    place: int
    event_id: UUID
    impression: ImpressionId
    home: Cell
    raw: bytes | msgspec.Raw

    @property
    def key(self) -> Key:
        return self.home.name, self.impression, self.event_id


class Shelter:
    """The shelter of one gate. `clock` gives epoch ms, *token_keys* are this cell's own."""

    def __init__(  # noqa: PLR0913 (its collaborators)
        self,
        *,
        homes: Homes,
        book: OrderBook,
        trust: Trust,
        store: ShelterStore,
        token_keys: Mapping[str, TokenKey],
        fingerprints: Mapping[str, str],
        room: Room,
        ttl_ms: int,
        clock: Callable[[], int],
    ) -> None:
        self._homes = homes
        self._book = book
        self._trust = trust
        self._writes = SharedWrites(store, room)
        self._ttl_ms = ttl_ms
        self._clock = clock
        self._checkable = {
            name: {key: token_keys[key] for key, print_ in cell.tokens.items() if fingerprints.get(key) == print_}
            for name, cell in trust.cells.items()
        }

    @property
    def is_closed(self) -> bool:
        """Tell at once whether no region can be sheltered."""
        return self._book.is_empty

    async def take(self, raws: Sequence[bytes | msgspec.Raw], caller: Caller) -> dict[int, Answer]:
        """
        Keep those of *raws* that are of a sheltered region; return their answers by place. All others are not ours.

        What is answered as `decided` is durable. What cannot be kept is `deferred`.
        """
        now = self._clock()
        regions = self._book.regions(now)
        if not regions:
            return {}
        found = [one for at, raw in enumerate(raws) if (one := self._find(at, raw, regions)) is not None]
        if not found:
            return {}
        try:
            refused = await self._writes.keep(self._sealed(found, caller, now))
        except LedgerUnavailable:
            return {one.place: _busy(one, _NO_ANSWER) for one in found}
        return {one.place: _busy(one, _NO_ROOM) if one.key in refused else _taken(one) for one in found}

    def _find(self, place: int, raw: bytes | msgspec.Raw, regions: frozenset[str]) -> _Found | None:
        if len(raw) > RENDER_MAX_BYTES:
            return None
        try:
            named = _NAMED.decode(raw)
            if len(named.token) > TOKEN_MAX:
                return None
            token = read_token(named.token)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TokenInvalid):
            return None
        if token.region not in regions:
            return None
        home = self._homes.home_of(token)
        if home is None or home.name not in self._trust.cells or self._is_forged(named.token, token, home):
            return None
        return _Found(place, named.event_id, token.impression, home, raw)

    def _is_forged(self, text: str, token: Token, home: Cell) -> bool:
        """Tell whether *text* is certainly none of the home's: where this cell has its very key, it can be checked."""
        keys = self._checkable[home.name]
        if text.split(".", 2)[1] not in keys:
            return False
        try:
            return check_token(text, keys).impression != token.impression
        except TokenInvalid:
            return True

    def _sealed(self, found: Sequence[_Found], caller: Caller, now: int) -> list[Sheltered]:
        sender = Sender(
            may_state="ingest" in caller.scopes,
            may_be_history="replay" in caller.scopes,
            agent=None if caller.agent is None else caller.agent[:_AGENT_MAX],
            network=None if caller.network is None else caller.network[:_NETWORK_MAX],
        )
        sealers = {
            name: Sealer(self._trust.cells[name].seal, secrets.token_bytes(KEY_BYTES))
            for name in {one.home.name for one in found}
        }
        return [
            Sheltered(
                home=one.home.name,
                region=one.home.region,
                impression=one.impression,
                event_id=one.event_id,
                received_at=now,
                expires_at=now + self._ttl_ms,
                sealed=sealers[one.home.name].seal(
                    _CONTENTS.encode(Contents(bytes(one.raw), sender)), bound(one.key, now)
                ),
            )
            for one in found
        ]


def bound(key: Key, received_at: int) -> bytes:
    """Return what a box is bound to: it opens only as the event *key*, received at *received_at* (epoch ms)."""
    home, impression, event_id = key
    return b"|".join((home.encode(), impression.bytes, event_id.bytes, str(received_at).encode()))


def _taken(one: _Found) -> Answer:
    return Answer(
        event_id=one.event_id,
        impression_id=one.impression,
        status=Status.DECIDED,
        verdict=Verdict.UNCERTAIN,
        reason=Reason.DEGRADED,
        provisional=True,
        rung=Rung.SHELTERED,
    )


def _busy(one: _Found, why: str) -> Answer:
    return Answer(event_id=one.event_id, impression_id=one.impression, status=Status.DEFERRED, errors=(why,))
