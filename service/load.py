"""Renders ready to send, made before anything is measured: distinct people, ads and ids; all count."""

import random
from collections.abc import Sequence
from uuid import UUID

import msgspec

from domain.ids import mint, shard_of_person
from domain.token import Token, mint_token
from domain.vocabulary import BillingEvent, Format, Surface
from service.clock import now_ms
from service.keyfiles import Keys

_AGENTS = tuple(
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_{minor} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    f"Version/17.{minor} Mobile/15E148 Safari/604.1"
    for minor in range(8)
)
_FLIGHT_MS = 86_400_000


def bodies(dice: random.Random, keys: Keys, region: str, *, renders: int, batch: int) -> Sequence[bytes]:
    """Return request bodies of *batch* renders each, *renders* in all, served a moment ago."""
    now = now_ms()
    key = keys.token_keys()[keys.mint_with]
    events = [_event(dice, keys, region, now) for _ in range(renders)]
    tokens = [mint_token(token, keys.mint_with, key) for token, _ in events]
    ready = [{**event, "token": text} for (_, event), text in zip(events, tokens, strict=True)]
    return [msgspec.json.encode(ready[at : at + batch]) for at in range(0, renders, batch)]


def _event(dice: random.Random, keys: Keys, region: str, now: int) -> tuple[Token, dict[str, object]]:
    person = f"user-{dice.getrandbits(28):x}"
    served_at = now - dice.randint(1_000, 4_000)
    token = Token(
        impression=mint(served_at, shard_of_person(person, keys.shard), dice.getrandbits(62)),
        ad=f"ad-{dice.randrange(10_000)}",
        creative=f"creative-{dice.randrange(3_000)}",
        campaign=f"campaign-{dice.randrange(200)}",
        advertiser=f"advertiser-{dice.randrange(50)}",
        placement=f"placement-{dice.randrange(5_000)}",
        publisher=f"publisher-{dice.randrange(500)}",
        surface=Surface.FEED,
        format=Format.DISPLAY,
        region=region,
        epoch=1,
        currency="EUR",
        price_micros=dice.randint(800, 9_000),
        flight_start=now - _FLIGHT_MS,
        flight_end=now + _FLIGHT_MS,
        billing_event=BillingEvent.IMPRESSION,
        viewability_pack="mrc",
    )
    return token, {
        "event_id": str(UUID(int=dice.getrandbits(128), version=4)),
        "client_at": served_at + 400,
        "on_screen_at": served_at + 400,
        "sent_at": served_at + 900,
        "width": 300,
        "height": 250,
        "visible_ratio": 1.0,
        "visible_ms": 300,
        "sdk": f"ios/12.{dice.randrange(4)}",
        "sdk_seq": dice.randrange(10_000),
        "session": f"{dice.getrandbits(40):x}",
        "user": person,
        "device": f"device-{dice.getrandbits(28):x}",
        "country": "DE",
        "agent": dice.choice(_AGENTS),
        "network": f"93.{dice.randrange(200, 250)}.{dice.randrange(256)}.{dice.randrange(256)}",
    }
