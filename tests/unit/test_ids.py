from datetime import date
from uuid import UUID, uuid5

import pytest
from builders import IMPRESSION, MINTED, cause
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import SHARDS, day_of, event_id, is_impression_id, mint, minted_at, shard, shard_of_person

times = st.integers(0, (1 << 48) - 1)
shards = st.integers(0, SHARDS - 1)
entropies = st.integers(0, (1 << 80) - 1)


@given(at=times, number=shards, entropy=entropies)
def test_an_impression_id_carries_mint_time_and_shard(at, number, entropy):
    impression = mint(at, number, entropy)
    assert (minted_at(impression), shard(impression)) == (at, number)


@given(at=times, number=shards, entropy=entropies)
def test_an_impression_id_is_a_uuid_of_version_7(at, number, entropy):
    impression = mint(at, number, entropy)
    assert impression.version == 7
    assert impression.variant == "specified in RFC 4122"
    assert is_impression_id(impression)


@given(at=times, number=shards, entropies=st.lists(st.integers(0, (1 << 62) - 1), min_size=2, max_size=2, unique=True))
def test_62_bits_of_entropy_keep_ids_of_one_shard_and_time_apart(at, number, entropies):
    assert mint(at, number, entropies[0]) != mint(at, number, entropies[1])


@given(value=st.uuids())
def test_other_versions_are_no_impression_ids(value):
    assert is_impression_id(value) is (value.version == 7)


def test_another_variant_is_no_impression_id():
    assert not is_impression_id(UUID(int=IMPRESSION.int ^ (0x3 << 62)))


@pytest.mark.parametrize(("at", "number"), [(-1, 0), (1 << 48, 0), (0, -1), (0, SHARDS)])
def test_what_does_not_fit_an_id_is_refused(at, number):
    with pytest.raises(ValueError, match="does not fit a UUIDv7"):
        mint(at, number, 0)


@given(earlier=times, later=times, number=shards, entropy=entropies)
def test_ids_are_in_order_of_their_mint_times(earlier, later, number, entropy):
    ids = sorted([mint(later, 0, 0), mint(earlier, number, entropy)])
    assert [minted_at(impression) for impression in ids] == sorted([earlier, later])


def test_an_event_id_follows_from_its_cause_and_index():
    assert event_id(cause(1), 0) == uuid5(cause(1), "0")
    assert len({event_id(cause(number), index) for number in (1, 2) for index in range(3)}) == 6


@given(person=st.text(), key=st.binary(min_size=1, max_size=64))
def test_a_person_has_one_shard_under_one_key(person, key):
    assert 0 <= shard_of_person(person, key) < SHARDS
    assert shard_of_person(person, key) == shard_of_person(person, key)


def test_persons_spread_over_the_shards_differently_under_each_key():
    people = [f"user-{number}" for number in range(2_000)]
    one, other = ([shard_of_person(person, key) for person in people] for key in (b"one", b"other"))
    assert len(set(one)) > 1_400
    assert sum(a == b for a, b in zip(one, other, strict=True)) < 10


def test_a_day_begins_at_midnight_utc():
    assert day_of(MINTED) == date(2026, 9, 21)
    assert [day_of(at) for at in (86_399_999, 86_400_000)] == [date(1970, 1, 1), date(1970, 1, 2)]
