"""
The port of the budget store: one row of money per campaign, leased in slices to holders.

For every account of a campaign, at every moment:

    limit = spent + held by holders + free

B1  what is granted is free: with holders that stay in touch, spent + held never passes a limit by a grant
B2  an exchange that is repeated, or executed late, changes nothing more than executing it once, in order
B3  what a holder reports as spent is booked once, and leaves what it holds in the same moment
B4  a holder that was not heard of for its time to live may be buried: what the ledger says that it spent is booked,
    the rest is free again; afterwards every exchange of it is answered with `Void`, as is one of a holder that left
B5  a bury, a book, a mend happens whole or not at all, and only on what it was computed from

A holder is a gate's run, or the name of one of its reports whose appends have an unknown outcome (an orphan). Day 0 of
a campaign is the whole of it; other days are local days of the account, counted from 1970-01-01. All money is in micros
of the campaign's currency.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

Account: TypeAlias = tuple[str, int]
"""A campaign and a local day of its account; day 0 where the campaign, and so its time zone, is not known."""

LINES_MAX = 5_000
"""Accounts in one exchange."""
BOUNDS_MAX = 1_000


class Line(Struct, frozen=True, kw_only=True, gc=False):
    """
    One account in an exchange.

    `version` is that of the campaign which says `limit_micros` and `daily_limit_micros`; -1 where it is not known, and
    then both are None. `spent` is what is reported, `keep` all that the holder still holds: unspent, or spent and not
    reported. `need` is what it must have besides, `ahead` what it would like. `stale` is what it may spend beyond its
    lease while it cannot reach the store.
    """

    campaign: str
    day: int
    version: int = -1
    limit_micros: int | None = None
    daily_limit_micros: int | None = None
    spent: int = 0
    keep: int = 0
    need: int = 0
    ahead: int = 0
    stale: int = 0


class Exchange(Struct, frozen=True, kw_only=True):
    """
    What a holder tells and asks. `seq` grows with every exchange; `reported` is the last period whose spend is in the
    lines. What it spends in later periods stands in the ledger after position `after`.

    With `orphan`, which names the period `reported`, `spent` is not booked but held under that name until the ledger is
    asked; what was spent in it stands there after position `orphan_after`. No account may stand in `lines` twice.
    """

    holder: str
    seq: int
    reported: int
    after: int
    ttl_ms: int
    lines: Sequence[Line]
    orphan: str = ""
    orphan_after: int = 0


class Granted(Struct, frozen=True, gc=False):
    """What a line got, and what was free afterwards (below zero: more is spent and held than may be)."""

    micros: int
    free: int


class Void(Exception):
    """The holder was buried; it must go on under another name, with nothing in its hands."""


class Holder(Struct, frozen=True, kw_only=True):
    """
    A holder as the store has it. Of what it reported up to period `reported` everything is booked; of later periods
    what stands in the ledger up to position `booked_through`. `after`: nothing of later periods stands before it.
    """

    name: str
    seq: int
    reported: int
    after: int
    booked_through: int = 0
    is_void: bool = False
    is_buried: bool = False


class State(Struct, frozen=True, kw_only=True):
    """A snapshot: spent per account, all holders, and how far corrections are booked."""

    spent: dict[Account, int]
    holders: list[Holder]
    corrected_through: int


class Corrected(Struct, frozen=True):
    """
    Corrections are booked up to ledger position `through`.

    They may be up to `may_through` (None: without end), before which no holder has anything left to report: a
    correction that gives money back must not be booked before the decision that took it.
    """

    through: int
    may_through: int | None


class Bound(Struct, frozen=True, kw_only=True):
    """
    How a campaign stands, as a whole. `limit_micros` is None where no gate has asked for it yet.

    `held_micros` is in leases. `stale_micros` is what gates may spend beyond that while they cannot reach the store.
    """

    campaign: str
    limit_micros: int | None
    spent_micros: int
    held_micros: int
    stale_micros: int

    @property
    def overshoot_micros(self) -> int:
        """By how much spend may pass the limit, from now on, if every gate loses the store now."""
        return max(0, self.spent_micros + self.held_micros + self.stale_micros - (self.limit_micros or 0))


class LeaseStore(Protocol):
    """What a gate asks of it. Every call raises `LedgerUnavailable` if the store does not answer."""

    async def exchange(self, asked: Exchange) -> dict[Account, Granted]:
        """
        Book what is reported, keep what is kept, grant what is free; the holder lives for another `ttl_ms`.

        A line is granted its need as far as there is money. Ahead of that it gets at most an eighth of what is left
        then, and nothing if it wishes for more than there is, so that no holder sits on the last of a budget. What an
        exchange wishes for an earlier day of a campaign is not there for a later one. Lines that neither ask nor keep
        anything are not answered.

        Raises:
            Void: the holder was buried, or has left.
        """

    async def leave(self, holder: str) -> None:
        """Let *holder* go, which has reported everything, if it holds nothing; later exchanges of it are `Void`."""


class BudgetStore(LeaseStore, Protocol):
    """Leases of budgets; see the promises above. Every call raises `LedgerUnavailable` if the store does not answer."""

    async def due(self, limit: int) -> list[Holder]:
        """Return up to *limit* holders whose time is up and who are not buried."""

    async def bury(self, holder: Holder, spent: Mapping[Account, int], through: int) -> bool:
        """
        Book *spent*, which the ledger has of *holder* up to position *through*, and free what it held.

        Answers false, and does nothing, if the holder was heard of since it was `due`.
        """

    async def corrected(self) -> Corrected:
        """Return up to where corrections are booked, and up to where they may be."""

    async def book(self, after: int, through: int, spent: Mapping[str, int]) -> bool:
        """
        Book corrections (campaign -> change of its spend) of the ledger's positions *after* to *through*.

        Answers false, and does nothing, unless exactly what is before *after* is booked.
        """

    async def bounds(self, campaigns: Sequence[str]) -> list[Bound]:
        """Return how those of *campaigns*, at most `BOUNDS_MAX`, stand that the store has; in order of name."""

    async def state(self) -> State:
        """Return everything as of one moment."""

    async def mend(self, changes: Mapping[Account, int]) -> None:
        """Add *changes* to what is spent."""
