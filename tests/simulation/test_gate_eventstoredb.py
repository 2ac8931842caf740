"""The histories of the gate's simulation, on EventStoreDB under faults: two gates with a connection of its own each."""

import asyncio
import random
from datetime import date

import pytest
from esdb_double import Fault, Node, chance, script
from esdbkit import trying
from gatekit import KitGate
from test_gate_simulation import judge

from commands.holding_memory import MemoryHolding

pytestmark = pytest.mark.slow

SEEDS = 25
FAULTS = [
    Fault.UNAVAILABLE,
    Fault.BROKEN_AFTER,
    Fault.TIMEOUT_BEFORE,
    Fault.TIMEOUT_AFTER,
    Fault.BUSY,
    Fault.NO_LEADER,
    Fault.LOST_BEFORE,
    Fault.LOST_AFTER,
]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_history_on_eventstoredb_is_kept_and_billed_exactly_once(seed):
    async def main(node):
        async with trying(node) as tried:
            dice = random.Random(seed)
            one, two = [await tried.store(prepared=False, deadline_s=0.1) for _ in range(2)]
            patient = await tried.store(prepared=False, deadline_s=30)
            first = KitGate(one, MemoryHolding(patient))
            second = KitGate(two, first.holding_store, first.day_keys)
            second.restart(name="eu-second")
            await first.open(date(2026, 9, 20), date(2026, 9, 22))
            node.append_faults = chance(seed, 0.1, FAULTS)

            def calm():
                """From here on nothing may fail, however busy the machine is."""
                node.append_faults = script([])
                first.store = patient
                first.restart()

            await judge(seed, dice, [first, second], calm)

    with Node() as node:
        asyncio.run(main(node))
