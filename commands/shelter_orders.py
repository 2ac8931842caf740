"""The orders that one cell goes by: checked, kept, taken back, and asked on every request which regions it shelters."""

from uuid import UUID

import structlog
from msgspec import Struct

from commands.homes import Homes
from commands.shelter_store import KeptOrder, ShelterStore
from commands.shelter_trust import OrderRefused, Trust, check_current, check_order
from domain.shelter import HOLD_MS, Ground, Order, Signed

_NOWHERE: frozenset[str] = frozenset()

log = structlog.get_logger()


class Standing(Struct, frozen=True):
    """An order that was checked, and when (epoch ms) it was revoked, None if it was not."""

    order: Order
    revoked_at: int | None


class OrderBook:
    """The orders of the cell of *homes*. `refresh` before anything else; belongs to one event loop."""

    def __init__(self, homes: Homes, trust: Trust, store: ShelterStore) -> None:
        self._homes = homes
        self._trust = trust
        self._store = store
        self._known: dict[UUID, Standing] = {}
        self._live: tuple[Order, ...] = ()
        """Those that may be in force, now or later: asked for on every request."""
        self._refused: set[UUID] = set()

    @property
    def is_empty(self) -> bool:
        """Tell at once whether no order is in force, nor will be."""
        return not self._live

    async def refresh(self, now: int) -> None:
        """
        Go by what the store has: other processes of the cell take and revoke orders, too.

        Raises:
            LedgerUnavailable: what is known stays in force until it ends.
        """
        kept = await self._store.orders(now - HOLD_MS)
        known = {one.order_id: self._checked(one) for one in kept}
        self._known = {order_id: one for order_id, one in known.items() if one is not None}
        self._refused &= known.keys()
        self._sort_out(now)

    async def take(self, signed: Signed, now: int) -> Standing:
        """
        Check *signed* and keep it; from now on the cell goes by it, unless it was revoked.

        Raises:
            OrderRefused: it is none, is over, or is not for this cell.
            LedgerUnavailable: it may have been kept.
        """
        order = check_order(signed, self._trust, self._homes.cells)
        check_current(order, now)
        if self._homes.cell.name not in order.cells:
            raise OrderRefused(f"it is for {', '.join(order.cells)[:200]}, and this is {self._homes.cell.name}")
        kept = await self._store.keep_order(KeptOrder(order.order_id, signed, order.valid_until))
        if kept.signed != signed:
            raise OrderRefused("another order has its id")
        standing = self._known[order.order_id] = Standing(order, kept.revoked_at)
        self._sort_out(now)
        return standing

    async def revoke(self, order_id: UUID, now: int) -> Standing | None:
        """
        Take an order back; None if this cell knows none of that id.

        Raises:
            LedgerUnavailable: it may have been revoked.
        """
        kept = await self._store.revoke(order_id, now)
        standing = None if kept is None else self._checked(kept)
        if standing is not None:
            self._known[order_id] = standing
            self._sort_out(now)
        return standing

    def regions(self, now: int) -> frozenset[str]:
        """Return the regions that this cell shelters at *now*."""
        if not self._live:
            return _NOWHERE
        name = self._homes.cell.name
        return frozenset(order.region for order in self._live if order.covers(name, now))

    def in_force(self, region: str, now: int) -> Order | None:
        """Return the order by which *region* is sheltered at *now*; of several the one that ends last."""
        name = self._homes.cell.name
        found = [order for order in self._live if order.region == region and order.covers(name, now)]
        return max(found, key=lambda order: order.valid_until) if found else None

    def is_held(self, region: str, now: int) -> bool:
        """Tell whether an operator has taken back an order by probes for *region* of late: none is made then."""
        return any(
            one.order.region == region
            and one.order.ground is Ground.PROBES
            and one.revoked_at is not None
            and now - one.revoked_at < HOLD_MS
            for one in self._known.values()
        )

    def orders(self) -> list[Standing]:
        """Return all that are known, those that end last at the end."""
        return sorted(self._known.values(), key=lambda one: (one.order.valid_until, one.order.order_id))

    def _sort_out(self, now: int) -> None:
        live = (one.order for one in self._known.values() if one.revoked_at is None)
        self._live = tuple(order for order in live if order.valid_until > now)

    def _checked(self, kept: KeptOrder) -> Standing | None:
        """Check what lies in the store as if it had just come: whoever writes there cannot order anything."""
        known = self._known.get(kept.order_id)
        if known is not None:
            return Standing(known.order, kept.revoked_at)
        try:
            return Standing(check_order(kept.signed, self._trust, self._homes.cells), kept.revoked_at)
        except OrderRefused as error:
            if kept.order_id not in self._refused:
                self._refused.add(kept.order_id)
                log.warning("shelter order refused", order=str(kept.order_id), why=str(error))
            return None
