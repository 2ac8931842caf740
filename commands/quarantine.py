"""Renders that cannot be read, and views that came too early: kept encrypted, with a time to live."""

import secrets
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from commands.items import Malformed, Ready
from commands.keyring import DAY_MS, KEY_BYTES, Keyring
from domain.ids import ImpressionId, minted_at

_NONCE_BYTES = 12


class QuarantinedBody(Struct, frozen=True, kw_only=True):
    """In clear stand only error code, path and size; times are epoch ms, `key_day` counts UTC days since 1970."""

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


class ParkedView(Struct, frozen=True, kw_only=True):
    """A view whose render has not arrived, sealed under the keys of its impression's day."""

    event_id: UUID
    impression: ImpressionId
    digest: str
    received_at: int
    sealed: bytes


class HoldingStore(Protocol):
    """Where both lie. Keeping the same again changes nothing."""

    async def quarantine(self, bodies: Sequence[QuarantinedBody]) -> None: ...

    async def park(self, views: Sequence[ParkedView]) -> set[UUID]:
        """Keep *views*; return the ids that are kept already with another digest."""

    async def due_views(self, limit: int) -> list[ParkedView]:
        """Return parked views whose impression has a stream by now."""

    async def unpark(self, event_ids: Sequence[UUID]) -> None: ...

    async def count(self) -> tuple[int, int]:
        """Return how many quarantined bodies and parked views there are."""

    async def drop_expired(self, now: int, parked_before: int) -> int:
        """Delete quarantined bodies that expired by *now* and views parked before *parked_before*; say how many."""


class Holding:
    """Seals what must be kept for a while and hands it to the store."""

    def __init__(self, store: HoldingStore, keyring: Keyring, ttl_ms: int) -> None:
        self._store = store
        self._keyring = keyring
        self._ttl_ms = ttl_ms

    async def quarantine(self, items: Sequence[Malformed]) -> None:
        """
        Keep what cannot be read; returns when it is durable.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        days = [item.received_at // DAY_MS for item in items]
        await self._keyring.ensure(days, max(item.received_at for item in items), secrets.token_bytes(KEY_BYTES))
        await self._store.quarantine([self._seal(item) for item in items])

    async def park(self, items: Sequence[Ready]) -> set[UUID]:
        """
        Keep views until their render arrives; return, when they are durable, the ids kept with another content.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        return await self._store.park([self._parked(item) for item in items])

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

    def _seal(self, item: Malformed) -> QuarantinedBody:
        day = item.received_at // DAY_MS
        keys = self._keyring.of(day)
        assert keys is not None, "the keys of the day on which something is received are not destroyed yet"
        raw = bytes(item.raw)
        # The name follows from the event, so that a retry is kept once.
        name = blake2b(str(item.event_id or keys.digest(raw)).encode(), digest_size=16).hexdigest()
        return QuarantinedBody(
            name=name,
            event_id=item.event_id,
            code=item.fault.code,
            detail=item.fault.detail,
            path=item.fault.path,
            size=len(raw),
            received_at=item.received_at,
            expires_at=item.received_at + self._ttl_ms,
            key_day=day,
            sealed=keys.seal(raw, secrets.token_bytes(_NONCE_BYTES), name),
        )

    def _parked(self, item: Ready) -> ParkedView:
        keys = self._keyring.of(_day(item.impression))
        assert keys is not None, "the render was screened with them"
        event_id = item.claim.cause
        return ParkedView(
            event_id=event_id,
            impression=item.impression,
            digest=item.claim.digest,
            received_at=item.claim.received_at,
            sealed=keys.seal(bytes(item.raw), secrets.token_bytes(_NONCE_BYTES), str(event_id)),
        )


def _day(impression: ImpressionId) -> int:
    return minted_at(impression) // DAY_MS
