"""What a gate holds of one account, and what it spent in one period of reporting."""

from msgspec import Struct

from commands.budget_store import Account
from domain.funding import Funding
from domain.reasons import Reason

_SCARCE = 8
"""Money is scarce where less than this many times what lies in a purse is free."""


class LeaseRules(Struct, frozen=True, kw_only=True):
    """
    How leases are kept. Durations in seconds.

    A holder that was not heard of for `ttl_s` is buried. What it decided with its lease stands in the ledger by then,
    for it stops `append_max_s` earlier, which is longer than an append may take.
    """

    ttl_s: float = 10.0
    append_max_s: float = 6.0
    tick_s: float = 1.0
    slice_s: float = 1.0
    patience_s: float = 0.025
    """How long a batch waits for the store; then it goes on without."""
    idle_s: float = 3.0
    """After which an unused purse is given back, while money is plenty; a tick, while it is scarce."""
    batches_ahead: int = 8
    known_for_s: float = 60.0
    """How long it is believed that a budget is exhausted, while the store does not answer."""

    @property
    def usable_s(self) -> float:
        return self.ttl_s - self.append_max_s


class Purse(Struct, gc=False):
    """
    A gate's share of one account. `left` can be spent; `out` was spent from the lease, or is about to be, and is not
    booked yet. `over` is what was spent beyond the lease, of at most `allowance`. `pace` is micros a second. The purse
    was filled for the campaign at `version`; `free` is what others could have had then.
    """

    account: Account
    left: int = 0
    out: int = 0
    over: int = 0
    allowance: int = 0
    used: int = 0
    pace: int = 0
    wanted: int = 0
    free: int = 0
    version: int = -1
    is_dry: bool = False
    asked_at: float = 0.0
    used_at: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Nothing in it, nothing owed, nothing promised."""
        return not (self.left or self.out or self.over or self.allowance or self.pace or self.wanted)

    def measure(self, elapsed_s: float, now: float) -> None:
        """Take the pace: as fast as it was just now, or half as fast as it was before."""
        if self.used:
            self.used_at = now
        self.pace = max(int(self.used / elapsed_s), self.pace // 2)
        self.used = 0

    def give_back(self, rules: LeaseRules, now: float) -> None:
        """Let go of what is not needed: all of it where nobody came lately, what is over a slice where it is scarce."""
        scarce = self.free < _SCARCE * self.left
        if now - self.used_at >= (rules.tick_s if scarce else rules.idle_s):
            self.left = 0
        elif scarce:
            self.left = min(self.left, 2 * self.slice(rules))

    def slice(self, rules: LeaseRules) -> int:
        return int(self.pace * rules.slice_s)


class Period(Struct):
    """
    What was decided under one label, to be reported as a whole. `pending` decisions are not known to be durable yet.

    `spent` is all of it per account; of that `unfunded` was not from a lease, and `over` was allowed beyond one.
    """

    number: int
    label: str
    after: int
    pending: int = 0
    is_doubtful: bool = False
    spent: dict[Account, int] = {}
    unfunded: dict[Account, int] = {}
    over: dict[Account, int] = {}


class Grant(Struct, gc=False):
    """
    What one render gets. `reason` speaks against it; without one it may be billed.

    `micros` is what is set aside for it: from the lease, `over` it, or neither, where it stays uncertain.
    """

    purse: Purse
    period: Period
    micros: int
    is_leased: bool
    is_over: bool
    reason: Reason | None
    funding: Funding
    is_open: bool = True


class Report(Struct, frozen=True):
    """Periods that are reported together, until the store is known to have them."""

    periods: list[Period]
    spent: dict[Account, int]
    leased: dict[Account, int]
    over: dict[Account, int]
    orphan: str = ""

    @property
    def number(self) -> int:
        return self.periods[-1].number

    def of(self, account: Account) -> tuple[int, int, int]:
        """Return what is reported of *account*, how much of it was leased, and how much was over a lease."""
        return self.spent.get(account, 0), self.leased.get(account, 0), self.over.get(account, 0)


def report_of(periods: list[Period], accounts_max: int) -> Report | None:
    """Return what can be reported of *periods*, the last of which is still open; one of unknown outcome goes alone."""
    chosen: list[Period] = []
    spent: dict[Account, int] = {}
    leased: dict[Account, int] = {}
    over: dict[Account, int] = {}
    for period in periods[:-1]:
        if period.pending or (chosen and (period.is_doubtful or len(spent) + len(period.spent) > accounts_max)):
            break
        chosen.append(period)
        for account, micros in period.spent.items():
            spent[account] = spent.get(account, 0) + micros
            leased[account] = leased.get(account, 0) + micros - period.unfunded.get(account, 0)
        for account, micros in period.over.items():
            over[account] = over.get(account, 0) + micros
        if period.is_doubtful:
            return Report(chosen, spent, leased, over, orphan=period.label)
    return Report(chosen, spent, leased, over) if chosen else None
