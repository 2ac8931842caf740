"""Regions in memory: gates of cells with shelters, clients, and wires between the cells with faults of a test."""

import asyncio
import random
from collections import Counter
from datetime import date
from uuid import UUID

import msgspec
from cellkit import CellGate, address
from gatekit import EVERYTHING, KEYS, NOW, Minter

from commands.items import Caller
from commands.quarantine import sent_by
from commands.sealed_box import BoxKey, keys_by_id
from commands.shelter import Shelter
from commands.shelter_arrivals import Arrivals
from commands.shelter_forward import Forwarder, NotTaken
from commands.shelter_memory import MemoryShelter
from commands.shelter_orders import OrderBook
from commands.shelter_store import Room
from commands.shelter_trust import Signer, Trust, TrustedCell
from domain.cells import Cell, CellMap, Epoch
from domain.ids import SHARDS
from domain.shelter import Ground, Order
from service.sheltered_requests import merged, others

HOUR = 3_600_000
TTL = 24 * HOUR
NAMES = ("eu-1", "us-1", "ap-1", "sa-1")
FINGERPRINTS = {"k1": "that of the test's key"}


def regions(*names, epochs=1):
    """A map of one cell in each region of *names*, such as eu-1; so many *epochs* say the same."""
    cells = {name: Cell(name, name[:2], address(name)) for name in names}
    return CellMap(
        cells,
        {
            name[:2]: [Epoch(name[:2], number, number - 1, (name,) * SHARDS) for number in range(1, epochs + 1)]
            for name in names
        },
    )


def seed_of(name, purpose):
    return random.Random(f"{name} {purpose}").randbytes(32)


def signer(name):
    return Signer(name, seed_of(name, "signs"))


def trust(*names, tokens=None):
    """Trust in the cells *names* and the operator ops; *tokens* are the fingerprints that all cells publish."""
    return Trust(
        cells={
            name: TrustedCell(
                verify=signer(name).public, seal=BoxKey(seed_of(name, "opens")).public, tokens=tokens or {}
            )
            for name in names
        },
        operators={"ops": signer("ops").public},
    )


def an_order(region="eu", **changes):
    fields = {
        "order_id": UUID(int=1),
        "region": region,
        "cells": ("us-1",),
        "ground": Ground.OPERATOR,
        "issuer": "ops",
        "issued_at": NOW,
        "valid_from": NOW,
        "valid_until": NOW + HOUR,
    }
    return Order(**{**fields, **changes})


class ShelterGate(CellGate):
    """A gate that can shelter, and takes what others have sheltered for it. Intake and lists know its own region."""

    def __init__(self, cells, name, *, whom=None, shelter_store=None, room=None, **kept):
        self.whom = whom or trust(*cells.cells)
        self.shelter_store = shelter_store or MemoryShelter()
        self.room = room or Room(10_000, 1 << 30)
        super().__init__(cells, name, **kept)

    def restart(self, recent_max=10_000, name="eu-kit"):
        super().restart(recent_max, name)
        cell = self.homes.cell
        self.intake = msgspec.structs.replace(self.intake, region=cell.region)
        self.book = OrderBook(self.homes, self.whom, self.shelter_store)
        self.shelter = Shelter(
            homes=self.homes,
            book=self.book,
            trust=self.whom,
            store=self.shelter_store,
            token_keys=KEYS,
            fingerprints=FINGERPRINTS,
            room=self.room,
            ttl_ms=TTL,
            clock=lambda: self.now,
        )
        self.arrivals = Arrivals(
            name=cell.name,
            keys=keys_by_id([seed_of(cell.name, "opens")]),
            intake=self.intake,
            ledger=self.store,
            store=self.shelter_store,
            submit=self.ingest.decide_batch,
            clock=lambda: self.now,
        )

    async def ordered(self, order=None):
        """Go by *order* of the operator, or by the usual one."""
        return await self.book.take(signer("ops").sign(order or an_order()), self.now)

    async def send(self, *events, scopes=EVERYTHING, caller=None):
        raws = [event if isinstance(event, bytes) else msgspec.json.encode(event) for event in events]
        caller = caller or Caller(scopes, "Mozilla/5.0", "::1")
        kept = await self.shelter.take(raws, caller)
        items = sent_by(caller, await self.intake.prepare(others(raws, kept), caller))
        return merged(kept, await self.ingest.decide_batch(items))


class Wires:
    """Carries envelopes between the gates of one process. `down` are cells that do not answer."""

    def __init__(self, gates):
        self.gates = gates
        self.down = set()
        self.faults = []
        """One per exchange: `lost` (nothing arrives), `answer lost` (it was taken), `wrong page`, or None."""
        self.pages = []
        self.posts = Counter()

    async def is_ready(self, home):
        return home not in self.down

    async def forward(self, home, envelopes):
        self.posts[home] += 1
        self.pages.append([envelope.event_id for envelope in envelopes])
        fault = self.faults.pop(0) if self.faults else None
        if home in self.down or fault == "lost":
            raise NotTaken("lost on the way")
        if fault == "wrong page":
            raise NotTaken("422", is_of_page=True)
        receipts = await self.gates[home].arrivals.take(envelopes)
        if fault == "answer lost":
            raise NotTaken("the answer was lost")
        return receipts


class Pair:
    """eu-1, the home, and us-1, which shelters it, with clients of the home's region."""

    def __init__(self, seed=0, names=("eu-1", "us-1"), **kept):
        self.cells = regions(*names)
        self.whom = trust(*names)
        self.gates = {name: ShelterGate(self.cells, name, whom=self.whom) for name in names}
        self.home, self.away = self.gates["eu-1"], self.gates["us-1"]
        for name, value in kept.items():
            setattr(self.away, name, value)
        self.away.restart()
        self.wires = Wires(self.gates)
        self.clients = Minter(seed)
        self.forwarder = Forwarder(self.away.shelter_store, self.wires, lambda: self.away.now)

    async def open(self):
        for gate in self.gates.values():
            await gate.open(date(2026, 9, 20), date(2026, 9, 22))

    def at(self, now):
        for gate in self.gates.values():
            gate.now = now


def run(test, **kept):
    async def main():
        pair = Pair(**kept)
        await pair.open()
        await test(pair)

    asyncio.run(main())


def region_token(pair, region):
    return pair.clients.token(region=region)
