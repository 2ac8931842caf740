"""
When a cell may take in another region's renders: orders, testimonies of outages, and how long each of them holds.

A region is down for a cell once nobody of it has answered for 30 s, and up again once it has answered for 15 s. Two
cells that both say so are enough for a short order; an operator's order needs nobody else and may be longer. Signatures
are checked in `commands/shelter_trust.py`.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

FAILED_MS = 30_000
"""A region that has not answered for so long is down."""
RECOVERED_MS = 15_000
"""A region that was down is up once it has answered for so long."""
GAP_MAX_MS = 15_000
"""Who has not looked for so long knows nothing of what was before."""
FRESH_MS = 20_000
"""A testimony counts for so long after the last probe that failed."""
AHEAD_MAX_MS = 5_000
"""Clocks of cells differ by at most this."""
WITNESSES_MIN = 2
WITNESSES_MAX = 16
OPERATOR_TTL_MAX_MS = 86_400_000
PROBES_TTL_MS = 60_000
RENEW_MS = 30_000
"""An order by probes is followed by the next when it has less than this left."""
HOLD_MS = 3_600_000
"""After an operator has revoked an order by probes, none is made for that region for so long."""
CELLS_MAX = 64
REASON_MAX = 200


class Ground(StrEnum):
    OPERATOR = "operator"
    PROBES = "probes"


class Watch(Struct, frozen=True):
    """What one cell has seen of a region by its own probes. Times are epoch ms; `is_down` is hysteretic."""

    last_at: int | None = None
    last_failed_at: int | None = None
    failed_since: int | None = None
    answered_since: int | None = None
    is_down: bool = False


class Testimony(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Cell `cell` says: region `region` has been down since `failed_since`; the probe at `observed_at` failed, too.

    Between the two it never answered for `RECOVERED_MS`.
    """

    region: str
    cell: str
    failed_since: int
    observed_at: int


class Signed(Struct, frozen=True, forbid_unknown_fields=True):
    """A document as it was signed (Ed25519) by the cell or operator `by`."""

    by: str
    payload: bytes
    signature: bytes


class Order(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    `cells` may take in renders of `region` from `valid_from` to before `valid_until` (epoch ms).

    `testimonies` are the grounds of an order by probes.
    """

    order_id: UUID
    region: str
    cells: tuple[str, ...]
    ground: Ground
    issuer: str
    issued_at: int
    valid_from: int
    valid_until: int
    reason: str = ""
    testimonies: tuple[Signed, ...] = ()

    def covers(self, cell: str, now: int) -> bool:
        """Tell whether *cell* may shelter by it at *now*."""
        return cell in self.cells and self.valid_from <= now < self.valid_until


def probed(watch: Watch, at: int, *, answered: bool) -> Watch:
    """Return what is known after one more probe of the region at *at*."""
    if watch.last_at is not None and not 0 <= at - watch.last_at <= GAP_MAX_MS:
        watch = Watch()
    if answered:
        since = at if watch.answered_since is None else watch.answered_since
        if not watch.is_down or at - since >= RECOVERED_MS:
            return Watch(last_at=at, answered_since=since)
        return Watch(at, watch.last_failed_at, watch.failed_since, since, is_down=True)
    failed_since = at if watch.failed_since is None else watch.failed_since
    return Watch(at, at, failed_since, None, is_down=watch.is_down or at - failed_since >= FAILED_MS)


def testimony_of(watch: Watch, region: str, cell: str) -> Testimony | None:
    """Return what *cell* can say of an outage of *region*; None unless it is down and the last probe failed."""
    if not watch.is_down or watch.failed_since is None or watch.last_failed_at != watch.last_at:
        return None
    assert watch.last_failed_at is not None
    return Testimony(region=region, cell=cell, failed_since=watch.failed_since, observed_at=watch.last_failed_at)


def flaw_of_testimony(said: Testimony, region: str, at: int) -> str | None:
    """Say why *said* is no ground for sheltering *region* at *at*, None if it is one."""
    if said.region != region:
        return f"{said.cell} testifies of region {said.region!r}"
    if said.observed_at - said.failed_since < FAILED_MS:
        return f"{said.cell} has seen less than {FAILED_MS // 1_000} s of failed probes"
    if not -AHEAD_MAX_MS <= at - said.observed_at <= FRESH_MS:
        return f"{said.cell} does not speak of that time"
    return None


def flaw_of_order(order: Order, testimonies: Sequence[Testimony], own_of_region: Iterable[str]) -> str | None:
    """
    Say why *order* cannot be one, whoever signed it; None if it can.

    *testimonies* are those that it carries, their signatures checked; *own_of_region* the cells of its region.
    """
    return _flaw_of_shape(order, set(own_of_region)) or _flaw_of_grounds(order, testimonies, set(own_of_region))


def grounds(said: Iterable[Testimony], region: str, at: int, own_of_region: Iterable[str]) -> list[Testimony]:
    """Return the testimonies that together allow an order for *region* at *at*, one a cell; empty if they do not."""
    at_home, latest = set(own_of_region), dict[str, Testimony]()
    for one in said:
        if one.cell in at_home or flaw_of_testimony(one, region, at) is not None:
            continue
        known = latest.get(one.cell)
        if known is None or known.observed_at < one.observed_at:
            latest[one.cell] = one
    chosen = sorted(latest.values(), key=lambda one: (-one.observed_at, one.cell))[:WITNESSES_MAX]
    return chosen if len(chosen) >= WITNESSES_MIN else []


def _flaw_of_shape(order: Order, at_home: set[str]) -> str | None:
    if not 1 <= len(order.cells) <= CELLS_MAX or len(order.reason) > REASON_MAX:
        return "it names no cell, too many cells, or too long a reason"
    if order.valid_until <= max(order.issued_at, order.valid_from):
        return "it ends before it begins"
    longest = OPERATOR_TTL_MAX_MS if order.ground is Ground.OPERATOR else PROBES_TTL_MS
    if order.valid_until - min(order.valid_from, order.issued_at) > longest:
        return f"it is for longer than {longest // 1_000} s"
    return "a cell cannot shelter its own region" if at_home.intersection(order.cells) else None


def _flaw_of_grounds(order: Order, testimonies: Sequence[Testimony], at_home: set[str]) -> str | None:
    if order.ground is Ground.OPERATOR:
        return None
    flaws = (flaw_of_testimony(said, order.region, order.issued_at) for said in testimonies)
    if (flaw := next(filter(None, flaws), None)) is not None:
        return flaw
    witnesses = {said.cell for said in testimonies} - at_home
    return None if len(witnesses) >= WITNESSES_MIN else f"fewer than {WITNESSES_MIN} cells testify"
