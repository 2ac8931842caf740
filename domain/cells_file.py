"""
The file of a cell map: TOML that is only ever appended to.

    [[cell]]
    name = "eu-1"
    region = "eu"
    address = "https://eu-1.ledger.example"

    [[epoch]]
    region = "eu"
    number = 1
    since = 2026-09-01T00:00:00Z
    shards = { eu-1 = "0-4095" }
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from sys import intern
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from domain.cells import CELLS_MAX, EPOCHS_MAX, Cell, CellMap, CellMapError, Epoch, Flaw, Growth
from domain.ids import SHARDS

FILE_MAX_BYTES = 4_194_304
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_REGION = re.compile(r"[a-z0-9]{1,32}")
_RANGE = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?", re.ASCII)
_URL = re.compile(r"https?://[a-z0-9.:\[\]_-]+")
_ADDRESS_MAX = 256
_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)
_HEADER = "# A cell map: epochs are only ever added, never changed, for old ids name them. See docs/cells.md.\n"


class _Epoch(Struct, frozen=True, forbid_unknown_fields=True):
    region: str
    number: int
    since: datetime
    shards: dict[str, str]


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    cell: list[dict[str, object]]
    epoch: list[dict[str, object]]


class _Cell(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    region: str
    address: str


def parse_cell_map(text: str, source: str) -> CellMap:
    """
    Return the cell map in *text* (TOML), read from *source*.

    Raises:
        CellMapError: naming *source*, and for each flaw its key and what is wrong.
    """
    try:
        file = msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        raise CellMapError(source, [Flaw("toml", str(error))]) from error
    except msgspec.ValidationError as error:
        raise CellMapError(source, [Flaw("file", str(error))]) from error
    flaws: list[Flaw] = []
    cells = {cell.name: cell for cell in _cells(file.cell, flaws)}
    epochs = list(_epochs(file.epoch, cells, flaws))
    flaws += _too_many(file)
    by_region: dict[str, list[Epoch]] = {}
    for epoch in epochs:
        by_region.setdefault(epoch.region, []).append(epoch)
    if not flaws:
        flaws += [flaw for region in by_region.values() for flaw in _order(region)]
        flaws += _unused(cells, by_region)
    if flaws:
        raise CellMapError(source, flaws)
    return CellMap(cells, by_region)


def cell_map_text(cells: CellMap) -> str:
    """Return the file of *cells*; reading it gives the same map."""
    parts = [_HEADER, *map(_cell_text, cells.cells.values()), *map(_epoch_text, cells.all_epochs())]
    return "\n".join(parts)


def growth_text(growth: Growth) -> str:
    """Return what is appended to a map's file so that it grows."""
    return "\n".join(["", _cell_text(growth.cell), _epoch_text(growth.epoch)])


def ranges_text(owners: Sequence[str]) -> dict[str, str]:
    """Return the shards of each cell as ranges, such as `0-2047,3000`; cells in order of name."""
    ranges: dict[str, list[str]] = {}
    first = 0
    for shard in range(1, SHARDS + 1):
        if shard == SHARDS or owners[shard] != owners[first]:
            last = shard - 1
            ranges.setdefault(owners[first], []).append(str(first) if first == last else f"{first}-{last}")
            first = shard
    return {name: ",".join(ranges[name]) for name in sorted(ranges)}


def _cell_text(cell: Cell) -> str:
    return f'[[cell]]\nname = "{cell.name}"\nregion = "{cell.region}"\naddress = "{cell.address}"\n'


def _epoch_text(epoch: Epoch) -> str:
    since = (_EPOCH + epoch.since * _MILLISECOND).isoformat().replace("+00:00", "Z")
    shards = "".join(f'{name} = "{ranges}"\n' for name, ranges in ranges_text(epoch.owners).items())
    head = f'[[epoch]]\nregion = "{epoch.region}"\nnumber = {epoch.number}\nsince = {since}\n'
    return f"{head}[epoch.shards]\n{shards}"


def _cells(found: Sequence[Mapping[str, object]], flaws: list[Flaw]) -> Iterator[Cell]:
    names: Counter[str] = Counter()
    addresses: dict[str, str] = {}
    for at, fields in enumerate(found):
        try:
            one = msgspec.convert(fields, _Cell)
        except msgspec.ValidationError as error:
            flaws.append(Flaw(f"cell[{at}]", str(error)))
            continue
        key = f"cell.{one.name}" if _NAME.fullmatch(one.name) else f"cell[{at}]"
        flaws += [Flaw(f"{key}.{part}", reason) for part, reason in _cell_flaws(one)]
        names[one.name] += 1
        if names[one.name] == 2:
            flaws.append(Flaw(key, "stands twice"))
        if addresses.setdefault(one.address, one.name) != one.name:
            flaws.append(Flaw(f"{key}.address", f"is that of {addresses[one.address]}, too"))
        yield Cell(intern(one.name), intern(one.region), one.address)


def _cell_flaws(one: _Cell) -> Iterator[tuple[str, str]]:
    if not _NAME.fullmatch(one.name):
        yield "name", "must be 1 to 63 of a-z, 0-9 and -, and not begin with -"
    if not _REGION.fullmatch(one.region):
        yield "region", "must be 1 to 32 of a-z and 0-9"
    if not is_address(one.address):
        yield "address", "must be http:// or https:// with a lower-case host, perhaps a port, and nothing after"


def is_address(text: str) -> bool:
    """Tell whether *text* is a base URL: scheme, host and perhaps a port."""
    if len(text) > _ADDRESS_MAX or not _URL.fullmatch(text):
        return False
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0 and not text.endswith(":")
    except ValueError:
        return False


def _epochs(found: Sequence[Mapping[str, object]], cells: Mapping[str, Cell], flaws: list[Flaw]) -> Iterator[Epoch]:
    for at, fields in enumerate(found):
        try:
            one = msgspec.convert(fields, _Epoch)
        except msgspec.ValidationError as error:
            flaws.append(Flaw(f"epoch[{at}]", str(error)))
            continue
        key = f"epoch.{one.region}.{one.number}" if _REGION.fullmatch(one.region) else f"epoch[{at}]"
        if one.since.tzinfo is None:
            flaws.append(Flaw(f"{key}.since", "must say its time zone, such as 2026-09-01T00:00:00Z"))
            continue
        since, rest = divmod(one.since - _EPOCH, _MILLISECOND)
        if since < 0 or rest:
            flaws.append(Flaw(f"{key}.since", "must be a time since 1970 in whole milliseconds"))
        owners = _owners(one, key, cells, flaws)
        yield Epoch(intern(one.region), one.number, since, owners)


def _owners(one: _Epoch, key: str, cells: Mapping[str, Cell], flaws: list[Flaw]) -> tuple[str, ...]:
    """Return a name per shard; what is not owned exactly once is among *flaws*."""
    owners: list[str] = [""] * SHARDS
    twice: list[int] = []
    for name, text in one.shards.items():
        cell = cells.get(name)
        if cell is None or cell.region != one.region:
            flaws.append(Flaw(f"{key}.shards.{name}", f"is no cell of region {one.region!r}"))
        try:
            for first, last in _ranges(text):
                taken = owners[first : last + 1]
                if any(taken):
                    twice += [shard for shard, owner in enumerate(taken, first) if owner]
                owners[first : last + 1] = [intern(name)] * len(taken)
        except ValueError as error:
            flaws.append(Flaw(f"{key}.shards.{name}", str(error)))
    if twice:
        flaws.append(Flaw(f"{key}.shards", f"{len(twice)} shards have two owners, the first of them {min(twice)}"))
    if free := [shard for shard, owner in enumerate(owners) if not owner]:
        flaws.append(Flaw(f"{key}.shards", f"{len(free)} shards have no owner, the first of them {free[0]}"))
    return tuple(owners)


def _ranges(text: str) -> Iterator[tuple[int, int]]:
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None:
            raise ValueError(f"{part[:20]!r} is no range of shards such as 0-2047")
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < SHARDS:
            raise ValueError(f"{part[:20]!r} is not within 0-{SHARDS - 1}")
        yield first, last


def _order(region: Sequence[Epoch]) -> Iterator[Flaw]:
    """The epochs of a region stand in order: 1, 2, 3, each later than the one before."""
    for number, epoch in enumerate(region, start=1):
        if epoch.number != number:
            yield Flaw(f"epoch.{epoch.region}.{epoch.number}.number", f"must be {number}: they count up from 1")
            return
    for before, after in pairwise(region):
        if after.since <= before.since:
            yield Flaw(f"epoch.{after.region}.{after.number}.since", f"must be after that of epoch {before.number}")


def _unused(cells: Mapping[str, Cell], epochs: Mapping[str, Sequence[Epoch]]) -> Iterator[Flaw]:
    for cell in cells.values():
        if cell.region not in epochs:
            yield Flaw(f"cell.{cell.name}.region", f"{cell.region!r} has no epoch")


def _too_many(file: _File) -> Iterator[Flaw]:
    if not 1 <= len(file.cell) <= CELLS_MAX:
        yield Flaw("cell", f"{len(file.cell)} cells; a map has 1 to {CELLS_MAX}")
    if not 1 <= len(file.epoch) <= EPOCHS_MAX:
        yield Flaw("epoch", f"{len(file.epoch)} epochs; a map has 1 to {EPOCHS_MAX}")
