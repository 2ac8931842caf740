"""The skew inspection over a real gate: silent while gate and replay agree, and precise when they do not."""

import asyncio
import random
from datetime import date
from uuid import UUID

import numpy as np
import pytest
from counterskit import RATE_RULES
from damagekit import damage
from gatekit import NOW, Minter
from ladderkit import LadderGate

from domain.events import ImpressionAnswered
from domain.ids import mint
from domain.reasons import Verdict
from ledger.memory import MemoryStore
from ledger.store import Append, Appended
from ml.counters.features import Column, Features, Status
from ml.counters.tables import Capacities
from ml.features.schema import SHARED_TABLES
from ml.monitors.checks import judge
from ml.monitors.replaying import CLOCKS_APART_MS, SETTLED_AFTER_MS, Span, unsettled
from service.activity import CountedActivity
from service.monitors_skew import SkewInspection

SMALL = Capacities(*[2_048] * 8)
RENDERS, BATCH = 700, 20
PLACE = {column: at for at, column in enumerate(Column)}


class Faulty(CountedActivity):
    """Counters that answer the gate wrongly from the *since*-th look on; what they count is right."""

    def __init__(self, fault=None, since=0):
        super().__init__(RATE_RULES, NOW - 3 * 86_400_000, SMALL, SHARED_TABLES)
        self.fault, self.left = fault, since

    def take_features(self):
        found = super().take_features()
        self.left -= 1
        if found is None or self.fault is None or self.left >= 0:
            return found
        values, status = found.values.copy(), found.status.copy()
        self.fault(values, status)
        return Features(values, status)


def one_bucket_early(values, _):
    """The minute ends with the bucket before the current one."""
    values[:, PLACE[Column.PERSON_MIN]] -= values[:, PLACE[Column.PERSON_10S]]


def zeros_for_nulls(values, status):
    column = PLACE[Column.DEVICE_HOUR]
    unknown = np.isnan(values[:, column])
    values[unknown, column], status[unknown, column] = 0.0, Status.FRESH


def frozen(values, _):
    values[:, PLACE[Column.NETWORK_DEVICES_HOUR]] = 7.0


async def decide(activity, renders=RENDERS):
    """Let a gate decide what some people see for some minutes, half a second apart."""
    store, dice = MemoryStore(), random.Random(1)
    gate = LadderGate(store, counters=activity)
    await gate.open(date(2026, 9, 20), date(2026, 9, 23))
    clients = Minter(1, NOW)
    for _ in range(renders // BATCH):
        events = []
        for _ in range(BATCH):
            token = clients.token(impression=mint(gate.now - 3_000, 7, dice.getrandbits(62)))
            who = dice.randrange(40)
            person = {
                "user": f"user-{who}",
                "device": f"device-{who}" if who % 8 else None,
                "network": f"198.51.100.{who // 4}",
            }
            events.append(clients.render(token, client_at=gate.now - 900, on_screen_at=gate.now - 900, **person))
        await gate.send(*events)
        gate.now += BATCH * 500
    return store


def look(activity, sample=100_000, renders=RENDERS):
    async def run():
        store = await decide(activity, renders)
        inspection = SkewInspection(store, lambda: NOW, every_s=600, sample=sample)
        return await inspection.measure(), inspection.last

    return asyncio.run(run())


def found(seen):
    return [one.says for one in judge(seen.measured) if one.found]


def test_what_a_gate_logged_is_what_a_replay_computes():
    seen, skew = look(Faulty())
    assert (skew.rows, skew.unequal, found(seen)) == (RENDERS, 0, [])
    assert seen.says == "700 decisions replayed, 98% of their features comparable, 100.00% equal"
    assert {one.name for one in skew.features if one.compared < RENDERS} == {"person_gap_ms", "person_gap_variation"}


@pytest.mark.parametrize(
    ("fault", "feature"),
    [(one_bucket_early, "person_min"), (zeros_for_nulls, "device_hour"), (frozen, "network_devices_hour")],
)
def test_a_fault_in_serving_is_found_with_its_feature(fault, feature):
    seen, skew = look(Faulty(fault))
    [says] = found(seen)
    assert says.startswith(f"{feature} in ")
    assert ";" not in says
    assert skew.features[0].sdks == ("ios/12.1",)


def test_the_first_decision_that_differs_is_told():
    _, skew = look(Faulty(frozen, since=20))
    assert skew.features[0].first_at == NOW + 20 * BATCH * 500
    assert skew.unequal == RENDERS - 20 * BATCH


def test_of_the_tail_only_windows_within_it_are_compared():
    """Half a second apart, 300 renders are two and a half minutes: an hour reaches back behind them."""
    seen, skew = look(Faulty(), sample=300)
    compared = {one.name: one.compared for one in skew.features}
    assert (skew.rows, skew.unequal, found(seen)) == (300, 0, [])
    assert (compared["area_px"], compared["person_hour"]) == (300, 0)
    assert 300 - (60_000 + 2 * CLOCKS_APART_MS) / 500 - BATCH <= compared["person_min"] < 300


def test_a_fault_is_found_in_the_tail_too():
    seen, skew = look(Faulty(one_bucket_early), sample=600)
    assert [one.name for one in skew.features if one.unequal] == ["person_min"]
    assert len(found(seen)) == 1


def test_what_reaches_back_behind_a_commit_that_cannot_be_read_is_not_compared():
    async def run():
        store = await decide(Faulty())
        damage(store, (await store.read_all(0, 1_000))[RENDERS // 2].stream)
        inspection = SkewInspection(store, lambda: NOW, every_s=600, sample=100_000)
        return await inspection.measure(), inspection.last

    seen, skew = asyncio.run(run())
    compared = {one.name: one.compared for one in skew.features}
    assert (skew.rows, skew.unequal, found(seen)) == (RENDERS - 1, 0, [])
    assert (compared["area_px"], compared["person_hour"]) == (RENDERS - 1, RENDERS // 2)


def test_too_few_decisions_are_not_judged():
    seen, _ = look(Faulty(frozen), renders=100)
    assert [one.untested for one in seen.measured] == ["fewer than 500 to look at"]


def test_an_empty_ledger_is_no_trouble():
    seen, skew = look(Faulty(), renders=0)
    assert (seen.measured, seen.says, skew) == ([], "the ledger is empty", None)


async def answered_late(store, place, told_at, known_at):
    """A sender was told that nothing is certain, although the ledger had the render at *place*."""
    commit = (await store.read_all(0, 1_000))[place]
    event = ImpressionAnswered(
        cause=UUID(int=place), digest="", of=commit.cause, verdict=Verdict.UNCERTAIN, answered_at=told_at
    )
    append = Append(stream=commit.stream, expected=commit.count, cause=event.cause, digest="", events=(event,))
    assert await store.append([append], known_at) == [Appended()]


def test_decisions_made_before_a_gate_knew_what_the_ledger_had_are_left_out():
    """It could not count what it did not know of, and a replay does."""

    async def run():
        store = await decide(Faulty(one_bucket_early))
        await answered_late(store, 10, NOW, NOW + 120_000)
        await answered_late(store, 20, NOW + 60_000, NOW + 200_000)
        inspection = SkewInspection(store, lambda: NOW, every_s=600, sample=100_000)
        seen = await inspection.measure()
        left_out = ((200_000 + SETTLED_AFTER_MS) // (BATCH * 500) + 1) * BATCH
        assert inspection.last.rows == RENDERS - left_out
        assert seen.says.endswith(f"; {left_out} left out, for the ledger answered late then")

    asyncio.run(run())


def test_spans_that_touch_are_one_whatever_page_they_came_from():
    async def run():
        store = await decide(Faulty(), 100)
        for place, told_at, known_at in (
            (1, NOW, NOW + 10_000),
            (2, NOW + 50_000, NOW + 60_000),
            (3, NOW, NOW + 31_000),
        ):
            await answered_late(store, place, told_at, known_at)
        commits = await store.read_all(0, 1_000)
        spans = []
        for commit in commits:
            spans = unsettled([commit], spans)
        assert spans == unsettled(commits) == [Span(NOW - CLOCKS_APART_MS, NOW + 60_000 + SETTLED_AFTER_MS)]

    asyncio.run(run())
