"""Files of cell maps: read, grown, and kept in the data folder, so that an epoch that was in force never changes."""

import os
import secrets
from pathlib import Path

from commands.homes import Homes
from domain.cells import Cell, CellMap, CellMapError, Flaw, Growth, grow
from domain.cells_file import FILE_MAX_BYTES, growth_text, parse_cell_map
from service.settings import Settings

_KEPT = "cell-map.toml"


def read_text(path: Path) -> str:
    """
    Return the text of the map at *path*.

    Raises:
        CellMapError: it cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise CellMapError(str(path), [Flaw("file", f"cannot be read: {error.strerror}")]) from error
    if len(data) > FILE_MAX_BYTES:
        raise CellMapError(str(path), [Flaw("file", f"is larger than {FILE_MAX_BYTES} bytes")])
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CellMapError(str(path), [Flaw("file", f"is not UTF-8 from byte {error.start} on")]) from error


def load_cell_map(path: Path) -> CellMap:
    """Return the map at *path*; raises `CellMapError` if there is none or it has a flaw."""
    return parse_cell_map(read_text(path), str(path))


def check_follows(newer: CellMap, older: CellMap, source: str) -> None:
    """Raise `CellMapError` unless *newer*, read from *source*, says all that *older* does."""
    if flaws := newer.flaws_after(older):
        raise CellMapError(source, flaws)


def kept_path(settings: Settings) -> Path:
    """Return where a gate keeps the map that it goes by."""
    return settings.data_dir / _KEPT


def homes_of(settings: Settings) -> tuple[Homes, str] | None:
    """
    Return what the cell map of *settings* says to its cell, and the map's text; None without one. Changes nothing.

    Raises:
        CellMapError: it cannot be used, does not know the cell, or contradicts the one that the cell went by before.
    """
    if not settings.cell_map:
        return None
    source = settings.cell_map
    text = read_text(Path(source))
    cells = parse_cell_map(text, source)
    if not settings.cell:
        raise CellMapError(source, [Flaw("cell", "IMPLEDGER_CELL must name the one that this gate is of")])
    cell = cells.cells.get(settings.cell)
    if cell is None:
        raise CellMapError(source, [Flaw(f"cell.{settings.cell}", "is not in the map, and IMPLEDGER_CELL names it")])
    if cell.region != settings.region:
        reason = f"is {cell.region!r}, and IMPLEDGER_REGION says {settings.region!r}"
        raise CellMapError(source, [Flaw(f"cell.{cell.name}.region", reason)])
    kept = kept_path(settings)
    if kept.exists():
        check_follows(cells, load_cell_map(kept), source)
    return Homes(cells, cell.name), text


def open_homes(settings: Settings) -> tuple[Homes, str] | None:
    """Return `homes_of` *settings*, and keep the map: from now on the cell goes by it, or by one that follows it."""
    found = homes_of(settings)
    if found is not None:
        write_whole(kept_path(settings), found[1])
    return found


def grow_file(path: Path, cell: Cell, since: int, *, dry_run: bool = False) -> Growth:
    """
    Grow the map at *path* by *cell* from *since* (epoch ms) on; the file is appended to as a whole, or not at all.

    A *dry_run* finds every flaw and writes nothing.

    Raises:
        CellMapError: the map has a flaw, or would have one.
        UnknownRoute: the region has no epoch to grow from.
    """
    text = read_text(path)
    growth = grow(parse_cell_map(text, str(path)), cell, since)
    grown = text.rstrip("\n") + "\n" + growth_text(growth)
    parse_cell_map(grown, str(path))
    if len(grown.encode()) > FILE_MAX_BYTES:
        raise CellMapError(str(path), [Flaw("file", f"would be larger than {FILE_MAX_BYTES} bytes")])
    if not dry_run:
        write_whole(path, grown)
    return growth


def write_whole(path: Path, text: str) -> None:
    """Write *text* to *path* durably; it is never seen half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
