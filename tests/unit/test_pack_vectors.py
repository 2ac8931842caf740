"""The boundary vectors of every pack that ships, run one by one, and the proof that they leave no value unproved."""

import re
from importlib.resources import files
from itertools import pairwise

import pytest
from builders import PACK, PACK_TEXT, SCREENED, a_claim, a_render
from msgspec.structs import replace

from domain.pack import PackError, parse_pack
from domain.reasons import Reason
from domain.screen import screen
from domain.vocabulary import AgentClass
from service import packs
from service.pack_cover import changes, uncovered
from service.pack_run import failures, outcome
from service.pack_vectors import parse_vectors

SHIPPED = {name: (packs.load(name), packs.vectors_of(name)) for name in packs.shipped()}
VECTORS = SHIPPED["base-1"][1]
TEXT = (files("domain") / "packs" / "base-1.vectors.toml").read_text()
NUMBERS = set(re.findall(r"^(\w+) = [\d_.]+(?: |$)", PACK_TEXT, re.MULTILINE))
ALL = [(name, table, vector) for name, (_, vectors) in SHIPPED.items() for table, vector in vectors.all()]


@pytest.mark.parametrize(("name", "table", "vector"), ALL, ids=lambda value: getattr(value, "case", str(value)))
def test_a_pack_says_what_its_vector_says(name, table, vector):
    expected, got = outcome(vector, SHIPPED[name][0])
    assert got == expected, table


@pytest.mark.parametrize("name", SHIPPED)
def test_no_value_of_a_pack_can_change_a_little_without_a_vector_noticing(name):
    pack, vectors = SHIPPED[name]
    assert vectors.pack == pack.id
    assert uncovered(pack, vectors) == []


def test_every_number_of_the_file_is_changed_both_ways():
    numbers = {}
    for change in changes(PACK):
        if re.fullmatch(r"-?[\d.]+", change.became):
            numbers.setdefault(change.key, []).append(float(change.became))
    assert all(len(became) == 2 for became in numbers.values())
    keys = {re.findall(r"\w+", key)[-1] for key in numbers}
    assert keys >= NUMBERS - {"version"}
    assert len(NUMBERS) > 15
    assert len(numbers) == len(re.findall(r"^\w+ = [\d_.]+(?: |$)", PACK_TEXT, re.MULTILINE)) - 1


@pytest.mark.parametrize("table", [table for table in VECTORS.__struct_fields__ if table != "pack"])
def test_without_a_kind_of_vector_something_is_left_unproved(table):
    assert uncovered(PACK, replace(VECTORS, **{table: ()}))


def test_a_vector_that_fails_is_named_with_what_was_expected_and_what_came():
    stricter = parse_pack(PACK_TEXT.replace("area_invisible_max_px = 1 ", "area_invisible_max_px = 2 "), "stricter")
    assert [str(failure) for failure in failures(VECTORS, stricter)] == [
        "screen: 'two pixels': expected [[],null,null], got [[\"AREA_INVISIBLE\"],null,null]"
    ]


def test_every_rule_of_the_screen_stands_in_some_vector():
    seen = {reason for vector in VECTORS.screen for reason in vector.reasons}
    of_the_token = {Reason.OUTSIDE_FLIGHT}
    assert set(SCREENED) - of_the_token <= seen


def test_no_two_vectors_of_a_table_have_the_same_name():
    named = sorted((table, vector.case) for table, vector in VECTORS.all())
    assert [one for one, other in pairwise(named) if one == other] == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('pack = "base-1"', "", "missing required field `pack`"),
        ("[[idle]]", "[[idel]]", "unknown field `idel`"),
        ("holds = false", "hold = false", "unknown field `hold` - at `$.signal[0]`"),
        ('signal = "stacked"', 'signal = "stack"', "Invalid enum value 'stack' - at `$.signal[4].signal`"),
        ("age_ms = 600_000", "age_ms = '1'", "Expected `int`, got `str` - at `$.lateness[0].age_ms`"),
        ("[[screen]]", "[[screen]", "not TOML"),
    ],
)
def test_vectors_with_an_error_are_refused_with_file_key_and_reason(old, new, says):
    assert old in TEXT
    with pytest.raises(PackError, match=re.escape(says)) as caught:
        parse_vectors(TEXT.replace(old, new, 1), "my.vectors.toml")
    assert str(caught.value).startswith("my.vectors.toml: ")


def test_a_file_without_vectors_is_refused():
    with pytest.raises(PackError, match="0 vectors"):
        parse_vectors('pack = "base-1"', "my.vectors.toml")


@pytest.mark.parametrize("name", ["client_at", "width", "height", "sdk", "user", "device"])
def test_a_field_that_a_pack_requires_makes_the_evidence_incomplete_where_it_is_missing(name):
    text = PACK_TEXT.replace('required = ["agent"]', f'required = ["{name}"]', 1)
    pack = parse_pack(text, "strict.toml")
    full = {"client_at": 1_790_000_000_000, "sdk": "s", "user": "u", "device": "d"}
    assert screen(a_claim(a_render(**full)), pack) == ()
    assert screen(a_claim(a_render(**{**full, name: None})), pack) == (Reason.EVIDENCE_INCOMPLETE,)
    assert screen(a_claim(a_render(**{**full, name: None})), PACK) == ()


def test_a_surface_that_does_not_require_an_agent_counts_without_one():
    pack = parse_pack(PACK_TEXT.replace('required = ["agent"]', "required = []", 1), "lax.toml")
    unnamed = a_claim(a_render(agent=None), agent_class=AgentClass.ABSENT)
    assert screen(unnamed, PACK) == (Reason.EVIDENCE_INCOMPLETE,)
    assert screen(unnamed, pack) == ()
