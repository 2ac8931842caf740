"""`impledger demo` as a user runs it."""

import json
from dataclasses import replace

import pytest
from test_cli import impledger

from service.settings import Settings
from service.stage import on_free_ports

pytestmark = [pytest.mark.slow, pytest.mark.machine]


def test_the_demo_checks_its_books_and_prints_one_object(tmp_path):
    settings = replace(on_free_ports(Settings(starter="no")), data_dir=tmp_path / "data")
    done = impledger(settings, "demo", "--seconds", "6", "--rate", "400", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["invariants"] == {"I1": True, "I2": True, "I3": True, "I4": True}
    assert report["gross"] == report["net"] + report["givt"] + report["sivt"] + report["undecided"]
    assert report["gross"] > 1_000
    assert report["budgets"]["differences"] == []
    assert report["budgets"]["over_budget"] > 0
    assert report["accepted"] == report["renders"] + report["views"]
    assert set(report["verdicts"]) == {"valid", "dropped", "duplicate", "uncertain"}
    assert not settings.data_dir.exists()


def test_a_demo_checks_no_books_that_others_have_written_in(tmp_path):
    settings = replace(on_free_ports(Settings(starter="no")), data_dir=tmp_path / "data")
    first, second = (
        impledger(settings, "demo", "--seconds", "2", "--rate", "50", "--keep", "--seed", seed) for seed in "12"
    )
    assert first.returncode == 0, first.stderr
    assert f"The data stay in {settings.data_dir}; `impledger up` goes on with them." in first.stdout
    assert second.returncode == 1
    assert f"The ledger of {settings.data_dir} has impressions already" in second.stderr
