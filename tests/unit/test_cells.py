"""The cell map: every shard has one owner, growing moves only what it must, old ids stay where they are."""

import pytest
from builders import MINTED
from cellkit import cells_of, grown, one_cell
from hypothesis import given
from hypothesis import strategies as st

from domain.cells import Cell, CellMap, CellMapError, Epoch, UnknownRoute, grow
from domain.cells_file import cell_map_text, growth_text, is_address, parse_cell_map, ranges_text
from domain.ids import SHARDS

HEAD = """\
[[cell]]
name = "eu-1"
region = "eu"
address = "https://eu-1.example"
[[cell]]
name = "eu-2"
region = "eu"
address = "https://eu-2.example:8443"
"""
EPOCH = """\
[[epoch]]
region = "eu"
number = 1
since = 2026-09-01T00:00:00Z
shards = { eu-1 = "0-2047", eu-2 = "2048-4095" }
"""
shards = st.integers(0, SHARDS - 1)


@st.composite
def assignments(draw):
    """Any map of one region with up to six cells, however uneven."""
    names = [f"eu-{number}" for number in range(1, draw(st.integers(1, 6)) + 1)]
    cuts = sorted(draw(st.sets(st.integers(1, SHARDS - 1), max_size=12)))
    owners = []
    for first, last in zip([0, *cuts], [*cuts, SHARDS], strict=True):
        owners += [draw(st.sampled_from(names))] * (last - first)
    cells = {name: Cell(name, "eu", f"http://{name}.example") for name in names}
    return CellMap(cells, {"eu": [Epoch("eu", 1, 0, tuple(owners))]})


@given(cells=assignments())
def test_growing_moves_the_new_cells_equal_share_and_nothing_else(cells):
    before = cells.epochs("eu")[-1]
    growth = grow(cells, Cell("eu-new", "eu", "http://eu-new.example"), 1)
    after = growth.epoch
    moved = [shard for shard in range(SHARDS) if before.owners[shard] != after.owners[shard]]
    assert {after.owners[shard] for shard in moved} <= {"eu-new"}
    assert len(moved) == growth.moved == SHARDS // (len(before.sizes()) + 1) == after.sizes()["eu-new"]
    assert sum(after.sizes().values()) == SHARDS


@given(cells=assignments())
def test_growing_takes_from_those_that_own_most(cells):
    before = cells.epochs("eu")[-1].sizes()
    after = grow(cells, Cell("eu-new", "eu", "http://eu-new.example"), 1).epoch.sizes()
    givers = [after.get(name, 0) for name in before if after.get(name, 0) < before[name]]
    keepers = [before[name] for name in before if after.get(name, 0) == before[name]]
    assert max(givers) - min(givers) <= 1
    assert all(kept <= max(givers) + 1 for kept in keepers)


@pytest.mark.parametrize("number", [2, 3, 4, 7, 16])
def test_cells_that_grew_one_by_one_are_of_one_size(number):
    sizes = cells_of(number).epochs("eu")[-1].sizes()
    assert len(sizes) == number
    assert max(sizes.values()) - min(sizes.values()) <= 1


@given(growths=st.integers(1, 12), shard=shards, data=st.data())
def test_an_old_id_keeps_its_cell_through_any_sequence_of_growths(growths, shard, data):
    cells, homes = one_cell(), []
    for count in range(growths):
        homes.append(cells.cell_of("eu", count + 1, shard))
        cells = grown(cells, f"eu-{count + 2}")
        assert [cells.cell_of("eu", epoch, shard) for epoch in range(1, count + 2)] == homes
    epoch = data.draw(st.integers(1, growths))
    assert cells.cell_of("eu", epoch, shard) == homes[epoch - 1]


@given(one=st.integers(1, 8), other=st.integers(1, 8), shard=shards, epoch=st.integers(1, 8))
def test_no_two_versions_of_a_map_give_one_id_to_two_cells(one, other, shard, epoch):
    owners = set()
    for cells in (cells_of(one), cells_of(other)):
        try:
            owners.add(cells.cell_of("eu", epoch, shard).name)
        except UnknownRoute:
            assert epoch > len(cells.epochs("eu"))
    assert len(owners) <= 1


@given(cells=assignments(), growths=st.integers(0, 3))
def test_a_map_is_read_as_it_was_written(cells, growths):
    for number in range(growths):
        cells = grown(cells, f"eu-new-{number}")
    read = parse_cell_map(cell_map_text(cells), "map.toml")
    assert read.cells == cells.cells
    assert read.epochs("eu") == cells.epochs("eu")


@given(cells=assignments())
def test_appending_a_growth_to_a_maps_file_grows_it(cells):
    growth = grow(cells, Cell("eu-new", "eu", "http://eu-new.example"), 5_000)
    read = parse_cell_map(cell_map_text(cells) + growth_text(growth), "map.toml")
    assert read.epochs("eu") == (*cells.epochs("eu"), growth.epoch)
    assert not read.flaws_after(cells)
    assert cells.flaws_after(read)


@given(cells=assignments())
def test_ranges_name_every_shard_once(cells):
    owners = cells.epochs("eu")[0].owners
    named = []
    for name, text in ranges_text(owners).items():
        for part in text.split(","):
            first, _, last = part.partition("-")
            named += [(shard, name) for shard in range(int(first), int(last or first) + 1)]
    assert sorted(named) == list(enumerate(owners))


def test_minting_goes_by_the_newest_epoch_that_has_begun():
    cells = cells_of(3)
    first, second, third = cells.epochs("eu")
    assert cells.epoch_at("eu", first.since) == first
    assert cells.epoch_at("eu", second.since - 1) == first
    assert cells.epoch_at("eu", second.since) == second
    assert cells.epoch_at("eu", third.since + MINTED) == third
    with pytest.raises(UnknownRoute, match="no epoch"):
        cells.epoch_at("eu", first.since - 1)
    with pytest.raises(UnknownRoute, match="'us'"):
        cells.epoch_at("us", third.since)


@pytest.mark.parametrize(("region", "epoch"), [("us", 1), ("eu", 0), ("eu", 3), ("eu", -1)])
def test_what_the_map_does_not_know_has_no_cell(region, epoch):
    with pytest.raises(UnknownRoute):
        cells_of(2).cell_of(region, epoch, 0)


def test_a_region_that_is_not_there_cannot_grow():
    with pytest.raises(UnknownRoute, match="'us'"):
        grow(one_cell(), Cell("us-1", "us", "http://us-1.example"), 1)


@pytest.mark.parametrize(
    ("change", "key", "says"),
    [
        (('"0-2047"', '"0-2046"'), "epoch.eu.1.shards", "1 shards have no owner, the first of them 2047"),
        (('"0-2047"', '"0-2050"'), "epoch.eu.1.shards", "3 shards have two owners, the first of them 2048"),
        (('"0-2047"', '"0-2047,7"'), "epoch.eu.1.shards", "1 shards have two owners, the first of them 7"),
        (('"2048-4095"', '"2048-4096"'), "epoch.eu.1.shards.eu-2", "not within 0-4095"),
        (('"2048-4095"', '"4095-2048"'), "epoch.eu.1.shards.eu-2", "not within 0-4095"),
        (('"2048-4095"', '"all"'), "epoch.eu.1.shards.eu-2", "no range of shards"),
        (("eu-2 =", "eu-9 ="), "epoch.eu.1.shards.eu-9", "is no cell of region 'eu'"),
        (("number = 1", "number = 2"), "epoch.eu.2.number", "must be 1"),
        (("number = 1", 'number = "1"'), "epoch[0]", "Expected `int`"),
        (("number = 1", "number = 1\nnote = 2"), "epoch[0]", "unknown field `note`"),
        (("00:00:00Z", "00:00:00"), "epoch.eu.1.since", "time zone"),
        (("00:00:00Z", "00:00:00.000001Z"), "epoch.eu.1.since", "whole milliseconds"),
        (("2026-09-01", "1969-09-01"), "epoch.eu.1.since", "since 1970"),
        (('name = "eu-1"', 'name = "EU 1"'), "cell[0].name", "a-z"),
        (('name = "eu-2"', 'name = "eu-1"'), "cell.eu-1", "stands twice"),
        (("https://eu-2.example:8443", "https://eu-1.example"), "cell.eu-2.address", "that of eu-1"),
        (("https://eu-2.example:8443", "https://eu-2.example/"), "cell.eu-2.address", "nothing after"),
        (('region = "eu"\naddress = "https://eu-2', 'region = "us"\naddress = "https://eu-2'), "eu-2", "no cell of"),
        (("[[epoch]]", "[[epochs]]"), "file", "unknown field"),
        (("[[epoch]]", "[[epoch"), "toml", ""),
    ],
)
def test_a_flaw_is_told_with_file_key_and_reason(change, key, says):
    text = HEAD + EPOCH
    assert change[0] in text
    with pytest.raises(CellMapError) as caught:
        parse_cell_map(text.replace(*change, 1), "cells.toml")
    error = caught.value
    assert error.source == "cells.toml"
    assert any(key in flaw.key and says in flaw.reason for flaw in error.flaws), error
    assert all(line.startswith("cells.toml: ") for line in str(error).splitlines())


def test_all_flaws_are_told_at_once():
    text = (HEAD + EPOCH).replace("eu-1.example", "eu-1.example/x").replace('"0-2047"', '"0-2046"')
    with pytest.raises(CellMapError) as caught:
        parse_cell_map(text, "cells.toml")
    assert {flaw.key for flaw in caught.value.flaws} == {"cell.eu-1.address", "epoch.eu.1.shards"}


@pytest.mark.parametrize("since", ["2026-09-01T00:00:00Z", "2026-08-01T00:00:00Z"])
def test_an_epoch_begins_after_the_one_before_it(since):
    later = EPOCH.replace("number = 1", "number = 2").replace("2026-09-01T00:00:00Z", since)
    with pytest.raises(CellMapError, match=r"epoch\.eu\.2\.since: must be after that of epoch 1"):
        parse_cell_map(HEAD + EPOCH + later, "cells.toml")


def test_epochs_stand_in_order():
    with pytest.raises(CellMapError, match="must be 2"):
        parse_cell_map(HEAD + EPOCH + EPOCH.replace("2026-09", "2026-10"), "cells.toml")


def test_a_map_without_cells_or_epochs_is_none():
    with pytest.raises(CellMapError, match="0 cells"):
        parse_cell_map("cell = []\nepoch = []\n", "cells.toml")
    with pytest.raises(CellMapError, match="has no epoch"):
        parse_cell_map(HEAD + EPOCH + HEAD.replace("eu", "us").partition('[[cell]]\nname = "us-2"')[0], "cells.toml")


def test_what_was_in_force_never_changes_but_addresses():
    cells = cells_of(3)
    text = cell_map_text(cells)
    moved = parse_cell_map(text.replace("http://eu-2.example", "https://elsewhere.example"), "map.toml")
    assert moved.flaws_after(cells) == []
    changed = parse_cell_map(
        text.replace('eu-1 = "0-2047"', 'eu-1 = "0-2046,2048"').replace('"2048-4095"', '"2047,2049-4095"'), "m"
    )
    assert [flaw.key for flaw in changed.flaws_after(cells)] == ["epoch.eu.2"]
    assert [flaw.key for flaw in cells_of(2).flaws_after(cells)] == ["cell.eu-3", "epoch.eu.3"]


@pytest.mark.parametrize("text", ["http://127.0.0.1:8410", "https://eu-1.example", "http://[::1]:8410"])
def test_an_address_is_a_base_url(text):
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eu-1",
        "ftp://eu-1",
        "http://",
        "http://:80",
        "http://a:",
        "http://a:99999",
        "http://a/",
        "http://u@a",
        'http://a"b',
    ],
)
def test_what_is_no_base_url_is_no_address(text):
    assert not is_address(text)
