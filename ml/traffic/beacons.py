"""
Pixel beacons out of an access log, as a pixel server would have seen them: one ad instance per image that was served.

All of a beacon follows from the log's lines up to its own, so a second replay sends the very same events, and one of a
log that has grown sends those of the lines that came since besides.
"""

from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID, uuid5

from domain.ids import mint, shard_of_person
from domain.token import Token, mint_token
from domain.vocabulary import BillingEvent, Format, Surface
from ml.traffic.access_log import Request, referrer_parts
from ml.traffic.events import Claims
from ml.traffic.shot import Minter

PRICE_MICROS = 2_000
CURRENCY = "EUR"
SDK = "access-log"
_NAME_BYTES_MAX = 160
"""Paths can be longer than a token may be; what is cut ends in a digest, so that names stay distinct."""
_AGENT_CHARS_MAX = 1_024
_NETWORK_CHARS_MAX = 128


class Beacons:
    """
    Makes beacons of a log of *site*.

    Slot is the page that referred, creative the image, campaign the section of *site* that the image lies in. Whoever
    has the same address and agent is one person.
    """

    def __init__(self, minter: Minter, site: str) -> None:
        self._minter = minter
        self._site = site

    def beacon(self, request: Request, digest: bytes) -> Claims:
        """Return the beacon of a line with *digest*, the SHA-256 of all lines up to it."""
        person = f"{request.host} {request.agent or ''}"
        entropy = int.from_bytes(digest[:8])
        impression = mint(request.at, shard_of_person(person, self._minter.shard_key), entropy)
        return Claims(
            event_id=uuid5(UUID(bytes=digest[:16]), self._site),
            token=mint_token(self._token(request, impression), self._minter.key_id, self._minter.key),
            sdk=SDK,
            agent=request.agent and request.agent[:_AGENT_CHARS_MAX],
            network=request.host if len(request.host) <= _NETWORK_CHARS_MAX else None,
            received_at=request.at,
        )

    def _token(self, request: Request, impression: UUID) -> Token:
        host, page = referrer_parts(request.referrer)
        path = request.path
        section = path.strip("/").split("/")[0] if path.strip("/").count("/") else "root"
        year = datetime.fromtimestamp(request.at / 1_000, UTC).year
        return Token(
            impression=impression,
            ad=_name(path),
            creative=_name(path),
            campaign=_name(f"{self._site}/{section}"),
            advertiser=_name(self._site),
            placement=_name(f"{host}{page}" if host else "direct"),
            publisher=_name(host or self._site),
            surface=Surface.PIXEL,
            format=Format.DISPLAY,
            region=self._minter.region,
            epoch=self._minter.epoch,
            currency=CURRENCY,
            price_micros=PRICE_MICROS,
            flight_start=_new_year(year),
            flight_end=_new_year(year + 1) - 1,
            billing_event=BillingEvent.IMPRESSION,
            viewability_pack="mrc",
        )


def _new_year(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1_000


def _name(text: str) -> str:
    data = text.encode()
    if len(data) <= _NAME_BYTES_MAX:
        return text
    return f"{data[: _NAME_BYTES_MAX - 17].decode(errors='ignore')}~{sha256(data).hexdigest()[:16]}"
