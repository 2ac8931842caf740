"""`impledger capacity`: what it prints, in words and as JSON, and what it refuses."""

import json

import pytest
from typer.testing import CliRunner

from service.capacity import Ledger, plan
from service.capacity_figures import inputs_of, load_book, with_assignments
from service.capacity_screen import markdown, number
from service.capacity_sensitivity import Measure
from service.cli import app

BOOK = load_book()


def run(*words, code=0):
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["capacity", *words])
    assert result.exit_code == code, result.output
    return result


def test_tells_low_expected_and_high_every_ledger_and_one_machine():
    shown = run().stdout
    for words in ("on postgres", "low", "expected", "high", "streams", "segments", "one machine", "machines: in all"):
        assert words in shown


@pytest.mark.parametrize("ledger", Ledger)
def test_reckons_as_json_what_the_model_reckons(ledger):
    facts = json.loads(run("--json", "--ledger", ledger).stdout)
    found = facts["plans"][ledger]["expected"]
    assert (found["cells"], found["machines"]) == (
        plan(inputs_of(BOOK), ledger).cells,
        plan(inputs_of(BOOK), ledger).machines,
    )
    assert facts["set"] == []


def test_takes_other_figures_and_says_which():
    facts = json.loads(
        run("--json", "--set", "decisions_per_s=5e5", "--set", "renders_per_s=1e6", "--set", "gate_us=25").stdout
    )
    changed = with_assignments(BOOK, ["decisions_per_s=5e5", "renders_per_s=1e6", "gate_us=25"])
    assert facts["set"] == ["renders_per_s", "decisions_per_s", "gate_us"]
    assert facts["figures"]["gate_us"] == 25
    assert facts["plans"]["postgres"]["expected"]["cells"] == plan(inputs_of(changed), Ledger.POSTGRES).cells


@pytest.mark.parametrize(
    "words",
    [
        ["--set", "commit_bytes=1e18"],
        ["--set", "gate=1"],
        ["--set", "disk_fill=7"],
        ["--set", "x"],
        ["--explain", "gate"],
    ],
)
def test_refuses_what_it_does_not_know_and_says_where_to_look(words):
    result = run(*words, code=1)
    assert result.stdout == ""
    assert "impledger capacity --figures" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("measure", Measure)
def test_shows_what_moves_the_result_the_strongest_first(measure):
    effects = json.loads(run("--sensitivity", "--by", measure, "--json").stdout)["sensitivity"]
    assert effects == sorted(effects, key=lambda effect: (-effect["factor"], effect["key"]))
    shown = run("--sensitivity", "--by", measure).stdout
    assert effects[0]["key"] in shown
    small = sum(effect["factor"] < 1.05 for effect in effects)
    assert f"{small} more figures move it by less than 1.05 times" in shown


def test_explains_where_a_figure_comes_from():
    shown = run("--explain", "gate_us", "--explain", "streams_per_cluster").stdout
    assert "benchmarks/results/bench-1.json: saturation.cpu_us_per_decision.gate, 2026-11-23" in shown
    assert "documented: developers.eventstore.com" in shown
    changed = run("--explain", "gate_us", "--set", "gate_us=25").stdout
    assert "gate_us = 25 us" in changed
    assert "set: measured as 54.6" in changed


def test_lists_every_figure():
    assert json.loads(run("--figures", "--json").stdout).keys() == BOOK.keys()
    assert all(f"| `{key}` |" in run("--figures", "--markdown").stdout for key in ("gate_us", "regions"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.0123456, "0.0123"),
        (9.876, "9.88"),
        (12, "12"),
        (99.96, "100"),
        (1_234.5, "1,230"),
        (999_999, "1,000,000"),
        (25.74e6, "25,700,000"),
        (9.75e9, "9.75 G"),
        (6.176e13, "61.8 T"),
    ],
)
def test_shows_three_digits(value, shown):
    assert number(value) == shown


def test_a_page_gets_tables_of_markdown():
    assert markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
