"""
The token that delivery signs when it mints an ad instance, and the client returns with every event.

`v1.<key id>.<payload>.<mac>`: the payload is a JSON array in URL-safe base64, the mac HMAC-SHA256 over all before it.
The price is not readable by the client: it is XORed with a pad that is a keyed hash of the impression id, the scheme
of the ad exchanges' price confirmations: the id is used once, and so the pad is.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Mapping
from hashlib import blake2b, sha256

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from domain.ids import TIME_MAX_MS, ImpressionId, is_impression_id, minted_at
from domain.vocabulary import BillingEvent, Format, Surface

_VERSION = "v1"
_PARTS = 4
_PRICE_BYTES = 8
PRICE_MAX_MICROS = 10**12
"""A million units of the currency; many millions of ads at this price can be summed up in 64 bits."""
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_BLOCK_BYTES = 64
_BACKSLASH = ord("\\")
_CONTROL = re.compile(rb"(?<!\\)(?:\\\\)*\\(?:u00[01]|[bfnrt])")
"""A control character, which JSON has as an escape alone. Databases take no U+0000, and a name is shown on one line."""
_INNER, _OUTER = (bytes(byte ^ mask for byte in range(256)) for mask in (0x36, 0x5C))


class Token(Struct, frozen=True, array_like=True, gc=False):
    """What delivery says about one ad instance. Money in micros of `currency`; times are epoch ms."""

    impression: ImpressionId
    ad: str
    creative: str
    campaign: str
    advertiser: str
    placement: str
    publisher: str
    surface: Surface
    format: Format
    region: str
    epoch: int
    currency: str
    price_micros: int
    flight_start: int
    flight_end: int
    billing_event: BillingEvent
    viewability_pack: str


class TokenKey:
    """One key of the ring: signs tokens and hides prices. Both are hashed once, not per token (RFC 2104, 4)."""

    __slots__ = ("_inner", "_outer", "_price")

    def __init__(self, signing: bytes, price: bytes) -> None:
        block = (sha256(signing).digest() if len(signing) > _BLOCK_BYTES else signing).ljust(_BLOCK_BYTES, b"\0")
        self._inner = sha256(block.translate(_INNER))
        self._outer = sha256(block.translate(_OUTER))
        self._price = blake2b(key=price, digest_size=_PRICE_BYTES)

    def mac(self, signed: bytes) -> str:
        """Return the HMAC-SHA256 of *signed* in hex."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(signed)
        outer.update(inner.digest())
        return outer.hexdigest()

    def pad(self, impression: ImpressionId) -> int:
        """Return what the price of *impression* is XORed with."""
        pad = self._price.copy()
        pad.update(impression.bytes)
        return int.from_bytes(pad.digest(), "big") >> 1


class TokenInvalid(ValueError):
    """The token was not minted by delivery, or is not readable. Says nothing that helps to forge one."""


_DECODER = msgspec.json.Decoder(Token)
_ENCODER = msgspec.json.Encoder()


def mint_token(token: Token, key_id: str, key: TokenKey) -> str:
    """
    Return *token* signed with *key*, its price hidden.

    Raises:
        TokenInvalid: a name has a control character, or the price is out of range.
    """
    _check_price(token)
    hidden = msgspec.structs.replace(token, price_micros=token.price_micros ^ key.pad(token.impression))
    packed = _ENCODER.encode(hidden)
    _check_names(packed)
    payload = urlsafe_b64encode(packed).rstrip(b"=").decode()
    signed = f"{_VERSION}.{key_id}.{payload}"
    return f"{signed}.{key.mac(signed.encode())}"


def check_token(text: str, keys: Mapping[str, TokenKey]) -> Token:
    """
    Return the token in *text*.

    Raises:
        TokenInvalid: malformed, signed with an unknown key, not signed with it, or its price is out of range.
    """
    parts = text.split(".")
    if len(parts) != _PARTS or not text.isascii():
        raise TokenInvalid("the token has not the form of one")
    version, key_id, payload, mac = parts
    key = keys.get(key_id)
    if version != _VERSION or key is None:
        raise TokenInvalid("the token has an unknown version or key id")
    if not hmac.compare_digest(key.mac(text[: -len(mac) - 1].encode()), mac):
        raise TokenInvalid("the token is not signed by its key")
    token = _unpacked(payload)
    force_setattr(token, "price_micros", token.price_micros ^ key.pad(token.impression))
    _check_price(token)
    return token


def read_token(text: str) -> Token:
    """
    Return what *text* says without checking who signed it, for routing alone; its price stays hidden.

    Raises:
        TokenInvalid: it is not readable.
    """
    parts = text.split(".")
    if len(parts) != _PARTS or parts[0] != _VERSION or not text.isascii():
        raise TokenInvalid("the token has an unknown version, or not the form of one")
    return _unpacked(parts[2])


def _unpacked(payload: str) -> Token:
    """Return the token in *payload*, URL-safe base64 without padding; of what is put there, too much is ignored."""
    try:
        packed = a2b_base64(payload.encode().translate(_URL_SAFE) + b"==")
        token = _DECODER.decode(packed)
    except (msgspec.DecodeError, UnicodeDecodeError, Base64Error) as error:
        raise TokenInvalid("the token's payload is not readable") from error
    if not is_impression_id(token.impression) or minted_at(token.impression) > TIME_MAX_MS:
        raise TokenInvalid("the token's impression id is not a UUIDv7, or of no day that there is")
    _check_names(packed)
    return token


def _check_names(packed: bytes) -> None:
    if _BACKSLASH in packed and _CONTROL.search(packed):
        raise TokenInvalid("a name in the token has a control character")


def _check_price(token: Token) -> None:
    if not 0 <= token.price_micros <= PRICE_MAX_MICROS:
        raise TokenInvalid("the token's price is out of range")
