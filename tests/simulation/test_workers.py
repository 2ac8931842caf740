"""One worker or four: routed by the shard in the impression's id, the verdicts are the same."""

import asyncio
import random
from datetime import date

import pytest
from gatekit import NOW, PACK, Minter
from ladderkit import LadderGate
from modelkit import a_mixed_model

from domain.ids import mint, shard, shard_of_person
from domain.reasons import Reason, Verdict
from ledger.memory import MemoryStore
from ml.counters.tables import Capacities
from service.activity import CountedActivity
from service.scoring import Line, read_by_models

pytestmark = pytest.mark.slow

SHARD_KEY = b"shard" * 6
DAY_MS = 86_400_000
SMALL = Capacities(*[1_024] * 8)


def history(seed):
    """Batches of events of a dozen people who see few ads in few slots, so that much of it meets."""
    dice, clients = random.Random(seed), Minter(seed)
    people = [f"person-{n}" for n in range(12)]
    tokens, events = [], []
    for _ in range(160):
        person = dice.choice(people)
        if tokens and dice.random() < 0.3:
            person, token = dice.choice(tokens)
        else:
            place = shard_of_person(person, SHARD_KEY)
            token = clients.token(
                impression=mint(NOW - dice.randrange(3_000, 9_000), place, dice.getrandbits(62)),
                placement=f"placement-{dice.randrange(3)}",
                creative=f"creative-{dice.randrange(2)}",
            )
            tokens.append((person, token))
        at = NOW - dice.randrange(2_900)
        shown = None if dice.random() < 0.1 else at
        event = clients.render(token, user=person, device=f"{person}'s", client_at=at, on_screen_at=shown)
        events += [event] * (2 if dice.random() < 0.1 else 1)
    events += machine(dice, clients)
    dice.shuffle(events)
    batches = []
    while events:
        size = dice.randrange(1, 20)
        batches.append(events[:size])
        events = events[size:]
    return batches


def machine(dice, clients):
    """One person at whom ads are fired faster than anybody looks, with a pause or two."""
    place = shard_of_person("machine", SHARD_KEY)
    events = []
    for _ in range(PACK.rates.abusive.per_10s + dice.randrange(20)):
        at = NOW - dice.randrange(1_000, 6_000)
        token = clients.token(impression=mint(at - 500, place, dice.getrandbits(62)))
        events.append(clients.render(token, user="machine", client_at=at, on_screen_at=at))
    return events


async def verdicts(batches, workers, line=None):
    """Return how each event was answered by one of so many *workers* of a cell that is set up for several."""
    store, kit = MemoryStore(), None
    gates = []
    for number in range(workers):
        holding, keys = (None, None) if kit is None else (kit.holding_store, kit.day_keys)
        counters = CountedActivity(PACK.rates, NOW - DAY_MS, SMALL, read_by_models(workers=4))
        kit = LadderGate(store, holding, keys, counters=counters, line=line)
        kit.restart(name=f"eu-{number}")
        gates.append(kit)
    await gates[0].open(date(2026, 9, 10), date(2026, 9, 23))
    found = {}
    for batch in batches:
        routed = {}
        for event in batch:
            token = gates[0].token_of(event)
            routed.setdefault(shard(token.impression) % workers, []).append(event)
        for worker, events in routed.items():
            for answer in await gates[worker].send(*events):
                told = (answer.verdict, answer.reason)
                assert found.setdefault(answer.event_id, told) == told
    return found


@pytest.mark.parametrize("seed", range(20))
def test_one_worker_and_four_decide_alike(seed):
    batches = history(seed)
    alone = asyncio.run(verdicts(batches, 1))
    assert asyncio.run(verdicts(batches, 4)) == alone
    assert len({verdict for verdict, _ in alone.values()}) >= 3, "the history exercises nothing"
    assert (Verdict.DROPPED, Reason.RATE_ABUSIVE) in alone.values()


@pytest.mark.parametrize("seed", range(8))
def test_one_worker_and_four_decide_alike_by_a_model(seed):
    batches, line = history(seed), Line(a_mixed_model())
    alone = asyncio.run(verdicts(batches, 1, line))
    assert asyncio.run(verdicts(batches, 4, line)) == alone
    assert (Verdict.UNCERTAIN, Reason.RISK_GREY) in alone.values()
    assert alone != asyncio.run(verdicts(batches, 1)), "the model decides nothing"
