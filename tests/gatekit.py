"""A whole gate in memory, and clients' events for it."""

import asyncio
import random
from datetime import date
from importlib.resources import files
from uuid import UUID

import msgspec

from commands.activity import NoActivity
from commands.clocks import DeviceClocks
from commands.holding_memory import MemoryDayKeys, MemoryHolding
from commands.ingest import Ingest
from commands.intake import Intake
from commands.items import Caller, Status
from commands.keyring import Keyring
from commands.quarantine import Holding, sent_by
from commands.quarantine_memory import MemoryQuarantine
from commands.quarantine_replay import Quarantine
from domain.aggregates import AnswersCounted
from domain.ids import mint
from domain.impression import fold
from domain.pack import parse_pack
from domain.token import Token, TokenKey, check_token, mint_token
from domain.vocabulary import AgentClass, BillingEvent, DataSet, Format, NetworkClass, Surface
from ledger.codec import decode
from ledger.memory import MemoryStore
from ledger.store import READ_MAX

NOW = 1_790_000_000_000
PACK = parse_pack((files("domain") / "packs" / "base-1.toml").read_text(), "base-1.toml")
KEYS = {"k1": TokenKey(b"s" * 32, b"p" * 32)}
EVERYTHING = frozenset({"ingest", "decide", "replay"})
PRICE = 1_500


class PlainLists:
    """Two words of a list are enough to test what a list's word does."""

    version = "plain 1"
    refreshed_at = None

    def agent(self, agent):
        if not agent:
            return AgentClass.ABSENT
        return AgentClass.DECLARED_BOT if "bot" in agent.lower() else AgentClass.BROWSER

    def stale(self, now_ms):
        return self.refreshed_at is not None and now_ms - self.refreshed_at > 7 * 86_400_000

    def network(self, address):
        return NetworkClass.DATA_CENTRE if address == "10.0.0.1" else NetworkClass.EYEBALL


class Minter:
    """Mints ad instances as delivery does, and the events of clients about them; seeded."""

    def __init__(self, seed=0, now=NOW):
        self.random = random.Random(seed)
        self.now = now

    def uuid(self):
        return UUID(int=self.random.getrandbits(128), version=4)

    def token(self, **changes):
        fields = {
            "impression": mint(changes.pop("at", self.now - 5_000), 7, self.random.getrandbits(62)),
            "ad": "ad-1",
            "creative": "creative-1",
            "campaign": "campaign-1",
            "advertiser": "advertiser-1",
            "placement": f"placement-{self.random.getrandbits(40)}",
            "publisher": "publisher-1",
            "surface": Surface.FEED,
            "format": Format.DISPLAY,
            "region": "eu",
            "epoch": 1,
            "currency": "EUR",
            "price_micros": PRICE,
            "flight_start": 0,
            "flight_end": 1 << 46,
            "billing_event": BillingEvent.IMPRESSION,
            "viewability_pack": "mrc",
        }
        return Token(**{**fields, **changes})

    def render(self, minted=None, /, **changes):
        token = minted or self.token()
        event = {
            "event_id": str(self.uuid()),
            "token": mint_token(token, "k1", KEYS["k1"]),
            "client_at": self.now - 2_000,
            "on_screen_at": self.now - 2_000,
            "width": 300,
            "height": 250,
            "sdk": "ios/12.1",
            "user": f"user-{token.placement}",
            "device": "device-1",
            "agent": "Mozilla/5.0",
            "network": "198.51.100.7",
        }
        merged = {**event, **changes}
        return {name: value for name, value in merged.items() if value is not None}

    def view(self, token, **changes):
        measures = {"kind": "view", "visible_ratio": 0.9, "visible_ms": 1_500, "on_screen_at": None}
        return self.render(token, **{**measures, **changes})


class KitGate:
    """Intake and ingest over a store in memory (or one that is handed in)."""

    def __init__(
        self,
        store=None,
        holding_store=None,
        day_keys=None,
        recent_max=10_000,
        *,
        quarantine_store=None,
        activity=None,
        funds=None,
        spooling=None,
        ladder=None,
        countdown=None,
    ):
        self.now = NOW
        self.ladder = ladder
        self.countdown = countdown
        self.lists = PlainLists()
        self.devices = None
        self.activity = activity or NoActivity()
        self.funds = funds
        self.spooling = spooling
        self.store = store or MemoryStore()
        self.day_keys = day_keys or MemoryDayKeys()
        self.holding_store = holding_store or MemoryHolding(self.store)
        self.quarantine_store = quarantine_store or MemoryQuarantine(self.holding_store)
        self.restart(recent_max)

    def restart(self, recent_max=10_000, name="eu-kit"):
        """Forget everything that only memory knows."""
        keyring = Keyring(self.day_keys, b"r" * 32)
        self.clocks = DeviceClocks(10_000)
        holding = Holding(self.holding_store, keyring, ttl_ms=3_600_000, clock=lambda: self.now)
        self.intake = Intake(
            pack=PACK,
            region="eu",
            token_keys=KEYS,
            keyring=keyring,
            lists=self.lists,
            clocks=self.clocks,
            store=self.store,
            clock=lambda: self.now,
            devices=self.devices,
        )
        self.ingest = Ingest(
            store=self.store,
            pack=PACK,
            activity=self.activity,
            funds=self.funds,
            holding=holding,
            recent_max=recent_max,
            name=name,
            clock=lambda: self.now,
            spooling=self.spooling,
            ladder=self.ladder,
            countdown=self.countdown,
        )
        self.keyring = keyring
        self.holding = holding
        self.quarantine = Quarantine(
            store=self.quarantine_store,
            ledger=self.store,
            keyring=keyring,
            intake=self.intake,
            submit=self.ingest.decide_batch,
            clock=lambda: self.now,
        )

    def token_of(self, event):
        return check_token(event["token"], KEYS)

    async def open(self, first, last):
        await self.store.prepare_days(first, last, DataSet.LIVE)

    async def send(self, *events, scopes=EVERYTHING):
        raws = [event if isinstance(event, bytes) else msgspec.json.encode(event) for event in events]
        caller = Caller(scopes, "Mozilla/5.0", "::1")
        return await self.ingest.decide_batch(sent_by(caller, await self.intake.prepare(raws, caller)))

    async def quarantined(self, event, **kept):
        """Send *event*, which cannot be read; return its entry's name."""
        before = set(self.holding_store.entries)
        [answer] = await self.send(event, **kept)
        assert answer.status is Status.QUARANTINED
        [name] = set(self.holding_store.entries) - before
        return name

    async def state(self, impression):
        commits = (await self.store.read_streams([impression], READ_MAX)).get(impression, [])
        return fold(event for commit in commits for event in decode(commit.data))

    async def events(self, impression):
        commits = (await self.store.read_streams([impression], READ_MAX)).get(impression, [])
        return [event for commit in commits for event in decode(commit.data)]


def run_gate(test, store=None):
    """Run *test* on a gate over *store*, with days before and after the kit's, and clients' events for it."""

    async def main():
        gate = KitGate(store)
        await gate.open(date(2026, 9, 10), date(2026, 9, 24))
        await test(gate, Minter())

    asyncio.run(main())


async def counted(gate):
    """Return how many answers of each reason were refused, and how many views moved nothing, as the ledger has it."""
    refused, unmoved = {}, 0
    for commit in await gate.store.read_all(0, 10_000):
        for event in decode(commit.data):
            if isinstance(event, AnswersCounted):
                unmoved += event.unmoved
                for reason, n in event.refused.items():
                    refused[reason] = refused.get(reason, 0) + n
    return refused, unmoved
