"""What is served beside what renders, for tests: a gate in memory, a desk on embedded ClickHouse."""

import asyncio
from datetime import date
from hashlib import sha256

import httpx
from deskkit import Clock, an_engine
from gatekit import KitGate, Minter
from prometheus_client import CollectorRegistry
from serveskit import a_count, a_report, serves_over, told

from domain.serves import MINUTE_MS, ServeTtl
from domain.vocabulary import Surface
from projections.cells import CellQueries
from projections.checkpoints import MemoryCheckpoints
from projections.completeness import CompletenessQueries
from projections.engine import READING, WRITING, Clients
from projections.projector import Metrics, Ports, Projector
from projections.queries import Pacing, Queries
from projections.schema import migrate
from projections.tables import Tables
from projections.verify import verify
from service.access import Access
from service.desk_http import Desk, desk_app
from service.monitoring import Watch
from service.monitors_clients import ClientInspection
from service.monitors_http import monitor_routes
from service.served_http import served_routes

PRICE = 1_500
ACCESS = Access({sha256(b"reporter").hexdigest(): ["report"], sha256(b"gate").hexdigest(): ["ingest"]})
TTL = ServeTtl(600, {Surface.REELS: 1_200})


class World:
    """A gate in memory and a desk on ClickHouse. It is some seconds into a minute."""

    def __init__(self, engine, ttl=TTL):
        self.engine = engine
        self.gate = KitGate()
        self.store = self.gate.store
        self.clients = Minter()
        self.minute = self.gate.now - self.gate.now % MINUTE_MS
        self.clock = Clock(self.gate.now)
        self.serves = serves_over(self.store, clock=self.clock)
        self.sequence = 0
        self.checkpoints = MemoryCheckpoints(self.clock)
        self.writers, self.readers = Clients(engine, WRITING, 1), Clients(engine, READING, 2)
        self.client = engine.connect(WRITING)
        migrate(self.client, 1)
        leased = self.leased
        self.queries = Queries(self.checkpoints, self.readers, self.clock, ttl=ttl, leased=leased)
        self.completeness = CompletenessQueries(self.checkpoints, self.readers, self.clock, ttl)
        self.registry = CollectorRegistry()
        cells = CellQueries(self.checkpoints, self.readers, self.clock, ttl)
        clients = ClientInspection(cells, self.clock, every_s=60, window_s=3_600)
        self.watch = Watch([clients], self.registry, self.clock)
        self.leases = {}

    async def leased(self, campaign):
        return self.leases.get(campaign, {})

    async def open(self):
        await self.gate.open(date(2026, 9, 20), date(2026, 9, 23))

    def ago(self, minutes):
        """When the minute began that began so many minutes before this one."""
        return self.minute - minutes * MINUTE_MS

    async def serve(self, served, minutes_ago=0, price=PRICE, **kind):
        count = a_count(**{"sdk": "ios/12.1", **kind}, served=served, micros=served * price)
        self.sequence += 1
        report = a_report(count, minute=self.ago(minutes_ago), sequence=self.sequence)
        [answer] = await told(self.serves, report)
        assert answer.status.value == "recorded"

    async def render(self, times, minutes_ago=0, *, token=None, **render):
        """So many impressions render that were minted in that minute."""
        for _ in range(times):
            at = min(self.ago(minutes_ago) + 1_000, self.gate.now)
            minted = self.clients.token(at=at, **{"placement": f"p-{self.clients.uuid()}", **(token or {})})
            await self.gate.send(self.clients.render(minted, **{"on_screen_at": at, "client_at": at, **render}))

    async def project(self):
        ports = Ports(
            store=self.store, checkpoints=self.checkpoints, sink=Tables(self.writers, self.clock), now=self.clock
        )
        projector = Projector(ports, "one", Metrics(CollectorRegistry()))
        while await projector.step():
            continue
        verification = await verify(self.store, self.client, 1, await self.store.head())
        assert verification.good, verification

    async def pace(self, campaign="campaign-1", **changes):
        asked = {"since": self.ago(120), "until": self.minute + MINUTE_MS, "campaign": campaign, **changes}
        return await self.queries.pacing(Pacing(**asked))

    def app(self):
        async def unready():
            return None

        return desk_app(
            Desk(
                queries=self.queries,
                paces=self.queries,
                store=self.store,
                access=ACCESS,
                unready=unready,
                registry=self.registry,
                now=self.clock,
                extras=(*served_routes(self.completeness, self.clock), *monitor_routes(self.watch)),
            )
        )

    async def get(self, path, parameters=None, token="reporter"):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app()), base_url="http://desk") as http:
            return await http.get(path, params=parameters, headers={"authorization": f"Bearer {token}"})

    async def rows(self, **parameters):
        answer = await self.get("/v1/completeness", parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["rows"]

    def close(self):
        self.writers.close()
        self.readers.close()
        self.client.close()


def in_a_world(test, **changes):
    """Run *test* on a world of its own."""

    async def main():
        await world.open()
        await test(world)

    with an_engine() as engine:
        world = World(engine, **changes)
        try:
            asyncio.run(main())
        finally:
            world.close()
