"""Data sets: what was known when, the same for the same ledger, and nobody in them."""

import asyncio
import re

import numpy as np
import polars as pl
import pytest
from builders import DAY, HOUR, MINTED, SECOND
from hypothesis import given as for_all
from hypothesis import strategies as st
from learnkit import a_commit, a_label, a_world, read
from msgspec.structs import replace

from domain.events import ImpressionViewed
from ledger import codec
from ledger.codec import UnreadableCommit, decode, decode_impression, encode
from ml.datasets.build import Builder, build
from ml.datasets.history import RENDERS_MIN, PublisherLog
from ml.datasets.later import later_columns
from ml.datasets.rows import PARTS, ROWS
from ml.datasets.snapshot import NoSnapshot, RangeDigest, Recipe, open_snapshot
from ml.datasets.split import Entities, SplitRules, split
from ml.datasets.vectors import as_served
from ml.features.logged import pack
from ml.features.matrix import vectors
from ml.features.publishers import NO_HISTORY, History, PublisherHistory
from ml.features.replayed import Row
from ml.features.schema import SCHEMA, SCHEMA_ID
from ml.models.masks import MASKS

pytestmark = pytest.mark.slow

WORLD = a_world(600, days=4)


def built(folder, commits=WORLD.commits, until=None, cutoff=WORLD.cutoff, **recipe):
    until = commits[-1].position if until is None else until
    return asyncio.run(build(read(commits), until, Recipe(cutoff=cutoff, **recipe), folder))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return built(tmp_path_factory.mktemp("data"))


def test_every_decided_render_is_a_row_with_the_vector_that_it_was_scored_with(snapshot):
    rows = snapshot.scan("rows").collect()
    assert rows.schema == ROWS
    assert rows.height == 600 == snapshot.parts["rows"]
    assert rows["position"].is_sorted()
    assert rows["status"].str.len_chars().unique().to_list() == [len(SCHEMA)]
    assert set(rows["mask"]) <= set(MASKS)
    assert rows["f_person_hour"].min() == 1


def test_a_label_stands_with_when_it_had_arrived(snapshot):
    labels = snapshot.scan("labels").collect()
    assert labels.height == snapshot.parts["labels"] > 20
    assert (labels["arrived_at"] >= labels["observed_at"]).all()


# The same for the same


def test_the_same_ledger_and_recipe_make_the_same_data_set(snapshot, tmp_path):
    again = built(tmp_path)
    assert again.id == snapshot.id
    for part in PARTS:
        assert again.scan(part).collect().equals(snapshot.scan(part).collect())


@pytest.mark.parametrize(
    "other",
    [{"cutoff": WORLD.cutoff - 1}, {"seed": 7}, {"history": False}, {"until": len(WORLD.commits) - 1}],
    ids=lambda one: next(iter(one)),
)
def test_another_input_makes_another_id(snapshot, tmp_path, other):
    assert built(tmp_path, **other).id != snapshot.id


def test_a_changed_byte_in_the_ledger_makes_another_id(snapshot, tmp_path):
    commits = list(WORLD.commits)
    events = decode(commits[5].data)
    commits[5] = replace(commits[5], data=encode((replace(events[0], sdk="other"), *events[1:])))
    assert built(tmp_path, commits).id != snapshot.id


@for_all(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_a_range_has_one_digest_in_whatever_pieces_it_is_read(sizes):
    commits = WORLD.commits[: sum(sizes)]
    whole, pieces = RangeDigest(), RangeDigest()
    whole.update(commits)
    for size in sizes:
        pieces.update(commits[:size])
        commits = commits[size:]
    assert pieces.digest() == whole.digest()


def test_a_data_set_that_is_there_already_is_left_as_it_is(tmp_path):
    first = built(tmp_path)
    again = built(tmp_path)
    assert again == first
    assert [path.name for path in tmp_path.iterdir()] == [first.id]


def test_commits_that_cannot_be_read_are_left_out_and_counted(snapshot, tmp_path):
    damaged = [replace(one, data=b"{") if one.position in {1, 7} else one for one in WORLD.commits]
    made = built(tmp_path, damaged)
    assert (made.unreadable, snapshot.unreadable) == (2, 0)
    assert made.parts["rows"] == snapshot.parts["rows"] - 2


def test_a_program_that_can_read_more_does_not_take_the_data_set_of_one_that_could_not(snapshot, tmp_path, monkeypatch):
    newer = WORLD.commits[6].data

    def of_old(data):
        if data == newer:
            raise UnreadableCommit("a newer schema")
        return decode_impression(data)

    with monkeypatch.context() as before:
        before.setattr(codec, "decode_impression", of_old)
        assert built(tmp_path).unreadable == 1
    assert (built(tmp_path).unreadable, built(tmp_path).id) == (0, snapshot.id)


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(NoSnapshot):
        open_snapshot(tmp_path)


# What was known when


@pytest.mark.parametrize("until", [150, 400])
def test_what_stands_in_a_row_does_not_change_by_what_is_recorded_after_it(snapshot, tmp_path, until):
    earlier = built(tmp_path, until=until).scan("rows").collect()
    assert 0 < earlier.height < 600
    assert earlier.equals(snapshot.scan("rows").collect().head(earlier.height))


@pytest.mark.parametrize(("late_ms", "labels"), [(0, 1), (1, 0)])
def test_a_label_received_a_millisecond_after_the_cut_off_is_not_in_the_data_set(tmp_path, late_ms, labels):
    first = WORLD.commits[0]
    at = first.recorded_at + HOUR
    told = a_commit(2, at, first.stream, (a_label(at=at + late_ms),))
    assert built(tmp_path, [first, told], cutoff=at).parts["labels"] == labels


@pytest.mark.parametrize(("late_ms", "labels"), [(0, 1), (1, 0)])
def test_a_label_recorded_a_millisecond_after_the_cut_off_is_not_in_the_data_set(tmp_path, late_ms, labels):
    first = WORLD.commits[0]
    at = first.recorded_at + HOUR
    told = a_commit(2, at + late_ms, first.stream, (a_label(at=at),))
    assert built(tmp_path, [first, told], cutoff=at).parts["labels"] == labels


# Nobody in it


def test_no_pseudonym_is_in_a_data_set(snapshot):
    rendered = [decode(commit.data)[0] for commit in WORLD.commits]
    known = {getattr(one, name, "") for one in rendered for name in ("user", "device", "network", "session")} - {""}
    assert len(known) > 100
    for part in PARTS:
        for column in snapshot.scan(part).collect().select(pl.col(pl.String)):
            assert known.isdisjoint(column)
            assert not [text for text in column if re.fullmatch(r"[0-9a-f]{24}", text)]


def test_rows_of_a_person_share_a_number_that_another_seed_makes_another_one(snapshot, tmp_path):
    people = [decode(c.data)[0].user for c in WORLD.commits if len(decode(c.data)) == 3]
    rows, other = snapshot.scan("rows").collect(), built(tmp_path, seed=1).scan("rows").collect()
    assert len(set(zip(people, rows["person"], strict=True))) == len(set(people)) == rows["person"].n_unique()
    assert set(rows["person"]).isdisjoint(other["person"])


# Publishers' history


def an_hour(log, at, publisher, *, invisible=0, clicks=0, n=RENDERS_MIN):
    rendered, scored, deduped = decode(WORLD.commits[0].data)
    for number in range(n):
        ratio, clicked = (0.0 if number < invisible else 1.0), number < clicks
        one = replace(rendered, publisher=publisher, visible_ratio=ratio, clicked=clicked)
        log.count((one, scored, deduped), at)


def test_history_says_what_a_publisher_sends_and_how_it_differs_from_its_peers():
    log = PublisherLog()
    assert log.at(MINTED) is NO_HISTORY
    an_hour(log, MINTED, "plain", clicks=1)
    an_hour(log, MINTED, "odd", clicks=25, invisible=10)
    said = log.at(MINTED + HOUR).publishers
    assert said["odd"].invisible_share == pytest.approx(0.2)
    assert said["odd"].click_z > 3
    assert said["plain"].click_z < -3
    assert said["plain"].duplicate_rate == 0


def test_history_says_nothing_of_a_publisher_with_few_renders():
    log = PublisherLog()
    log.at(MINTED)
    an_hour(log, MINTED, "small", n=RENDERS_MIN - 1)
    assert np.isnan(log.at(MINTED + HOUR).publishers["small"]).all()


def test_history_forgets_what_is_older_than_a_day():
    log = PublisherLog()
    log.at(MINTED)
    an_hour(log, MINTED, "gone")
    assert "gone" in log.at(MINTED + 2 * HOUR).publishers
    assert "gone" not in log.at(MINTED + 26 * HOUR).publishers


def test_history_is_filled_in_where_the_gate_had_none(tmp_path):
    commits = a_world(3_000, days=1).commits
    rows = built(tmp_path, commits).scan("rows").collect()
    assert rows["mask"][0] == "no_async"
    assert rows["mask"][-1] == "full"
    assert not rows["f_publisher_duplicate_rate"][-100:].is_nan().any()
    assert built(tmp_path, commits, history=False).scan("rows").collect()["mask"].unique().to_list() == ["no_async"]


def test_without_history_nothing_is_remembered_of_publishers(tmp_path):
    """A log forgets hours when it is asked, and here nobody asks."""
    for history, hours in ((False, 0), (True, 24)):
        builder = Builder(tmp_path, Recipe(history=history))
        builder.add(WORLD.commits)
        assert len({tally.hour for tally in builder._log.tallies()}) == pytest.approx(hours, abs=1)


def test_a_gates_own_history_is_kept(tmp_path):
    commits = [_with_history(commit, 0.25) for commit in a_world(3_000, days=1).commits]
    rows = built(tmp_path, commits).scan("rows").collect()
    assert rows["f_publisher_duplicate_rate"].unique().to_list() == [0.25]


def _with_history(commit, value):
    events = decode(commit.data)
    if len(events) < 3:
        return commit
    known = vectors([events[0]], None, History(1, {events[0].publisher: PublisherHistory(value, value, value)}))
    ((values, letters),) = pack(known)
    versions = replace(events[1].versions, features=SCHEMA_ID)
    scored = replace(events[1], features=values, feature_status=letters, versions=versions)
    return replace(commit, data=encode((events[0], scored, events[2])))


# What a replay cannot know


def test_in_the_first_hour_of_a_day_the_logged_vector_stands():
    first = WORLD.commits[0]
    rendered, scored, deduped = decode(first.data)
    served = vectors([replace(rendered, sdk_age_days=77)], None)
    ((values, letters),) = pack(served)
    logged = replace(
        scored, features=values, feature_status=letters, versions=replace(scored.versions, features=SCHEMA_ID)
    )
    replayed = vectors([rendered], None)
    for is_exact, expected in ((True, replayed), (False, served)):
        row = Row(first.position, first.stream, rendered, logged, deduped, is_exact)
        found = as_served(replayed, [row])
        assert np.array_equal(found.values, expected.values, equal_nan=True)
        assert np.array_equal(found.status, expected.status)


# What was known later


def looked_again(folder, commits, after):
    """The columns of what was known of the first row *after* ms."""
    snapshot = built(folder, commits, cutoff=commits[-1].recorded_at)
    rows = snapshot.scan("rows").head(1).with_columns(known_at=pl.col("decided_at") + after).collect()
    (found,) = later_columns(snapshot, rows).iter_rows(named=True)
    return found


def of_one_person(*at):
    """Commits at these times after the first, all of one person."""
    first = WORLD.commits[0]
    rendered, scored, deduped = decode(first.data)
    for number, ms in enumerate(at):
        time = first.recorded_at + ms
        claim = replace(rendered, event_at=rendered.event_at + ms, cause=WORLD.commits[number].cause)
        answer = replace(deduped, cause=claim.cause, decided_at=time, cut=replace(deduped.cut, event_at=claim.event_at))
        yield a_commit(number + 1, time, WORLD.commits[number].stream, (claim, scored, answer))


@pytest.mark.parametrize(
    ("after", "gap", "count"), [(4 * SECOND, np.nan, 0), (5 * SECOND, 5_000, 1), (2 * HOUR, 5_000, 2)]
)
def test_the_next_render_of_a_person_is_known_once_it_is_recorded(tmp_path, after, gap, count):
    found = looked_again(tmp_path, list(of_one_person(0, 5 * SECOND, HOUR, HOUR + 1)), after)
    assert found["next_gap_ms"] == pytest.approx(gap, nan_ok=True)
    assert found["next_hour"] == count


def test_what_was_known_later_of_an_impression_that_one_append_decides_twice_is_said_once(tmp_path):
    first, second = of_one_person(0, 5 * SECOND)
    twice = a_commit(1, first.recorded_at, first.stream, decode(first.data) * 2)
    found = looked_again(tmp_path, [twice, second], HOUR)
    assert (found["next_gap_ms"], found["next_hour"]) == (5_000, 1)


@pytest.mark.parametrize(("after", "invalid"), [(HOUR - 1, 0.0), (HOUR, 0.7)])
def test_labels_of_the_persons_other_impressions_are_known_once_they_arrived(tmp_path, after, invalid):
    commits = list(of_one_person(0, SECOND))
    at = commits[0].recorded_at + HOUR
    own, other = (a_label(source, at=at) for source in ("honeypot", "third_party"))
    told = [a_commit(3, at, commits[0].stream, (own,)), a_commit(4, at, commits[1].stream, (other,))]
    found = looked_again(tmp_path, [*commits, *told], after)
    assert (found["others_invalid"], found["others_human"]) == pytest.approx((invalid, 0.0))


@pytest.mark.parametrize(("after", "seen"), [(HOUR - 1, False), (HOUR, True)])
def test_a_view_is_known_once_it_arrived(tmp_path, after, seen):
    (first,) = of_one_person(0)
    at = first.recorded_at + HOUR
    _, _, deduped = decode(first.data)
    view = ImpressionViewed(
        cause=WORLD.commits[9].cause,
        digest="",
        viewed_at=at - 5 * SECOND,
        received_at=at,
        visible_ratio=0.5,
        visible_ms=1_500,
        clicked=True,
        said={},
        cut=deduped.cut,
        before=deduped.after,
        after=deduped.after,
        decided_at=at,
    )
    found = looked_again(tmp_path, [first, a_commit(2, at, first.stream, (view,))], after)
    assert found["view_clicked"] == float(seen)
    assert found["view_ms"] == pytest.approx(1_500 if seen else np.nan, nan_ok=True)


# Splits


def world_of(n, seed, span):
    dice = np.random.default_rng(seed)
    names = np.array([f"publisher-{one}" for one in dice.integers(0, 12, n)], object)
    people, devices = (dice.integers(0, max(n // 3, 1), n).astype(np.uint64) for _ in range(2))
    return np.sort(dice.integers(0, span, n)) + MINTED, Entities(names, people, devices)


@for_all(st.integers(0, 300), st.integers(0, 99), st.sampled_from([1, HOUR, 40 * DAY]))
def test_parts_follow_on_each_other_with_an_embargo_between_and_share_no_row(n, seed, span):
    at, entities = world_of(n, seed, span)
    parts = split(at, entities, SplitRules(), seed)
    assert sum(map(len, parts)) == len(set(np.concatenate(parts).tolist()))
    gap = min(HOUR, int((at.max() - at.min()) * 0.02)) if n else 0
    for before, after in ((parts.train, parts.calibrate), (parts.calibrate, parts.test)):
        if len(before) and len(after):
            assert at[after].min() - at[before].max() >= gap


@for_all(st.integers(30, 300), st.integers(0, 99))
def test_nobody_in_the_second_test_was_seen_before(n, seed):
    at, entities = world_of(n, seed, 40 * DAY)
    parts = split(at, entities, SplitRules(publishers=0.4), seed)
    seen = np.concatenate([parts.train, parts.calibrate])
    for column in entities:
        assert set(column[parts.unseen].tolist()).isdisjoint(set(column[seen].tolist()) - {0})
    assert set(entities.publisher[parts.unseen]).isdisjoint(entities.publisher[parts.test])
