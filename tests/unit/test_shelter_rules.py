"""When an outage is one, who may order shelter for how long, and that nobody else can."""

from itertools import pairwise
from uuid import UUID

import msgspec
import pytest
from gatekit import NOW
from hypothesis import given
from hypothesis import strategies as st
from shelterkit import HOUR, an_order, regions, signer, trust

from commands.shelter_trust import OrderRefused, check_current, check_order, check_testimony
from domain.shelter import (
    FAILED_MS,
    FRESH_MS,
    GAP_MAX_MS,
    OPERATOR_TTL_MAX_MS,
    PROBES_TTL_MS,
    RECOVERED_MS,
    Ground,
    Signed,
    Watch,
    grounds,
    probed,
)
from domain.shelter import (
    Testimony as Said,
)
from domain.shelter import (
    testimony_of as told_of,
)

MAP = regions("eu-1", "us-1", "ap-1")
TRUST = trust("eu-1", "us-1", "ap-1")
STEP = 5_000


def watched(pattern, step=STEP):
    """What is known after the probes of *pattern*, `x` for one that failed."""
    watch = Watch()
    for at, letter in enumerate(pattern):
        watch = probed(watch, NOW + at * step, answered=letter == ".")
    return watch


def said(cell="us-1", region="eu", since=NOW - FAILED_MS, at=NOW):
    return Said(region=region, cell=cell, failed_since=since, observed_at=at)


def by_probes(*cells, **changes):
    testimonies = tuple(signer(cell).sign(said(cell)) for cell in cells or ("us-1", "ap-1"))
    fields = {"ground": Ground.PROBES, "issuer": "us-1", "valid_until": NOW + PROBES_TTL_MS}
    return an_order(**{**fields, "testimonies": testimonies, **changes})


def check(order, by=None):
    return check_order(signer(by or order.issuer).sign(order), TRUST, MAP)


@pytest.mark.parametrize(
    ("pattern", "is_down"),
    [
        ("......", False),
        ("xxxxxx", False),
        ("xxxxxxx", True),
        ("xxxxxx.xxxxxx", False),
        (".xxxxxxx", True),
        ("xxxxxxx.", True),
        ("xxxxxxx...", True),
        ("xxxxxxx....", False),
        ("xxxxxxx..x....", False),
        ("xxxxxxx..x...", True),
        ("xxxxxxx....xxxxxx", False),
    ],
)
def test_a_region_is_down_after_30_s_of_failed_probes_and_up_after_15_s_of_answers(pattern, is_down):
    assert watched(pattern).is_down is is_down


def test_who_has_not_looked_for_a_while_begins_anew():
    assert not watched("xxxxxxx", step=GAP_MAX_MS + 1).is_down
    down = watched("xxxxxxx")
    assert not probed(down, down.last_at + GAP_MAX_MS + 1, answered=False).is_down
    assert not probed(down, down.last_at - 1, answered=False).is_down
    assert probed(down, down.last_at + GAP_MAX_MS, answered=False).is_down


def test_a_cell_testifies_only_while_the_region_is_down_and_the_last_probe_failed():
    assert told_of(watched("xxxxxx"), "eu", "us-1") is None
    assert told_of(watched("xxxxxxx"), "eu", "us-1") == said(since=NOW, at=NOW + FAILED_MS)
    assert told_of(watched("xxxxxxx."), "eu", "us-1") is None
    assert told_of(watched("xxxxxxx.x"), "eu", "us-1").failed_since == NOW


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 2 * GAP_MAX_MS)), max_size=60))
def test_an_outage_is_never_claimed_on_less_than_30_s_of_silence_and_ends_with_15_s_of_answers(probes):
    watch, at, history = Watch(), NOW, []
    for answered, step in probes:
        at += step
        history.append((at, answered))
        watch = probed(watch, at, answered=answered)
        testimony = told_of(watch, "eu", "us-1")
        if testimony is None:
            continue
        inside = [(when, there) for when, there in history if when >= testimony.failed_since]
        assert testimony.observed_at - testimony.failed_since >= FAILED_MS
        assert inside[0] == (testimony.failed_since, False)
        assert inside[-1] == (testimony.observed_at, False)
        assert all(later[0] - earlier[0] <= GAP_MAX_MS for earlier, later in pairwise(inside))
        failures = [when for when, there in inside if not there]
        for earlier, later in pairwise(failures):
            answers = [when for when, there in inside if there and earlier < when < later]
            assert not answers or answers[-1] - answers[0] < RECOVERED_MS


def test_two_cells_that_have_seen_the_same_outage_are_ground_enough():
    assert grounds([said(), said("ap-1")], "eu", NOW, ["eu-1"]) == [said("ap-1"), said()]


@pytest.mark.parametrize(
    "testimonies",
    [
        [],
        [said()],
        [said(), said(since=NOW - FAILED_MS - 1)],
        [said(), said("ap-1", since=NOW - FAILED_MS + 1)],
        [said(), said("ap-1", region="sa")],
        [said(), said("ap-1", since=NOW - HOUR, at=NOW - FRESH_MS - 1)],
        [said(), said("ap-1", at=NOW + 5_001)],
        [said(), said("eu-1")],
    ],
    ids=["none", "one", "one twice", "too short", "another region", "stale", "of the future", "the region itself"],
)
def test_less_is_none(testimonies):
    assert grounds(testimonies, "eu", NOW, ["eu-1"]) == []


def test_an_operators_order_needs_nobody_else():
    order = an_order(valid_until=NOW + OPERATOR_TTL_MAX_MS, reason="a flood")
    assert check(order) == order


def test_an_order_by_probes_carries_the_word_of_two_cells():
    order = by_probes()
    assert check(order) == order


FLAWED = {
    "too long": an_order(valid_until=NOW + OPERATOR_TTL_MAX_MS + 1),
    "long by beginning late": an_order(valid_from=NOW + HOUR, valid_until=NOW + OPERATOR_TTL_MAX_MS + 1),
    "over before it begins": an_order(valid_until=NOW),
    "for no cell": an_order(cells=()),
    "for the region itself": an_order(cells=("us-1", "eu-1")),
    "for a cell that is none": an_order(cells=("us-9",)),
    "of a region that is none": an_order("mars"),
    "long reason": an_order(reason="x" * 201),
    "of a cell without probes": an_order(issuer="us-1"),
    "of an operator by probes": by_probes(issuer="ops"),
    "by probes, too long": by_probes(valid_until=NOW + PROBES_TTL_MS + 1),
    "by one cell": by_probes("us-1"),
    "by one cell twice": by_probes("us-1", "us-1"),
    "by a cell of the region": by_probes("us-1", "eu-1"),
    "by old probes": by_probes(issued_at=NOW + HOUR, valid_from=NOW + HOUR, valid_until=NOW + HOUR + 1),
    "by probes of another region": by_probes(region="ap"),
    "in another's name": an_order(issuer="someone"),
}


@pytest.mark.parametrize("order", FLAWED.values(), ids=FLAWED)
def test_what_is_no_order_is_refused_whoever_signed_it(order):
    with pytest.raises(OrderRefused):
        check(order, by="ops" if order.issuer == "someone" else None)


@pytest.mark.parametrize("part", ["by", "payload", "signature"])
def test_what_was_not_signed_so_is_refused(part):
    signed = signer("ops").sign(an_order())
    changed = {"by": "us-1", "payload": signed.payload.replace(b'"eu"', b'"ap"'), "signature": bytes(64)}
    with pytest.raises(OrderRefused):
        check_order(msgspec.structs.replace(signed, **{part: changed[part]}), TRUST, MAP)


def test_a_testimony_is_no_order_nor_the_other_way_round():
    testimony, order = signer("us-1").sign(said()), signer("us-1").sign(by_probes())
    with pytest.raises(OrderRefused):
        check_order(testimony, TRUST, MAP)
    with pytest.raises(OrderRefused):
        check_testimony(order, TRUST)
    assert check_testimony(testimony, TRUST) == said()


def test_nobody_testifies_in_anothers_name():
    with pytest.raises(OrderRefused, match="another's name"):
        check_testimony(signer("us-1").sign(said("ap-1")), TRUST)
    with pytest.raises(OrderRefused, match="not trusted"):
        check_testimony(signer("xx-1").sign(said("xx-1")), TRUST)


@given(st.binary(max_size=200), st.binary(max_size=80), st.sampled_from(["ops", "us-1", "nobody", ""]))
def test_noise_is_refused_with_a_reason(payload, signature, by):
    with pytest.raises(OrderRefused):
        check_order(Signed(by, payload, signature), TRUST, MAP)


def test_an_order_that_is_over_or_of_the_future_is_not_taken():
    check_current(an_order(), NOW)
    with pytest.raises(OrderRefused, match="over"):
        check_current(an_order(), NOW + HOUR)
    with pytest.raises(OrderRefused, match="future"):
        check_current(an_order(order_id=UUID(int=2)), NOW - 5_001)
