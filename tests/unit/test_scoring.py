"""A gate with models: what they change, what they never change, and what is written down of them."""

import asyncio
from datetime import date

import numpy as np
import pytest
from counterskit import RATE_RULES
from gatekit import NOW, Minter
from ladderkit import LadderGate
from modelkit import an_artifact, rows, trees
from prometheus_client import CollectorRegistry, generate_latest

from domain.ids import mint
from domain.reasons import Reason, Verdict
from domain.suspicion import STACKED
from domain.vocabulary import Rung
from ml.counters.tables import Capacities
from ml.features.publishers import History, PublisherHistory
from ml.features.replayed import logged
from ml.features.schema import SCHEMA_ID, SHARED_TABLES
from ml.models.artifact import Band, Calibration
from ml.models.masks import MASKS
from ml.models.scorer import Scorer
from ml.registry.arms import in_share
from service.activity import CountedActivity
from service.scoring import Line, Sample, read_by_models

SMALL = Capacities(*[2_048] * 8)
HOUR = 3_600_000
MEASURED = {"visible_ratio": 1.0, "visible_ms": 300}
WIDE, NARROW = {**MEASURED, "width": 300}, {**MEASURED, "width": 200}
STACK = {"stack_depth": 9}
PERSON = {"user": "one"}


def odds(margin):
    return float(1 / (1 + np.exp(-margin)))


def a_scorer(*stumps, name="s2-one", **changes):
    """Says 3 (risky) of areas up to 60,000 px unless told otherwise."""
    grown = trees(*(stumps or [("area_px", 60_000.0, False, 3.0, -3.0)]))
    return Scorer(an_artifact(grown, **changes), name)


def counting(more=SHARED_TABLES):
    return CountedActivity(RATE_RULES, NOW - 48 * HOUR, SMALL, more)


async def a_gate(line=None, **kept):
    gate = LadderGate(counters=kept.pop("counters", None) or counting(), line=line, **kept)
    await gate.open(date(2026, 9, 10), date(2026, 9, 23))
    return gate


def run(test):
    asyncio.run(test(Minter()))


def told(answer):
    return answer.verdict, answer.reason


async def one(line, event, **kept):
    """Decide *event* alone; return its answer and score."""
    gate = await a_gate(line, **kept)
    [answer] = await gate.send(event)
    return answer, await gate.scored(answer)


def test_what_the_model_alone_finds_risky_is_uncertain():
    async def test(clients):
        answer, scored = await one(Line(a_scorer()), clients.render(**NARROW))
        assert told(answer) == (Verdict.UNCERTAIN, Reason.RISK_GREY)
        assert (scored.risk, scored.band, scored.pair) == (odds(3.0), "risky", ("model",))
        assert scored.masked_risk is None

    run(test)


def test_what_it_finds_grey_is_uncertain_and_what_is_clear_counts():
    async def test(clients):
        grey = a_scorer(("area_px", 60_000.0, False, 0.0, -3.0))
        answer, scored = await one(Line(grey), clients.render(**NARROW))
        assert (told(answer), scored.band) == ((Verdict.UNCERTAIN, Reason.RISK_GREY), "grey")
        answer, scored = await one(Line(grey), clients.render(**WIDE))
        assert (told(answer), scored.band, scored.pair) == ((Verdict.VALID, None), "clear", ())

    run(test)


def test_a_score_names_model_calibration_and_features_and_keeps_the_vector():
    async def test(clients):
        _, scored = await one(Line(a_scorer()), clients.render(**WIDE))
        versions = scored.versions
        assert (versions.model, versions.calibration, versions.features) == ("s2-one", "no_async", SCHEMA_ID)
        [vector] = logged(scored).values
        assert np.isnan(vector).sum() < len(vector) / 2

    run(test)


def by_agent(**changes):
    """Finds young agents risky, whatever the area."""
    return a_scorer(("serve_to_render_ms", 1.0, False, -3.0, 3.0), **changes)


def test_a_signal_that_the_model_corroborates_from_elsewhere_is_a_high_risk():
    async def test(clients):
        answer, scored = await one(Line(by_agent()), clients.render(**WIDE, **STACK))
        assert told(answer) == (Verdict.DROPPED, Reason.RISK_HIGH)
        assert (scored.pair, scored.masked_risk) == (("model", STACKED), odds(3.0))

    run(test)


def test_a_signal_that_is_all_the_model_goes_by_is_corroborated_by_nothing():
    async def test(clients):
        same = a_scorer(("stack_depth", 5.0, True, -3.0, 3.0))
        answer, scored = await one(Line(same), clients.render(**WIDE, **STACK))
        assert told(answer) == (Verdict.UNCERTAIN, Reason.RISK_GREY)
        assert (scored.pair, scored.band, scored.masked_risk) == ((STACKED,), "risky", None)

    run(test)


def test_two_families_of_signals_need_no_model_and_with_one_both_reasons_are_kept():
    async def test(clients):
        gate = await a_gate(Line(by_agent()))
        times = [NOW - 200_000 + 10_000 * n for n in range(17)]
        events = []
        for at in times:
            token = clients.token(impression=mint(at - 1_000, 7, clients.random.getrandbits(62)))
            events.append(clients.render(token, client_at=at, on_screen_at=at, **WIDE, **STACK, **PERSON))
        answers = await gate.send(*events)
        scored = await gate.scored(answers[-1])
        assert {signal.family.value for signal in scored.signals} == {"geometry", "sequence"}
        assert scored.reasons == (Reason.RISK_HIGH, Reason.STACKED)

    run(test)


# Without a model, or with the one before


def test_without_a_model_the_rules_decide_and_the_features_are_kept():
    async def test(clients):
        answer, scored = await one(None, clients.render(**NARROW))
        assert told(answer) == (Verdict.VALID, None)
        assert answer.rung is Rung.MODEL_FALLBACK
        assert (scored.risk, scored.band, scored.versions.model) == (None, "", "")
        assert logged(scored) is not None

    run(test)


def test_the_model_before_advises_and_drops_nothing():
    async def test(clients):
        line = Line(previous=by_agent(name="s2-before"))
        answer, scored = await one(line, clients.render(**WIDE, **STACK))
        assert told(answer) == (Verdict.UNCERTAIN, Reason.RISK_GREY)
        assert (answer.rung, scored.versions.model, scored.band) == (Rung.MODEL_FALLBACK, "s2-before", "risky")

    run(test)


def test_as_if_the_model_were_missing_the_one_before_is_asked():
    async def test(clients):
        gate = await a_gate(Line(by_agent(), previous=a_scorer(name="s2-before")))
        gate.ladder.drill("model_fallback", 10)
        [during] = await gate.send(clients.render(**WIDE, **STACK))
        gate.clock.pass_by(10)
        [after] = await gate.send(clients.render(**WIDE, **STACK))
        assert (during.reason, during.rung) == (Reason.RISK_GREY, Rung.MODEL_FALLBACK)
        assert (after.reason, after.rung) == (Reason.RISK_HIGH, Rung.NO_ASYNC)
        assert (await gate.scored(during)).versions.model == "s2-before"

    run(test)


def test_a_model_that_raises_stops_no_decision():
    class Broken(Scorer):
        def score(self, vectors, masked=()):
            raise ZeroDivisionError

    async def test(clients):
        gate = await a_gate(Line(Broken(an_artifact())))
        answers = []
        for _ in range(3):
            answers += await gate.send(clients.render(**NARROW))
        assert {told(answer) for answer in answers} == {(Verdict.VALID, None)}
        assert {answer.rung for answer in answers} == {Rung.MODEL_FALLBACK}
        assert Rung.MODEL_FALLBACK in gate.ladder.in_force

    run(test)


def test_another_model_takes_over_between_two_batches():
    async def test(clients):
        gate = await a_gate(Line(a_scorer()))
        [before] = await gate.send(clients.render(**NARROW))
        gate.models.replace(Line(a_scorer(("area_px", 60_000.0, False, -3.0, 3.0), name="s2-two")))
        [after] = await gate.send(clients.render(**NARROW))
        assert (before.verdict, after.verdict) == (Verdict.UNCERTAIN, Verdict.VALID)
        assert (await gate.scored(after)).versions.model == "s2-two"

    run(test)


# Rungs


def shifted(name):
    """A model that says of each mask that its rows are a bit riskier than those of the mask before."""
    place = [*MASKS].index(name)
    return Calibration("platt", np.array([0.0, -4.0 + place / 16]), np.array([]))


BY_MASK = {name: shifted(name) for name in MASKS}


@pytest.mark.parametrize(
    ("drill", "event", "mask", "rung"),
    [
        (None, WIDE, "no_async", Rung.NO_ASYNC),
        (None, {"width": 300}, "no_async+partial_client", Rung.PARTIAL_CLIENT),
        ("partial_client", WIDE, "no_async+partial_client", Rung.PARTIAL_CLIENT),
        ("partial_counters", WIDE, "no_async+partial_counters", Rung.PARTIAL_COUNTERS),
        ("no_async", WIDE, "no_async", Rung.NO_ASYNC),
        ("stale_lists", WIDE, "no_async", Rung.STALE_LISTS),
    ],
)
def test_each_rung_is_scored_by_the_calibration_of_what_is_missing_on_it(drill, event, mask, rung):
    async def test(clients):
        gate = await a_gate(Line(a_scorer(calibrations=BY_MASK)))
        if drill is not None:
            gate.ladder.drill(drill, 10)
        [answer] = await gate.send(clients.render(**event))
        scored = await gate.scored(answer)
        assert (scored.versions.calibration, answer.rung) == (mask, rung)
        assert scored.risk == BY_MASK[mask](np.zeros(1))[0]

    run(test)


def test_with_history_of_the_publisher_nothing_is_missing_and_the_rung_is_full():
    async def test(clients):
        gate = await a_gate(Line(a_scorer()))
        gate.scoring.history = History(NOW, {"publisher-1": PublisherHistory(0.1, 0.2, 0.0)})
        [full] = await gate.send(clients.render(**WIDE))
        gate.ladder.drill("no_async", 10)
        [without] = await gate.send(clients.render(**WIDE))
        assert (full.rung, without.rung) == (Rung.FULL, Rung.NO_ASYNC)
        assert (await gate.scored(full)).versions.calibration == "full"

    run(test)


def test_a_person_whose_hour_was_not_watched_is_scored_without_counters():
    async def test(clients):
        counters = CountedActivity(RATE_RULES, NOW - HOUR // 2, SMALL, SHARED_TABLES)
        answer, scored = await one(Line(a_scorer()), clients.render(**WIDE), counters=counters)
        assert (answer.rung, scored.versions.calibration) == (Rung.PARTIAL_COUNTERS, "no_async+partial_counters")

    run(test)


def test_several_workers_are_scored_without_what_they_share():
    async def test(clients):
        _, scored = await one(
            Line(a_scorer()), clients.render(**WIDE), counters=counting(more=read_by_models(workers=4))
        )
        assert scored.versions.calibration == "no_async+no_shared"

    run(test)


def test_what_is_shed_is_not_scored_but_for_the_sample_whose_score_decides_nothing():
    async def test(clients):
        gate = await a_gate(Line(a_scorer(("area_px", 1.0, False, 3.0, 3.0))), propensity=0.5)
        gate.ladder.drill("shed", 10)
        answers = await gate.send(*(clients.render(**WIDE) for _ in range(120)))
        scored = [await gate.scored(answer) for answer in answers]
        shed = [score for score in scored if score.rung is Rung.SHED]
        sampled = [score for score in shed if score.propensity == 0.5]
        assert 30 < len(sampled) < len(shed) - 30
        assert all(score.band == "risky" and logged(score) is not None for score in sampled)
        assert all(score.risk is None and not score.features for score in shed if score.propensity is None)
        assert {score.reasons for score in shed} == {()}
        assert {score.reasons for score in scored if score.rung is not Rung.SHED} == {(Reason.RISK_GREY,)}

    run(test)


def test_what_the_screen_settles_is_scored_too_and_stands_as_the_screen_says():
    async def test(clients):
        answer, scored = await one(Line(a_scorer()), clients.render(**NARROW, agent="a bot"))
        assert told(answer) == (Verdict.DROPPED, Reason.AGENT_DECLARED_BOT)
        assert (scored.band, scored.reasons) == ("risky", (Reason.AGENT_DECLARED_BOT, Reason.RISK_GREY))

    run(test)


# Canary and shadow


def test_a_canary_decides_for_its_share_of_impressions_always_the_same_ones():
    async def test(clients):
        champion, canary = a_scorer(), a_scorer(("area_px", 60_000.0, False, -3.0, 3.0), name="s2-canary")
        gate = await a_gate(Line(champion, canary=(canary, 0.25)))
        answers = await gate.send(*(clients.render(**NARROW) for _ in range(200)))
        for answer in answers:
            [is_theirs] = in_share([answer.impression_id], "s2-canary", 0.25)
            assert (await gate.scored(answer)).versions.model == ("s2-canary" if is_theirs else "s2-one")
            assert answer.verdict is (Verdict.VALID if is_theirs else Verdict.UNCERTAIN)
        assert 20 < sum(answer.verdict is Verdict.VALID for answer in answers) < 80

    run(test)


def test_a_challenger_is_scored_and_decides_nothing():
    async def test(clients):
        challenger = a_scorer(("area_px", 60_000.0, False, -3.0, 3.0), name="s2-new")
        gate = await a_gate(Line(a_scorer(), challenger=challenger))
        registry = CollectorRegistry()
        registry.register(gate.scoring)
        answers = await gate.send(clients.render(**NARROW), clients.render(**NARROW), clients.render(**WIDE))
        assert [answer.verdict for answer in answers] == [Verdict.UNCERTAIN, Verdict.UNCERTAIN, Verdict.VALID]
        text = generate_latest(registry).decode()
        assert await gate.contest.compare() == 3
        [row] = gate.contest.beside.take(NOW)
        assert (row.key.other, row.milder, row.stricter) == ("s2-new", 2, 1)
        assert 'impledger_model{model="s2-new",role="challenger"} 1.0' in text

    run(test)


# The random sample


def test_the_sample_is_of_all_renders_also_of_those_that_are_dropped():
    async def test(clients):
        gate = await a_gate(Line(a_scorer()), propensity=1.0)
        events = [
            clients.render(**WIDE),
            clients.render(**WIDE, agent="a bot"),
            clients.render(**WIDE, prefetched=True),
        ]
        answers = await gate.send(*events)
        assert [(await gate.scored(answer)).propensity for answer in answers] == [1.0] * 3

    run(test)


def test_the_sample_is_as_large_as_it_says_and_always_the_same():
    clients = Minter()

    class Claim:
        def __init__(self):
            self.cause = clients.uuid()

    claims = [Claim() for _ in range(20_000)]
    sample, other = Sample(b"k" * 32, 0.01), Sample(b"other" * 7, 0.01)
    drawn = sample.drawn(claims)
    assert 140 < sum(drawn) < 260
    assert drawn == sample.drawn(claims)
    assert drawn != other.drawn(claims)
    assert not any(Sample(b"k" * 32, 0.0).drawn(claims))
    assert all(Sample(b"k" * 32, 1.0).drawn(claims))


def test_a_scorer_is_ready_for_any_number_of_rows():
    scorer = a_scorer(bands=dict.fromkeys(MASKS, Band(0.5, 0.9)))
    assert [scorer.score(rows(n)).risk.shape for n in (0, 1, 600)] == [(0,), (1,), (600,)]
