"""docs/features.md says what the schema says."""

import re
from pathlib import Path

from ml.features.matrix import STALE_AFTER_MS, STATUS_LETTERS
from ml.features.schema import SCHEMA
from ml.models.masks import MASKS

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text()
WINDOWS = {None: "", 10: "10 s", 60: "1 min", 3_600: "1 h"}


def a_row(one):
    family = "" if one.family is None else one.family.value
    facts = (one.unit, one.source, one.availability, WINDOWS[one.window_s], one.group, family, one.missing)
    return f"| `{one.name}` | {' | '.join(facts)} |"


def rows(title):
    return re.findall(r"^\| `.*$", PAGE.partition(title)[2].partition("\n\n")[0], re.MULTILINE)


def test_the_table_is_the_schema_in_the_order_of_its_columns():
    assert rows("| Feature | Unit |") == [a_row(one) for one in SCHEMA]


def test_every_letter_of_status_is_told():
    assert "".join(row[3] for row in rows("| Letter | Status")) == STATUS_LETTERS
    assert STALE_AFTER_MS == 3_600_000


def test_every_mask_is_told_with_the_groups_that_it_leaves_out():
    told = {row.split("`")[1]: set(re.findall(r"`(\w+)`", row.split("|")[2])) for row in rows("| Mask | Leaves out")}
    assert told == {name: set(groups) for name, groups in MASKS.items() if "+" not in name}
