"""What the pages say is true: commands exist, links lead somewhere, examples can be read."""

import re
from pathlib import Path

import msgspec
import pytest
from typer.main import get_command

from commands.dispatch import CHUNK, DEPTH_MAX
from commands.feedback import HELD_MAX, IMPRESSION_MAX
from commands.feedback_store import FeedbackState
from commands.labelling import STREAMS_MAX
from commands.sequences import HOLES_MAX, SESSIONS_MAX
from domain import serves as domain_serves
from domain.feedback import SOURCES, Feedback, FeedbackRefusal
from domain.render import Render
from domain.serves import ServeRefusal, ServesReport
from domain.vocabulary import LabelSource
from ml.monitors.checks import FALSE_DISCOVERY_RATE, TERMS, Check
from projections import reports
from projections.completeness import MEASURES, ServedDimension
from projections.engine import READING
from projections.metrics import DEFINITIONS
from projections.pace import CurrencyPace
from projections.vocabulary import Dimension, Metric
from service.cli import app
from service.feedback_http import FEEDBACK_MAX
from service.problems import (
    FEEDBACK_DEFERRED,
    FEEDBACK_MALFORMED,
    FEEDBACK_REFUSALS,
    PROBLEMS,
    QUARANTINED,
    REFUSALS,
    REPORT_MALFORMED,
    REPORT_REFUSALS,
)
from service.serves_http import COUNTS_MAX, REPORTS_MAX

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
PLANS = ROOT / "docs" / "requirements.md"
"""Names files that are planned, too."""
COMMANDS = get_command(app).commands
_PROBLEMS = (
    *PROBLEMS.values(),
    *REFUSALS.values(),
    *REPORT_REFUSALS.values(),
    *FEEDBACK_REFUSALS.values(),
    QUARANTINED,
    REPORT_MALFORMED,
    FEEDBACK_MALFORMED,
    FEEDBACK_DEFERRED,
)


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
        while hasattr(command, "commands") and len(words) > 1 and words[1] in command.commands:
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


def test_the_examples_are_what_they_are_said_to_be():
    text = (ROOT / "docs" / "api.md").read_text()
    render, report, feedback = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert msgspec.json.decode(render, type=Render).sdk == "ios/12.3"
    assert msgspec.json.decode(report, type=ServesReport).counts[0].sdk == "ios/12.3"
    assert msgspec.json.decode(feedback, type=Feedback).type is LabelSource.THIRD_PARTY


def test_what_is_said_of_feedback_is_so():
    api, page = (" ".join((ROOT / "docs" / name).read_text().split()) for name in ("api.md", "feedback.md"))
    for source, trust in SOURCES.items():
        says = " or ".join(f"`{label.value}`" for label in trust.says)
        about = {None: "one impression", "sdk": "one impression, or the traffic of an SDK version on a surface"}
        told = about.get(trust.by, "one impression, or the traffic of a publisher")
        assert f"| `{source.value}` | {says} | {trust.weight} | {told} |" in page
        assert re.search(rf"\b{source.value}\b", api)
    for state in FeedbackState:
        assert f"| `{state.value}` |" in page
    for reason in FeedbackRefusal:
        assert f"`{reason.value}`" in api
    assert f"{FEEDBACK_MAX} pieces and 1 MiB in a request; {IMPRESSION_MAX} of one impression" in page
    assert f"{CHUNK} in a message, {DEPTH_MAX} messages in the queue, {STREAMS_MAX} streams in one append" in page
    assert f"At most {HELD_MAX:,} are held" in page


def test_what_is_said_of_serves_and_monitors_is_so():
    api, monitors = ((ROOT / "docs" / page).read_text() for page in ("api.md", "monitors.md"))
    for word in (*ServedDimension, *ServeRefusal, *MEASURES, *Check, *CurrencyPace.__struct_fields__):
        assert f"`{word}" in api or f"{word}`" in api or f" {word} " in api, word
    for limit in (f"up to {REPORTS_MAX}", f"{COUNTS_MAX:,} counts", f"({domain_serves.COUNTS_MAX:,} in"):
        assert limit in api, limit
    for number in (SESSIONS_MAX, HOLES_MAX):
        assert f"{number:,}" in monitors
    for check, terms in TERMS.items():
        [row] = re.findall(rf"^\| `{check.value}` (?:\|[^|]+){{4}}\|$", monitors, re.MULTILINE)
        assert f"| {terms.excess_min * 100:g} point" in row or f"| {terms.excess_min:g} " in row, check
        assert f"| {terms.trials_min} " in row, check
    assert f"at {FALSE_DISCOVERY_RATE * 100:g} % a look" in monitors


def test_the_read_apis_words_are_all_there():
    text = (ROOT / "docs" / "api.md").read_text()
    for word in (*Dimension, *Metric):
        assert re.search(rf"\b{word.value}\b", text), word


def test_every_metric_of_a_report_is_defined_as_it_is_made():
    text = (ROOT / "docs" / "reports.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \| ", text, re.MULTILINE)) == set(Metric)
    for metric, says in DEFINITIONS.items():
        assert f"| `{metric.value}` | {says} |" in text


def test_the_limits_of_a_report_are_those_that_the_page_names():
    text = " ".join((ROOT / "docs" / "reports.md").read_text().partition("## Limits")[2].split())
    day_ms = 24 * reports.HOUR_MS
    for limit in (
        f"{reports.DIMENSIONS_MAX} dimensions",
        f"{reports.PACKS_MAX} packs",
        f"{reports.FILTER_VALUES_MAX} values",
        f"{reports.ROWS_MAX:,} rows ({reports.ROWS_DEFAULT:,} unless",
        f"{reports.SPAN_MAX_MS // day_ms} days",
        f"{reports.MINUTES_SPAN_MAX_MS // day_ms} days by minute",
        f"{READING['max_execution_time']} s or {READING['max_memory_usage'] >> 30} GiB",
    ):
        assert limit in text, limit


def test_every_status_of_the_write_api_is_documented():
    text = (ROOT / "docs" / "api.md").read_text()
    documented = set(map(int, re.findall(r"\b[1-5]\d\d\b", text.partition("## Read")[0])))
    statuses = {problem.status for problem in _PROBLEMS}
    assert statuses - {404} <= documented | {405}
