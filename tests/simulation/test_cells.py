"""One cell or several, each with a ledger and keys of its own: routed by the map, the verdicts are the same."""

import asyncio
import random
from datetime import date

import pytest
from cellkit import CellGate, cells_of
from gatekit import Minter
from test_workers import history

from domain.ids import shard


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
