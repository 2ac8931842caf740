"""What the bench of the lists says is arithmetic that can be checked, on files that are what they are said to be."""

from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.lists.agents import AGENT_CHARS_MAX
from service.bench_lists import BOTS, BROWSERS, DEVELOPMENT, HELD_OUT, SOURCES, wilson

HELD_OUT_FOLDER = files("ml.lists") / "held_out"
SOURCES_PAGE = (Path(__file__).parents[2] / "ml" / "lists" / "SOURCES.md").read_text()


def agents_of(source):
    return (HELD_OUT_FOLDER / f"{source.name}.txt").read_text("utf-8").splitlines()


def test_the_interval_is_wilsons():
    rate = wilson(10, 100)
    assert (rate.share, round(rate.low, 4), round(rate.high, 4)) == (0.1, 0.0552, 0.1744)


@given(st.integers(0, 5_000), st.integers(0, 5_000))
def test_the_interval_holds_the_share_and_stays_within_nothing_and_everything(count, more):
    rate = wilson(count, count + more)
    assert 0 <= rate.low <= rate.share + 1e-6
    assert rate.share - 1e-6 <= rate.high <= 1


def test_every_file_is_a_source_and_every_source_has_its_file():
    assert {file.name for file in HELD_OUT_FOLDER.iterdir()} == {f"{source.name}.txt" for source in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_source_has_distinct_agents_that_the_screen_reads_whole_and_says_where_they_come_from(source):
    agents = agents_of(source)
    assert len(agents) == len(set(agents)) >= 50
    assert all(agent and len(agent) <= AGENT_CHARS_MAX for agent in agents)
    assert f"`{source.name}`" in SOURCES_PAGE


def test_no_held_out_agent_is_in_a_development_file():
    for kind in (BOTS, BROWSERS):
        looked_at = {
            agent for one in SOURCES if (one.kind, one.role) == (kind, DEVELOPMENT) for agent in agents_of(one)
        }
        held_out = {agent for one in SOURCES if (one.kind, one.role) == (kind, HELD_OUT) for agent in agents_of(one)}
        assert len(held_out) > 500
        assert not held_out & looked_at
