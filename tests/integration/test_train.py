"""`impledger train` as a user runs it: each run a process of its own, on a ledger and on generated traffic."""

import asyncio
import json
import os
import time
from dataclasses import replace

import pytest
from builders import DAY, MINTED
from learnkit import a_world
from test_cli import impledger

from domain.ids import day_of
from domain.vocabulary import DataSet
from ledger.codec import decode
from ledger.postgres import PostgresStore
from ledger.store import Append, Appended
from ml.models.artifact import load
from ml.models.masks import MASKS
from service.settings import Settings
from service.training import ABANDONED_S

pytestmark = pytest.mark.slow

WORLD = a_world(2_500)
PAGE = 500


@pytest.fixture
def settings(tmp_path, postgres_url):
    return Settings(data_dir=tmp_path / "data", ledger_url=postgres_url, database_url=postgres_url)


def written(url, commits):
    """The commits in a ledger, each recorded when it was."""

    async def write():
        store = PostgresStore(url)
        await store.prepare_days(day_of(MINTED), day_of(MINTED + 30 * DAY), DataSet.LIVE)
        versions = {}
        for commit in commits:
            events = decode(commit.data)
            append = Append(
                stream=commit.stream,
                expected=versions.get(commit.stream, 0),
                cause=commit.cause,
                digest=commit.digest,
                events=events,
            )
            versions[commit.stream] = append.expected + len(events)
            assert await store.append([append], commit.recorded_at) == [Appended()]
        head = await store.head()
        await store.close()
        return head

    return asyncio.run(write())


def trained(settings, *words):
    done = impledger(settings, "train", "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_same_range_and_seed_make_the_same_model_in_every_process(settings, tmp_path):
    head = written(settings.ledger_url, WORLD.commits)
    first = trained(settings)
    written(settings.ledger_url, a_world(50, seed=2, days=1).commits)
    again = trained(replace(settings, data_dir=tmp_path / "other"), "--until", str(head))
    assert again["snapshot"] == first["snapshot"]
    assert {stage: one["model"] for stage, one in again["models"].items()} == {
        stage: one["model"] for stage, one in first["models"].items()
    }
    assert (
        trained(settings, "--until", str(head), "--seed", "2")["models"]["s2"]["model"]
        != first["models"]["s2"]["model"]
    )
    assert first["ledger_range"] == [1, head]
    assert first["parts"]["rows"] == 2_500
    for model in first["models"].values():
        assert set(model["masks"]) == set(MASKS)
        assert sum(model["positives"].values()) > 30
        assert model["uncertain_share"] <= 0.05
    kept = (settings.data_dir / "models" / f"{first['models']['s2']['model']}.model").read_bytes()
    assert load(kept, first["models"]["s2"]["model"]).card.snapshot == first["snapshot"]


def test_a_ledger_without_labels_says_what_to_do(settings):
    written(settings.ledger_url, [commit for commit in WORLD.commits[:300] if len(decode(commit.data)) == 3])
    done = impledger(settings, "train")
    assert done.returncode == 1
    assert "POST /v1/feedback" in done.stderr


def test_too_little_generated_traffic_is_advised_to_be_more(tmp_path):
    done = impledger(Settings(data_dir=tmp_path / "data"), "train", "--generated", "10")
    assert done.returncode == 1
    assert "ask for more with --generated" in done.stderr
    assert "POST /v1/feedback" not in done.stderr


def test_the_same_generated_traffic_makes_the_same_model_in_every_process(tmp_path):
    one, other = (
        trained(Settings(data_dir=tmp_path / name), "--generated", "5000", "--seed", "3") for name in ("one", "other")
    )
    assert one["parts"]["rows"] >= 5_000
    assert one["snapshot"] == other["snapshot"]
    assert one["models"]["s2"]["model"] == other["models"]["s2"]["model"]
    kept = (tmp_path / "one" / "models" / f"{one['models']['s2']['model']}.model").read_bytes()
    assert load(kept).card.trained_until == 0


def test_a_cut_off_in_the_future_is_refused(tmp_path):
    done = impledger(Settings(data_dir=tmp_path / "data"), "train", "--cutoff", "2999-01-01T00:00:00Z")
    assert done.returncode == 2
    assert "--cutoff is in the future" in done.stderr


def test_what_a_training_that_was_killed_left_behind_is_deleted_a_day_later(tmp_path):
    datasets = tmp_path / "data" / "datasets"
    abandoned, under_way = datasets / "making-abandoned", datasets / "making-under-way"
    for folder in (abandoned, under_way):
        folder.mkdir(parents=True)
        (folder / "rows-00000.parquet").write_bytes(b"half")
    os.utime(abandoned, (0, time.time() - ABANDONED_S - 60))
    impledger(Settings(data_dir=tmp_path / "data"), "train", "--generated", "10")
    assert not abandoned.exists()
    assert under_way.exists()


def test_a_fresh_folder_has_nothing_to_learn_from_and_postgresql_is_not_blamed(tmp_path):
    done = impledger(Settings(data_dir=tmp_path / "data"), "train")
    assert done.returncode == 1
    assert "starting PostgreSQL" in done.stderr
    assert "0 labels of 0 renders" in done.stderr
    assert "did not answer" not in done.stderr
