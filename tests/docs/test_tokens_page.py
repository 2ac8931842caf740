"""docs/tokens.md: whoever follows it mints what the gate takes."""

import re
import tomllib
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from domain.ids import minted_at, shard, shard_of_person
from domain.token import Token, TokenKey, check_token, mint_token
from domain.vocabulary import BillingEvent, Format, Surface
from service.keyfiles import Keys

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tokens.md").read_text()


@pytest.fixture(scope="module")
def worked():
    """What the program on the page makes, with the standard library alone."""
    [program] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(program, names)
    return names


def told(what):
    [value] = re.findall(rf"^\| {what} \| `(.*)` \|$", PAGE, re.MULTILINE)
    return value


def test_the_worked_token_is_the_one_that_the_program_on_the_page_makes(worked):
    [token] = re.findall(r"```text\n(.*)\n```", PAGE)
    assert worked["token"] == token
    assert token.endswith(f".{told('mac')}")
    assert (str(worked["shard"]), str(worked["fields"][12])) == (told("shard"), told("hidden price"))


def test_the_gate_reads_the_worked_token_as_the_page_says(worked):
    key = TokenKey(signing=worked["SIGNING"], price=worked["PRICE"])
    token = check_token(worked["token"], {"k1": key})
    assert token.impression == UUID(told("impression"))
    assert token.price_micros == worked["price_micros"]
    assert minted_at(token.impression) == worked["minted_at"]
    assert shard(token.impression) == shard_of_person(worked["person"], worked["SHARD"]) == worked["shard"]
    assert mint_token(token, "k1", key) == worked["token"]


def test_the_fields_of_a_token_stand_in_their_order():
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE)
    assert rows == [(str(number), name) for number, name in enumerate(Token.__struct_fields__, 1)]


@pytest.mark.parametrize(("field", "kind"), [("surface", Surface), ("format", Format), ("billing_event", BillingEvent)])
def test_a_field_that_is_one_of_a_list_has_the_list(field, kind):
    [row] = re.findall(rf"^\| \d+ \| `{field}` .*$", PAGE, re.MULTILINE)
    assert f"`{' '.join(kind)}`" in row


def test_every_viewability_pack_of_the_rules_is_named():
    rules = tomllib.loads((ROOT / "domain" / "packs" / "base-1.toml").read_text())
    names = [one["name"] for group in rules.values() if isinstance(group, list) for one in group if "mrc" in str(group)]
    [row] = re.findall(r"^\| \d+ \| `viewability_pack` .*$", PAGE, re.MULTILINE)
    assert f"`{' '.join(dict.fromkeys(names))}`" in row


def test_every_field_of_the_file_of_keys_is_told():
    section = PAGE.partition("## keys.json")[2].partition("\n## ")[0]
    fields = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(fields) == sorted(field.name for field in msgspec.structs.fields(Keys))
