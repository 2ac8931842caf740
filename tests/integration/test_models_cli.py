"""`impledger models`, `promote` and `rollback` as a user runs them, against a running gate."""

import json

import pytest
from registrykit import saying
from test_cli import impledger
from test_models_process import UNHURRIED, gates
from typer.testing import CliRunner

from service.cli import app
from service.settings import Settings
from service.stage import on_free_ports

pytestmark = pytest.mark.slow


def test_a_model_is_added_tried_promoted_rolled_back_and_its_history_told(tmp_path, postgres_url, monkeypatch):
    files = [tmp_path / name for name in ("first.bin", "second.bin")]
    for file, margin in zip(files, (-4.0, 4.0), strict=True):
        file.write_bytes(saying(margin))
    settings = on_free_ports(
        Settings(data_dir=tmp_path / "data", ledger_url=postgres_url, database_url=postgres_url, **UNHURRIED)
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)

    def told(*words):
        done = CliRunner().invoke(app, [*words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def said(*words):
        return CliRunner().invoke(app, [*words]).output

    alone = impledger(settings, "models", "list")
    assert alone.returncode == 1
    assert "`impledger up` starts it" in alone.stderr
    with gates(settings):
        first, second = [told("models", "add", str(file))["model"] for file in files]
        assert told("models", "show", first)["card"]["snapshot"] == "none"
        assert told("promote", first, "--reason", "the first")["in_force"]["s2"]["champion"] == first
        assert said("promote", first).startswith("It was so already.")
        told("promote", second, "--shadow")
        assert told("promote", second, "--canary", "0.05")["gate"]["canary"] == second
        assert f"{first}, beside it canary {second} for 5 %" in said("models", "list")
        after = told("rollback")["in_force"]["s2"]
        assert (after["champion"], after["canary"]) == (first, None)
        told("promote", second)
        assert told("rollback", "--reason", "it was worse")["in_force"]["s2"]["champion"] == first
        history = told("models", "history")["placements"]
        assert [one["reason"] for one in history if one["rolled_back"]] == ["it was worse"]
        assert "it was worse" in said("models", "history")
        assert told("models", "beside")["hours"] == []
        compared = told("models", "compare", first, second)
        assert (compared["other"], compared["result"]["finding"]) == (second, "undecided")
        assert "on 0 labels" in said("models", "compare", first, second)
        assert told("models", "retire", first)["in_force"]["s2"]["champion"] is None
        for words, says in (
            (("promote", "s2-nothing"), "There is nothing here"),
            (("promote", second, "--canary", "0"), "a canary's share is over 0"),
            (("models", "compare"), "no champion is in force"),
        ):
            refused = CliRunner().invoke(app, words)
            assert refused.exit_code == 1
            assert says in str(refused.exception)
        assert CliRunner().invoke(app, ("promote", first, "--shadow", "--canary", "0.1")).exit_code == 2
