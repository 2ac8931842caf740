"""
Sealed boxes: anybody may seal with a cell's public key, only that cell can open.

A box is `version (1) | key id (8) | ephemeral public key (32) | nonce (12) | ciphertext and tag`: X25519 with an
ephemeral key (RFC 7748), HKDF-SHA256 (RFC 5869) over the shared secret, bound to both public keys, ChaCha20-Poly1305
(RFC 8439). One ephemeral key may seal a batch; its nonces count up from 0.
"""

from collections.abc import Mapping
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
_VERSION = b"\x01"
_ID_BYTES, _NONCE_BYTES, _TAG_BYTES = 8, 12, 16
_KEY_AT = 1 + _ID_BYTES
_NONCE_AT = _KEY_AT + KEY_BYTES
_SEALED_AT = _NONCE_AT + _NONCE_BYTES
OVERHEAD_BYTES = _SEALED_AT + _TAG_BYTES
_PURPOSE = b"impledger sealed box 1"


class Unopenable(Exception):
    """The box cannot be opened: of another version, for another key, or not as it was sealed. Says which."""


class BoxKey:
    """The private key of a cell, 32 bytes."""

    def __init__(self, private: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()

    def shared(self, other: bytes) -> bytes:
        """Return the key shared with the owner of the public key *other*; raises `ValueError` for a useless one."""
        return self._private.exchange(X25519PublicKey.from_public_bytes(other))


class Sealer:
    """Seals a batch for the owner of *public*. *ephemeral* is 32 random bytes, never used again."""

    def __init__(self, public: bytes, ephemeral: bytes) -> None:
        own = BoxKey(ephemeral)
        self._head = _VERSION + key_id(public) + own.public
        self._cipher = ChaCha20Poly1305(_derived(own.shared(public), own.public, public))
        self._sealed = 0

    def seal(self, content: bytes, bound: bytes) -> bytes:
        """Return *content* sealed; it opens only together with the same *bound*."""
        nonce = self._sealed.to_bytes(_NONCE_BYTES, "big")
        self._sealed += 1
        head = self._head + nonce
        return head + self._cipher.encrypt(nonce, content, head + bound)


def key_id(public: bytes) -> bytes:
    """Return the name of a public key that stands in every box for it."""
    return blake2b(public, digest_size=_ID_BYTES).digest()


def keys_by_id(privates: list[bytes]) -> Mapping[bytes, BoxKey]:
    """Return private keys by the name of their public ones."""
    keys = [BoxKey(private) for private in privates]
    return {key_id(key.public): key for key in keys}


def open_box(box: bytes, keys: Mapping[bytes, BoxKey], bound: bytes) -> bytes:
    """
    Return what was sealed with *bound* for one of *keys*.

    Raises:
        Unopenable: it was not, or has been changed since.
    """
    if len(box) < OVERHEAD_BYTES or box[:1] != _VERSION:
        raise Unopenable("it is no box of a version that this program knows")
    key = keys.get(box[1:_KEY_AT])
    if key is None:
        raise Unopenable("it is sealed for a key that this cell does not have")
    head, ephemeral = box[:_SEALED_AT], box[_KEY_AT:_NONCE_AT]
    try:
        cipher = ChaCha20Poly1305(_derived(key.shared(ephemeral), ephemeral, key.public))
        return cipher.decrypt(box[_NONCE_AT:_SEALED_AT], box[_SEALED_AT:], head + bound)
    except (InvalidTag, ValueError) as error:
        raise Unopenable("it is damaged, or belongs to another event") from error


def _derived(shared: bytes, ephemeral: bytes, public: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=_PURPOSE + ephemeral + public).derive(shared)
