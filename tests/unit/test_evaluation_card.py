"""The card says everything that was found, the same way each time; its plots are SVG without a date."""

import re

import numpy as np
import pytest
from evaluationkit import ASKED, COSTS, a_world
from msgspec.structs import replace

from ml.evaluation.bootstrap import Estimate
from ml.evaluation.card import PLOTS, card
from ml.evaluation.card_text import grid, shown
from ml.evaluation.plots import calibration_curve, precision_recall, score_histogram
from ml.evaluation.report import Again, Attack, Data, Delay, Evaluation, RungRow
from ml.evaluation.scored import Cell
from ml.evaluation.tables import against_baselines, held_out, known, row, table
from ml.models.artifact import ModelFacts

pytestmark = pytest.mark.slow

FACTS = ModelFacts(
    seed=7,
    snapshot="data-1",
    ledger_range=(1, 9_000),
    trained_until=1_790_000_000_000,
    rows=8_000,
    positives=400,
    note="trained from generated traffic",
)


@pytest.fixture(scope="module")
def found():
    world = a_world(n=2_000)
    cell = Cell.of(known(world))
    baselines = against_baselines(cell, ASKED)
    return Evaluation(
        model="s2-0123456789abcdef",
        stage="s2",
        facts=FACTS,
        data=Data(
            origin="2,000 generated impressions",
            baselines_from="1,000 others",
            gross=2_000,
            settled=10,
            aside=77,
            invalid=300,
            left_open=1_990,
            left_open_invalid=290,
        ),
        costs=COSTS,
        seed=1,
        known=table("Known families", known(world), ASKED),
        held_out=table("Held-out families", held_out(world), ASKED),
        rungs=[
            RungRow(rung="full", mask="full", note="", row=row("full", cell, ASKED)),
            RungRow(rung="spooled", mask=None, note="nothing is scored", row=None),
        ],
        ablations=baselines,
        delays=[Delay(after="1 h", labels=20, positives=12, row=row("1 h", cell, ASKED))],
        again=[
            Again(
                model="s3-1",
                after="24 h",
                known=row("known", cell, ASKED),
                known_decided=row("known", cell, ASKED),
                held_out=row("held out", cell, ASKED),
                held_out_decided=row("held out", cell, ASKED),
            )
        ],
        attacks=[
            Attack(
                against="rules alone",
                runs=2,
                rounds=5,
                impressions=900,
                counted_before=Estimate(0.2, 0.1, 0.3),
                counted_after=Estimate(0.9),
                earned_before=Estimate(40.0),
                earned_after=Estimate(300.0),
                tuned={"gap_ms": 4_000.0},
            )
        ],
    )


@pytest.fixture(scope="module")
def text(found):
    return card(found)


def tables_in(text):
    """The rows of each Markdown table, as lists of cells."""
    found = []
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            found.append([[cell.strip() for cell in line.strip("|").split("|")] for line in lines])
    return found


def test_the_three_tables_stand_apart_in_order_and_real_input_says_that_there_was_none(text):
    places = [text.index(f"## {name}") for name in ("Known families", "Held-out families", "Real input")]
    assert places == sorted(places)
    assert "no access log was given" in text


def test_every_table_of_the_card_has_as_many_cells_in_each_row_as_in_its_head(text):
    tables = tables_in(text)
    assert len(tables) > 15
    for rows in tables:
        assert {len(row_) for row_ in rows} == {len(rows[0])}


def test_figures_stand_on_the_card_as_they_were_found(text, found):
    pr_auc = found.held_out.left_open.figures["pr_auc"]
    assert f"{pr_auc.value:.3f} ({pr_auc.low:.3f} to {pr_auc.high:.3f})" in text
    assert "| unit_change_sdk (valid) |" in text
    assert "| residential_bot (invalid) |" in text
    assert "| spooled | - |" in text
    assert "| rules alone | 2 x 5 | 900 | 20.00 % (10.00 to 30.00) | 90.00 % | 40.000 | 300.000 | gap_ms" in text
    assert "trained from generated traffic" in text
    assert "77 impressions are in no row" in text


def test_a_model_of_generated_traffic_names_no_positions_and_no_times_of_a_ledger(text, found):
    assert "up to 2026-" in text
    assert "ledger positions 1 to 9,000" in text
    of_generated = card(replace(found, facts=replace(FACTS, ledger_range=(0, 0), trained_until=0)))
    assert "`data-1`, generated traffic, no ledger" in of_generated
    assert "up to 1970" not in of_generated


def test_the_same_findings_give_the_same_card_and_the_same_plots(found):
    assert card(found) == card(found)
    cell = Cell.of(a_world(n=500))
    for plot in (calibration_curve, precision_recall, score_histogram):
        assert plot(cell) == plot(cell)


def test_plots_are_svg_name_every_score_and_have_no_date(text):
    cell = Cell.of(a_world(n=500))
    drawn = [calibration_curve(cell), precision_recall(cell), score_histogram(cell)]
    for svg in drawn:
        assert svg.lstrip().startswith("<?xml")
        assert "<svg" in svg
        assert not re.search(r"20\d\d-\d\d-\d\d", svg)
        assert len(svg) < 200_000
    assert {"model", "logistic", "rules"} <= set(re.findall(r">([a-z]+)</text>", drawn[1]))
    assert all(f"({name}.svg)" in text for name in PLOTS)


def test_a_curve_with_nothing_to_find_is_drawn_empty():
    world = a_world(n=50).with_columns(y=np.zeros(50))
    assert "<svg" in precision_recall(Cell.of(world))


@pytest.mark.parametrize(
    ("estimate", "unit", "expected"),
    [
        (Estimate(0.12345, 0.1, 0.2), "", "0.123 (0.100 to 0.200)"),
        (Estimate(0.12345), "%", "12.35 %"),
        (Estimate(2_500_000.0, 1_000_000.0, 3_000_000.0), "money", "2.500 (1.000 to 3.000)"),
        (Estimate(None), "", "-"),
        (None, "", "-"),
    ],
)
def test_a_figure_is_written_with_its_interval_if_there_is_one(estimate, unit, expected):
    assert shown(estimate, unit) == expected


def test_a_grid_is_a_table_in_markdown():
    assert grid(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"
