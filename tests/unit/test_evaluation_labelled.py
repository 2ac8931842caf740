"""On the ledger labels stand for the truth, for what training did not see; what came later counts by its time."""

from uuid import UUID

import numpy as np
import polars as pl
import pytest
from builders import DAY, HOUR
from learnkit import a_commit, a_world
from lookkit import a_later_artifact
from modelkit import FACTS, an_artifact, trees
from msgspec.structs import replace

from ledger.codec import decode
from ml.datasets.build import build_of
from ml.datasets.later import later_columns
from ml.datasets.snapshot import Recipe
from ml.datasets.split import held_out as kept_apart
from ml.evaluation.labelled import labelled, vectors_of
from ml.evaluation.later import looked_again
from ml.evaluation.scored import MODEL, Cell
from ml.features.later import LATER_NAMES
from ml.models.s3 import Belief, LaterScorer
from ml.models.scorer import Scorer


@pytest.fixture(scope="module")
def world():
    return a_world(n=1_500)


@pytest.fixture(scope="module")
def snapshot(world, tmp_path_factory):
    return build_of(world.commits, Recipe(history=False), tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def scorer():
    stumps = (("fingerprint_inconsistencies", 1.5, True, -1.5, 2.0), ("agent_age_days", 150.0, True, -1.0, 2.0))
    return Scorer(an_artifact(trees(*stumps)))


def decided_at(snapshot):
    return snapshot.scan("rows").select("decided_at").collect()["decided_at"]


def test_a_label_stands_for_the_truth_and_a_row_weighs_as_it_is_trusted(world, snapshot, scorer):
    found = labelled(snapshot, 1, FACTS, scorer)
    told = snapshot.scan("labels").select("impression").unique().collect()["impression"].to_list()
    assert found.rows == 1_500
    assert 0 < len(found.frame) <= len(told)
    assert found.frame["y"].sum() == sum(world.truth[impression] for impression in told)
    assert found.frame["weight"].is_between(0, 1, closed="right").all()
    assert found.frame["weight"].n_unique() > 2


def test_what_was_decided_before_the_models_data_end_or_before_the_range_is_left_out(snapshot, scorer):
    middle = int(decided_at(snapshot).median())
    later = labelled(snapshot, 1, replace(FACTS, trained_until=middle), scorer)
    assert later.rows == (decided_at(snapshot) > middle).sum()
    last = snapshot.scan("rows").select("position").collect()["position"].sort()[-10]
    assert labelled(snapshot, last, FACTS, scorer).rows == 10


def test_an_impression_that_training_saw_is_left_out_also_where_it_was_decided_again_since(world, scorer, tmp_path):
    labels = {one.stream for one in world.commits if len(decode(one.data)) == 1}
    first = next(one for one in world.commits if one.stream in labels)
    rendered, scored, deduped = decode(first.data)
    at = world.cutoff + HOUR
    again = replace(rendered, cause=UUID(int=1)), scored, replace(deduped, cause=UUID(int=1), decided_at=at)
    commits = [*world.commits, a_commit(world.until + 1, at, first.stream, again)]
    snapshot = build_of(commits, Recipe(history=False), tmp_path)
    assert labelled(snapshot, 1, FACTS, scorer).rows == 1_500
    assert labelled(snapshot, 1, replace(FACTS, trained_until=world.cutoff), scorer).rows == 0


def test_rows_of_publishers_that_training_kept_apart_are_held_out(snapshot, scorer):
    facts = replace(FACTS, seed=3)
    found = labelled(snapshot, 1, facts, scorer).frame
    publishers = np.array([f"publisher-{n}" for n in range(25)], object)
    share = kept_apart(publishers, 0.15, 3).mean()
    assert 0 < found["held_out"].mean() == pytest.approx(share, abs=0.12)


def test_in_the_random_sample_a_row_stands_for_all_that_its_propensity_says(snapshot, scorer):
    found = labelled(snapshot, 1, FACTS, scorer)
    assert len(found.sample) < len(found.frame)
    assert (found.sample["weight"] > 100).all()


def test_the_score_is_the_models_of_the_features_that_were_kept(snapshot, scorer):
    rows = snapshot.scan("rows").collect()
    again = scorer.score(vectors_of(rows)).risk
    frame = labelled(snapshot, 1, FACTS, scorer).frame
    assert set(frame[MODEL].round(9)) <= set(again.round(9).tolist())
    cell = Cell.of(frame)
    assert cell.scores[MODEL][cell.y == 1].mean() > cell.scores[MODEL][cell.y == 0].mean() + 0.2


@pytest.mark.parametrize("after_ms", [HOUR, 3 * DAY])
def test_looking_again_at_all_rows_says_of_each_what_looking_at_it_alone_says(snapshot, after_ms):
    artifact = a_later_artifact()
    found = looked_again(snapshot, artifact, after_ms)
    rows = snapshot.scan("rows").collect().with_columns(known_at=pl.col("decided_at") + after_ms)
    later = later_columns(snapshot, rows).select(LATER_NAMES).to_numpy()
    seen, alone = vectors_of(rows), LaterScorer(artifact)
    told = snapshot.scan("labels").select("impression").unique().collect()["impression"]
    silent = [at for at, one in enumerate(rows["impression"]) if one not in set(told)][:40]
    for at in silent:
        risk = alone.risk(seen.take([at]), later[at : at + 1], Belief())
        assert found["again"][at] == pytest.approx(risk.value)


def test_labels_of_an_impression_count_beside_the_model_once_they_have_arrived(world, snapshot):
    artifact = a_later_artifact(0.0)
    soon, late = (looked_again(snapshot, artifact, after_ms)["again"] for after_ms in (1, 30 * DAY))
    assert (soon == soon[0]).all()
    told = late != soon
    is_invalid = pl.Series([world.truth[one] for one in looked_again(snapshot, artifact, 1)["impression"]])
    assert told.sum() > 20
    assert (late.filter(told & is_invalid) > soon[0]).all()
    assert (late.filter(told & ~is_invalid) < soon[0]).all()
