"""The cell's keys: who makes them, who only reads them, and what is said of a file or folder that cannot be used."""

import pytest

from service.folders import make_data_dir
from service.keyfiles import keys_file, load_keys, load_or_make_keys
from service.machine import children
from service.processes import LauncherError
from service.settings import Settings
from service.shelter_files import load_or_make_shelter_keys


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data")


def test_what_was_made_is_loaded(settings):
    made = load_or_make_keys(settings.data_dir)
    assert load_keys(settings.data_dir) == load_or_make_keys(settings.data_dir) == made


@pytest.mark.parametrize("load", [load_keys, load_or_make_keys])
@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda _: b"", lambda _: b"\xff{"])
def test_a_damaged_file_of_keys_is_named_with_what_to_do(settings, load, damage):
    load_or_make_keys(settings.data_dir)
    path = keys_file(settings.data_dir)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LauncherError, match=f"{path} is damaged: .*Put it back from a copy"):
        load(settings.data_dir)


def test_a_damaged_file_of_shelter_keys_is_named(settings):
    load_or_make_shelter_keys(settings.data_dir)
    path = settings.data_dir / "keys" / "shelter.json"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(LauncherError, match=f"{path} is damaged"):
        load_or_make_shelter_keys(settings.data_dir)


def test_nothing_is_started_on_damaged_keys(settings):
    load_or_make_keys(settings.data_dir)
    keys_file(settings.data_dir).write_bytes(b"{")
    with pytest.raises(LauncherError, match=r"keys\.json is damaged"):
        children(settings)


@pytest.mark.parametrize("below", ["", "data"])
def test_a_data_folder_that_is_a_file_is_named(tmp_path, below):
    file = tmp_path / "file"
    file.touch()
    for use in (make_data_dir, load_or_make_keys):
        with pytest.raises(LauncherError, match=f"{file}.*IMPLEDGER_DATA_DIR"):
            use(file / below)


def test_a_data_folder_that_the_keys_are_made_in_is_closed_to_others(settings):
    load_or_make_keys(settings.data_dir)
    assert settings.data_dir.stat().st_mode & 0o777 == 0o711


@pytest.mark.parametrize(("mode", "closed"), [(0o755, 0o711), (0o777, 0o711), (0o711, 0o711), (0o700, 0o700)])
def test_an_empty_folder_is_closed_to_others_at_the_first_start_and_never_opened(tmp_path, mode, closed):
    tmp_path.chmod(mode)
    make_data_dir(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == closed


def test_a_folder_that_has_something_else_in_it_stays_as_it_is(tmp_path):
    (tmp_path / "of others").touch()
    tmp_path.chmod(0o755)
    make_data_dir(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755
