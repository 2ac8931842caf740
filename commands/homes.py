"""Which impressions are this cell's, and whose the others are."""

from domain.cells import Cell, CellMap, UnknownRoute
from domain.ids import shard
from domain.token import Token


class Homes:
    """What a cell map says to the cell of that name. Swapped as a whole when the map grows."""

    __slots__ = ("_owned", "cell", "cells")

    def __init__(self, cells: CellMap, cell: str) -> None:
        self.cell = cells.cells[cell]
        self._owned: dict[int, bytes] = {}
        self.swap(cells)

    def swap(self, cells: CellMap) -> None:
        """Go by *cells* from now on, which must follow the map before: only its new epochs are looked at."""
        self.cells, name = cells, self.cell.name
        for epoch in cells.epochs(self.cell.region)[len(self._owned) :]:
            self._owned[epoch.number] = bytes(owner == name for owner in epoch.owners)

    def owns(self, token: Token) -> bool:
        """Tell whether the impression is this cell's; not if the map does not know its epoch."""
        owned = self._owned.get(token.epoch)
        return owned is not None and owned[shard(token.impression)] == 1 and token.region == self.cell.region

    def home_of(self, token: Token) -> Cell | None:
        """Return the cell that owns the impression, None if the map does not know its region or epoch."""
        try:
            return self.cells.cell_of(token.region, token.epoch, shard(token.impression))
        except UnknownRoute:
            return None
