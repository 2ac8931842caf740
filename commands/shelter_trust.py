"""Whose word counts for sheltering: public keys of cells and operators, and the check of everything they sign."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from domain.cells import CellMap
from domain.shelter import AHEAD_MAX_MS, Ground, Order, Signed, Testimony, flaw_of_order

DOCUMENT_MAX_BYTES = 65_536
_ORDER, _TESTIMONY = b"impledger shelter order 1\0", b"impledger shelter testimony 1\0"
_ENCODER = msgspec.json.Encoder()
_T = TypeVar("_T", Order, Testimony)


class OrderRefused(Exception):
    """An order is none: not signed by anybody who may, over, for other cells, or without grounds. Says which."""


class TrustedCell(Struct, frozen=True, kw_only=True):
    """
    Public keys of a cell: `verify` (Ed25519) checks what it signs, `seal` (X25519) seals what is for it.

    `tokens` are fingerprints of its token keys by key id.
    """

    verify: bytes
    seal: bytes
    tokens: dict[str, str] = {}


class Trust(Struct, frozen=True, kw_only=True):
    """Cells by the names of the cell map, and operators' public keys (Ed25519)."""

    cells: Mapping[str, TrustedCell] = {}
    operators: Mapping[str, bytes] = {}


class Signer:
    """Signs in the name of a cell or an operator; *private* is an Ed25519 key of 32 bytes."""

    def __init__(self, name: str, private: bytes) -> None:
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, document: Order | Testimony) -> Signed:
        payload = _ENCODER.encode(document)
        context = _ORDER if isinstance(document, Order) else _TESTIMONY
        return Signed(self.name, payload, self._key.sign(context + payload))


def check_testimony(signed: Signed, trust: Trust) -> Testimony:
    """
    Return what a trusted cell says in *signed*.

    Raises:
        OrderRefused: it does not say so itself.
    """
    cell = trust.cells.get(signed.by)
    if cell is None:
        raise OrderRefused(f"the testimony is of {signed.by[:64]!r}, whose key is not trusted")
    said = _opened(signed, cell.verify, _TESTIMONY, Testimony)
    if said.cell != signed.by:
        raise OrderRefused(f"{signed.by!r} testifies in another's name")
    return said


def check_order(signed: Signed, trust: Trust, cells: CellMap) -> Order:
    """
    Return the order in *signed*; whether it is in force by now is the caller's to ask.

    Raises:
        OrderRefused: nobody who may has signed it, it is longer than its ground allows, or it lacks the grounds.
    """
    of_cell = trust.cells.get(signed.by)
    key = trust.operators.get(signed.by) if of_cell is None else of_cell.verify
    if key is None:
        raise OrderRefused(f"it is signed by {signed.by[:64]!r}, whose key is not trusted")
    order = _opened(signed, key, _ORDER, Order)
    if order.issuer != signed.by:
        raise OrderRefused("it is issued in another's name")
    if order.ground is (Ground.PROBES if of_cell is None else Ground.OPERATOR):
        raise OrderRefused("cells order by probes, operators on their own; not the other way round")
    at_home = [cell.name for cell in cells.cells.values() if cell.region == order.region]
    if not at_home:
        raise OrderRefused(f"the cell map has no cell of region {order.region!r}")
    if unknown := [name for name in order.cells if name not in cells.cells]:
        raise OrderRefused(f"the cell map does not know {unknown[0][:64]!r}")
    testimonies = [check_testimony(one, trust) for one in order.testimonies]
    if (flaw := flaw_of_order(order, testimonies, at_home)) is not None:
        raise OrderRefused(flaw)
    return order


def check_current(order: Order, now: int) -> None:
    """Raise `OrderRefused` if *order* is over at *now*, or was issued in the future."""
    if order.valid_until <= now:
        raise OrderRefused("it is over")
    if order.issued_at > now + AHEAD_MAX_MS:
        raise OrderRefused("it was issued in the future; compare the clocks")


def _opened(signed: Signed, key: bytes, context: bytes, kind: type[_T]) -> _T:
    if len(signed.payload) > DOCUMENT_MAX_BYTES:
        raise OrderRefused(f"it has more than {DOCUMENT_MAX_BYTES} bytes")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signed.signature, context + signed.payload)
        return msgspec.json.decode(signed.payload, type=kind)
    except InvalidSignature:
        raise OrderRefused(f"the signature is not that of {signed.by!r}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OrderRefused("it is signed, and cannot be read; is it of a newer program?") from error
