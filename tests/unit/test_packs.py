"""Where rule packs come from, and the command that checks a pack's file."""

import json

import pytest
from builders import PACK, PACK_TEXT
from typer.testing import CliRunner

from domain.pack import PackError
from service import packs
from service.cli_packs import app
from service.machine import children
from service.settings import Settings
from service.wiring import load_pack

VECTORS_TEXT = (packs._SHIPPED / "base-1.vectors.toml").read_text()
FESTIVE = PACK_TEXT.replace('name = "base"', 'name = "festive"', 1).replace("version = 1", "version = 3", 1)
FESTIVE_VECTORS = VECTORS_TEXT.replace('pack = "base-1"', 'pack = "festive-3"', 1)


@pytest.fixture
def festive(tmp_path):
    (tmp_path / "festive.vectors.toml").write_text(FESTIVE_VECTORS)
    file = tmp_path / "festive.toml"
    file.write_text(FESTIVE)
    return file


def run(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def test_a_pack_that_ships_is_loaded_by_name_and_version():
    assert load_pack("base-1") == PACK
    assert packs.shipped() == ["base-1"]


def test_a_pack_of_ones_own_is_loaded_by_its_path_and_needs_no_code(festive):
    assert load_pack(str(festive)).id == "festive-3"


def test_a_path_to_the_pack_that_ships_is_that_pack(tmp_path):
    (tmp_path / "copy.toml").write_text(PACK_TEXT)
    assert load_pack(str(tmp_path / "copy.toml")) == PACK


def test_a_changed_pack_cannot_go_by_the_id_of_one_that_ships(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(PACK_TEXT.replace("repeats_kept_max = 8 ", "repeats_kept_max = 9 "))
    with pytest.raises(PackError, match=r"mine.toml: name and version: 'base-1' ships with the program and says"):
        load_pack(str(file))


@pytest.mark.parametrize("name", ["base-0", "base", "", "base-1.vectors", "vectors"])
def test_an_id_that_does_not_ship_is_told_with_those_that_do(name):
    with pytest.raises(PackError, match=rf"no rule pack '{name}': base-1 ship"):
        load_pack(name)


def test_a_file_that_cannot_be_read_is_told_with_its_path(tmp_path):
    with pytest.raises(PackError, match=r"gone.toml: cannot be read: No such file"):
        load_pack(str(tmp_path / "gone.toml"))
    with pytest.raises(PackError, match=r"cannot be read: Is a directory"):
        load_pack(f"{tmp_path}/")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(PackError, match=r"latin.toml: not UTF-8 from byte 8 on"):
        load_pack(str(tmp_path / "latin.toml"))
    (tmp_path / "large.toml").write_bytes(b"#" * (packs.FILE_MAX_BYTES + 1))
    with pytest.raises(PackError, match=r"large.toml: larger than 4194304 bytes"):
        load_pack(str(tmp_path / "large.toml"))


def test_nothing_is_started_with_a_pack_that_is_broken(tmp_path):
    with pytest.raises(PackError, match="no rule pack 'base-0'"):
        children(Settings(data_dir=tmp_path, rule_pack="base-0"))


def test_the_packs_that_ship_are_listed():
    code, text = run("list", "--json")
    [pack] = json.loads(text)["packs"]
    assert (code, pack["id"], pack["count_points"]) == (0, "base-1", 10)
    assert pack["viewability_packs"] == ["groupm", "mrc", "mrc_cross_media", "mrc_half"]
    assert run("list")[1].startswith("base-1  10 count points")


def test_a_pack_is_shown_as_it_stands_or_with_all_its_defaults():
    assert run("show", "base-1")[1].rstrip("\n") == PACK_TEXT.rstrip("\n")
    shown = json.loads(run("show", "base-1", "--json")[1])
    assert shown["id"] == "base-1"
    assert shown["view_rule"][-1]["area_min_px"] == 0


def test_a_sound_pack_whose_vectors_hold_passes(festive):
    code, text = run("check", festive, "--json")
    assert code == 0
    assert json.loads(text) == {"id": "festive-3", "vectors": 172, "failed": [], "unproved": []}


def test_a_vector_that_fails_is_named_and_the_check_fails(festive):
    festive.write_text(FESTIVE.replace("repeats_kept_max = 8 ", "repeats_kept_max = 9 "))
    code, text = run("check", festive, "--json")
    assert code == 1
    failed = {"table": "repeat", "case": "the ninth repeat", "expected": False, "got": True}
    assert json.loads(text)["failed"] == [failed]
    assert "repeat: 'the ninth repeat': expected false, got true" in run("check", festive)[1]


def test_a_value_that_no_vector_proves_is_named(festive):
    festive.with_name("few.toml").write_text(
        'pack = "festive-3"\n[[idle]]\ncase = "a pause"\nidle_ms = 0\nends = false\n'
    )
    code, text = run("check", festive, "--vectors", festive.with_name("few.toml"), "--json")
    report = json.loads(text)
    assert (code, report["vectors"], report["failed"]) == (0, 1, [])
    assert {"repeats_idle_ms = 10001", "token_age_max_ms = 604799999", "omid.loaded = shown"} <= set(report["unproved"])


def test_a_pack_without_vectors_is_checked_and_nothing_is_proved(festive):
    festive.with_name("festive.vectors.toml").unlink()
    code, text = run("check", festive)
    assert code == 0
    assert "festive-3: the file is sound; 0 vectors" in text
    assert "late_after_ms = 86400001" in text


def test_vectors_of_another_pack_are_refused(festive):
    festive.with_name("festive.vectors.toml").write_text(VECTORS_TEXT)
    with pytest.raises(PackError, match="the vectors are of 'base-1', not of 'festive-3'"):
        run("check", festive)
