"""
What stands in the spool, and how it is written down: msgpack, a list of records per frame.

No raw identifier is in it: renders are kept as claims, with pseudonyms; bodies are sealed under the keys of a day, as
in quarantine, and can be read no longer than those.
"""

import secrets
from collections.abc import Sequence
from typing import TypeAlias
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from msgspec import Struct

from commands.items import Caller, Fault, Malformed, Ready, Slot
from commands.keyring import DAY_MS, Keyring
from domain.events import ImpressionRendered, Versions
from domain.ids import CauseId, ImpressionId, minted_at
from domain.reasons import Reason
from domain.render import Kind
from domain.vocabulary import DataSet, Rung
from ledger.codec import decode, written
from ledger.spool_frames import FRAME_MAX
from ledger.store import Append, LedgerUnavailable

_NONCE_BYTES = 12


class KeptItem(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A render or a view as the gate prepared it. Of a view the body is kept, too, sealed: it may have to be parked."""

    impression: ImpressionId
    kind: Kind
    claim: ImpressionRendered
    reasons: tuple[Reason, ...]
    slots: tuple[Slot, ...]
    versions: Versions
    rung: Rung
    data_set: DataSet
    alias: str = ""
    key_day: int = 0
    sealed: bytes = b""


class KeptAppend(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="append", gc=False):
    """
    Bytes for the ledger and what they came of: to the stream of an impression, else to the one named.

    `is_sent`: they were sent, and may be there, and callers were told `DEGRADED` at `answered_at` (epoch ms); otherwise
    they were decided without the ledger.
    """

    impression: ImpressionId | None = None
    stream: str = ""
    expected: int
    cause: CauseId
    digest: str
    data: bytes
    is_sent: bool = False
    answered_at: int = 0
    items: tuple[KeptItem, ...] = ()


class KeptItems(Struct, frozen=True, kw_only=True, tag="items", gc=False):
    """What could not be decided without the ledger."""

    items: tuple[KeptItem, ...]


class KeptBody(Struct, frozen=True, kw_only=True, tag="body", gc=False):
    """What could not be read, sealed under the keys of `key_day` (UTC days since 1970)."""

    event_id: UUID | None
    key_day: int
    sealed: bytes


Kept: TypeAlias = KeptAppend | KeptItems | KeptBody


class _Body(Struct, kw_only=True, array_like=True):
    raw: bytes
    fault: Fault
    received_at: int
    event_id: UUID | None
    scopes: tuple[str, ...] | None
    agent: str | None
    network: str | None
    first_received_at: int | None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[Kept])
_BODY = msgspec.msgpack.Decoder(_Body)


class UnreadableRecord(ValueError):
    """A batch in the spool was written by another version of the program."""


def pack(kept: Sequence[Kept]) -> list[bytes]:
    """Return *kept* as one batch of the spool: a payload per frame, only what a single record has being too much."""
    payload = _ENCODER.encode(kept)
    if len(payload) <= FRAME_MAX or len(kept) == 1:
        return [payload]
    half = len(kept) // 2
    return [*pack(kept[:half]), *pack(kept[half:])]


def unpack(payload: bytes) -> list[Kept]:
    """
    Return the records of one frame.

    Raises:
        UnreadableRecord: another version of the program wrote it.
    """
    try:
        return _DECODER.decode(payload)
    except msgspec.DecodeError as error:
        raise UnreadableRecord(str(error)) from error


def keep_append(append: Append, *, sent_at: int = 0, items: Sequence[KeptItem] = ()) -> KeptAppend:
    """Return *append* as it is kept; *sent_at* (epoch ms), if it was sent and nobody knows whether it arrived."""
    stream = append.stream
    return KeptAppend(
        impression=None if isinstance(stream, str) else stream,
        stream=stream if isinstance(stream, str) else "",
        expected=append.expected,
        cause=append.cause,
        digest=append.digest,
        data=written(append),
        is_sent=bool(sent_at),
        answered_at=sent_at,
        items=tuple(items),
    )


def append_of(kept: KeptAppend) -> Append:
    """Return the append that *kept* holds; raises `UnreadableCommit`."""
    return Append(
        stream=kept.stream if kept.impression is None else kept.impression,
        expected=kept.expected,
        cause=kept.cause,
        digest=kept.digest,
        events=decode(kept.data),
    )


def keep_item(item: Ready, keyring: Keyring) -> KeptItem:
    """Return *item* as it is kept; its keys are at hand, because it was screened with them."""
    day, sealed = 0, b""
    if item.kind is Kind.VIEW:
        day = minted_at(item.impression) // DAY_MS
        sealed = _seal(bytes(item.raw), day, str(item.claim.cause), keyring)
    return KeptItem(
        impression=item.impression,
        kind=item.kind,
        claim=item.claim,
        reasons=item.reasons,
        slots=item.slots,
        versions=item.versions,
        rung=item.rung,
        data_set=item.data_set,
        alias=item.alias,
        key_day=day,
        sealed=sealed,
    )


def item_of(kept: KeptItem, keyring: Keyring) -> Ready | None:
    """
    Return what was kept as *kept*; None if its key is destroyed. `Keyring.ensure` was awaited for `key_day`.

    The body of a render is not kept; should its event id turn out to be reused, its claim stands for it.
    """
    if kept.kind is Kind.VIEW:
        raw = _unseal(kept.sealed, kept.key_day, str(kept.claim.cause), keyring)
        if raw is None:
            return None
    else:
        raw = msgspec.json.encode(kept.claim)
    return Ready(
        impression=kept.impression,
        kind=kept.kind,
        claim=kept.claim,
        reasons=kept.reasons,
        slots=kept.slots,
        versions=kept.versions,
        rung=kept.rung,
        data_set=kept.data_set,
        raw=raw,
        alias=kept.alias,
    )


def keep_body(item: Malformed, day: int, keyring: Keyring) -> KeptBody:
    """
    Return *item* sealed under the keys of *day*.

    Raises:
        LedgerUnavailable: they are not at hand.
    """
    caller = item.caller
    body = _Body(
        raw=bytes(item.raw),
        fault=item.fault,
        received_at=item.received_at,
        event_id=item.event_id,
        scopes=None if caller is None else tuple(sorted(caller.scopes)),
        agent=None if caller is None else caller.agent,
        network=None if caller is None else caller.network,
        first_received_at=None if caller is None else caller.received_at,
    )
    sealed = _seal(_ENCODER.encode(body), day, _name(item.event_id), keyring)
    return KeptBody(event_id=item.event_id, key_day=day, sealed=sealed)


def body_of(kept: KeptBody, keyring: Keyring) -> Malformed | None:
    """Return what was kept as *kept*; None if its key is destroyed. `Keyring.ensure` was awaited for `key_day`."""
    raw = _unseal(kept.sealed, kept.key_day, _name(kept.event_id), keyring)
    if raw is None:
        return None
    body = _BODY.decode(raw)
    caller = None
    if body.scopes is not None:
        caller = Caller(frozenset(body.scopes), body.agent, body.network, body.first_received_at)
    return Malformed(body.raw, body.fault, body.received_at, body.event_id, caller)


def event_ids(kept: Kept) -> list[UUID]:
    """Return the ids of the clients' events in *kept* that have one."""
    match kept:
        case KeptAppend() | KeptItems():
            return [item.claim.cause for item in kept.items]
        case KeptBody():
            return [] if kept.event_id is None else [kept.event_id]


def _name(event_id: UUID | None) -> str:
    return f"spooled {event_id or ''}"


def _seal(body: bytes, day: int, name: str, keyring: Keyring) -> bytes:
    keys = keyring.of(day) if keyring.has([day]) else None
    if keys is None:
        raise LedgerUnavailable("the key of the day is not at hand")
    return keys.seal(body, secrets.token_bytes(_NONCE_BYTES), name)


def _unseal(sealed: bytes, day: int, name: str, keyring: Keyring) -> bytes | None:
    """A day whose key was lost and made anew opens nothing that was sealed before."""
    keys = keyring.of(day)
    if keys is None:
        return None
    try:
        return keys.unseal(sealed, name)
    except InvalidTag:
        return None
