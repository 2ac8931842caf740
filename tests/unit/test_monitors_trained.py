"""What a training leaves for monitors: counts of decisions that the trees did not see, and curves of labels."""

import asyncio

import numpy as np
import pytest
from learnkit import SOURCES, a_world, read

from domain.vocabulary import LabelSource
from ml.datasets.build import build
from ml.datasets.snapshot import Recipe
from ml.features.matrix import MISSING, Vectors
from ml.features.replayed import Replay
from ml.features.schema import SCHEMA, SCHEMA_ID, Group, columns_of
from ml.labels.arrival import ArrivalCurve
from ml.models.artifact import load
from ml.monitors.decisions import Window
from ml.monitors.reference import load as load_reference
from ml.monitors.rows import COLD, rows_of
from ml.monitors.tallies import SURFACES, count
from ml.monitors.trained import Labelling, label_curves
from ml.training.params import Params
from ml.training.stages import train_s2
from ml.training.trees import TreeRules


def replayed(world):
    """Decisions with the vectors of a replay, without risks."""
    parts = list(Replay().take(world.commits))
    vectors = Vectors(*(np.concatenate([getattr(one.vectors, of) for one in parts]) for of in ("values", "status")))
    surfaces = [row.rendered.surface.value for one in parts for row in one.rows]
    return rows_of(np.array(surfaces), vectors)


@pytest.mark.slow
def test_a_model_brings_what_its_decisions_are_compared_with(tmp_path):
    found = a_world(6_000)
    snapshot = asyncio.run(build(read(found.commits), found.until, Recipe(cutoff=found.cutoff), tmp_path))
    artifact = load(train_s2(snapshot, Params(trees=TreeRules(trees=30)), 1).data)
    reference = load_reference(artifact.reference)
    assert (reference.schema_id, len(reference.names)) == (SCHEMA_ID, len(SCHEMA))
    unseen = reference.tally.risks[SURFACES.index("feed")].sum()
    assert 0.35 * 6_000 < unseen < 0.45 * 6_000
    assert (reference.tally.states[SURFACES.index("feed")].sum(axis=1) == unseen).all()
    assert {curve.source for curve in reference.labels} == {LabelSource.HONEYPOT, LabelSource.THIRD_PARTY}
    for curve in reference.labels:
        assert curve.caught == pytest.approx(SOURCES[curve.source][0], rel=0.5)
        assert curve.rate == pytest.approx(0.08 * SOURCES[curve.source][0], rel=0.4)
    rows = replayed(a_world(3_000, seed=2))
    slices = [count(rows.take(part), reference.bins) for part in np.array_split(np.arange(len(rows.surface)), 10)]
    measures = [one for one in Window(reference, reference.bins, slices).measured() if one.p_value is not None]
    assert len(measures) >= 2 * len(SCHEMA)
    assert max(one.excess for one in measures) < 0.05


def test_only_sources_that_label_whatever_we_decided_have_a_curve():
    curve = ArrivalCurve(1_000.0, 1.0)
    labelled = dict.fromkeys(LabelSource, Labelling(0.02, curve)) | {LabelSource.HONEYPOT: Labelling(0.0, curve)}
    assert [(one.source, one.caught, one.rate) for one in label_curves(labelled, 0.1)] == [
        (LabelSource.ACCOUNT_ACTION, pytest.approx(0.2), 0.02),
        (LabelSource.THIRD_PARTY, pytest.approx(0.2), 0.02),
    ]
    assert label_curves(labelled, 0.0) == ()


@pytest.mark.parametrize("group", [Group.SHARED, Group.ASYNC])
def test_what_a_gate_does_without_on_purpose_is_left_out_where_none_of_it_is_known(group):
    columns = list(columns_of(group))
    status = np.zeros((2, len(SCHEMA)), np.uint8)
    status[0, columns] = MISSING
    status[1, columns[0]] = MISSING
    rows = rows_of(np.full(2, "feed"), Vectors(np.zeros((2, len(SCHEMA))), status))
    assert (rows.status[0, columns] == COLD).all()
    assert rows.status[1, columns[0]] == MISSING
    assert (status[0, columns] == MISSING).all()
