import hmac
import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

import msgspec
import pytest
from builders import KEY, MINTED, PRICE, a_token
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import TIME_MAX_MS, mint
from domain.token import PRICE_MAX_MICROS, Token, TokenInvalid, TokenKey, check_token, mint_token, read_token

KEYS = {"k1": KEY, "k2": TokenKey(signing=b"t" * 32, price=b"q" * 32)}
TEXT = mint_token(a_token(), "k1", KEY)
NAMES = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]) | st.sampled_from('\\"u0nt'), max_size=20)


def payload_of(text):
    payload = text.split(".")[2]
    return urlsafe_b64decode(payload + "=" * (-len(payload) % 4))


def signed(payload):
    """What delivery's key signs, though delivery would not write it."""
    body = f"v1.k1.{payload}"
    return f"{body}.{hmac.digest(b's' * 32, body.encode(), 'sha256').hex()}"


@given(
    price=st.integers(0, PRICE_MAX_MICROS),
    names=st.lists(NAMES, min_size=6, max_size=6),
    entropy=st.integers(0, (1 << 62) - 1),
)
def test_a_minted_token_is_read_as_it_was_written(price, names, entropy):
    fields = dict(zip(("ad", "creative", "campaign", "advertiser", "placement", "publisher"), names, strict=True))
    token = a_token(price_micros=price, impression=mint(MINTED, 9, entropy), **fields)
    assert check_token(mint_token(token, "k2", KEYS["k2"]), KEYS) == token


@given(at=st.integers(0, len(TEXT) - 1), char=st.sampled_from(string.printable))
def test_a_token_with_one_changed_character_is_invalid(at, char):
    changed = TEXT[:at] + char + TEXT[at + 1 :]
    if changed != TEXT:
        with pytest.raises(TokenInvalid):
            check_token(changed, KEYS)


@given(at=st.integers(0, len(TEXT)), inserted=st.text(min_size=1, max_size=3))
def test_a_token_with_something_inserted_is_invalid(at, inserted):
    with pytest.raises(TokenInvalid):
        check_token(TEXT[:at] + inserted + TEXT[at:], KEYS)


@given(length=st.integers(0, len(TEXT) - 1))
def test_a_token_cut_short_is_invalid(length):
    with pytest.raises(TokenInvalid):
        check_token(TEXT[:length], KEYS)


def test_a_token_of_an_unknown_key_is_invalid():
    with pytest.raises(TokenInvalid, match="unknown version or key id"):
        check_token(mint_token(a_token(), "k9", KEY), KEYS)


def test_a_token_named_after_another_key_is_invalid():
    with pytest.raises(TokenInvalid, match="not signed"):
        check_token(TEXT.replace(".k1.", ".k2."), KEYS)


def test_a_token_of_another_version_is_invalid():
    with pytest.raises(TokenInvalid, match="unknown version"):
        check_token("v2" + TEXT[2:], KEYS)


@given(text=st.text())
def test_no_text_raises_anything_else(text):
    with pytest.raises(TokenInvalid):
        check_token(text, KEYS)


@given(data=st.binary())
def test_no_bytes_raise_anything_else(data):
    with pytest.raises(TokenInvalid):
        check_token(data.decode("utf-8", "surrogateescape"), KEYS)
    with pytest.raises(TokenInvalid):
        check_token(data.decode("latin-1"), KEYS)


@given(parts=st.lists(st.sampled_from(["v1", "k1", "", ".", "..", "\u00e9", "\ud800", "AAAA", TEXT]), max_size=8))
def test_no_arrangement_of_parts_raises_anything_else(parts):
    text = ".".join(parts)
    if text != TEXT:
        with pytest.raises(TokenInvalid):
            check_token(text, KEYS)


@given(payload=st.text(alphabet=string.ascii_letters + string.digits + "-_=+/!", max_size=60))
def test_a_signed_payload_that_is_no_token_is_invalid(payload):
    with pytest.raises(TokenInvalid):
        check_token(signed(payload), KEYS)


@given(data=st.binary(max_size=60))
def test_signed_bytes_that_are_no_token_are_invalid(data):
    with pytest.raises(TokenInvalid):
        check_token(signed(urlsafe_b64encode(data).rstrip(b"=").decode()), KEYS)


def test_a_signed_token_that_is_not_utf_8_is_invalid():
    damaged = payload_of(TEXT).replace(b"ad-1", b"ad-\xff")
    with pytest.raises(TokenInvalid, match="not readable"):
        check_token(signed(urlsafe_b64encode(damaged).rstrip(b"=").decode()), KEYS)


@pytest.mark.parametrize("name", ["publisher", "campaign", "currency", "viewability_pack"])
@pytest.mark.parametrize("control", ["\0", "\x1f", "\n", "\\\0"])
def test_a_name_with_a_control_character_is_neither_minted_nor_read(name, control):
    token = a_token(**{name: f"a{control}b"})
    with pytest.raises(TokenInvalid, match="control"):
        mint_token(token, "k1", KEY)
    with pytest.raises(TokenInvalid, match="control"):
        check_token(signed(urlsafe_b64encode(msgspec.json.encode(token)).rstrip(b"=").decode()), KEYS)


@pytest.mark.parametrize("price", [-1, PRICE_MAX_MICROS + 1, 1 << 63, 1 << 70])
def test_a_price_that_no_sum_bears_is_neither_minted_nor_read(price):
    token = a_token(price_micros=price)
    with pytest.raises(TokenInvalid, match="price"):
        mint_token(token, "k1", KEY)
    hidden = msgspec.structs.replace(token, price_micros=price ^ KEY.pad(token.impression))
    with pytest.raises(TokenInvalid, match="price"):
        check_token(signed(urlsafe_b64encode(msgspec.json.encode(hidden)).rstrip(b"=").decode()), KEYS)


def test_a_token_for_what_is_no_uuidv7_is_invalid():
    with pytest.raises(TokenInvalid, match="UUIDv7"):
        check_token(mint_token(a_token(impression=UUID(int=1)), "k1", KEY), KEYS)


def test_the_price_is_not_readable_and_everything_else_is():
    fields = msgspec.json.decode(payload_of(TEXT), type=Token)
    assert fields.price_micros > PRICE << 20
    assert msgspec.structs.replace(fields, price_micros=PRICE) == a_token()


def test_one_price_looks_different_on_every_impression():
    hidden = set()
    for entropy in range(100):
        text = mint_token(a_token(impression=mint(MINTED, 7, entropy)), "k1", KEY)
        hidden.add(msgspec.json.decode(payload_of(text), type=Token).price_micros)
    assert len(hidden) == 100


def test_another_price_key_hides_otherwise_and_shows_no_price():
    other = TokenKey(signing=b"s" * 32, price=b"x" * 32)
    assert mint_token(a_token(), "k1", other) != TEXT
    with pytest.raises(TokenInvalid, match="price"):
        check_token(TEXT, {"k1": other})


def test_an_impression_of_no_day_that_there_is_has_no_token():
    last, later = (mint_token(a_token(impression=mint(at, 0, 1)), "k1", KEY) for at in (TIME_MAX_MS, TIME_MAX_MS + 1))
    assert check_token(last, KEYS).impression == mint(TIME_MAX_MS, 0, 1)
    with pytest.raises(TokenInvalid, match="of no day"):
        check_token(later, KEYS)


def test_an_invalid_token_is_not_told_what_would_have_been_valid():
    with pytest.raises(TokenInvalid) as caught:
        check_token(TEXT[:-1] + ("0" if TEXT[-1] != "0" else "1"), KEYS)
    assert TEXT[-64:-1] not in str(caught.value)


def test_a_router_without_keys_reads_where_a_token_belongs_and_not_its_price():
    read = read_token(TEXT)
    assert (read.impression, read.region, read.epoch) == (a_token().impression, "eu", 1)
    assert read.price_micros > PRICE << 20
    assert read_token(TEXT[:-64] + "0" * 64) == read


@given(text=st.text() | st.sampled_from(["", "v1", "v1.", "v1.k1.", "v2" + TEXT[2:], TEXT.replace(".k1.", "..k1.")]))
def test_what_is_no_token_cannot_be_read_for_routing_either(text):
    with pytest.raises(TokenInvalid):
        read_token(text)


@given(data=st.binary(max_size=60))
def test_no_payload_makes_a_router_raise_anything_else(data):
    with pytest.raises(TokenInvalid):
        read_token(signed(urlsafe_b64encode(data).rstrip(b"=").decode()))


def test_a_router_does_not_go_by_what_is_no_impression_id():
    with pytest.raises(TokenInvalid, match="UUIDv7"):
        read_token(mint_token(a_token(impression=UUID(int=1)), "k1", KEY))
