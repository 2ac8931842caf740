"""`impledger cells`: show a cell map, grow it by a cell, and say which cell an impression belongs to."""

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from service.cli_shared import AsJson, epoch_ms, read_settings, tell
from service.clock import now_ms
from service.parameters import rfc3339

app = typer.Typer(help="The cell map: show it, grow it by a cell, route an id or token.", no_args_is_help=True)

Map = Annotated[Path | None, typer.Option("--map", help="File of the cell map; default: IMPLEDGER_CELL_MAP.")]
Region = Annotated[str, typer.Option(help="Region; default: the map's only one, else IMPLEDGER_REGION.")]

LEAD_S = 600
"""By default an epoch begins so long after it is written, for the file to reach everybody who mints or decides."""


@app.command()
def show(
    file: Map = None,
    epoch: Annotated[int, typer.Option(min=0, help="Show the shards of this epoch; 0: of the newest.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show a cell map: cells, epochs, and who owns how many shards."""
    from domain.cells_file import ranges_text  # noqa: PLC0415 (each command loads what it needs)
    from service.cell_maps import load_cell_map  # noqa: PLC0415

    path, now = _path(file), now_ms()
    cells = load_cell_map(path)
    regions = []
    for region in cells.regions:
        known = cells.epochs(region)
        if epoch > len(known):
            raise typer.BadParameter(f"region {region} has epochs 1 to {len(known)}")
        shown = known[(epoch or len(known)) - 1]
        in_force = [one.number for one in known if one.since <= now]
        ranges, sizes = ranges_text(shown.owners), shown.sizes()
        regions.append(
            {
                "region": region,
                "epoch_in_force": in_force[-1] if in_force else None,
                "epochs": [{"number": one.number, "since": rfc3339(one.since), "cells": one.sizes()} for one in known],
                "shown_epoch": shown.number,
                "cells": [
                    {
                        "cell": cell.name,
                        "address": cell.address,
                        "shards": sizes.get(cell.name, 0),
                        "ranges": ranges.get(cell.name, ""),
                    }
                    for cell in cells.cells.values()
                    if cell.region == region
                ],
            }
        )
    tell({"map": str(path), "regions": regions}, as_json, _map_lines(regions))


@app.command(name="grow")
def grow_map(
    name: Annotated[str, typer.Argument(help="Name of the new cell.")],
    address: Annotated[str, typer.Argument(help="Base URL of its gate, such as https://eu-3.ledger.example.")],
    region: Region = "",
    since: Annotated[str, typer.Option(help="RFC 3339; ids minted from then on may be its. Default: in 10 min.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would move and write nothing.")] = False,
    file: Map = None,
    as_json: AsJson = False,
) -> None:
    """Append a cell to a map, and an epoch that gives it its share of the shards; old ids stay where they are."""
    from domain.cells import Cell, CellMapError, Flaw, UnknownRoute  # noqa: PLC0415
    from service.cell_maps import grow_file  # noqa: PLC0415

    path = _path(file)
    cell = Cell(name, region or _region(path), address)
    at = epoch_ms(since, "--since") if since else (now_ms() // 1_000 + LEAD_S) * 1_000
    if at < now_ms():
        raise typer.BadParameter(f"{since} is over: ids that were minted since are of an older epoch")
    try:
        growth = grow_file(path, cell, at, dry_run=dry_run)
    except UnknownRoute as error:
        raise CellMapError(str(path), [Flaw(f"cell.{name}.region", str(error))]) from error
    facts = {
        "map": str(path),
        "cell": name,
        "address": address,
        "region": cell.region,
        "epoch": growth.epoch.number,
        "since": rfc3339(at),
        "moved": growth.moved,
        "moved_from": growth.moved_from,
        "cells": growth.epoch.sizes(),
        "written": not dry_run,
    }
    givers = ", ".join(f"{count} of {giver}" for giver, count in growth.moved_from.items())
    begins = f"epoch {growth.epoch.number} of {cell.region} from {rfc3339(at)} on"
    lines = [
        f"{begins}: {growth.moved} of 4,096 shards go to {name} ({givers}).",
        "Nothing is written." if dry_run else f"Bring {path} to every gate, router and minter before then.",
    ]
    tell(facts, as_json, lines)


@app.command()
def route(
    what: Annotated[str, typer.Argument(help="Impression id, or the token of an ad instance.")],
    region: Region = "",
    epoch: Annotated[int, typer.Option(min=0, help="For an id: its epoch; 0: that in force when it was minted.")] = 0,
    file: Map = None,
    as_json: AsJson = False,
) -> None:
    """Say which cell an impression belongs to. A token names region and epoch; an id goes by its mint time."""
    from domain.cells import CellMapError, Flaw, UnknownRoute  # noqa: PLC0415
    from domain.ids import minted_at, shard  # noqa: PLC0415
    from domain.token import read_token  # noqa: PLC0415
    from service.cell_maps import load_cell_map  # noqa: PLC0415

    path = _path(file)
    cells = load_cell_map(path)
    try:
        if what.startswith("v1."):
            token = read_token(what)
            impression, where, number, source = token.impression, token.region, token.epoch, "token"
        else:
            impression, where, source = _impression(what), region or _region(path), "option" if epoch else "mint time"
            number = epoch or cells.epoch_at(where, minted_at(impression)).number
        cell = cells.cell_of(where, number, shard(impression))
    except UnknownRoute as error:
        raise CellMapError(str(path), [Flaw("epoch", str(error))]) from error
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    facts = {
        "impression_id": impression,
        "minted_at": rfc3339(minted_at(impression)),
        "shard": shard(impression),
        "region": where,
        "epoch": number,
        "epoch_from": source,
        "cell": cell.name,
        "address": cell.address,
    }
    line = (
        f"{impression}: shard {shard(impression)}, epoch {number} of {where} (by {source}): {cell.name}, {cell.address}"
    )
    tell(facts, as_json, [line])


def _map_lines(regions: list[dict[str, Any]]) -> list[str]:
    lines = []
    for region in regions:
        lines.append(f"{region['region']}: epoch {region['epoch_in_force'] or '-'} in force")
        for epoch in region["epochs"]:
            sizes = ", ".join(f"{name} {count}" for name, count in epoch["cells"].items())
            lines.append(f"  epoch {epoch['number']} from {epoch['since']}: {sizes}")
        lines.append(f"  shards of epoch {region['shown_epoch']}:")
        lines += [f"    {cell['cell']}  {cell['address']}  {cell['ranges'] or 'none'}" for cell in region["cells"]]
    return lines


def _path(file: Path | None) -> Path:
    named = str(file) if file else read_settings().cell_map
    if not named:
        raise typer.BadParameter("name the file with --map, or set IMPLEDGER_CELL_MAP")
    return Path(named)


def _region(path: Path) -> str:
    """Return the region that is meant where none is named: the map's only one, else that of the settings."""
    from service.cell_maps import load_cell_map  # noqa: PLC0415

    regions = load_cell_map(path).regions
    return regions[0] if len(regions) == 1 else read_settings().region


def _impression(text: str) -> UUID:
    from domain.ids import is_impression_id  # noqa: PLC0415

    impression = UUID(text)
    if not is_impression_id(impression):
        raise ValueError(f"{impression} is no UUIDv7")
    return impression
