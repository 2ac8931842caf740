"""The file of trusted keys, and a cell's own: what is wrong with them is told before anything starts."""

from dataclasses import replace

import pytest
from shelterkit import an_order

from commands.sealed_box import BoxKey
from commands.shelter_trust import Signer
from service.access import Access
from service.keyfiles import load_or_make_keys
from service.settings import Settings
from service.shelter_files import (
    TrustFileError,
    admit_peer,
    entry_of,
    fingerprints,
    flaws_of,
    keep_peer,
    load_or_make_shelter_keys,
    load_trust,
    make_operator,
    operator_of,
    trust_of,
)

KEY = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="
NOBODY = "A" * 43 + "="
"""A point of low order: all secrets shared with it are zero."""


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path, cell="eu-1", cell_map="cells.toml", shelter_trust=str(tmp_path / "shelter.toml"))


def write(settings, *entries):
    (settings.data_dir / "shelter.toml").write_text("\n".join(entries))


def own_entry(settings, name="eu-1"):
    return entry_of(name, load_or_make_shelter_keys(settings.data_dir), load_or_make_keys(settings.data_dir))


def test_what_the_command_prints_is_what_the_file_takes(settings, tmp_path):
    keys = load_or_make_shelter_keys(tmp_path)
    operator = make_operator("ops", tmp_path / "ops.json")
    write(settings, own_entry(settings), operator)
    trust = trust_of(settings)
    assert trust.cells["eu-1"].verify == Signer("eu-1", keys.signing).public
    assert trust.cells["eu-1"].seal == BoxKey(keys.sealing[0]).public
    assert trust.cells["eu-1"].tokens == fingerprints(load_or_make_keys(tmp_path))
    signer = operator_of(tmp_path / "ops.json")
    assert (signer.name, signer.public) == ("ops", trust.operators["ops"])
    assert signer.sign(an_order()).by == "ops"
    assert flaws_of(settings, trust, ["eu-1"]) == []


def test_without_such_a_file_nobody_is_trusted(settings):
    assert trust_of(replace(settings, shelter_trust="")) is None


def test_fingerprints_tell_keys_apart(settings, tmp_path):
    here, there = (fingerprints(load_or_make_keys(tmp_path / name)) for name in ("here", "there"))
    assert here.keys() == there.keys() == {"k1"}
    assert here != there


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[cell]", "shelter.toml: "),
        ("[[cell]]\nname = 'a'", "missing required field"),
        (f"[[cell]]\nname = 'a'\nverify = '{KEY}'\nseal = 'short'", "a.seal: must be 32 bytes in base64"),
        (f"[[cell]]\nname = 'a'\nverify = '{KEY}'\nseal = '{NOBODY}'", "a.seal: nothing can be sealed for this key"),
        (f"[[operator]]\nname = 'a'\nverify = '{KEY}='", "a.verify: must be 32 bytes"),
        (f"[[operator]]\nname = 'A B'\nverify = '{KEY}'", "'A B' is no name"),
        (f"[[operator]]\nname = 'a'\nverify = '{KEY}'\n" * 2, "a stands in it more than once"),
        (
            f"[[operator]]\nname = 'a'\nverify = '{KEY}'\n[[cell]]\nname = 'a'\nverify = '{KEY}'\nseal = '{KEY}'",
            "more than once",
        ),
        (f"[[operator]]\nname = 'a'\nverify = '{KEY}'\nmay = 'all'", "unknown field `may`"),
        ("x = " + "'" + "x" * (1 << 20) + "'", "is larger than"),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_reason(settings, text, says):
    write(settings, text)
    with pytest.raises(TrustFileError) as caught:
        trust_of(settings)
    assert says in str(caught.value)
    assert "shelter.toml" in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(TrustFileError, match="cannot be read"):
        load_trust(tmp_path / "nowhere.toml")


def test_an_entry_that_is_not_of_the_cells_own_keys_is_found_before_an_outage_does(settings, tmp_path):
    write(settings, own_entry(replace(settings, data_dir=tmp_path / "another")))
    assert flaws_of(settings, trust_of(settings), []) == [
        "this cell has no keys of its own yet; `impledger shelter keys` makes them"
    ]
    load_or_make_shelter_keys(tmp_path)
    flaws = flaws_of(settings, trust_of(settings), ["eu-1", "us-1"])
    assert len(flaws) == 3
    assert "us-1 of the cell map has no keys" in flaws[0]


def test_an_operators_key_is_never_overwritten_and_nonsense_is_none(tmp_path):
    make_operator("ops", tmp_path / "ops.json")
    with pytest.raises(TrustFileError, match="is there already"):
        make_operator("ops", tmp_path / "ops.json")
    for text in ("", "{}", '{"name": "ops", "signing": "AAAA"}', '{"name": 1}'):
        (tmp_path / "no.json").write_text(text)
        with pytest.raises(TrustFileError, match="holds no operator's key"):
            operator_of(tmp_path / "no.json")


def test_secrets_are_readable_by_their_owner_alone_also_after_a_change(tmp_path):
    make_operator("ops", tmp_path / "ops.json")
    keep_peer(tmp_path, "us-1", "bearer")
    admit_peer(tmp_path)
    for path in (tmp_path / "ops.json", tmp_path / "keys" / "shelter.json", tmp_path / "keys" / "keys.json"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {"shelter.json", "keys.json"}


def test_another_cell_is_admitted_to_forward_and_to_nothing_else(tmp_path):
    before = load_or_make_keys(tmp_path)
    bearer = admit_peer(tmp_path)
    keys = load_or_make_keys(tmp_path)
    assert Access(keys.api).scopes(f"Bearer {bearer}") == {"forward"}
    assert keys.api.items() > before.api.items()
    assert (keys.root, keys.operator) == (before.root, before.operator)


def test_tokens_of_peers_are_kept_beside_the_keys(tmp_path):
    before = load_or_make_shelter_keys(tmp_path)
    keep_peer(tmp_path, "us-1", "one")
    keep_peer(tmp_path, "ap-1", "two")
    keep_peer(tmp_path, "us-1", "three")
    keys = load_or_make_shelter_keys(tmp_path)
    assert keys.peers == {"us-1": "three", "ap-1": "two"}
    assert (keys.signing, keys.sealing) == (before.signing, before.sealing)
