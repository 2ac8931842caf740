"""Cells that watch each other's regions: when they order shelter by themselves, and when they let it be."""

import asyncio
from itertools import count
from uuid import UUID

import httpx
import pytest
from gatekit import NOW
from shelterkit import regions, signer, trust

from commands.homes import Homes
from commands.shelter_lookout import Lookout
from commands.shelter_memory import MemoryShelter
from commands.shelter_orders import OrderBook
from domain.shelter import HOLD_MS, PROBES_TTL_MS, Ground
from service.shelter_wires import HttpxCells

STEP = 5_000
DOWN_AFTER = 7
"""Looks until a region is down: 30 s."""


class World:
    """Cells that look after each other by one clock. `silent` answer nobody; `cut` are pairs that do not reach."""

    def __init__(self, *names):
        self.cells, self.whom = regions(*names), trust(*names)
        self.now = NOW
        self.silent, self.cut = set(), set()
        ids = count(1)
        self.lookouts = {}
        for name in names:
            homes = Homes(self.cells, name)
            self.lookouts[name] = Lookout(
                homes=homes,
                trust=self.whom,
                signer=signer(name),
                book=OrderBook(homes, self.whom, MemoryShelter()),
                prober=Probes(self, name),
                clock=lambda: self.now,
                new_id=lambda: UUID(int=next(ids)),
            )

    def book(self, name):
        return self.lookouts[name]._book

    async def look(self, times=1):
        for _ in range(times):
            self.now += STEP
            for name, lookout in self.lookouts.items():
                if name not in self.silent:
                    await lookout.look()

    def sheltering(self, name="us-1"):
        return set(self.book(name).regions(self.now))


class Probes:
    def __init__(self, world, name):
        self._world, self._name = world, name

    def _reaches(self, cell):
        return cell not in self._world.silent and frozenset((cell, self._name)) not in self._world.cut

    async def answers(self, cell):
        return self._reaches(cell.name)

    async def testimonies(self, cell):
        return self._world.lookouts[cell.name].testimonies() if self._reaches(cell.name) else []


def run(test, *names):
    asyncio.run(test(World(*names or ("eu-1", "us-1", "ap-1"))))


def test_a_region_that_two_cells_find_silent_for_30_s_is_sheltered_by_both():
    async def test(world):
        world.silent = {"eu-1"}
        await world.look(DOWN_AFTER - 1)
        assert world.sheltering() == set()
        await world.look(2)
        assert world.sheltering() == world.sheltering("ap-1") == {"eu"}
        order = world.book("us-1").in_force("eu", world.now)
        assert (order.ground, order.issuer, order.cells) == (Ground.PROBES, "us-1", ("us-1",))
        assert {signed.by for signed in order.testimonies} == {"us-1", "ap-1"}

    run(test)


def test_one_cell_that_cannot_reach_it_is_not_enough():
    async def test(world):
        world.cut = {frozenset(("eu-1", "us-1"))}
        await world.look(3 * DOWN_AFTER)
        assert world.sheltering() == world.sheltering("ap-1") == set()
        assert world.lookouts["us-1"].watches["eu"].is_down

    run(test)


def test_two_cells_of_one_region_are_two():
    async def test(world):
        world.silent = {"eu-1"}
        await world.look(DOWN_AFTER + 1)
        assert world.sheltering() == {"eu"}

    run(test, "eu-1", "us-1", "us-2")


def test_a_cell_that_is_cut_off_from_everybody_shelters_nobody():
    async def test(world):
        world.cut = {frozenset(("us-1", other)) for other in ("eu-1", "ap-1")}
        await world.look(3 * DOWN_AFTER)
        assert world.sheltering() == set()

    run(test)


def test_the_order_is_renewed_while_the_outage_lasts_and_ends_soon_after():
    async def test(world):
        world.silent = {"eu-1"}
        await world.look(DOWN_AFTER + 1)
        for _ in range(60):
            await world.look()
            assert world.sheltering() == {"eu"}
        orders = world.book("us-1").orders()
        assert len(orders) <= 60 * STEP / (PROBES_TTL_MS - 30_000) + 2
        world.silent = set()
        await world.look()
        await world.look(PROBES_TTL_MS // STEP)
        assert world.sheltering() == world.sheltering("ap-1") == set()

    run(test)


def test_a_region_that_comes_and_goes_is_sheltered_as_one_outage():
    async def test(world):
        world.silent = {"eu-1"}
        await world.look(DOWN_AFTER + 1)
        for turn in range(30):
            world.silent = set() if turn % 3 == 0 else {"eu-1"}
            await world.look()
            assert world.sheltering() == {"eu"}

    run(test)


def test_after_an_operator_took_it_back_the_cell_makes_none_for_an_hour():
    async def test(world):
        world.silent = {"eu-1"}
        await world.look(DOWN_AFTER + 1)
        for one in world.book("us-1").orders():
            await world.book("us-1").revoke(one.order.order_id, world.now)
        revoked_at = world.now
        while world.now + STEP < revoked_at + HOLD_MS:
            await world.look()
            assert world.sheltering() == set()
            assert world.sheltering("ap-1") == {"eu"}
        await world.look()
        assert world.sheltering() == {"eu"}

    run(test)


def test_a_cell_that_is_not_trusted_is_no_witness():
    async def test(world):
        world.lookouts["us-1"]._trust = trust("eu-1", "us-1")
        world.silent = {"eu-1"}
        await world.look(2 * DOWN_AFTER)
        assert world.sheltering() == set()

    run(test)


@pytest.mark.parametrize("gap", [1, 3])
def test_a_cell_that_slept_begins_to_watch_anew(gap):
    async def test(world):
        world.silent = {"eu-1"}
        await world.look(DOWN_AFTER - 1)
        world.now += gap * 20_000
        await world.look(DOWN_AFTER - 1)
        assert world.sheltering() == set()

    run(test)


@pytest.mark.parametrize("body", [b"[", b"{}", b'[{"by":"\xff","payload":"","signature":""}]'])
def test_a_peer_that_answers_nonsense_testifies_of_nothing(body):
    async def main():
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
        cells = regions("eu-1", "us-1")
        wires = HttpxCells(httpx.AsyncClient(transport=transport), Homes(cells, "eu-1"), {})
        assert await wires.testimonies(cells.cells["us-1"]) == []
        await wires.close()

    asyncio.run(main())
