"""The file of a cell map, as gates and operators use it: epochs that were in force never change."""

import asyncio
import json
from dataclasses import replace

import pytest
from cellkit import address, cells_of, minted, one_cell
from gatekit import KEYS, NOW, Minter
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from domain.cells import Cell, CellMapError, UnknownRoute
from domain.cells_file import FILE_MAX_BYTES, cell_map_text
from domain.ids import mint
from domain.token import mint_token
from service.cell_maps import grow_file, kept_path, load_cell_map, open_homes
from service.cell_watch import CellMapWatch
from service.cli import app
from service.doctor import _cell_map
from service.machine import children
from service.settings import Settings, SettingsError

TWO, THREE = cells_of(2), cells_of(3)
NEW = Cell("eu-4", "eu", address("eu-4"))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "cells.toml"
    path.write_text(cell_map_text(TWO))
    return path


@pytest.fixture
def settings(path, tmp_path):
    return Settings(cell="eu-1", cell_map=str(path), data_dir=tmp_path / "data")


def flaws(error):
    return [flaw.key for flaw in error.value.flaws]


def test_without_a_map_a_cell_owns_its_region():
    assert open_homes(Settings()) is None
    watch = CellMapWatch(Settings())
    assert (watch.homes, list(watch.collect())) == (None, [])
    asyncio.run(watch.poll())


def test_a_cell_without_a_map_is_no_setting_and_a_map_without_a_cell_is_for_those_who_send():
    with pytest.raises(SettingsError, match="IMPLEDGER_CELL='eu-1' needs IMPLEDGER_CELL_MAP"):
        Settings.from_env({"IMPLEDGER_CELL": "eu-1"})
    assert Settings.from_env({"IMPLEDGER_CELL_MAP": "cells.toml"}).cell_map == "cells.toml"


@pytest.mark.parametrize(
    ("change", "key"),
    [({"cell": "eu-9"}, "cell.eu-9"), ({"region": "us"}, "cell.eu-1.region"), ({"cell_map": "/no"}, "file")],
)
def test_a_gate_does_not_start_on_a_map_that_is_not_its_own(settings, change, key):
    with pytest.raises(CellMapError) as caught:
        open_homes(replace(settings, **change))
    assert flaws(caught) == [key]


@pytest.mark.parametrize("data", [b"\xff", b"#" * (FILE_MAX_BYTES + 1)])
def test_a_file_that_cannot_be_a_map_is_refused_unparsed(path, data):
    path.write_bytes(data)
    with pytest.raises(CellMapError) as caught:
        load_cell_map(path)
    assert flaws(caught) == ["file"]


def test_a_gate_that_starts_again_refuses_a_map_whose_epochs_have_changed(settings, path):
    open_homes(settings)
    path.write_text(cell_map_text(one_cell()))
    with pytest.raises(CellMapError) as caught:
        open_homes(settings)
    assert flaws(caught) == ["cell.eu-2", "epoch.eu.2"]
    path.write_text(cell_map_text(THREE))
    homes, text = open_homes(settings)
    assert len(homes.cells.epochs("eu")) == 3
    assert kept_path(settings).read_text() == text == path.read_text()


def metrics(watch):
    registry = CollectorRegistry()
    registry.register(watch)
    labels = {"region": "eu", "cell": "eu-1"}
    return registry.get_sample_value("impledger_cell_map_epoch", labels), registry.get_sample_value(
        "impledger_cell_map_refused"
    )


def test_a_running_gate_takes_a_map_that_grew_and_refuses_every_other(settings, path):
    async def main():
        watch, clients = CellMapWatch(settings), Minter()
        await watch.poll()
        assert metrics(watch) == (2.0, 0.0)
        token = minted(clients, THREE, 5)
        assert not watch.homes.owns(token)

        path.write_text("broken")
        await watch.poll()
        assert metrics(watch) == (2.0, 1.0)
        path.write_text(cell_map_text(one_cell()))
        await watch.poll()
        assert metrics(watch) == (2.0, 1.0)
        path.unlink()
        await watch.poll()
        assert metrics(watch) == (2.0, 1.0)

        path.write_text(cell_map_text(THREE))
        await watch.poll()
        assert metrics(watch) == (3.0, 0.0)
        assert watch.homes.owns(token)
        assert kept_path(settings).read_text() == cell_map_text(THREE)

    asyncio.run(main())


def test_a_map_that_could_not_be_read_for_a_while_is_gone_by_once_it_can(settings, path):
    async def main():
        watch = CellMapWatch(settings)
        await watch.poll()
        path.rename(path.with_suffix(".away"))
        await watch.poll()
        assert metrics(watch) == (2.0, 1.0)
        path.with_suffix(".away").rename(path)
        await watch.poll()
        assert metrics(watch) == (2.0, 0.0)

    asyncio.run(main())


def test_a_map_that_cannot_be_kept_is_not_gone_by(settings, path):
    async def main():
        watch = CellMapWatch(settings)
        kept_path(settings).unlink()
        kept_path(settings).mkdir()
        path.write_text(cell_map_text(THREE))
        await watch.poll()
        assert metrics(watch) == (2.0, 1.0)
        kept_path(settings).rmdir()
        await watch.poll()
        assert metrics(watch) == (3.0, 0.0)

    asyncio.run(main())


def test_growing_appends_to_the_file_and_keeps_what_stands_there(path):
    path.write_text("# ours\n" + path.read_text())
    before = path.read_text()
    growth = grow_file(path, NEW, NOW)
    assert path.read_text().startswith(before.rstrip("\n"))
    assert load_cell_map(path).epochs("eu")[-1] == growth.epoch
    assert [child.name for child in path.parent.iterdir()] == ["cells.toml"]


@pytest.mark.parametrize(
    ("cell", "since", "error"),
    [
        (Cell("eu-2", "eu", address("eu-9")), NOW, CellMapError),
        (Cell("eu-9", "eu", address("eu-2")), NOW, CellMapError),
        (Cell("eu 9", "eu", address("eu-9")), NOW, CellMapError),
        (NEW, TWO.epochs("eu")[-1].since, CellMapError),
        (Cell("us-1", "us", address("us-1")), NOW, UnknownRoute),
    ],
)
def test_a_growth_that_would_be_a_flaw_changes_nothing(path, cell, since, error):
    before = path.read_text()
    for dry_run in (True, False):
        with pytest.raises(error):
            grow_file(path, cell, since, dry_run=dry_run)
    assert path.read_text() == before


def spoken(*words, code=0, env=None):
    done = CliRunner().invoke(app, ["cells", *words], env=env)
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_an_operator_sees_grows_and_asks_a_map(path):
    env = {"IMPLEDGER_CELL_MAP": str(path)}
    [region] = json.loads(spoken("show", "--json", env=env).output)["regions"]
    assert (region["epoch_in_force"], region["shown_epoch"]) == (2, 2)
    assert region["cells"][1] == {"cell": "eu-2", "address": address("eu-2"), "shards": 2_048, "ranges": "2048-4095"}
    assert "eu-1 2048, eu-2 2048" in spoken("show", "--map", str(path)).output

    asked = ("grow", "eu-3", address("eu-3"), "--since", "2100-01-01T00:00:00Z")
    before = path.read_text()
    assert "1365 of 4,096 shards go to eu-3 (682 of eu-1, 683 of eu-2)" in spoken(*asked, "--dry-run", env=env).output
    assert path.read_text() == before
    told = json.loads(spoken(*asked, "--json", env=env).output)
    assert (told["epoch"], told["moved"], told["cells"]) == (3, 1_365, {"eu-1": 1_366, "eu-2": 1_365, "eu-3": 1_365})
    assert "bring" in spoken("grow", "eu-4", address("eu-4"), "--since", "2100-02-01T00:00:00Z", env=env).output.lower()

    [region] = json.loads(spoken("show", "--epoch", "1", "--json", env=env).output)["regions"]
    assert (region["epoch_in_force"], region["shown_epoch"]) == (2, 1)
    assert [epoch["number"] for epoch in region["epochs"]] == [1, 2, 3, 4]
    assert [cell["shards"] for cell in region["cells"]] == [4_096, 0, 0, 0]


def test_an_operator_asks_where_an_id_or_a_token_belongs(path):
    env = {"IMPLEDGER_CELL_MAP": str(path)}
    clients = Minter()
    token = minted(clients, TWO, 3_000, epoch=1)
    routed = json.loads(spoken("route", mint_token(token, "k1", KEYS["k1"]), "--json", env=env).output)
    assert (routed["cell"], routed["epoch"], routed["epoch_from"], routed["shard"]) == ("eu-1", 1, "token", 3_000)
    routed = json.loads(spoken("route", str(token.impression), "--json", env=env).output)
    assert (routed["cell"], routed["epoch"], routed["epoch_from"]) == ("eu-2", 2, "mint time")
    routed = json.loads(spoken("route", str(token.impression), "--epoch", "1", "--json", env=env).output)
    assert (routed["cell"], routed["epoch"], routed["epoch_from"]) == ("eu-1", 1, "option")
    assert f"eu-2, {address('eu-2')}" in spoken("route", str(token.impression), env=env).output


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("route", "no-id"), 2),
        (("route", "6b0d3c0e-63e3-4d3c-9b0e-4f6d6c1b7a10"), 2),
        (("route", "v1.k1.AAAA.00"), 2),
        (("route", str(mint(0, 1, 1))), 1),
        (("show", "--epoch", "9"), 2),
        (("grow", "eu-3", address("eu-3"), "--since", "yesterday"), 2),
        (("grow", "eu-3", address("eu-3"), "--since", "2100-01-01T00:00:00"), 2),
        (("grow", "eu-3", address("eu-3"), "--since", "2020-01-01T00:00:00Z"), 2),
        (("grow", "eu-3", "not an address"), 1),
        (("grow", "us-1", address("us-1"), "--region", "us"), 1),
    ],
)
def test_what_an_operator_cannot_ask_is_refused(path, words, code):
    before = path.read_text()
    spoken(*words, code=code, env={"IMPLEDGER_CELL_MAP": str(path)})
    assert path.read_text() == before


def test_a_map_must_be_named():
    assert "--map" in spoken("show", code=2, env={"IMPLEDGER_CELL_MAP": ""}).output


def test_the_machine_is_not_started_on_a_map_that_cannot_be_used_and_the_doctor_says_why(settings, path):
    assert [check.says for check in _cell_map(settings)] == ["eu-1 owns 2048 of 4,096 shards under epoch 2"]
    assert list(_cell_map(Settings())) == []
    assert not kept_path(settings).exists()
    path.write_text("broken")
    with pytest.raises(CellMapError):
        children(settings)
    [check] = _cell_map(settings)
    assert not check.ok
    assert "docs/cells.md" in check.fix
