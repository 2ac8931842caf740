"""Histories through a gate with a model: what sampling never changes, and that every decision can be made again."""

import asyncio
from datetime import date
from math import isnan

import pytest
from counterskit import RATE_RULES
from gatekit import NOW, PACK
from historykit import DAY, History
from ladderkit import LadderGate
from modelkit import a_mixed_model

from domain.events import ImpressionDeduped, ImpressionRendered, ImpressionScored
from domain.rates import Activity, is_abusive
from domain.reasons import Reason
from domain.screen import in_order, screen
from domain.suspicion import Banding, Masked, geometry, suspect
from domain.vocabulary import Rung
from ledger.codec import decode_impression
from ledger.store import read_everything
from ml.counters.tables import Capacities
from ml.features.logged import unpack
from ml.features.schema import PLACE, SHARED_TABLES
from ml.models.masks import MASKS
from service.activity import CountedActivity
from service.scoring import Line

SMALL = Capacities(*[2_048] * 8)
MODELS = {name: a_mixed_model(name) for name in ("s2-mixed", "s2-before")}
CONTEXT = {Reason.DOUBLE_FIRE, Reason.DEGRADED, Reason.REGISTRY_BEHIND}
"""Reasons that follow from what else the ledger has, which the decision names."""


async def lived(seed, propensity, *, sheds=False):
    """A gate after a history: answers, and the gate."""
    counters = CountedActivity(RATE_RULES, NOW - 2 * DAY, SMALL, SHARED_TABLES)
    line = Line(MODELS["s2-mixed"], MODELS["s2-before"])
    gate = LadderGate(counters=counters, line=line, propensity=propensity)
    await gate.open(date(2026, 9, 10), date(2026, 9, 24))
    answers, history = [], History(seed)
    for number, events in enumerate(history.batches(24)):
        if number == 6 and sheds:
            gate.ladder.drill("shed", 5)
        if number == 12:
            gate.clock.pass_by(5)
            gate.ladder.drill("partial_client", 5)
        if number == 15:
            gate.ladder.drill("partial_counters", 5)
        if number == 18:
            gate.clock.pass_by(5)
            gate.ladder.drill("model_fallback", 5)
        if number == 21:
            gate.clock.pass_by(5)
        answers += await gate.send(*events)
    return answers, gate


async def stored(gate):
    """Each decision that a render alone led to."""
    async for commit in read_everything(gate.store):
        if isinstance(commit.stream, str):
            continue
        events = decode_impression(commit.data)
        for rendered, scored, deduped in zip(events, events[1:], events[2:], strict=False):
            if isinstance(rendered, ImpressionRendered) and isinstance(deduped, ImpressionDeduped):
                yield rendered, scored, deduped


@pytest.mark.parametrize("seed", range(6))
def test_sampling_nothing_and_everything_gives_the_same_verdicts_and_the_same_money(seed):
    async def test():
        found = []
        for propensity in (0.0, 1.0):
            answers, gate = await lived(seed, propensity, sheds=True)
            money = [
                (deduped.after.billable_micros, deduped.after.reserved_micros, deduped.reason)
                async for _, _, deduped in stored(gate)
            ]
            sampled = [scored.propensity async for _, scored, _ in stored(gate)]
            assert set(sampled) == ({None} if propensity == 0 else {1.0})
            found.append((answers, money))
        assert found[0] == found[1]
        assert {answer.rung for answer in found[0][0]} >= {Rung.SHED, Rung.NO_ASYNC, Rung.MODEL_FALLBACK}

    asyncio.run(test())


class Remembered:
    """A model's opinion of a stored decision, by its stored vector."""

    def __init__(self, scored: ImpressionScored):
        self._scorer = MODELS[scored.versions.model]
        self._vector = unpack([(scored.features, scored.feature_status)])
        self._masked = MASKS[scored.versions.calibration]
        scores = self._scorer.score(self._vector, self._masked)
        self.risk = float(scores.risk[0])
        self.band = list(Banding)[scores.band[0]]
        self.may_drop = Rung.MODEL_FALLBACK not in (scored.rung, *scored.rungs)

    def without(self, family):
        risk, band = self._scorer.masked_risk(self._vector, 0, family, self._masked)
        return Masked(risk, list(Banding)[band])


def made_again(rendered, scored):
    """The reasons that hold against a stored render, under the versions that its decision names."""
    assert scored.versions.pack == PACK.id
    against = set(screen(rendered, PACK)) | (CONTEXT & set(scored.reasons))
    if is_too_fast(scored):
        against.add(Reason.RATE_ABUSIVE)
    opinion = Remembered(scored) if scored.versions.model else None
    if opinion is not None:
        assert (opinion.risk, opinion.band) == (scored.risk, scored.band)
    suspicion = suspect(scored.signals, PACK, opinion)
    if suspicion is not None:
        against.update(suspicion.reasons)
        assert (suspicion.pair, suspicion.masked_risk) == (scored.pair, scored.masked_risk)
    return in_order(against)


def is_too_fast(scored):
    values = unpack([(scored.features, scored.feature_status)]).values[0]
    counts = {name: values[PLACE[name]] for name in ("person_10s", "person_min", "person_hour")}
    return is_abusive(Activity(**{name: int(count) for name, count in counts.items() if not isnan(count)}), PACK.rates)


def test_every_stored_decision_is_made_again_by_the_versions_that_it_names():
    async def test():
        reasons = set()
        for seed in range(5):
            _, gate = await lived(seed, 0.1)
            async for rendered, scored, deduped in stored(gate):
                again = made_again(rendered, scored)
                assert again == scored.reasons
                assert (again[0] if again else None) is deduped.reason
                reasons |= set(again)
                if Rung.PARTIAL_CLIENT not in (scored.rung, *scored.rungs):
                    assert set(scored.signals) >= set(geometry(rendered, PACK))
        assert reasons >= {Reason.RISK_GREY, Reason.RISK_HIGH, Reason.DOUBLE_FIRE, Reason.AGENT_DECLARED_BOT}

    asyncio.run(test())
