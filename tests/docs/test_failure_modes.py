"""docs/failure-modes.md against the code: what is said to prove a row exists, and metrics are those that there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "failure-modes.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| ")]
MODES = [row for row in ROWS if row[0] not in {"Mode", "---"}]
SOURCES = "\n".join(
    path.read_text()
    for folder in ("service", "projections", "commands", "ml")
    for path in (ROOT / folder).rglob("*.py")
)


def name_of(row):
    return row[0]


def test_every_mode_has_all_columns_and_stands_there_once():
    assert len(MODES) > 20
    assert [row[0] for row in MODES if len(row) != 5 or not all(row)] == []
    assert len({row[0] for row in MODES}) == len(MODES)


@pytest.mark.parametrize("row", MODES, ids=name_of)
def test_what_proves_a_row_exists(row):
    named = re.findall(r"`([^`]+)`", row[4])
    assert named
    for proof in named:
        path, _, function = proof.partition("::")
        assert re.search(rf"^(async )?def {function}\(", (ROOT / path).read_text(), re.MULTILINE), proof


@pytest.mark.parametrize("name", sorted(set(re.findall(r"impledger_\w+", PAGE))))
def test_a_metric_that_the_page_names_is_measured(name):
    family, told = re.fullmatch(r"(impledger_spool_)?(\w+?)(?:_total)?", name).groups()
    assert f'"{told}"' in SOURCES
    assert family is None or f'f"{family}{{name}}"' in SOURCES


def test_the_modes_that_the_brief_asks_for_are_there():
    modes = " ".join(row[0] for row in MODES).lower()
    asked = ("feature drift", "training-serving skew", "logging loss", "regional outage")
    stores = ("postgresql", "eventstoredb", "clickhouse", "valkey", "spool")
    assert [name for name in (*asked, *stores) if name not in modes] == []
