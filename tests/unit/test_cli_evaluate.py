"""`impledger evaluate` and `train` say what is wrong with what they were given, and what to do about it."""

import pytest
from modelkit import an_artifact
from typer.testing import CliRunner

from ml.models.artifact import dump
from service.cli import app


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    monkeypatch.setenv("IMPLEDGER_DATA_DIR", str(tmp_path / "data"))
    return lambda *arguments: CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_a_model_that_there_is_not_is_named_and_how_to_make_one(evaluate):
    found = evaluate("s2-nothing")
    assert found.exit_code == 1
    assert "no model s2-nothing" in found.output
    assert "impledger train" in found.output


@pytest.mark.parametrize("data", [b"", b"nonsense", dump(an_artifact(schema_id="features-00000000"))])
def test_what_is_no_model_for_these_features_is_refused_before_anything_is_generated(evaluate, tmp_path, data):
    file = tmp_path / "some.model"
    file.write_bytes(data)
    found = evaluate(file)
    assert found.exit_code == 1
    assert "some.model:" in found.output
    assert "generating" not in found.output


@pytest.mark.parametrize("given", ["all", "1:2:3", "-1:5", "1.5:"])
def test_a_range_that_is_none_is_refused_with_an_example(evaluate, tmp_path, given):
    file = tmp_path / "some.model"
    file.write_bytes(dump(an_artifact()))
    found = evaluate(file, "--range", given)
    assert found.exit_code == 1
    assert "--range 1000:2000" in found.output


def test_on_the_ledger_a_model_has_to_be_named(evaluate):
    found = evaluate("--range", "1:")
    assert found.exit_code == 1
    assert "impledger models list" in found.output


@pytest.mark.parametrize(
    "given",
    [("train", "--seed"), ("evaluate", "some.model", "--seed"), ("evaluate", "some.model", "--training-seed")],
    ids=lambda given: "".join(given[::2]),
)
@pytest.mark.parametrize("seed", [-1, 1 << 32])
def test_a_seed_that_no_training_can_be_drawn_with_is_refused_before_anything_is_done(
    monkeypatch, tmp_path, given, seed
):
    monkeypatch.setenv("IMPLEDGER_DATA_DIR", str(tmp_path / "data"))
    found = CliRunner().invoke(app, [*given, str(seed)])
    assert found.exit_code == 2
    assert "Invalid value" in found.output
