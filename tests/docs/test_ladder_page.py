"""docs/ladder.md says what the ladder's data and constants say."""

import re
from pathlib import Path

import pytest

from commands.conditions import Patience
from commands.countdown import ANSWER_WITHIN_S, BUSY_SHARE, EACH_S, SMALL_MAX
from commands.funding import READY_WITHIN_S
from commands.intake import KEYS_WITHIN_S
from commands.ladder import DRILL_MAX_S, PATIENCE, SHED_RATE
from commands.observing import PROBE_EVERY_S, SLOW_S
from domain.ladder import LADDER
from domain.vocabulary import Rung

PAGE = " ".join((Path(__file__).parents[2] / "docs" / "ladder.md").read_text().split())


def a_row(step):
    covered = " ".join(f"`{rung.value}`" for rung in step.covers)
    if len(step.covers) == len(Rung) - 2:
        covered = "all others"
    return f"| `{step.rung.value}` | {step.missing} | {step.instead} | {step.verdicts} | {covered} |"


def test_the_table_is_that_of_the_data_in_the_same_order():
    rows = [" ".join(a_row(step).split()) for step in LADDER]
    assert " ".join(rows) in PAGE


@pytest.mark.parametrize("rung", [rung for rung in PATIENCE if rung.value.startswith("stale") or rung is Rung.SPOOLED])
def test_how_long_something_must_be_well_is_told(rung):
    [row] = re.findall(rf"\| `{rung.value}` \|[^|]*\|[^|]*\|([^|]*)\|", PAGE.partition("How each is noticed")[2])[:1]
    assert f"for {PATIENCE[rung].well_s:g} s" in row


def test_the_numbers_of_the_page_are_those_of_the_program():
    counters, load, plain = PATIENCE[Rung.PARTIAL_COUNTERS], PATIENCE[Rung.SHED], Patience()
    for words in (
        f"{counters.failures} failures in a row | {counters.proofs} proofs over {counters.well_s:g} s",
        f"one every {PROBE_EVERY_S:g} s",
        f"{load.failures} batches in a row over {load.ill_s:g} s",
        f"over {load.well_s:g} s",
        f"within {plain.calm_s:g} s of coming back",
        f"up to {plain.well_max_s:g} s",
        f"for {SHED_RATE:.0%}".replace("%", " %"),
        f"share {ANSWER_WITHIN_S * 1_000:g} ms from when its oldest render joined the queue",
        f"{EACH_S * 1_000:g} ms more for each render beyond {SMALL_MAX}",
        f"over {BUSY_SHARE:.0%} of a core".replace("%", " %"),
        f"| {KEYS_WITHIN_S * 1_000:g} ms, for the request",
        f"| {READY_WITHIN_S * 1_000:g} ms | `REGISTRY_BEHIND`",
        f"| {SLOW_S * 1_000:g} ms a batch",
        f"at most {DRILL_MAX_S:g} s",
    ):
        assert words in PAGE, words
