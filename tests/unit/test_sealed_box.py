"""Only the owner of the key opens a box, whole, and for what it was sealed for."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.sealed_box import OVERHEAD_BYTES, BoxKey, Sealer, Unopenable, keys_by_id, open_box

DICE = random.Random(3)
OWN, OTHER = DICE.randbytes(32), DICE.randbytes(32)
KEYS = keys_by_id([OWN])
PUBLIC = BoxKey(OWN).public


def sealer():
    return Sealer(PUBLIC, DICE.randbytes(32))


@given(st.binary(max_size=2_000), st.binary(max_size=100))
def test_what_is_sealed_opens_as_it_was(content, bound):
    box = sealer().seal(content, bound)
    assert len(box) == len(content) + OVERHEAD_BYTES
    assert open_box(box, KEYS, bound) == content
    assert content not in box or len(content) < 4


def test_a_batch_under_one_ephemeral_key_has_a_nonce_each():
    one = sealer()
    boxes = [one.seal(b"the same", b"") for _ in range(3)]
    assert len(set(boxes)) == 3
    assert [open_box(box, KEYS, b"") for box in boxes] == [b"the same"] * 3


def test_after_a_change_of_keys_the_old_one_still_opens():
    box = sealer().seal(b"content", b"")
    assert open_box(box, keys_by_id([OTHER, OWN]), b"") == b"content"


def test_another_cell_cannot_open_it():
    with pytest.raises(Unopenable, match="does not have"):
        open_box(sealer().seal(b"content", b""), keys_by_id([OTHER]), b"")


def test_it_does_not_open_for_another_event():
    with pytest.raises(Unopenable, match="damaged"):
        open_box(sealer().seal(b"content", b"one"), KEYS, b"two")


@given(st.integers(0, OVERHEAD_BYTES + 6), st.integers(1, 255))
def test_one_changed_byte_anywhere_is_noticed(place, change):
    box = bytearray(sealer().seal(b"content", b"bound"))
    box[place] ^= change
    with pytest.raises(Unopenable):
        open_box(bytes(box), KEYS, b"bound")


@given(st.binary(max_size=200))
def test_noise_is_no_box(noise):
    with pytest.raises(Unopenable):
        open_box(noise, KEYS, b"")


def test_a_useless_ephemeral_key_is_no_box():
    box = bytearray(sealer().seal(b"content", b""))
    box[9:41] = bytes(32)
    with pytest.raises(Unopenable):
        open_box(bytes(box), KEYS, b"")
