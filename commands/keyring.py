"""
Random keys per UTC day of `served_at`: pseudonyms and digests are keyed hashes under them.

They are stored wrapped by the root key and destroyed for everyone eight days later; from then on no pseudonym can be
computed from a person, and no event needs an edit.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from ledger.store import LedgerUnavailable

DAY_MS = 86_400_000
LIFE_DAYS = 8
"""More than the age at which a token expires."""
KEY_BYTES = 32
_DIGEST_BYTES = 12
_NONCE_BYTES = 12
PERSON_KINDS = (b"user", b"device", b"network", b"session")


class DayKeyStore(Protocol):
    """Where wrapped day keys lie. `day` counts UTC days since 1970; times are epoch ms."""

    async def load_or_keep(self, day: int, wrapped: bytes, destroy_at: int) -> tuple[bytes, int] | None:
        """
        Keep *wrapped* as the key of *day* unless it has one.

        Return the one it has and when that is to be destroyed, None if it is.
        """

    async def destroy_due(self, now: int) -> int:
        """Destroy all keys that are due; return how many."""


class DayKeys:
    """The keys of one day: what they make cannot be linked to another day's."""

    __slots__ = ("_box", "_digest", "_person")

    def __init__(self, key: bytes) -> None:
        person = _derive(key, b"person")
        self._person = {kind: blake2b(key=person, digest_size=_DIGEST_BYTES, person=kind) for kind in PERSON_KINDS}
        self._digest = blake2b(key=_derive(key, b"digest"), digest_size=_DIGEST_BYTES)
        self._box = _derive(key, b"box")

    def pseudonym(self, value: str | None, kind: bytes) -> str:
        """Return the pseudonym of *value*, empty for none; *kind*, of `PERSON_KINDS`, keeps users and devices apart."""
        return _named(self._person[kind], value)

    def pseudonyms(self, *values: str | None) -> tuple[str, ...]:
        """Return the pseudonyms of *values*, one of each kind in the order of `PERSON_KINDS`; empty for none."""
        return tuple([_named(kind, value) for kind, value in zip(self._person.values(), values, strict=True)])

    def digest(self, content: bytes) -> str:
        """Return the digest by which a retry of *content* is recognised."""
        keyed = self._digest.copy()
        keyed.update(content)
        return keyed.hexdigest()

    def seal(self, body: bytes, nonce: bytes, name: str) -> bytes:
        """Return *body* encrypted (AES-256-GCM), bound to *name*; *nonce* is random, 12 bytes, and used once."""
        return nonce + AESGCM(self._box).encrypt(nonce, body, name.encode())

    def unseal(self, sealed: bytes, name: str) -> bytes:
        """Return what `seal` sealed under *name*; raises `cryptography.exceptions.InvalidTag` on anything else."""
        return AESGCM(self._box).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())


class Keyring:
    """The day keys that this process has at hand. A day once met stays so: with its keys, then known as destroyed."""

    def __init__(self, store: DayKeyStore, root: bytes) -> None:
        self._store = store
        self._root = root
        self._keys: dict[int, DayKeys | None] = {}
        self._destroy_at: dict[int, int] = {}
        self._fetching: dict[int, asyncio.Task[None]] = {}

    def has(self, days: Iterable[int]) -> bool:
        return all(day in self._keys for day in days)

    def of(self, day: int) -> DayKeys | None:
        """Return the keys of *day*, None if they are destroyed; `ensure` must have been awaited for it."""
        return self._keys[day]

    async def ensure(self, days: Sequence[int], now: int, fresh: bytes) -> None:
        """
        Load the keys of *days*; *fresh* is 32 random bytes from which a day that has none gets its own.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        for day in sorted(set(days) - self._keys.keys()):
            candidate = blake2b(day.to_bytes(8, "big", signed=True), key=fresh, digest_size=KEY_BYTES).digest()
            destroy_at = max(day * DAY_MS, now) + (LIFE_DAYS + 1) * DAY_MS
            found = await self._store.load_or_keep(day, aes_key_wrap(self._root, candidate), destroy_at)
            if found is None:
                self._keys[day] = None
                continue
            wrapped, self._destroy_at[day] = found
            self._keys[day] = DayKeys(aes_key_unwrap(self._root, wrapped))

    async def ensure_within(self, days: Sequence[int], now: int, fresh: bytes, within_s: float) -> bool:
        """
        As `ensure`, but wait no longer than *within_s* seconds; tell whether all keys are at hand.

        What is not there by then goes on being fetched, for whoever asks next.
        """
        for day in set(days) - self._keys.keys():
            fetching = self._fetching.get(day)
            if fetching is None or fetching.done():
                self._fetching[day] = asyncio.ensure_future(self.ensure([day], now, fresh))
        tasks = [self._fetching[day] for day in days if day not in self._keys]
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)
        for day, task in list(self._fetching.items()):
            if task.done():
                del self._fetching[day]
                with suppress(LedgerUnavailable):
                    task.result()
        return self.has(days)

    async def destroy_due(self, now: int) -> int:
        """
        Destroy all keys that are due; return how many there were in the store.

        Raises:
            LedgerUnavailable: the store did not answer; here they are gone all the same.
        """
        # Not by what the store says: another process may have been first there, or its answer may get lost.
        for day in [day for day, destroy_at in self._destroy_at.items() if destroy_at <= now]:
            del self._destroy_at[day]
            self._keys[day] = None
        return await self._store.destroy_due(now)


def _named(kind: blake2b, value: str | None) -> str:
    if not value:
        return ""
    keyed = kind.copy()
    keyed.update(value.encode())
    return keyed.hexdigest()


def _derive(key: bytes, purpose: bytes) -> bytes:
    return blake2b(b"", key=key, digest_size=KEY_BYTES, person=purpose).digest()
