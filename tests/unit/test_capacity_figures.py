"""Every figure says where it comes from; measured ones are what was measured; nothing impossible is taken."""

import re
import sys
from pathlib import Path

import pytest

from service.capacity_figures import (
    FROM_ONE,
    FROM_ZERO,
    WHOLE,
    CapacityError,
    Kind,
    inputs_of,
    load_book,
    parse_book,
    with_assignments,
)

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from figures import mended_figures, result  # noqa: E402 (a script is found by its folder)

TEXT = (ROOT / "service" / "capacity.toml").read_text()
BOOK = load_book()
MEASURED = [figure for figure in BOOK.values() if figure.kind is Kind.MEASURED]


@pytest.mark.parametrize("figure", MEASURED, ids=lambda figure: figure.key)
def test_a_measured_figure_is_what_was_measured(figure):
    assert figure.value == pytest.approx(result(figure.source, figure.at), rel=5e-4)
    assert re.fullmatch(r"2\d{3}-\d\d-\d\d", figure.date)
    for bound, at in ((figure.low, figure.low_at), (figure.high, figure.high_at)):
        assert not at or bound == pytest.approx(result(figure.source, at), rel=5e-4)


@pytest.mark.parametrize("figure", MEASURED, ids=lambda figure: figure.key)
def test_a_bound_of_a_measured_figure_that_nobody_measured_is_said_to_be_assumed(figure):
    for bound, at in ((figure.low, figure.low_at), (figure.high, figure.high_at)):
        assert bound is None or at or "assume" in figure.says, figure.key


@pytest.mark.parametrize("figure", BOOK.values(), ids=lambda figure: figure.key)
def test_a_figure_says_what_it_is_and_where_it_comes_from(figure):
    assert figure.says
    assert figure.unit
    assert figure.kind is not Kind.SET
    if figure.kind in {Kind.TRIED, Kind.DOCUMENTED, Kind.ASSUMED, Kind.MEASURED}:
        assert figure.source
    if figure.kind in {Kind.TRIED, Kind.MEASURED}:
        assert figure.date
    if figure.kind in {Kind.BRIEF, Kind.CHOSEN}:
        assert figure.lowest == figure.value == figure.highest
    if figure.kind is Kind.ASSUMED:
        assert figure.lowest != figure.highest, "an assumption without bounds is a claim"


def test_the_sorts_of_figures_name_figures():
    assert BOOK.keys() >= WHOLE | FROM_ZERO | FROM_ONE


IMPOSSIBLE = {
    "gate_us": "not of the form key=value",
    "gate=1": "no figure is called 'gate'",
    "gate_us=fast": "'fast' is no number",
    "gate_us=": "'' is no number",
    "gate_us=-1": "-1 is not above 0",
    "gate_us=nan": "out of reach",
    "renders_per_s=inf": "out of reach",
    "renders_per_s=1e19": "out of reach",
    "renders_per_s=0": "0 is not above 0",
    "planned_load=1.01": "no share",
    "disk_fill=70": "no share",
    "peak_to_mean=0.9": "under 1",
    "regional_peaks=0": "not above 0",
    "postgres_replicas=2.5": "no whole number",
    "esdb_replicas=0": "not above 0",
    "disk_fill=1e-300": "not above 0",
    "renders_per_s=1e6": "decisions_per_s, 9e+06, is more than renders_per_s, 1e+06; set both",
}


@pytest.mark.parametrize(("assignment", "says"), IMPOSSIBLE.items(), ids=IMPOSSIBLE)
def test_refuses_what_cannot_be(assignment, says):
    with pytest.raises(CapacityError, match=re.escape(says)):
        with_assignments(BOOK, [assignment])


def test_takes_any_figure_and_the_last_word_on_it():
    book = with_assignments(
        BOOK, ["decisions_per_s=5e5", "renders_per_s=1e6", "gate_us=30", "gate_us = 25", "scoring_us=0"]
    )
    assert (inputs_of(book).renders_per_s, inputs_of(book).gate_us, inputs_of(book).scoring_us) == (1e6, 25, 0)
    assert (book["gate_us"].kind, book["gate_us"].lowest, book["gate_us"].highest) == (Kind.SET, 25, 25)
    assert "measured as 54.6" in book["gate_us"].source
    assert BOOK["gate_us"].value == 54.6


BROKEN = {
    "missing: gate_us": TEXT.replace("[gate_us]", "[gate_xs]"),
    "unknown: more": TEXT + '\n[more]\nkind = "chosen"\nvalue = 1\nunit = "count"\nsays = "more"\n',
    "cannot be read": TEXT + "\n[more\n",
    "disk_fill: 7 is no share": TEXT.replace("value = 0.7\n", "value = 7\n"),
}


@pytest.mark.parametrize(("says", "text"), BROKEN.items(), ids=BROKEN)
def test_refuses_a_broken_file_of_figures(says, text):
    with pytest.raises(CapacityError, match=re.escape(says)):
        parse_book(text)


def test_a_new_result_is_taken_over_at_its_place_and_nothing_else_changes():
    old = TEXT.replace("value = 54.6\n", "value = 61.0\n").replace("high = 39.7\n", "high = 50\n")
    assert mended_figures(old) == TEXT
