"""What a gate with a model decided of generated traffic, in scored rows, beside the truth and what rules would do."""

import numpy as np
import polars as pl
import pytest
from modelkit import a_mixed_model

from domain.vocabulary import Rung
from ml.datasets.history import PublisherLog
from ml.evaluation.collect import ASIDE, collect
from ml.evaluation.frames import World, rows_of
from ml.evaluation.scored import MODEL, check
from ml.features.schema import Group, columns_of
from ml.traffic.families import HELD_OUT, TRAINABLE
from service.evaluating_runs import HISTORY_EVERY_MS, Run, Scene, _Scored, evaluation_seed, play, play_whole
from service.evaluating_studies import NOT_RUN
from service.generated import Generated
from service.scoring import Line
from service.wiring import ScreenLists, load_pack

pytestmark = pytest.mark.slow
IMPRESSIONS = 900


@pytest.fixture(scope="module")
def scene():
    return Scene(load_pack("base-1"), ScreenLists())


@pytest.fixture(scope="module")
def model():
    return a_mixed_model()


@pytest.fixture(scope="module")
def whole(scene):
    return play_whole(a_run(Line()), scene)


@pytest.fixture(scope="module")
def ruled(scene, whole):
    return World(1, collect(whole.commits, scene.pack), whole.truths)


@pytest.fixture(scope="module")
def scored(scene, model):
    return play(a_run(Line(champion=model)), scene, 1)


def a_run(line, **changes):
    return Run(**{"seed": 3, "impressions": IMPRESSIONS, "line": line, **changes})


def test_a_run_has_the_impressions_that_it_is_to_have_and_the_same_again(scene, scored, model):
    again = play(a_run(Line(champion=model)), scene, 1)
    assert len(scored.collected.facts) >= IMPRESSIONS
    assert again.collected.facts.equals(scored.collected.facts)
    np.testing.assert_array_equal(again.collected.vectors.values, scored.collected.vectors.values)


def test_what_rules_alone_would_decide_is_what_a_gate_without_a_model_decides(ruled, scored):
    ours = scored.collected.facts.join(ruled.collected.facts, on="impression", how="full", suffix="_ruled")
    assert (ours["outcome_by_rules"] == ours["outcome_ruled"]).all()
    assert (ours["outcome"] != ours["outcome_ruled"]).any()
    assert (ruled.collected.facts["outcome"] == ruled.collected.facts["outcome_by_rules"]).all()


def test_scores_are_those_that_stand_in_the_ledger_and_features_those_that_were_scored(scored, model):
    again = model.score(scored.collected.vectors)
    assert scored.collected.facts["risk"].to_list() == again.risk.tolist()


def test_rows_are_impressions_in_gross_each_with_what_is_true_of_it(scored):
    rows = rows_of([scored])
    truth = {str(one.event_id): one for one in scored.truths}
    facts = scored.collected.facts
    assert len(rows.frame) + rows.aside == len(facts)
    assert rows.impressions == facts.filter(pl.col("outcome") != ASIDE)["impression"].to_list()
    for event, y, family, entity in zip(
        facts.filter(pl.col("outcome") != ASIDE)["event"],
        *(rows.frame[name] for name in ("y", "family", "entity")),
        strict=True,
    ):
        assert (y, family) == (float(truth[event].invalid), truth[event].family)
        assert entity % (1 << 32) == truth[event].who
    assert check(rows.frame) is rows.frame
    assert rows.vectors.values.shape[0] == len(rows.frame)


def test_entities_of_two_worlds_are_never_the_same(scored):
    both = rows_of([scored, scored._replace(number=2)]).frame
    of_world = {world: set(part["entity"]) for (world,), part in both.partition_by("world", as_dict=True).items()}
    assert of_world["1"].isdisjoint(of_world["2"])


def test_held_out_families_are_played(scored):
    assert set(HELD_OUT) & {truth.family for truth in scored.truths}


@pytest.mark.parametrize(
    ("rung", "masked"),
    [(Rung.PARTIAL_COUNTERS, (Group.COUNTERS, Group.SHARED)), (Rung.PARTIAL_CLIENT, (Group.GEOMETRY,))],
)
def test_on_a_rung_everything_is_scored_without_what_it_lacks(scene, model, rung, masked):
    played = play(a_run(Line(champion=model), rung=rung, families=TRAINABLE), scene, 1)
    assert not any(truth.held_out for truth in played.truths)
    frame = rows_of([played])
    assert all(rung.value in mask for mask in frame.frame["mask"])
    if rung is Rung.PARTIAL_COUNTERS:
        columns = [column for group in masked for column in columns_of(group)]
        assert np.isnan(frame.vectors.values[:, columns]).all()


def test_without_a_model_there_are_rows_and_no_scores(ruled):
    assert rows_of([ruled]).frame[MODEL].is_null().all()


def test_with_history_publishers_are_known_by_what_was_seen_of_them(scene, whole):
    gate = _Scored(a_run(Line()), scene)
    assert not gate._scoring.history.publishers
    gate.learn(PublisherLog(HISTORY_EVERY_MS), whole.commits)
    assert {"facebook", "instagram"} <= set(gate._scoring.history.publishers)


def test_no_world_of_an_evaluation_has_the_seed_of_another_or_of_a_training():
    seeds = {evaluation_seed(seed, number) for seed in range(20) for number in range(20)}
    assert len(seeds) == 400
    assert min(seeds) > 1_000_000
    assert seeds.isdisjoint(Generated(impressions=9, seed=s).plan(n).seed for s in range(20) for n in range(20))


def test_every_rung_is_run_or_says_why_not():
    run = {Rung.FULL, Rung.NO_ASYNC, Rung.PARTIAL_CLIENT, Rung.PARTIAL_COUNTERS, Rung.MODEL_FALLBACK}
    assert {*NOT_RUN, *run, Rung.SHED, Rung.STALE_LISTS} == set(Rung)
