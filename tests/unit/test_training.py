"""Training: what labels say, and nothing else, becomes a model; the same from the same."""

import asyncio
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import msgspec
import numpy as np
import pytest
from builders import HOUR, MINTED, a_correction, an_answer
from hypothesis import given as for_all
from hypothesis import strategies as st
from learnkit import SOURCES, a_commit, a_label, a_world, read
from msgspec.structs import replace

from domain.decide import decide
from domain.impression import fold
from domain.placement_events import Stage
from domain.reasons import Reason
from domain.signals import Family, Signal
from domain.standing import Terms, standing_for
from domain.vocabulary import Authority, BillingEvent, Label, LabelSource
from ledger.codec import decode
from ml.datasets.build import build
from ml.datasets.snapshot import Recipe
from ml.datasets.split import split
from ml.features.later import LATER, LATER_SCHEMA, LATER_SCHEMA_ID
from ml.features.schema import PLACE, SCHEMA, columns_of_family
from ml.labels.sources import LESSONS
from ml.models import kernel
from ml.models.artifact import CorruptArtifact, SchemaMismatch, load
from ml.models.masks import FULL, MASKS
from ml.models.s3 import load_s3
from ml.models.scorer import Scorer
from ml.registry.trials import terms_for
from ml.training import bands, calibration, table
from ml.training.bands import Costs, band_of, expected_cost, open_share
from ml.training.calibration import ISOTONIC_MIN, calibrate, expected_error
from ml.training.dropout import with_holes, without
from ml.training.params import Params
from ml.training.stages import train_s2, train_s3
from ml.training.table import read_later_table, read_table
from ml.training.targets import targets
from ml.training.trees import OneClass, TreeRules, grow

pytestmark = pytest.mark.slow

SMALL = Params(trees=TreeRules(trees=30))
_folders: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory):
    _folders.append(tmp_path_factory.mktemp("data"))


@cache
def world(n=3_000):
    return a_world(n)


def snapshot_of(found, commits=None, cutoff=None):
    commits = found.commits if commits is None else commits
    cutoff = found.cutoff if cutoff is None else cutoff
    folder = Path(mkdtemp(dir=_folders[-1]))
    return asyncio.run(build(read(commits), commits[-1].position, Recipe(cutoff=cutoff), folder))


@cache
def snapshot(n=3_000):
    return snapshot_of(world(n))


@cache
def trained(n=3_000, stage=Stage.S2):
    return (train_s2 if stage is Stage.S2 else train_s3)(snapshot(n), SMALL, 1)


# Labels, and nothing else


def by_rule(events):
    """Everything that the system may say of a render, said of every second one."""
    if int(events[0].cause) % 2:
        return events
    rendered, scored, deduped = events
    said = replace(
        scored,
        reasons=(Reason.RATE_ABUSIVE,),
        signals=(Signal(Family.RATE, "rate", 1.0, 0.5), Signal(Family.MODEL, "model", 1.0, 0.5)),
        pair=("rate", "model"),
        risk=0.99,
        band="risky",
        masked_risk=0.99,
    )
    after = standing_for(Reason.RATE_ABUSIVE, Terms(2_000, BillingEvent.IMPRESSION, "mrc"), {})
    return rendered, said, replace(deduped, verdict=after.verdict, reason=after.reason, after=after)


def with_corrections(found, authority):
    """The commits of a world, each second impression corrected to invalid by *authority*, and answered otherwise."""
    later = []
    for commit in found.commits:
        events = decode(commit.data)
        if len(events) == 3 and int(events[0].cause) % 2 == 0:
            state, at = fold(events), commit.recorded_at + HOUR
            asked = a_correction(Reason.RISK_HIGH, authority, observed_at=at)
            later.append((at, commit.stream, decide(state, asked)))
            later.append((at, commit.stream, decide(state, an_answer(events[0].cause))))
    last = found.commits[-1].position
    return [*found.commits, *(a_commit(last + n, *one) for n, one in enumerate(later, 1) if one[2])]


def same_examples(one, other):
    arrays = ("features", "age_ms", "invalid", "human")
    return all(np.array_equal(getattr(one, a), getattr(other, a), equal_nan=True) for a in arrays) and all(
        np.array_equal(mine, theirs) for mine, theirs in zip(one.told, other.told, strict=True)
    )


def test_no_verdict_score_or_reason_of_the_system_makes_an_example_of_anything():
    plain, judged = a_world(900), a_world(900, change=by_rule)
    one, other = snapshot_of(plain), snapshot_of(judged)
    assert one.id != other.id
    assert read_table(other).facts["reason"].to_list().count("RATE_ABUSIVE") > 300
    assert same_examples(read_table(one), read_table(other))
    assert same_examples(read_later_table(one, 1), read_later_table(other, 1))


def test_of_more_rows_than_are_read_the_newest_are(monkeypatch):
    snapshot = snapshot_of(a_world(300, days=3))
    everything = read_table(snapshot).facts["position"].to_list()
    monkeypatch.setattr(table, "ROWS_MAX", 100)
    assert read_table(snapshot).facts["position"].to_list() == everything[-100:]
    assert read_later_table(snapshot, 1).facts["position"].is_in(everything[-100:]).all()


@pytest.mark.parametrize("authority", [a for a in Authority if a is not Authority.EXPIRY])
def test_no_correction_and_no_answer_makes_an_example_of_anything(authority):
    plain = a_world(300, days=3)
    commits = with_corrections(plain, authority)
    assert len(commits) > len(plain.commits) + 100
    assert same_examples(read_table(snapshot_of(plain)), read_table(snapshot_of(plain, commits)))


@pytest.mark.slow
def test_what_the_system_decided_changes_neither_trees_nor_calibrations():
    models = [
        load(train_s2(snapshot_of(a_world(2_500, change=change)), SMALL, 1).data)
        for change in (lambda events: events, by_rule)
    ]
    plain, judged = (msgspec.structs.astuple(model.trees) for model in models)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(plain, judged, strict=True))
    for mask in MASKS:
        one, other = (model.calibrations[mask] for model in models)
        assert np.array_equal(one.x, other.x)
        assert np.array_equal(one.y, other.y)


@pytest.mark.parametrize("stage", list(Stage))
def test_only_labels_of_sources_that_may_teach_are_targets(stage):
    found = a_world(150, days=3)
    first = found.commits[0]
    at = first.recorded_at + 30 * HOUR
    for source in LabelSource:
        label = Label.HUMAN if source is LabelSource.HUMAN_SIGNAL else Label.INVALID
        told = a_commit(len(found.commits) + 1, at, first.stream, (a_label(source, label, at),))
        snapshot = snapshot_of(found, [*found.commits, told])
        table = read_table(snapshot) if stage is Stage.S2 else read_later_table(snapshot, 1)
        assert (source in table.told.source[table.told.row == 0]) is (stage in LESSONS[source].stages)


def test_a_label_that_came_before_a_row_is_looked_at_again_is_no_target_of_it():
    table = read_later_table(snapshot(), 1)
    assert (table.told.delay_ms > 0).all()
    scored_at = snapshot().cutoff - table.age_ms
    early = {str(commit.stream): commit.recorded_at for commit in world().commits if len(decode(commit.data)) == 1}
    for impression, at in zip(table.facts["impression"], scored_at, strict=True):
        assert early.get(impression, at + 1) > at


# Targets


@pytest.mark.slow
def test_silence_is_read_by_how_much_would_have_been_said():
    table = read_table(snapshot(12_000))
    parts = split(table.decided_at, table.entities, SMALL.split, 1)
    found = targets(table, parts.train, 1)
    truth = np.array([world(12_000).truth[one] for one in table.facts["impression"]])
    assert found.chance.mean() == pytest.approx(truth.mean(), rel=0.3)
    for source, (share, label, _) in SOURCES.items():
        if label is Label.INVALID:
            assert found.shares[source] == pytest.approx(share, rel=0.5)
    silent = table.invalid + table.human == 0
    assert found.chance[silent & truth].mean() > 20 * found.chance[silent & ~truth].mean()


def test_without_labels_of_both_kinds_there_is_nothing_to_learn():
    found = a_world(300, share=0.0, days=2)
    with pytest.raises(OneClass):
        train_s2(snapshot_of(found), SMALL, 1)


# The same from the same


@pytest.mark.slow
@pytest.mark.parametrize("stage", list(Stage))
def test_the_same_data_and_seed_make_the_same_model_and_another_seed_another(stage):
    train = train_s2 if stage is Stage.S2 else train_s3
    again, other = train(snapshot(), SMALL, 1), train(snapshot(), SMALL, 2)
    assert again.model == trained(stage=stage).model
    assert again.data == trained(stage=stage).data
    assert other.model != again.model
    assert again.model.startswith(stage.value)


@pytest.mark.slow
def test_a_model_is_read_by_its_own_stage_alone():
    assert load(trained().data, trained().model).stage is Stage.S2
    later = trained(stage=Stage.S3)
    assert load_s3(later.data, later.model).schema_id == LATER_SCHEMA_ID
    with pytest.raises(SchemaMismatch):
        load(later.data)
    with pytest.raises(SchemaMismatch):
        load_s3(trained().data)
    with pytest.raises(CorruptArtifact):
        load(trained().data[:-9])


def test_a_model_says_what_it_was_made_of():
    card = load(trained().data).card
    assert (card.seed, card.snapshot, card.rows) == (1, snapshot().id, 3_000)
    assert card.ledger_range == (1, len(world().commits))
    assert card.trained_until == world().cutoff
    assert card.libraries.keys() >= {"scikit-learn", "numpy"}
    assert card.costs == msgspec.to_builtins(SMALL.costs)


def test_a_model_of_generated_traffic_says_that_it_read_nothing_of_a_ledger():
    generated = replace(snapshot(), recipe=Recipe(generated=True))
    data = train_s2(generated, SMALL, 1).data
    card = load(data).card
    assert (card.ledger_range, card.trained_until) == ((0, 0), 0)
    terms = terms_for([Scorer(load(data))], now=MINTED, accuses=())
    assert (terms.after, terms.since) == (0, 0)


def test_a_model_has_a_calibration_and_a_band_for_every_mask():
    model, figures = load(trained().data), trained().masks
    assert set(model.calibrations) == set(model.bands) == set(figures) == set(MASKS)
    assert all(one.ece < 0.05 for one in figures.values())
    assert figures[FULL].open_share <= SMALL.open_max + 0.01


# Trees


def test_a_column_of_which_nothing_is_known_is_no_obstacle():
    dice = np.random.default_rng(1)
    rows = np.column_stack([dice.normal(size=400), np.full(400, np.nan)])
    trees = grow(rows, (rows[:, 0] > 0).astype(float), np.ones(400), TreeRules(trees=3), 1)
    assert set(trees.feature.tolist()) == {0}


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_one_class_is_refused(target):
    with pytest.raises(OneClass):
        grow(np.zeros((50, 2)), np.full(50, target), np.ones(50), TreeRules(), 1)


def test_a_row_in_doubt_counts_on_both_sides_as_far_as_it_is_likely():
    rows = np.zeros((20_000, 1))
    rows[10_000:] = 1.0
    trees = grow(rows, np.where(rows[:, 0] == 1, 0.7, 0.2), np.full(20_000, 1.5), TreeRules(trees=200), 1)
    odds = trees.baseline + np.array([trees.value[trees.left < 0][0::2].sum(), trees.value[trees.left < 0][1::2].sum()])
    assert 1 / (1 + np.exp(-odds)) == pytest.approx([0.2, 0.7], abs=0.02)


@pytest.mark.parametrize(("name", "falls"), [("person_min", False), ("person_gap_ms", True)])
def test_more_of_what_rises_never_makes_a_row_look_more_human(name, falls):
    dice, column = np.random.default_rng(2), PLACE[name]
    rows = dice.normal(size=(4_000, len(SCHEMA)))
    more_is_human = 1 / (1 + np.exp(3 * rows[:, column]))
    trees = grow(rows, more_is_human, np.ones(4_000), TreeRules(trees=40, features_share=1.0), 1)
    swept = np.repeat(rows[:200, None], 9, axis=1)
    swept[:, :, column] = np.linspace(-3, 3, 9)
    steps = np.diff(kernel.margins(kernel.forest(trees), swept.reshape(-1, len(SCHEMA))).reshape(200, 9), axis=1)
    assert (steps.sum(axis=1) < 0).all() if falls else (steps >= 0).all()


# What is left out


def test_each_row_is_repeated_without_one_group_or_family():
    rows = np.ones((4_000, len(SCHEMA) + 2))
    holes = {tuple(np.flatnonzero(row)) for row in np.isnan(with_holes(rows, np.random.default_rng(1)))}
    assert tuple(sorted(columns_of_family(Family.RATE))) in holes
    assert {at for hole in holes for at in hole} <= set(range(len(SCHEMA)))
    assert len(holes) > len(MASKS)


def test_a_row_that_is_looked_at_again_is_repeated_without_what_a_family_knows_later():
    rows = np.ones((4_000, len(LATER_SCHEMA)))
    holes = {tuple(np.flatnonzero(row)) for row in np.isnan(with_holes(rows, np.random.default_rng(1)))}
    names = {tuple(LATER_SCHEMA[at].name for at in hole) for hole in holes}
    assert ("others_invalid", "others_human") in names
    assert ("person_gap_ms", "person_gap_variation", "next_gap_ms") in names


@pytest.mark.parametrize("mask", list(MASKS))
def test_what_a_mask_leaves_out_is_unknown_and_nothing_else(mask):
    masked = np.isnan(without(np.ones((2, len(SCHEMA) + len(LATER))), mask))
    out = {feature.name for feature, is_out in zip(SCHEMA, masked[0], strict=False) if is_out}
    assert out == {feature.name for feature in SCHEMA if feature.group in MASKS[mask]}
    assert not masked[:, len(SCHEMA) :].any()


# Calibration


def a_sample(n, seed, truth=lambda margin: 1 / (1 + np.exp(-(2 * margin - 2)))):
    dice = np.random.default_rng(seed)
    margin = dice.normal(size=n)
    return calibration.Sample(margin, (dice.random(n) < truth(margin)).astype(float), np.ones(n))


@pytest.mark.parametrize(("n", "kind", "error_max"), [(1_000, "platt", 0.03), (20_000, "isotonic", 0.01)])
def test_what_is_said_is_what_is_so(n, kind, error_max):
    fitted = calibrate(a_sample(n, 1))
    other = a_sample(50_000, 2)
    assert fitted.kind == kind
    assert expected_error(fitted(other.margin), other.target, other.weight) < error_max


def test_a_shape_that_two_numbers_cannot_say_is_learnt_where_there_is_enough():
    shape = lambda margin: np.where(margin > 0, 0.6, 0.05)  # noqa: E731
    fitted, other = calibrate(a_sample(20_000, 1, shape)), a_sample(20_000, 2, shape)
    assert expected_error(fitted(other.margin), other.target, other.weight) < 0.02


@pytest.mark.parametrize("n", [1_000, 20_000])
def test_margins_that_mislead_say_of_all_the_share_that_there_is(n):
    sample = a_sample(n, 1, lambda margin: 0.05 / (1 + np.exp(4 + 2 * margin)))
    risk = calibrate(sample)(sample.margin)
    assert np.ptp(risk) == 0
    assert risk[0] == pytest.approx(sample.target.mean())


def test_two_margins_keep_their_order_between_the_ends():
    sample = a_sample(20_000, 1)
    fitted = calibrate(sample)
    assert (np.diff(fitted.x) > 0).all()
    assert (np.diff(fitted.y) > 0).all()


@for_all(st.floats(0, 1), st.integers(0, 40))
def test_however_little_is_known_a_calibration_is_one(target, n):
    sample = calibration.Sample(np.linspace(-2, 2, n), np.full(n, target), np.ones(n))
    risk = calibrate(sample)(np.array([-1e9, 0.0, 1e9]))
    assert (np.diff(risk) >= 0).all()
    assert (risk >= 0).all()
    assert (risk <= 1).all()


def test_enough_is_counted_of_the_rarer_kind():
    sample = a_sample(20_000, 1, lambda margin: np.full_like(margin, 0.5 * ISOTONIC_MIN / 20_000))
    assert calibrate(sample).kind == "platt"


def test_the_expected_error_is_the_mean_distance_of_what_is_said_and_what_is_so():
    risk = np.array([0.1] * 50 + [0.9] * 50)
    target = np.array([0.0] * 50 + [1.0] * 50)
    assert expected_error(risk, target, np.ones(100)) == pytest.approx(0.1)
    assert expected_error(risk, risk, np.ones(100)) == 0
    assert expected_error(risk[:0], risk[:0], risk[:0]) == 0


# Bands


def risks(risk, *, settled=False):
    risk = np.asarray(risk, float)
    return bands.Sample(risk, np.ones(len(risk)), np.full(len(risk), settled))


ROOM = 1.0


def test_what_is_cheapest_is_done():
    costs = Costs(billed_invalid=2.0, dropped_human=4.0, undecided=0.2)
    band = band_of(costs, risks([]), ROOM)
    assert band.grey_from == pytest.approx(0.1)
    assert band.risky_from == pytest.approx(0.95)
    for p in np.linspace(0, 1, 101):
        billed, dropped = p * costs.billed_invalid, (1 - p) * costs.dropped_human
        cheapest = min(billed, dropped, costs.undecided)
        done = billed if p < band.grey_from else dropped if p >= band.risky_from else costs.undecided
        assert done == pytest.approx(cheapest, abs=1e-9)


def test_where_leaving_it_open_never_pays_there_is_no_grey():
    band = band_of(Costs(billed_invalid=1.0, dropped_human=1.0, undecided=0.9), risks([]), ROOM)
    assert band.grey_from == band.risky_from == pytest.approx(0.5)


@for_all(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.floats(0, 0.5))
def test_no_more_stay_open_than_may(values, share):
    band = band_of(Costs(), risks(values), share)
    assert open_share(band, risks(values)) <= share
    assert 0 <= band.grey_from <= band.risky_from


def test_what_the_rules_settle_does_not_count_as_open():
    sample = risks([0.99] * 50, settled=True)
    assert band_of(Costs(), sample, 0.0).grey_from == pytest.approx(0.1)
    assert open_share(band_of(Costs(), sample, 0.0), sample) == 0


def test_the_cost_of_a_band_is_what_is_billed_wrongly_and_what_stays_open():
    band = band_of(Costs(), risks([]), ROOM)
    cost = expected_cost(band, Costs(), risks([0.05, 0.5]), np.array([0.05, 0.5]))
    assert cost == pytest.approx((0.05 * 2.0 + 0.2) / 2)
