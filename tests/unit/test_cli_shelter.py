"""`impledger shelter peer`: tokens are kept for cells of the map alone."""

import pytest
from cellkit import cells_of
from typer.testing import CliRunner

from domain.cells_file import cell_map_text
from service.cli import app
from service.shelter_files import load_or_make_shelter_keys


@pytest.fixture
def environment(tmp_path):
    path = tmp_path / "cells.toml"
    path.write_text(cell_map_text(cells_of(2)))
    data_dir = str(tmp_path / "data")
    return {"IMPLEDGER_DATA_DIR": data_dir, "IMPLEDGER_CELL": "eu-1", "IMPLEDGER_CELL_MAP": str(path), "COLUMNS": "300"}


def peer(environment, cell):
    return CliRunner(env=environment).invoke(app, ["shelter", "peer", cell, "--bearer", "sesame"])


def test_the_token_of_another_cell_of_the_map_is_kept(environment, tmp_path):
    assert peer(environment, "eu-2").exit_code == 0
    assert load_or_make_shelter_keys(tmp_path / "data").peers == {"eu-2": "sesame"}


@pytest.mark.parametrize("cell", ["eu-9", "eu-1"])
def test_a_token_of_no_other_cell_of_the_map_is_refused_and_the_cells_are_named(environment, tmp_path, cell):
    refused = peer(environment, cell)
    assert refused.exit_code == 2
    assert "eu-2" in refused.output
    assert not (tmp_path / "data").exists()


def test_without_a_map_the_setting_is_named(environment, tmp_path):
    refused = peer(environment | {"IMPLEDGER_CELL_MAP": "", "IMPLEDGER_CELL": ""}, "eu-2")
    assert refused.exit_code == 2
    assert "IMPLEDGER_CELL_MAP" in refused.output
    assert not (tmp_path / "data").exists()
