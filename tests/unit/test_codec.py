"""How events are written down, and that what was written once is read for ever."""

import enum
import types
import typing
from math import isnan
from pathlib import Path
from struct import pack, unpack
from uuid import UUID

import msgspec
import pytest
from builders import (
    DAY,
    HOUR,
    MINTED,
    ORIGINAL,
    PACK,
    VERSIONS,
    a_correction,
    a_label,
    a_render,
    a_token,
    a_view,
    admit,
    an_answer,
    cause,
    given,
)
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.aggregates import AnswersCounted, LedgerEvent
from domain.campaign_events import CampaignEvent
from domain.placement_events import ModelPlaced
from domain.reasons import Reason
from domain.sequences import SequencesCounted
from domain.serves import AdsServed
from domain.signals import Family, Signal
from domain.vocabulary import AgentClass, Authority, BillingEvent, LabelSource, NetworkClass, OmidType, Rung, Surface
from ledger.codec import SCHEMA_VERSION, UPCASTERS, UnreadableCommit, decode, encode, split

GOLDEN = Path(__file__).parents[1] / "golden" / f"events-v{SCHEMA_VERSION}.json"
GOLDEN_1 = Path(__file__).parents[1] / "golden" / "events-v1.json"
ELSEWHERE = frozenset({*typing.get_args(CampaignEvent), AdsServed, SequencesCounted, ModelPlaced})
"""Events with golden files of their own."""
EVENTS = tuple(event for event in typing.get_args(LedgerEvent) if event not in ELSEWHERE)
PACK_THEN = replace(PACK, view_rule=tuple(rule for rule in PACK.view_rule if rule.name == "mrc"))
"""Viewability packs may join the shipped pack; the golden bytes have the one that there was."""


def strategy(kind):
    """A strategy for values of a field's type; floats are finite, since JSON has no others."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.name: strategy(field.type) for field in msgspec.structs.fields(kind)}
        return st.fixed_dictionaries(fields).map(lambda values: kind(**values))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    plain = {
        bool: st.booleans(),
        int: st.integers(-(1 << 63), (1 << 63) - 1),
        bytes: st.binary(max_size=20),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(max_size=20),
        UUID: st.uuids(),
        types.NoneType: st.none(),
    }
    if kind in plain:
        return plain[kind]
    parts = [strategy(part) for part in typing.get_args(kind) if part is not Ellipsis]
    match typing.get_origin(kind):
        case typing.Union | types.UnionType:
            return st.one_of(parts)
        case origin if origin is tuple:
            return st.lists(parts[0], max_size=3).map(tuple)
        case origin if origin is dict:
            return st.dictionaries(*parts, max_size=3)
        case _:
            raise AssertionError(f"no strategy for {kind}")


any_events = st.lists(st.one_of([strategy(event) for event in EVENTS]), min_size=1, max_size=4).map(tuple)


def examples():
    """One event of each kind, in order of the union, most of their fields set."""
    rendered, scored, *rest = examples_1()
    rendered = replace(rendered, agent_age_days=40, sdk_age_days=-2, fingerprint_inconsistencies=1)
    signals = (Signal(Family.RATE, "person_10s", 31.0, 30.0),)
    scored = replace(scored, signals=signals, pair=("person_10s", "model"), masked_risk=0.96875, propensity=0.003)
    return rendered, scored, *rest


def examples_1():
    """What schema version 1 could say."""
    token = a_token(surface=Surface.AUDIENCE_NETWORK, billing_event=BillingEvent.VIEWABLE)
    render = a_render(
        event_id=cause(1),
        client_at=MINTED + 500,
        sent_at=MINTED + 900,
        on_screen_at=None,
        omid_type=OmidType.BEGIN_TO_RENDER,
        visible_ratio=0.5,
        visible_ms=999,
        duration_ms=15_000,
        sdk="ios/12.3",
        sdk_seq=41,
        session="session-1",
        country="DE",
    )
    admitted = admit(
        render=render,
        token=token,
        person=("user-key", "device-key", "network-key", "session-1"),
        agent_class=AgentClass.BROWSER,
        network_class=NetworkClass.ABSENT,
        also=[Reason.DOUBLE_FIRE, Reason.RISK_GREY],
    )
    scored = replace(
        admitted.scored,
        versions=replace(VERSIONS, model="model-1", calibration="calibration-1", features="features-1"),
        rung=Rung.PARTIAL_CLIENT,
        risk=0.25,
        band="grey",
        features=pack("<2f", 0.5, 3.0),
        feature_status="fs",
        spent_ms=2,
    )
    rendered, scored, deduped = (
        given().when(replace(admitted, scored=scored, duplicate_of=ORIGINAL, pack=PACK_THEN)).events
    )
    plain = given(admit(token=token, render=replace(render, event_id=cause(2), visible_ratio=None)))
    seen = {"visible_ratio": 0.75, "visible_ms": 1_500, "clicked": True}
    view = a_view(id_=cause(3), received_at=MINTED + HOUR, pack=PACK_THEN, **seen)
    [viewed] = plain.when(view).events
    correction = a_correction(
        Reason.STACKED, Authority.SDK_BUG, id_=cause(4), observed_at=MINTED + DAY, evidence="bug 12", deadline_met=False
    )
    [reconciled] = plain.when(correction).events
    [labelled] = plain.when(a_label(LabelSource.HUMAN_REVIEW, id_=cause(5), at=MINTED + DAY)).events
    counted = AnswersCounted(
        cause=cause(6), digest="", refused={Reason.TOKEN_EXPIRED: 2}, unmoved=3, counted_at=MINTED + DAY
    )
    [answered] = plain.when(an_answer(cause(2), id_=cause(7))).events
    return rendered, scored, deduped, viewed, reconciled, labelled, answered, counted


@for_all(events=any_events)
def test_what_is_written_is_read_again(events):
    assert decode(encode(events)) == events


@for_all(events=any_events)
def test_equal_events_are_written_alike(events):
    assert encode(decode(encode(events))) == encode(events)


def test_there_is_a_golden_example_of_every_event():
    assert tuple(type(event) for event in examples()) == tuple(event for event in EVENTS if event not in ELSEWHERE)


def test_events_are_written_as_they_were_when_the_schema_was_made():
    written = b"".join(encode((event,)) + b"\n" for event in examples())
    assert written == GOLDEN.read_bytes(), "stored bytes changed: that is a new schema version and an upcaster"


def test_golden_events_are_read_as_they_were_written():
    assert tuple(event for line in GOLDEN.read_bytes().splitlines() for event in decode(line)) == examples()


def test_golden_events_are_written_again_as_they_were_read():
    assert [encode(decode(line)) for line in GOLDEN.read_bytes().splitlines()] == GOLDEN.read_bytes().splitlines()


def test_events_of_version_1_are_read_as_they_were_meant():
    assert tuple(event for line in GOLDEN_1.read_bytes().splitlines() for event in decode(line)) == examples_1()


def scored_1(features):
    event = msgspec.to_builtins(examples_1()[1]) | {"features": features}
    return msgspec.json.encode([1, event])


def test_features_of_version_1_are_the_nearest_that_a_float32_holds():
    [scored] = decode(scored_1([None, 0.1, 1e300, -1e300, 7]))
    values = unpack("<5f", scored.features)
    assert isnan(values[0])
    assert values[1:] == pytest.approx((0.1, 3.4028235e38, -3.4028235e38, 7.0))


@pytest.mark.parametrize("features", [["x"], [[1]], 7, "AAA"])
def test_features_that_are_no_numbers_are_refused(features):
    with pytest.raises(UnreadableCommit):
        decode(scored_1(features))


def test_the_schema_version_stands_first():
    version, raw_events = split(encode(examples()))
    assert version == SCHEMA_VERSION
    assert len(raw_events) == len(examples())


def test_there_is_an_upcaster_from_every_version_before():
    assert sorted(UPCASTERS) == list(range(1, SCHEMA_VERSION))


def older(version):
    """A label as it might have stood in *version*: its weight was a percentage and had another name before 3."""
    wire = msgspec.to_builtins(examples()[5])
    del wire["weight"]
    return msgspec.json.encode([version, wire | ({"percent": 70} if version == 1 else {"share": 0.7})])


def from_1(event):
    return {**{name: value for name, value in event.items() if name != "percent"}, "share": event["percent"] / 100}


def from_2(event):
    return {**{name: value for name, value in event.items() if name != "share"}, "weight": event["share"]}


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_event_goes_through_every_upcaster_in_order(version):
    assert decode(older(version), current=3, upcasters={1: from_1, 2: from_2}) == (examples()[5],)


def test_an_event_of_the_current_version_goes_through_none():
    def never(event):
        raise AssertionError(event)

    assert decode(encode(examples()), upcasters={SCHEMA_VERSION: never}) == examples()


def test_an_older_event_without_an_upcaster_is_refused():
    with pytest.raises(UnreadableCommit):
        decode(older(1), current=3, upcasters={2: from_2})


@pytest.mark.parametrize("events", [[], [msgspec.to_builtins(examples()[5])]])
def test_a_newer_version_is_refused_by_its_number(events):
    data = msgspec.json.encode([SCHEMA_VERSION + 1, *events])
    with pytest.raises(UnreadableCommit, match=f"newer program: schema version {SCHEMA_VERSION + 1}"):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"[null]",
        b"[true]",
        b'["1"]',
        b"[1.0,{}]",
        b"[0]x",
        b"[0,{}]",
        b"[-1,{}]",
        b"[1,]",
        b"[1,{}]",
        b"[1,7]",
        b"[2,]",
        b"[2,{}]",
        b"[2,7]",
        b'[1,{"type":"ImpressionBilled"}]',
        b'[1,{"type":"ImpressionRendered"}]',
        b'[2,{"type":"ImpressionRendered"}]',
        b'[2,{"type":"\xff"}]',
        b'\xff[1,{"type":"ImpressionRendered"}]',
        b"[" * 100_000,
        b"[1," + b"[" * 100_000 + b"]" * 100_001,
    ],
)
def test_damaged_bytes_are_refused(data):
    with pytest.raises(UnreadableCommit):
        decode(data)


@for_all(data=st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data):
    with pytest.raises(UnreadableCommit):
        decode(data)


@for_all(length=st.integers(0, len(encode(examples())) - 1))
def test_bytes_cut_short_are_refused(length):
    with pytest.raises(UnreadableCommit):
        decode(encode(examples())[:length])


@for_all(at=st.integers(0, len(encode(examples())) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_read_as_other_events(at, byte):
    data = bytearray(encode(examples()))
    if data[at] == byte:
        return
    data[at] = byte
    try:
        events = decode(bytes(data))
    except UnreadableCommit:
        return
    assert events != examples() or chr(byte) in "abcdefABCDEF-"
