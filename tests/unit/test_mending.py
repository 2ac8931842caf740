"""What is wrong with a body, which fix follows from that, and what a fix must not touch."""

import msgspec
import pytest
from gatekit import NOW, Minter
from hypothesis import given as for_all
from hypothesis import strategies as st

from commands.mending import MEMBERS_MAX, derived, flaws, masked, mend, merge_patch, read
from commands.quarantine_entries import FixRefused, NotReplayable
from domain.render import RENDER_MAX_BYTES, Render

NAME = "0123456789abcdef0123456789abcdef"


def document(**changes):
    return read(msgspec.json.encode(Minter().render(**changes)))


def found(body, *, may_be_history=False):
    return flaws(body, may_be_history=may_be_history)


def mended(body, patch, *, may_be_history=False):
    text, fixed = mend(body, patch, NAME, may_be_history=may_be_history)
    return msgspec.json.decode(text, type=Render), fixed


def test_a_readable_body_has_no_flaw():
    assert found(document()) == []


def test_every_flaw_is_found_not_only_the_first():
    body = document(client_at=-5, width="wide", omid_type="seen", idfa="x")
    assert {flaw.field for flaw in found(body)} == {"client_at", "width", "omid_type", "idfa"}


def test_a_flaw_names_what_is_expected_and_the_type_that_is_there_but_no_value():
    [flaw] = found(document(country="Atlantis"))
    assert (flaw.path, flaw.found) == ("$.country", "string")
    assert "length" in flaw.says
    assert "Atlantis" not in str(flaw)
    [flaw] = found(document(omid_type="anna@example.org"))
    assert "anna" not in str(flaw)


@pytest.mark.parametrize(
    ("field", "value", "means"),
    [
        ("width", "300", 300),
        ("height", 250.0, 250),
        ("client_at", f"{NOW}", NOW),
        ("visible_ratio", "0.5", 0.5),
        ("prefetched", "true", True),
        ("user", 12345, "12345"),
        ("sdk", 12.1, "12.1"),
        ("omid_type", " Viewable ", "viewable"),
        ("omid_type", "BEGINTORENDER", "beginToRender"),
        ("kind", "View", "view"),
    ],
)
def test_what_is_meant_without_doubt_is_suggested(field, value, means):
    body = document(**{field: value})
    patch, leaves_out = derived(found(body))
    assert (patch, leaves_out) == ({field: means}, [])
    render, fixed = mended(body, patch)
    assert fixed == (field,)
    assert getattr(render, field) == means


@pytest.mark.parametrize(
    ("field", "value"),
    [("client_at", -5), ("visible_ratio", 87), ("on_screen_at", "2026-09-21T10:00:00"), ("country", "deu")],
)
def test_what_says_nothing_certain_may_be_left_out(field, value):
    patch, leaves_out = derived(found(document(**{field: value})))
    assert (patch, leaves_out) == ({field: None}, [field])


@pytest.mark.parametrize(
    ("field", "value"),
    [("prefetched", "perhaps"), ("background", 3), ("kind", "impression"), ("agent", 7.5e300), ("network", "x" * 129)],
)
def test_where_silence_would_say_something_only_an_operator_can_say_what_is_meant(field, value):
    if field == "agent":
        value = "x" * 1_025
    assert derived(found(document(**{field: value}))) is None


def test_an_unknown_field_is_left_out_and_loses_nothing_known():
    assert derived(found(document(idfa="A-B-C"))) == ({"idfa": None}, [])


def test_a_time_of_receipt_is_a_flaw_of_those_who_may_not_state_it():
    body = document(received_at=NOW)
    assert derived(found(body)) == ({"received_at": None}, ["received_at"])
    assert mended(body, {"received_at": None})[0].received_at is None
    assert found(body, may_be_history=True) == []


def test_a_missing_event_id_is_made_from_the_entry_and_always_the_same():
    for body in (document(event_id=None), document(event_id="nonsense"), document(event_id=7)):
        one, fixed = mended(body, {})
        assert fixed == ("event_id",)
        assert one == mended(body, {})[0]
        assert one.event_id != mend(body, {}, NAME[::-1], may_be_history=False)[0]


@pytest.mark.parametrize("token", [None, 7, "x" * 2_049])
def test_without_a_readable_token_nothing_can_be_done(token):
    body = document(token=token)
    assert derived(found(body)) is None
    with pytest.raises(NotReplayable, match="no readable token"):
        mended(body, {"token": "v1.k1.e30.00"})


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ({"width": 728}, "can be read as it is"),
        ({"user": None}, "can be read as it is"),
        ({"visible_ratio": 1.0}, "was not said by the client"),
        ({"token": "v1.k1.e30.00"}, "is not an operator's to say"),
        ({"event_id": "7f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f"}, "is not an operator's to say"),
        ({"received_at": NOW}, "is not an operator's to say"),
    ],
)
def test_a_fix_changes_only_what_cannot_be_read(patch, why):
    with pytest.raises(FixRefused, match=why):
        mended(document(client_at=-5), {"client_at": None, **patch})


def test_a_fix_that_says_what_stands_there_anyway_changes_nothing():
    assert mended(document(client_at=-5), {"client_at": None, "width": 300, "visible_ms": None})[1] == ("client_at",)


def test_a_fix_that_does_not_do_says_what_is_left():
    with pytest.raises(FixRefused, match=r"still cannot be read. \$.width: Expected `int | null`, got `str`"):
        mended(document(client_at=-5, width="wide"), {"client_at": None})
    with pytest.raises(FixRefused, match=r"\$.client_at: Expected `int` >= 0"):
        mended(document(client_at=-5), {"client_at": -6})


def test_names_that_no_render_has_are_not_told_as_fixed():
    _, fixed = mended(document(**{"anna@example.org": 1}), {"anna@example.org": None})
    assert fixed == ("unknown",)


def test_of_a_member_that_stands_twice_the_last_counts():
    text = msgspec.json.encode(Minter().render())
    body = read(text.replace(b'"width":300', b'"width":"wide","width":300'))
    assert found(body) == []
    assert mended(body, {})[0].width == 300


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"a":', "not JSON"),
        (b'{"a": 1} and more', r"trailing characters \(byte 10\)"),
        (b"\xff\xfe", "not JSON"),
        (b'{"\xff": 1}', "not UTF-8"),
        (b"[]", "no object"),
        (b'"text"', "no object"),
        (b"{" + b" " * RENDER_MAX_BYTES + b"}", "more than 65536 bytes, as no render has"),
        (b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", "too deep"),
        (msgspec.json.encode({f"f{n}": n for n in range(MEMBERS_MAX + 1)}), "201 members"),
    ],
)
def test_what_is_no_document_cannot_be_mended(body, why):
    with pytest.raises(NotReplayable, match=why):
        read(body)


def test_a_text_that_is_not_utf8_and_a_number_that_no_computer_has_are_flaws_as_others_are():
    text = msgspec.json.encode(Minter().render())
    body = read(text.replace(b'"width":300', b'"width":1e999').replace(b'"ios/12.1"', b'"\xff"'))
    assert {flaw.field for flaw in found(body)} == {"width", "sdk"}
    assert masked(body, found(body))["width"] == "<number, out of range>"
    assert derived(found(body)) == ({"width": None, "sdk": None}, ["width", "sdk"])


def test_a_look_hides_identifiers_and_every_text_that_nobody_knows():
    body = document(
        user="anna@example.org",
        session="s-77",
        device=[1, 2],
        agent="Mozilla/7.7",
        network="198.51.100.7",
        email="anna@example.org",
        omid_type="idfa-77",
        country="anna",
        client_at=-5,
    )
    shown = masked(body, found(body))
    text = repr(shown)
    for raw in ("anna", "s-77", "Mozilla", "198.51", "idfa", "v1.k1"):
        assert raw not in text
    assert (shown["client_at"], shown["width"], shown["sdk"]) == (-5, 300, "ios/12.1")
    assert shown["user"] == "<string of 16 bytes, hidden>"


RFC_7386 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]
"""Appendix A of the RFC."""


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7386)
def test_patches_merge_as_the_rfc_says(target, patch, result):
    assert merge_patch(target, patch) == result
    if isinstance(target, dict):
        raws = msgspec.json.decode(msgspec.json.encode(target), type=dict[str, msgspec.Raw])
        assert msgspec.json.decode(msgspec.json.encode(merge_patch(raws, patch))) == result


numbers = st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from([*Render.__struct_fields__, "idfa"])


@for_all(st.dictionaries(fields.filter(lambda name: name not in {"event_id", "token"}), values, max_size=6))
def test_whatever_stands_in_it_what_follows_from_the_flaws_makes_it_readable(changes):
    body = read(msgspec.json.encode({**Minter().render(), **changes}))
    wrong = found(body)
    follows = derived(wrong)
    if follows is None:
        assert {flaw.field for flaw in wrong if not flaw.is_mendable}
        return
    render, fixed = mended(body, follows[0])
    assert len(fixed) == len(wrong)
    said = {name: raw for name, raw in body.items() if name not in {flaw.field for flaw in wrong}}
    meant = {name: value for name, value in follows[0].items() if value is not None}
    assert render == msgspec.json.decode(msgspec.json.encode({**said, **meant}), type=Render)
    assert "hidden" in masked(body, wrong)["token"]
