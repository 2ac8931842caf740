"""What the pages say is true: commands exist, links lead somewhere, examples can be read."""

import re
from pathlib import Path

import msgspec
import pytest
from typer.main import get_command

from domain.render import Render
from projections.vocabulary import Dimension, Metric
from service.cli import app
from service.problems import PROBLEMS, QUARANTINED, REFUSALS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
PLANS = ROOT / "docs" / "requirements.md"
"""Names files that are planned, too."""
COMMANDS = get_command(app).commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_names_exists(page):
    text = page.read_text()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = set(re.findall(r"^make ([a-z]+)|`make ([a-z]+)`", text, re.MULTILINE))
    assert {first or second for first, second in named} <= set(targets)
    for line in re.findall(r"^\.venv/bin/impledger .*$", text, re.MULTILINE):
        words = line.partition("#")[0].split()[1:]
        command = COMMANDS[words[0]]
        while hasattr(command, "commands"):
            command, words = command.commands[words[1]], words[1:]
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words[1:] if word.startswith("--")} <= options


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != PLANS], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_file_of_ours_that_a_page_names_exists(page):
    named = re.findall(
        r"`((?:domain|ledger|commands|projections|ml|migrations|service|benchmarks|docs)/[\w./-]*)`", page.read_text()
    )
    for path in named:
        assert (ROOT / path).exists(), path


def test_the_example_event_is_one():
    text = (ROOT / "docs" / "api.md").read_text()
    [example] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert msgspec.json.decode(example, type=Render).sdk == "ios/12.3"


def test_the_read_apis_words_are_all_there():
    text = (ROOT / "docs" / "api.md").read_text()
    for word in (*Dimension, *Metric):
        assert re.search(rf"\b{word.value}\b", text), word


def test_every_status_of_the_write_api_is_documented():
    text = (ROOT / "docs" / "api.md").read_text()
    documented = set(map(int, re.findall(r"\b[1-5]\d\d\b", text.partition("## Read")[0])))
    statuses = {problem.status for problem in (*PROBLEMS.values(), *REFUSALS.values(), QUARANTINED)}
    assert statuses - {404} <= documented | {405}
