"""
The cell map: which cell of a region owns which of the 4,096 shards, per epoch.

An impression's id names its shard and its token the region and epoch, so `cell = map(region, epoch, shard)` for as long
as the ledger lives. Epochs are only ever added and never change: whoever has an older map knows fewer epochs and says
nothing else about those it knows. So no two cells ever own one impression, whichever versions of the map they have.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from domain.ids import SHARDS

CELLS_MAX = 1_000
EPOCHS_MAX = 1_000


class Flaw(Struct, frozen=True):
    """What is wrong with a map, and at which of its keys."""

    key: str
    reason: str


class CellMapError(ValueError):
    """A cell map cannot be used: `source` is its file, `flaws` say where and why; the text has a line for each."""

    def __init__(self, source: str, flaws: Sequence[Flaw]) -> None:
        super().__init__("\n".join(f"{source}: {flaw.key}: {flaw.reason}" for flaw in flaws))
        self.source = source
        self.flaws = tuple(flaws)


class UnknownRoute(LookupError):
    """The map does not know the region, or not yet the epoch."""


class Cell(Struct, frozen=True):
    """`address` is the base URL of its gate."""

    name: str
    region: str
    address: str


class Epoch(Struct, frozen=True):
    """Who owns which shard for what is minted under it, from `since` (epoch ms) on. `owners` has a name per shard."""

    region: str
    number: int
    since: int
    owners: tuple[str, ...]

    def sizes(self) -> dict[str, int]:
        """Return how many shards each of its cells owns, in order of name."""
        return dict(sorted(Counter(self.owners).items()))


class Growth(Struct, frozen=True):
    """What growing by a cell comes to: the new epoch, and how many shards move to the new cell from each other one."""

    cell: Cell
    epoch: Epoch
    moved_from: dict[str, int]

    @property
    def moved(self) -> int:
        return sum(self.moved_from.values())


class CellMap:
    """A map without flaws; see `domain/cells_file.py`. *epochs* are in order of their numbers, by region."""

    __slots__ = ("_epochs", "_since", "cells")

    def __init__(self, cells: Mapping[str, Cell], epochs: Mapping[str, Sequence[Epoch]]) -> None:
        self.cells = dict(cells)
        self._epochs = {region: tuple(epochs[region]) for region in sorted(epochs)}
        self._since = {region: [epoch.since for epoch in known] for region, known in self._epochs.items()}

    @property
    def regions(self) -> tuple[str, ...]:
        return tuple(self._epochs)

    def epochs(self, region: str) -> tuple[Epoch, ...]:
        """Return the epochs of *region*, oldest first; the n-th has the number n. None of a region it does not know."""
        return self._epochs.get(region, ())

    def epoch_at(self, region: str, at: int) -> Epoch:
        """
        Return the epoch under which delivery mints at *at* (epoch ms).

        Raises:
            UnknownRoute: there is none yet.
        """
        index = bisect_right(self._since.get(region, ()), at)
        if not index:
            raise UnknownRoute(f"no epoch of region {region!r} is valid at {at}")
        return self._epochs[region][index - 1]

    def cell_of(self, region: str, epoch: int, shard: int) -> Cell:
        """
        Return the cell that owns *shard* under *epoch*.

        Raises:
            UnknownRoute: the map does not know the region, or not yet the epoch.
        """
        known = self._epochs.get(region, ())
        if not 1 <= epoch <= len(known):
            raise UnknownRoute(f"epoch {epoch} of region {region!r} is not in this map")
        return self.cells[known[epoch - 1].owners[shard]]

    def all_epochs(self) -> Iterator[Epoch]:
        for known in self._epochs.values():
            yield from known

    def flaws_after(self, older: "CellMap") -> list[Flaw]:
        """Return what *older* says and this map does not any more: cells stay in their region, epochs for ever."""
        flaws = [
            Flaw(f"cell.{cell.name}", f"was a cell of region {cell.region!r} before, and old ids lead there")
            for cell in older.cells.values()
            if cell.name not in self.cells or self.cells[cell.name].region != cell.region
        ]
        for epoch in older.all_epochs():
            known = self.epochs(epoch.region)
            if epoch.number > len(known):
                flaws.append(Flaw(_key(epoch), "is gone; epochs are only ever added, for old ids name them"))
            elif known[epoch.number - 1] != epoch:
                flaws.append(Flaw(_key(epoch), "says something else than before; epochs never change, add one instead"))
        return flaws


def grow(cells: CellMap, cell: Cell, since: int) -> Growth:
    """
    Return the epoch with which *cells* grows by *cell*, valid for minting from *since* (epoch ms) on.

    The new cell gets its equal share, rounded down, from the cells that own most; nothing else moves.

    Raises:
        UnknownRoute: the region has no epoch to grow from.
    """
    known = cells.epochs(cell.region)
    if not known:
        raise UnknownRoute(f"region {cell.region!r} has no epoch to grow from")
    newest = known[-1]
    left = Counter(newest.owners)
    moved_from: Counter[str] = Counter()
    for _ in range(SHARDS // (len(left) + 1)):
        giver = max(left, key=lambda name: (left[name], name))
        left[giver] -= 1
        moved_from[giver] += 1
    owners = list(newest.owners)
    to_give = Counter(moved_from)
    for shard in reversed(range(SHARDS)):
        if to_give[owners[shard]] > 0:
            to_give[owners[shard]] -= 1
            owners[shard] = cell.name
    epoch = Epoch(cell.region, newest.number + 1, since, tuple(owners))
    return Growth(cell, epoch, dict(sorted(moved_from.items())))


def _key(epoch: Epoch) -> str:
    return f"epoch.{epoch.region}.{epoch.number}"
