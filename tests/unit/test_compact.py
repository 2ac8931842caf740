"""How commits lie in PostgreSQL: small, whole, and readable for ever."""

import contextlib
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import pytest
from builders import a_render, a_token, admit, cause
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.decide import decide
from domain.impression import Unseen
from ledger.codec import UnreadableCommit, decode, encode
from ledger.compact import DICTIONARY, Compact

ROW = Path(__file__).parents[1] / "golden" / "row-1.zst"
"""A row as it was written when there was the first dictionary."""
DICTIONARIES = {1: "711da3eeb3a2af0b"}
COMPACT = Compact()
EVENTS = decide(Unseen(), admit(render=a_render(event_id=cause(1)), token=a_token()))


def test_a_row_that_was_written_once_is_read_for_ever():
    stored = ROW.read_bytes()
    assert decode(COMPACT.expand(stored)) == EVENTS


def test_no_dictionary_changes_once_rows_are_written_with_it():
    here = {int(one.name.removesuffix(".zdict")): one for one in (files("ledger") / "dictionaries").iterdir()}
    assert {number: sha256(one.read_bytes()).hexdigest()[:16] for number, one in here.items()} == DICTIONARIES
    assert max(here) == DICTIONARY


def test_an_ordinary_commit_takes_a_third_at_most():
    data = encode(EVENTS)
    assert 3 * len(COMPACT.shrink(data)) < len(data)


@for_all(st.binary(max_size=5_000))
def test_whatever_is_shrunk_comes_back(data):
    assert COMPACT.expand(COMPACT.shrink(data)) == data


@for_all(st.data())
def test_a_damaged_row_is_told_by_whoever_decodes_it_and_harms_no_other(data):
    stored = bytearray(COMPACT.shrink(encode(EVENTS)))
    for at in data.draw(st.lists(st.integers(0, len(stored) - 1), min_size=1, max_size=3)):
        stored[at] ^= data.draw(st.integers(1, 255))
    found = COMPACT.expand(bytes(stored)[: data.draw(st.integers(0, len(stored)))])
    with contextlib.suppress(UnreadableCommit):
        assert decode(found) == EVENTS
    assert decode(COMPACT.expand(ROW.read_bytes())) == EVENTS


def test_a_row_of_a_newer_dictionary_is_not_mistaken_for_events():
    stored = bytearray(COMPACT.shrink(encode(EVENTS)))
    assert stored[5] == DICTIONARY
    stored[5] += 1
    with pytest.raises(UnreadableCommit):
        decode(COMPACT.expand(bytes(stored)))
