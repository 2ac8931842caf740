"""
Looks after other regions: probes them, testifies when one is down, and orders shelter when another cell says so, too.

What is judged by, and for how long it holds, stands in `domain/shelter.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

import structlog

from commands.homes import Homes
from commands.shelter_orders import OrderBook
from commands.shelter_trust import OrderRefused, Signer, Trust, check_testimony
from domain.cells import Cell
from domain.shelter import (
    PROBES_TTL_MS,
    RENEW_MS,
    WITNESSES_MAX,
    Ground,
    Order,
    Signed,
    Testimony,
    Watch,
    grounds,
    probed,
    testimony_of,
)

PEERS_ASKED_MAX = 32

log = structlog.get_logger()


class Prober(Protocol):
    """How other cells are reached. Neither call raises: who does not answer in time says nothing."""

    async def answers(self, cell: Cell) -> bool:
        """Tell whether anybody answers for *cell*, whatever state it is in."""

    async def testimonies(self, cell: Cell) -> list[Signed]:
        """Return what *cell* says of regions that are down."""


class Lookout:
    """The lookout of one gate. `clock` gives epoch ms, `new_id` ids for orders."""

    def __init__(  # noqa: PLR0913 (its collaborators)
        self,
        *,
        homes: Homes,
        trust: Trust,
        signer: Signer,
        book: OrderBook,
        prober: Prober,
        clock: Callable[[], int],
        new_id: Callable[[], UUID],
    ) -> None:
        self._homes = homes
        self._trust = trust
        self._signer = signer
        self._book = book
        self._prober = prober
        self._clock = clock
        self._new_id = new_id
        self.watches: dict[str, Watch] = {}

    async def look(self) -> None:
        """
        Probe every other region once, and order shelter for those that are down for two cells.

        Raises:
            LedgerUnavailable: the store did not take an order; the next look tries again.
        """
        regions = [region for region in self._homes.cells.regions if region != self._homes.cell.region]
        answered = await asyncio.gather(*(self._answers(region) for region in regions))
        for region, is_there in zip(regions, answered, strict=True):
            self._note(region, is_there=is_there)
        for region in regions:
            if (own := self._own(region)) is not None and self._wants_order(region):
                await self._order(region, own)

    def testimonies(self) -> list[Signed]:
        """Return what this cell has to say, signed."""
        return [self._signer.sign(own) for region in self.watches if (own := self._own(region)) is not None]

    async def _answers(self, region: str) -> bool:
        """Tell whether anybody of *region* answers: a region is down when all of its cells are."""
        cells = [cell for cell in self._homes.cells.cells.values() if cell.region == region]
        return any(await asyncio.gather(*map(self._prober.answers, cells)))

    def _note(self, region: str, *, is_there: bool) -> None:
        before = self.watches.get(region, Watch())
        after = self.watches[region] = probed(before, self._clock(), answered=is_there)
        if after.is_down != before.is_down:
            log.warning("region down" if after.is_down else "region up again", region=region)

    def _own(self, region: str) -> Testimony | None:
        return testimony_of(self.watches.get(region, Watch()), region, self._homes.cell.name)

    def _wants_order(self, region: str) -> bool:
        now = self._clock()
        standing = self._book.in_force(region, now)
        is_short = standing is None or standing.valid_until - now < RENEW_MS
        return is_short and not self._book.is_held(region, now)

    async def _order(self, region: str, own: Testimony) -> None:
        said = {own: self._signer.sign(own)}
        for signed in await self._others(region):
            try:
                said[check_testimony(signed, self._trust)] = signed
            except OrderRefused as error:
                log.warning("testimony refused", region=region, why=str(error))
        now = self._clock()
        chosen = grounds(said, region, now, self._cells_of(region))
        if not chosen:
            return
        order = Order(
            order_id=self._new_id(),
            region=region,
            cells=(self._homes.cell.name,),
            ground=Ground.PROBES,
            issuer=self._signer.name,
            issued_at=now,
            valid_from=now,
            valid_until=now + PROBES_TTL_MS,
            reason="failed probes of " + ", ".join(one.cell for one in chosen[:2]),
            testimonies=tuple(said[one] for one in chosen[:2]),
        )
        try:
            await self._book.take(self._signer.sign(order), now)
        except OrderRefused as error:
            log.warning("own shelter order refused", region=region, why=str(error))
            return
        log.warning("region sheltered", region=region, order=str(order.order_id), until=order.valid_until)

    async def _others(self, region: str) -> Sequence[Signed]:
        own = self._homes.cell.name
        peers = [
            cell
            for cell in self._homes.cells.cells.values()
            if cell.region != region and cell.name != own and cell.name in self._trust.cells
        ]
        said = await asyncio.gather(*map(self._prober.testimonies, peers[:PEERS_ASKED_MAX]))
        return [one for found in said for one in found[:WITNESSES_MAX]]

    def _cells_of(self, region: str) -> list[str]:
        return [cell.name for cell in self._homes.cells.cells.values() if cell.region == region]
