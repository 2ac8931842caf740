from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from builders import MINTED, a_render, cause
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.render import RECEIVED_MAX_MS, Fingerprint, Kind, Render, content, millis
from domain.vocabulary import OmidType

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = ("client_at", "on_screen_at", "received_at", "sent_at")
TRANSPORT = {"sent_at", "attempt"}
OTHERWISE = {
    "event_id": cause(99),
    "token": "another",
    "kind": Kind.VIEW,
    "client_at": MINTED + 1,
    "on_screen_at": MINTED + 1,
    "omid_type": OmidType.LOADED,
    "prefetched": True,
    "background": True,
    "auto_refresh": True,
    "clicked": True,
    "width": 301,
    "height": 251,
    "stack_depth": 2,
    "visible_ratio": 0.25,
    "visible_ms": 1,
    "duration_ms": 1,
    "sdk": "ios/12.3",
    "sdk_seq": 1,
    "session": "s",
    "user": "u",
    "device": "d",
    "country": "DE",
    "agent": "another",
    "network": "192.0.2.1",
    "received_at": MINTED + 1,
    "fingerprint": Fingerprint(platform="Win32"),
    "sent_at": MINTED + 1,
    "attempt": 1,
}


def parse(**fields):
    wire = {"event_id": str(cause(1)), "token": "t", **fields}
    return msgspec.json.decode(msgspec.json.encode(wire), type=Render)


def test_an_event_id_and_a_token_are_enough():
    assert parse() == Render(event_id=cause(1), token="t")
    assert parse().kind is Kind.RENDER


def test_every_field_is_read_off_the_wire():
    wire = msgspec.to_builtins(OTHERWISE)
    assert msgspec.json.decode(msgspec.json.encode(wire), type=Render) == Render(**OTHERWISE)
    assert OTHERWISE.keys() == set(Render.__struct_fields__)


@pytest.mark.parametrize("name", TIMES)
def test_a_time_is_epoch_milliseconds_or_rfc_3339(name):
    spellings = (MINTED + 1, "2026-09-21T14:13:20.001Z", "2026-09-21T16:13:20.001+02:00")
    assert [getattr(parse(**{name: spelling}), name) for spelling in spellings] == [MINTED + 1] * 3


@given(at=st.integers(0, 1 << 47))
def test_rfc_3339_keeps_every_millisecond(at):
    stated = EPOCH + timedelta(milliseconds=at)
    assert millis(stated) == at
    assert parse(client_at=stated).client_at == at


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize(
    "time",
    [-1, (1 << 47) + 1, "1969-12-31T23:59:59.999Z", "9999-12-31T23:59:59Z", "2026-09-21T14:13:20", "yesterday", 1.5],
)
def test_a_time_out_of_range_without_a_zone_or_of_another_form_is_refused(name, time):
    with pytest.raises(msgspec.ValidationError):
        parse(**{name: time})


def test_what_is_received_has_a_place_in_the_tables_of_reports():
    last = "2106-02-07T06:28:15.999Z"
    assert parse(received_at=last).received_at == parse(received_at=RECEIVED_MAX_MS).received_at == RECEIVED_MAX_MS
    for later in (RECEIVED_MAX_MS + 1, "2106-02-07T06:28:16Z"):
        with pytest.raises(msgspec.ValidationError, match="received_at"):
            parse(received_at=later)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("width", 0, 1_000_000),
        ("height", 0, 1_000_000),
        ("stack_depth", 0, 1_000),
        ("visible_ratio", 0.0, 1.0),
        ("visible_ms", 0, 86_400_000),
        ("duration_ms", 0, 86_400_000),
        ("sdk_seq", 0, 1 << 53),
        ("attempt", 0, 1_000),
    ],
)
def test_a_measure_has_bounds(name, least, most):
    step = 0.001 if isinstance(most, float) else 1
    assert getattr(parse(**{name: least}), name) == least
    assert getattr(parse(**{name: most}), name) == most
    for beyond in (least - step, most + step):
        with pytest.raises(msgspec.ValidationError, match=name):
            parse(**{name: beyond})


@pytest.mark.parametrize(
    ("name", "length"),
    [("sdk", 128), ("session", 128), ("user", 128), ("device", 128), ("network", 128), ("agent", 1_024)],
)
def test_a_text_has_a_length(name, length):
    assert parse(**{name: "x" * length})
    with pytest.raises(msgspec.ValidationError, match=f"length <= {length}"):
        parse(**{name: "x" * (length + 1)})


def test_a_token_has_a_length():
    with pytest.raises(msgspec.ValidationError, match="length <= 2048"):
        parse(token="x" * 2_049)


@pytest.mark.parametrize("country", ["D", "DEU", ""])
def test_a_country_has_two_letters(country):
    with pytest.raises(msgspec.ValidationError, match="country"):
        parse(country=country)


@pytest.mark.parametrize(
    ("name", "value"),
    [("kind", "click"), ("omid_type", "begintorender"), ("prefetched", 1), ("width", "300"), ("event_id", "7")],
)
def test_a_value_of_another_type_is_refused_with_its_name(name, value):
    with pytest.raises(msgspec.ValidationError, match=name):
        parse(**{name: value})


def test_an_unknown_field_is_refused_with_its_name():
    with pytest.raises(msgspec.ValidationError, match="unknown field `visble_ms`"):
        parse(visble_ms=1)


@pytest.mark.parametrize("missing", ["event_id", "token"])
def test_a_render_without_id_or_token_is_refused(missing):
    wire = {"event_id": str(cause(1)), "token": "t"}
    del wire[missing]
    with pytest.raises(msgspec.ValidationError, match=f"missing required field `{missing}`"):
        msgspec.json.decode(msgspec.json.encode(wire), type=Render)


@pytest.mark.parametrize("name", sorted(set(Render.__struct_fields__) - TRANSPORT))
def test_the_content_tells_renders_that_differ_apart(name):
    render = a_render(event_id=cause(1))
    assert content(replace(render, **{name: OTHERWISE[name]})) != content(render)


@pytest.mark.parametrize("name", sorted(TRANSPORT))
def test_the_content_is_the_same_at_every_attempt(name):
    render = a_render(event_id=cause(1))
    changed = replace(render, **{name: OTHERWISE[name]})
    assert changed != render
    assert content(changed) == content(render)


@pytest.mark.parametrize("name", sorted(set(TIMES) - TRANSPORT))
def test_the_content_is_the_same_however_a_time_is_spelled(name):
    assert content(parse(**{name: MINTED})) == content(parse(**{name: "2026-09-21T14:13:20Z"}))


def test_the_content_is_the_same_however_an_id_is_spelled():
    id_ = UUID("0199A000-0000-7000-8000-00000000ABCD")
    assert content(parse(event_id=str(id_).upper())) == content(parse(event_id=id_.hex))


def test_what_has_no_fingerprint_is_identified_as_it_was_before_there_were_any():
    assert content(parse(attempt=3)) == (
        b'["00000000-0000-0000-0000-000000000001","t","render",null,null,null,false,false,false,false,null,null,null,'
        b"null,null,null,null,null,null,null,null,null,null,null,null]"
    )
