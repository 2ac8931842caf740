"""docs/standards.md against the code: every rule stands in its table, and what is said to prove it exists."""

import re
from pathlib import Path

import pytest

from domain.pack import Pack
from domain.reasons import Reason
from service import packs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "standards.md").read_text()
NOT_YET = {
    *("CAMPAIGN_UNKNOWN", "DEGRADED"),
    *("Correction window", "Tolerance of discrepancies"),
}
"""Rules that are not built yet; with the last of them this set goes."""
PACK, VECTORS = packs.load("base-1"), packs.vectors_of("base-1")


def table(heading):
    lines = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    return rows[2:]


RULES = table("Rules")
SOURCES = {row[0] for row in table("Sources")}
CASES = {f"{name}: {vector.case}" for name, vector in VECTORS.all()}


def name_of(rule):
    return rule[0].replace("`", "").strip()


def test_every_rule_says_what_whose_it_is_where_it_lives_and_what_proves_it():
    assert len(RULES) > len(Reason)
    assert [name_of(rule) for rule in RULES if len(rule) != 5 or not all(rule)] == []
    assert len({name_of(rule) for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_what_proves_a_rule_exists(rule):
    if name_of(rule) in NOT_YET:
        assert rule[4] == "-"
        return
    named = re.findall(r"`([^`]+)`", rule[4])
    assert named
    for proof in named:
        path, is_test, function = proof.partition("::")
        if is_test:
            assert re.search(rf"^(async )?def {function}\(", (ROOT / path).read_text(), re.MULTILINE), proof
        else:
            assert proof in CASES, proof


def test_what_is_not_built_is_listed_and_nothing_else():
    assert {name_of(rule) for rule in RULES if rule[4] == "-"} == NOT_YET


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_every_source_of_a_rule_is_in_the_table_of_sources(rule):
    assert set(re.findall(r"\b[A-Z]\d\b", rule[2])) <= SOURCES
    assert re.search(r"\b[A-Z]\d\b|ours|known", rule[2])


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_a_rule_lives_in_keys_that_a_pack_has(rule):
    for key in re.findall(r"`([^`]+)`", rule[3]):
        owner, _, inner = key.partition(".")
        assert owner in Pack.__struct_fields__, key
        assert not inner or inner in getattr(PACK, owner)[0].__struct_fields__, key


def test_every_reason_has_a_row_of_its_own():
    assert {reason.value for reason in Reason} - {name_of(rule) for rule in RULES} == set()


def test_every_viewability_pack_has_a_row():
    named = {name for rule in RULES for name in re.findall(r"`(\w+)`", rule[0])}
    assert {rule.name for rule in PACK.view_rule} <= named


def test_every_key_of_a_pack_is_the_home_of_a_rule():
    homes = {key.partition(".")[0] for rule in RULES for key in re.findall(r"`([^`]+)`", rule[3])}
    assert set(Pack.__struct_fields__) - {"name", "version"} == homes
