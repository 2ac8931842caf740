"""
A holder's dealings with the budget store: what it holds, what it has to report, and one exchange at a time.

Whatever the store does, an exchange ends in one of three ways. It answers: then store and holder agree. It does not:
then the accounts of the exchange are named again in the next one, with all that is held of them. Or it says that the
holder was buried: then it starts over under a new name with empty hands, and the ledger tells what the old one spent.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from commands.budget_purse import LeaseRules, Period, Purse, Report, report_of
from commands.budget_store import LINES_MAX, Account, Exchange, Granted, LeaseStore, Line, Void
from domain.campaign import Campaign
from ledger.store import LedgerUnavailable

PERIOD_ACCOUNTS_MAX = 2_000
"""A period with more accounts is closed, so that its report fits into one exchange."""


class Leases:
    """
    Leases of one gate; `Budget` uses them. There are at most as many purses as renders came in `idle_s` seconds.

    *campaign* looks a campaign up in the registry, *head* tells the ledger's last position, *name* gives a new name
    for this holder, *clock* is monotonic, in seconds.
    """

    purses: dict[Account, Purse]
    period: Period
    is_behind: bool
    holder: str
    _periods: list[Period]
    _report: Report | None
    _seq: int
    _reported: int
    _kept: dict[Account, int]
    _unsure: set[Account]
    _ok_at: float
    _ticked_at: float

    def __init__(  # noqa: PLR0913 (its collaborators)
        self,
        store: LeaseStore,
        rules: LeaseRules,
        *,
        campaign: Callable[[str], Campaign | None],
        head: Callable[[], Awaitable[int]],
        name: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self.rules = rules
        self.clock = clock
        self._store = store
        self._campaign = campaign
        self._head = head
        self._name = name
        self._turn = asyncio.Lock()
        self._position = 0
        self._start_over()

    @property
    def is_usable(self) -> bool:
        """Whether what is decided with a lease from now on is in the ledger before the holder can be buried."""
        return self.clock() - self._ok_at < self.rules.usable_s

    @property
    def is_reported(self) -> bool:
        """Whether nothing is left to be reported or given back."""
        return not self.purses and len(self._periods) == 1 and not self.period.spent

    @property
    def has_pending(self) -> bool:
        return any(period.pending for period in self._periods)

    def purse(self, account: Account) -> Purse:
        purse = self.purses.get(account)
        if purse is None:
            purse = self.purses[account] = Purse(account)
        return purse

    def roll(self) -> None:
        """Close the period that is open, unless nothing happened in it."""
        if self.period.spent or self.period.pending:
            self._open(self.period.number + 1)

    async def fetch(self, needs: Mapping[Account, int], *, still: Callable[[], bool]) -> None:
        """Ask for *needs*, unless it is not necessary any more when it is this call's turn."""
        async with self._turn:
            if not self._position:
                await self._learn()
            if still():
                await self._exchange(needs, is_tick=False)

    async def refill(self, accounts: Iterable[Account]) -> None:
        """Ask for more for *accounts* before their batches have to."""
        async with self._turn:
            low = [
                account for account in accounts if account in self.purses and self.purses[account].runs_low(self.rules)
            ]
            for at in range(0, len(low), LINES_MAX):
                await self._exchange({}, is_tick=False, refill=low[at : at + LINES_MAX])

    async def tick(self) -> None:
        """Report what is settled, fill what runs low, give back what is idle."""
        await self._learn()
        async with self._turn:
            self._measure()
            self.roll()
            while await self._exchange({}, is_tick=True) == LINES_MAX:
                pass
            for account in [account for account, purse in self.purses.items() if purse.is_empty]:
                if account not in self._unsure and not self._kept.get(account):
                    del self.purses[account]
                    self._kept.pop(account, None)

    async def leave(self) -> None:
        """Have the store let this holder go, after everything was reported and given back."""
        with suppress(LedgerUnavailable):
            await self._store.leave(self.holder)

    def _measure(self) -> None:
        now = self.clock()
        elapsed_s = now - self._ticked_at
        if elapsed_s < self.rules.tick_s / 2:
            return
        self._ticked_at = now
        for purse in self.purses.values():
            purse.measure(elapsed_s, now)
            purse.give_back(self.rules, now)

    async def _learn(self) -> None:
        """Whatever is decided from now on stands in the ledger after its head of now."""
        with suppress(LedgerUnavailable):
            self._position = max(self._position, await self._head())
            if not self.period.spent and not self.period.pending:
                self.period.after = self._position

    async def _exchange(self, needs: Mapping[Account, int], *, is_tick: bool, refill: Sequence[Account] = ()) -> int:
        """Ask the store once; return how many lines that had, 0 if it did not answer."""
        if is_tick and self._report is None:
            self._report = report_of(self._periods, LINES_MAX - PERIOD_ACCOUNTS_MAX)
        report = self._report
        lines = self._lines(needs, report, self.purses if is_tick else refill)
        self._seq += 1
        began = self.clock()
        asked = Exchange(
            holder=self.holder,
            seq=self._seq,
            reported=self._reported if report is None else report.number,
            after=self._periods[0 if report is None else len(report.periods)].after,
            ttl_ms=int(self.rules.ttl_s * 1_000),
            lines=lines,
            orphan="" if report is None else report.orphan,
            orphan_after=self._periods[0].after,
        )
        try:
            granted = await self._store.exchange(asked)
        except LedgerUnavailable:
            self.is_behind = True
            self._unsure.update((line.campaign, line.day) for line in lines)
            return 0
        except Void:
            self._start_over()
            return await self._exchange(needs, is_tick=False)
        self.is_behind = False
        self._ok_at = began
        self._agreed(asked, granted, report)
        return len(lines)

    def _lines(self, needs: Mapping[Account, int], report: Report | None, others: Iterable[Account]) -> list[Line]:
        """Name every account that has something to report, to ask, or, among *others*, to wish or to give back."""
        said = {**dict.fromkeys(report.spent if report else ()), **dict.fromkeys(needs), **dict.fromkeys(self._unsure)}
        lines: list[Line] = []
        for account in {**said, **dict.fromkeys(others)}:
            purse = self.purse(account)
            line = self._line(purse, needs.get(account), report)
            is_news = line.stale != purse.allowance or line.keep != self._kept.get(account, 0)
            if account in said or line.need or line.ahead or is_news:
                purse.allowance = min(purse.allowance, max(line.stale, purse.over))
                lines.append(line)
                if len(lines) == LINES_MAX:
                    break
        return lines

    def _line(self, purse: Purse, need: int | None, report: Report | None) -> Line:
        id_, day = purse.account
        campaign = self._campaign(id_) if day else None
        if campaign is not None and campaign.version != purse.version:
            purse.version, purse.left = campaign.version, 0  # limits may be lower now: lease anew
        need, ahead = self._wishes(purse, need) if day else (0, 0)
        spent, leased, over = (0, 0, 0) if report is None else report.of(purse.account)
        return Line(
            campaign=id_,
            day=day,
            version=-1 if campaign is None else campaign.version,
            limit_micros=None if campaign is None else campaign.budget_micros,
            daily_limit_micros=None if campaign is None else campaign.daily_budget_micros,
            spent=leased if report is not None and report.orphan else spent,
            keep=purse.left + purse.out - leased,
            need=need,
            ahead=ahead,
            stale=max(int(purse.pace * self.rules.usable_s), purse.over - over),
        )

    def _wishes(self, purse: Purse, need: int | None) -> tuple[int, int]:
        """What it must have beyond what it has, and what it would like besides."""
        slice_ = purse.slice(self.rules)
        if need is not None:
            return max(0, need - purse.left), max(slice_, self.rules.batches_ahead * need)
        if purse.is_dry:
            wanted, purse.wanted = purse.wanted, 0
            return max(0, wanted - purse.left), 0
        is_used = purse.used or purse.used_at >= self._ticked_at
        return 0, 2 * slice_ - purse.left if is_used and purse.left < 1.5 * slice_ else 0

    def _agreed(self, asked: Exchange, granted: Mapping[Account, Granted], report: Report | None) -> None:
        if report is not None:
            self._reported_through(report)
        for line in asked.lines:
            account = (line.campaign, line.day)
            purse, lent = self.purses[account], granted.get(account)
            self._unsure.discard(account)
            self._kept[account] = line.keep
            purse.allowance = line.stale
            if lent is not None:
                self._kept[account] += lent.micros
                purse.left += lent.micros
                purse.free = lent.free
                if line.need:
                    purse.is_dry, purse.asked_at = lent.micros < line.need, self._ok_at

    def _reported_through(self, report: Report) -> None:
        for account, micros in report.leased.items():
            self.purses[account].out -= micros
        for account, micros in report.over.items():
            self.purses[account].over -= micros
        del self._periods[: len(report.periods)]
        self._reported = report.number
        self._report = None

    def _open(self, number: int) -> None:
        self.period = Period(number, f"{self.holder}.{number}", self._position)
        self._periods.append(self.period)

    def _start_over(self) -> None:
        """Under a new name, with nothing in hand: what the old name spent is looked up in the ledger."""
        self.holder = self._name()
        self.purses = {}
        self.is_behind = False
        self._periods = []
        self._report = None
        self._seq, self._reported = 0, 0
        self._kept = {}
        self._unsure = set()
        self._ok_at = float("-inf")
        self._ticked_at = self.clock()
        self._open(1)
