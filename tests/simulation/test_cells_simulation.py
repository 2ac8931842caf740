"""
Cells with ledgers and keys of their own: routed by the map, the verdicts are those of one cell; and whatever is lost,
stale or growing meanwhile, an impression has one stream in one cell.
"""

import asyncio
import random
from datetime import date

import msgspec
import pytest
from cellkit import BEARER, CellGate, FaultyWire, address, cells_of, cluster, minted
from gatekit import Minter
from test_workers import history

from commands.items import Status
from domain.cells_file import cell_map_text
from domain.ids import SHARDS, shard
from service.router import Router
from service.router_wires import HttpxWire

pytestmark = pytest.mark.slow


async def verdicts(batches, cells):
    gates = {name: CellGate(cells, name) for name in cells.cells}
    some = next(iter(gates.values()))
    for gate in gates.values():
        await gate.open(date(2026, 9, 10), date(2026, 9, 23))
    found = {}
    for batch in batches:
        routed = {}
        for event in batch:
            token = some.token_of(event)
            owner = cells.cell_of(token.region, token.epoch, shard(token.impression))
            routed.setdefault(owner.name, []).append(event)
        for name, events in routed.items():
            for answer in await gates[name].send(*events):
                told = (answer.verdict, answer.reason)
                assert found.setdefault(answer.event_id, told) == told
    return found


def reminted(batches, epochs):
    """*batches* as if minted under epochs up to *epochs*; everything of one impression under the same."""
    clients, kit, again = Minter(), CellGate(cells_of(1), "eu-1"), {}
    for batch in batches:
        moved = []
        for event in batch:
            token = kit.token_of(event)
            epoch = random.Random(shard(token.impression)).randint(1, epochs)
            fields = {name: getattr(token, name) for name in token.__struct_fields__}
            render = clients.render(clients.token(**{**fields, "epoch": epoch}))
            moved.append(again.setdefault(event["event_id"], {**event, "token": render["token"]}))
        yield moved


@pytest.mark.parametrize("seed", range(6))
def test_one_cell_and_several_decide_alike_whatever_epoch_each_person_is_of(seed):
    batches = history(seed)
    alone = asyncio.run(verdicts(batches, cells_of(1)))
    for number in (2, 5):
        assert asyncio.run(verdicts(list(reminted(batches, number)), cells_of(number))) == alone
    assert len({verdict for verdict, _ in alone.values()}) >= 3, "the history exercises nothing"


EPOCHS = 5


class Drifting:
    """Gates, routers and minters of one region that hear of a growing map each in their own time."""

    def __init__(self, seed, gates, http):
        self.dice, self.clients = random.Random(seed), Minter(seed)
        self.versions = {number: cells_of(number) for number in range(1, EPOCHS + 1)}
        self.gates, self.wire, self.http = gates, FaultyWire(http), http
        self.routers = [Router(self.versions[1], self.wire, pause=self.wire.pause) for _ in range(3)]
        self.known = {name: max(1, int(name[3:])) for name in gates}
        self.events = []

    def mint(self):
        epoch = self.dice.randint(1, max(self.known.values()))
        token = minted(self.clients, self.versions[EPOCHS], self.dice.randrange(SHARDS), epoch=epoch)
        self.events.append((token, msgspec.json.encode(self.clients.render(token))))

    async def grow(self):
        """One gate hears of one more epoch."""
        name = self.dice.choice(list(self.gates))
        self.known[name] = min(self.known[name] + 1, EPOCHS)
        gate = self.gates[name]
        gate.map_path.write_text(cell_map_text(self.versions[self.known[name]]))
        await gate.watch.poll()
        assert len(gate.homes.cells.epochs("eu")) == self.known[name]

    async def send(self):
        """Some of all that was ever minted, over some router or straight to some gate."""
        chosen = [body for _, body in self.dice.choices(self.events, k=self.dice.randrange(1, 12))]
        for name in self.gates:
            self.wire.faults[address(name)] = self.dice.choices(["lost", "answer lost", 503, None], k=2)
        if self.dice.random() < 0.3:
            url = address(self.dice.choice(list(self.gates)))
            await HttpxWire(self.http, lambda _: BEARER).post(url, b"\n".join(chosen), 5.0)
        else:
            await self.dice.choice(self.routers).send(chosen)

    async def settle(self):
        """Everybody hears of everything, and everything is sent until it is answered."""
        for name in self.gates:
            while self.known[name] < EPOCHS:
                await self.grow()
        waiting = [body for _, body in self.events]
        for _ in range(6):
            outcomes = await self.routers[0].send(waiting)
            pairs = zip(waiting, outcomes, strict=True)
            waiting = [body for body, one in pairs if getattr(one, "status", None) is not Status.DECIDED]
        assert waiting == []


@pytest.mark.parametrize("seed", range(10))
def test_whoever_is_behind_and_whatever_is_lost_an_impression_has_one_stream_in_one_cell(seed, tmp_path):
    async def main():
        newest = cells_of(EPOCHS)
        first = {name: cells_of(max(1, int(name[3:]))) for name in newest.cells}
        async with cluster(newest, tmp_path, known_to=first) as (gates, http):
            world = Drifting(seed, gates, http)
            for _ in range(60):
                world.mint()
                await world.send()
                if world.dice.random() < 0.2:
                    await world.grow()
            await world.settle()
            for token, _ in world.events:
                streams = {name: await gate.events(token.impression) for name, gate in gates.items()}
                owner = newest.cell_of("eu", token.epoch, shard(token.impression)).name
                assert {name: len(events) for name, events in streams.items() if events} == {owner: 3}

    asyncio.run(main())
