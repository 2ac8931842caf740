"""Every worked case of docs/requirements.md, run through the rules."""

from pathlib import Path

import pytest
from case_language import COLUMNS, CaseError, read_cases, read_story
from case_stories import outcome_of

from domain.reasons import Reason

REQUIREMENTS = Path(__file__).resolve().parents[2] / "docs" / "requirements.md"
CASES = read_cases(REQUIREMENTS.read_text())
CASES_MIN = 55


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_the_rules_make_of_a_case_what_its_row_says(case):
    assert outcome_of(case) == case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_a_case_keeps_gross_equal_to_net_invalid_and_undecided(case):
    assert int(case["gross"]) == sum(int(case[name]) for name in ("net", "givt", "sivt", "undecided"))


def test_there_are_enough_cases_each_with_a_name_of_its_own():
    assert len(CASES) >= CASES_MIN
    assert len({case["case"] for case in CASES}) == len(CASES)


def test_every_reason_stands_in_some_case():
    rows = "\n".join(" ".join(case.values()) for case in CASES)
    of_the_gate = {Reason.REGION_MISDIRECTED}
    assert {reason for reason in Reason if reason not in rows} == of_the_gate


@pytest.mark.parametrize(
    "story",
    [
        "rendr()",
        "render",
        "render(omit=loaded)",
        "render(omid=lodaed)",
        "render(omid)",
        "render(prefetched=yes)",
        "render(+5)",
        "render(+5 s)",
        "render(5s)",
        "render(+1s, +2s)",
        "render(size=3)",
        "render(on_screen=maybe)",
        "render(also=NO_REASON)",
        "render() render()",
        "render();",
        "ad(feed, +1s)",
        "ad(feed, reels)",
        "ad(radio)",
        "view(ratio=half)",
        "correct(by=review)",
        "correct(by=nobody, to=valid)",
        "label(from=honeypot)",
        "",
    ],
)
def test_a_word_that_the_language_does_not_have_fails(story):
    with pytest.raises(CaseError):
        read_story(story)


@pytest.mark.parametrize(
    ("given", "when"),
    [
        ("render()", "-"),
        ("-", "render() ; render()"),
        ("-", "ad(feed)"),
        ("render() ; ad(feed)", "render()"),
        ("view(clicked)", "render()"),
        ("render()", "again(id=B)"),
    ],
)
def test_a_case_is_one_happening_after_what_can_be_given(given, when):
    with pytest.raises(CaseError):
        outcome_of({**dict.fromkeys(COLUMNS, "-"), "given": given, "when": when})


@pytest.mark.parametrize(
    "table",
    [
        "| case | given |\n|---|---|\n| a | - |",
        f"| {' | '.join(COLUMNS)} |\n|---|\n| a | - |",
        f"| {' | '.join(reversed(COLUMNS))} |\n| case | - |",
    ],
)
def test_a_table_with_other_columns_fails(table):
    with pytest.raises(CaseError):
        read_cases(table)
