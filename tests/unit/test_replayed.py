"""What a decision saw is made again from the ledger, bit for bit, whatever was retried, repeated or mixed."""

import asyncio
from datetime import date

import numpy as np
import pytest
from counterskit import RATE_RULES
from gatekit import NOW, Minter
from historykit import DAY, HOUR, SECOND, History
from ladderkit import Clock, LadderGate
from modelkit import an_artifact, trees
from spoolkit import SpoolGate

from commands.ladder import Ladder
from commands.observing import GuardedActivity
from commands.recall import recall
from commands.scoring import ScoringActivity
from domain.vocabulary import Rung
from ledger.memory import MemoryStore
from ledger.postgres import PostgresStore
from ledger.store import read_everything
from ml.counters.tables import Capacities
from ml.features.matrix import COLD, TIMEOUT
from ml.features.replayed import Replay, logged
from ml.features.schema import PLACE, SHARED_TABLES
from ml.models.scorer import Scorer
from ml.registry.guards import LIMITS
from service.activity import CountedActivity
from service.contest import Contest
from service.scoring import GateScoring, Line, ModelHolder, Sample

SMALL = Capacities(*[2_048] * 8)
MIDNIGHT = NOW // DAY * DAY + DAY


def counting(since=NOW - 3 * DAY, more=SHARED_TABLES):
    return CountedActivity(RATE_RULES, since, SMALL, more)


async def replayed(store, capacities=SMALL):
    commits = [commit async for commit in read_everything(store)]
    replay, found = Replay(capacities), []
    for at in range(0, len(commits), 7):
        for some in replay.take(commits[at : at + 7]):
            found += zip(some.rows, some.vectors.values, some.vectors.status, strict=True)
    return found


def differing(found):
    """Which features of which rows are not those that were logged."""
    differs, logs = [], 0
    for row, values, status in found:
        was = logged(row.scored)
        if was is None or not row.is_exact:
            continue
        logs += 1
        same = (was.values[0].view(np.uint64) == values.view(np.uint64)) & (was.status[0] == status)
        differs += [(row.position, [*PLACE][column]) for column in np.flatnonzero(~same).tolist()]
    return logs, differs


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def on_store(request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""

    def run(test):
        async def main():
            store = PostgresStore(url) if url else MemoryStore()
            try:
                await test(store)
            finally:
                await store.close()

        asyncio.run(main())

    return run


async def a_gate(store, activity=None, propensity=1.0, **kept):
    """A gate that logs the vector of every render, unless only that of the sample beside those that are scored."""
    gate = LadderGate(store, counters=activity or counting(), propensity=propensity, **kept)
    await gate.open(date(2026, 9, 10), date(2026, 9, 24))
    return gate


@pytest.mark.parametrize("seed", range(6))
def test_what_is_replayed_is_what_was_logged_bit_for_bit(seed, on_store):
    async def test(store):
        gate, history = await a_gate(store), History(seed)
        for events in history.batches(20):
            await gate.send(*events)
            if history.dice.random() < 0.2:
                await gate.send(*events)
        found = await replayed(store)
        logs, differs = differing(found)
        assert differs == []
        assert logs == len(found) > 150
        counts = [values[PLACE["person_hour"]] for _, values, _ in found]
        assert np.nanmax(counts) > 20
        assert len({row.decision.verdict for row, _, _ in found if hasattr(row.decision, "verdict")}) >= 3

    on_store(test)


def test_after_a_restart_what_was_cold_is_taken_from_the_log():
    async def test(store):
        gate, history = await a_gate(store), History(7)
        batches = list(history.batches(16))
        for events in batches[:8]:
            await gate.send(*events)
        again = await a_gate(store, counting(since=NOW), day_keys=gate.day_keys)
        await recall(store, 20, [again.ingest.recall, again.counters.recall])
        for events in batches[8:]:
            await again.send(*events)
        found = await replayed(store)
        assert differing(found)[1] == []
        assert COLD in {int(status[PLACE["person_hour"]]) for _, _, status in found}

    asyncio.run(test(MemoryStore()))


def test_what_counters_did_not_say_is_taken_from_the_log():
    async def test(store):
        gate, history = await a_gate(store), History(8)
        for number, events in enumerate(history.batches(12)):
            if number == 4:
                gate.ladder.drill("partial_counters", 10)
            if number == 8:
                gate.clock.pass_by(10)
            await gate.send(*events)
        found = await replayed(store)
        assert differing(found)[1] == []
        assert TIMEOUT in {int(status[PLACE["person_hour"]]) for _, _, status in found}

    asyncio.run(test(MemoryStore()))


def test_what_several_workers_do_not_count_is_taken_from_the_log():
    async def test(store):
        gate, history = await a_gate(store, counting(more=())), History(9)
        for events in history.batches(8):
            await gate.send(*events)
        found = await replayed(store)
        assert differing(found)[1] == []
        assert all(np.isnan(values[PLACE["network_hour"]]) for _, values, _ in found)

    asyncio.run(test(MemoryStore()))


def test_right_after_midnight_the_names_of_the_day_before_take_part_and_the_rows_say_so():
    async def test(store):
        gate = await a_gate(store)
        for now in (MIDNIGHT - 60 * SECOND, MIDNIGHT + 400 * SECOND, MIDNIGHT + 2 * HOUR):
            gate.now = now
            for events in History(now, now).batches(5):
                await gate.send(*events)
        found = await replayed(store)
        assert differing(found)[1] == []
        exact = [row.is_exact for row, _, _ in found]
        assert True in exact
        assert False in exact

    asyncio.run(test(MemoryStore()))


def test_what_is_shed_has_a_vector_all_the_same():
    async def test(store):
        gate, history = await a_gate(store, propensity=0.1), History(10)
        gate.ladder.drill("shed", 10)
        for events in history.batches(8):
            await gate.send(*events)
        found = await replayed(store)
        assert differing(found)[1] == []
        unlogged = [values for row, values, _ in found if logged(row.scored) is None]
        assert len(unlogged) > 20
        assert not np.isnan([values[PLACE["serve_to_render_ms"]] for values in unlogged]).any()

    asyncio.run(test(MemoryStore()))


def scoring(counters, line=None):
    """What scores in a gate without a load to shed, by *counters*."""
    ladder = Ladder(Clock())
    contest = Contest("eu-kit", LIMITS, lambda: NOW)
    models = GateScoring(counters.take_features, ModelHolder(line), Sample(b"k" * 32, 1.0), ladder, contest)
    return ScoringActivity(GuardedActivity(counters, ladder), models, ladder)


def test_what_was_decided_without_the_ledger_counts_when_it_is_decided_again(tmp_path):
    async def test():
        gate, history = SpoolGate(tmp_path, activity=scoring(counting())), History(11)
        await gate.open(date(2026, 9, 10), date(2026, 9, 24))
        await gate.warm()
        batches = list(history.batches(15))
        for number, events in enumerate(batches):
            if number in {4, 9}:
                with gate.store.away():
                    await gate.send(*events)
                continue
            await gate.send(*events)
            if number in {6, 12}:
                while await gate.backlog.work():
                    pass
        found = await replayed(gate.store)
        logs, differs = differing(found)
        assert differs == []
        spooled = [row for row, _, _ in found if row.scored.rung is Rung.SPOOLED]
        assert len(spooled) > 10
        assert logs == len(found) - len(spooled)

    asyncio.run(test())


def test_what_is_decided_again_is_scored_by_the_model_in_force(tmp_path):
    async def test():
        line = Line(Scorer(an_artifact(trees(("area_px", 1.0, False, 0.0, -9.0))), "s2-now"))
        gate, clients = SpoolGate(tmp_path, activity=scoring(counting(), line)), Minter()
        await gate.open(date(2026, 9, 10), date(2026, 9, 24))
        await gate.warm()
        with gate.store.away():
            [answer] = await gate.send(clients.render())
        assert await gate.backlog.work() == 1
        [*_, again] = await gate.events(answer.impression_id)
        assert again.versions.model == "s2-now"

    asyncio.run(test())
