"""
The gate's budgets on the way of a batch: decisions touch memory only, the store is asked ahead, at most once per batch.

A batch goes: `await ensure(needs)`, then `reserve` per render in batch order, `keep` what its decision commits, append,
`settle`. Everything belongs to one event loop.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress

from commands.budget_leases import PERIOD_ACCOUNTS_MAX, Leases
from commands.budget_purse import Grant, Purse
from commands.budget_store import Account
from domain.funding import Funding
from domain.reasons import Reason
from domain.vocabulary import Rung

_CLOSE_ROUNDS_MAX = 20


class Budget:
    """What a gate may spend. `run` keeps its leases filled; without it `ensure` asks for all that it needs."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._rules = leases.rules
        self._wake = asyncio.Event()
        self._low: dict[Account, None] = {}
        self._under_way: asyncio.Task[None] | None = None
        self._now = leases.clock()
        self._is_usable = False

    @property
    def is_behind(self) -> bool:
        """Whether the store did not answer when it was asked last."""
        return self._leases.is_behind

    @property
    def accounts(self) -> int:
        """How many accounts have something at hand here."""
        return len(self._leases.purses)

    async def ensure(self, needs: Mapping[Account, int], within_s: float = float("inf")) -> None:
        """
        See to it that each account can pay its need, as far as there is money; asks the store only where it must.

        Never raises for a store that does not answer, and never waits longer for it than `patience_s` or *within_s*.
        """
        leases = self._leases
        self._look_at_the_clock()
        if len(leases.period.spent) >= PERIOD_ACCOUNTS_MAX:
            leases.roll()
        if not self._is_short(needs):
            return
        if leases.is_behind:  # every tick asks again
            return
        task = asyncio.create_task(leases.fetch(needs, still=lambda: self._is_short(needs)))
        done, _ = await asyncio.wait({task}, timeout=min(within_s, self._rules.patience_s))
        if done:
            task.result()
        else:
            leases.is_behind = True
            self._under_way = task  # it goes on without this batch; a task that nobody holds may vanish
        self._look_at_the_clock()

    def reserve(self, account: Account, micros: int, version: int, rung: Rung = Rung.FULL) -> Grant:
        """
        Set *micros* aside for a render of a campaign at *version*, or say why not. `ensure` was awaited for it.

        *rung* is how far the registry is degraded; how far budgets are, the grant says itself.
        """
        leases = self._leases
        purse = leases.purses.get(account) or leases.purse(account)
        left, period = purse.left, leases.period
        if left < micros or not self._is_usable:
            return self._uncovered(purse, micros, version, rung)
        purse.left = left - micros
        purse.out += micros
        purse.used += micros
        period.pending += 1
        funding = Funding(registry_version=version, lease=period.label, lease_left_micros=left, rung=rung)
        return Grant(purse, period, micros, True, False, None, funding)

    def note(self, account: Account, micros: int, rung: Rung) -> Grant:
        """Set *micros* aside for a render that no lease pays for, because nobody knows its campaign yet."""
        leases = self._leases
        period = leases.period
        period.pending += 1
        return Grant(leases.purse(account), period, micros, False, False, None, Funding(lease=period.label, rung=rung))

    def is_exhausted(self, account: Account, micros: int) -> bool:
        """Tell whether a render of *micros* would be refused, without setting anything aside."""
        purse = self._leases.purses.get(account)
        return purse is not None and purse.is_dry and purse.left < micros

    def keep(self, grant: Grant, micros: int) -> None:
        """Of what was set aside keep *micros*, which is what the decision commits, and put the rest back."""
        back = grant.micros - micros
        if not back:
            return
        grant.micros = micros
        if grant.is_leased:
            grant.purse.left += back
            grant.purse.out -= back
        elif grant.is_over:
            grant.purse.over -= back

    def settle(self, grants: Iterable[Grant], *, is_appended: bool) -> None:
        """Say of *grants* that their decisions are durable, or that they came to nothing."""
        for grant in grants:
            if grant.is_open:
                if not is_appended:
                    self.keep(grant, 0)
                _spend(grant)

    def doubt(self, grants: Iterable[Grant]) -> None:
        """Say of *grants* that nobody knows whether their decisions are durable: the ledger will be asked."""
        for grant in grants:
            if grant.is_open:
                grant.period.is_doubtful |= grant.micros > 0
                _spend(grant)

    async def run(self) -> None:
        """Keep leases filled and reported until cancelled: all of them every tick, what runs low in between."""
        clock, rules = self._leases.clock, self._rules
        next_tick = clock()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_tick - clock())):
                    await self._wake.wait()
            self._wake.clear()
            if clock() >= next_tick:
                next_tick = clock() + rules.tick_s
                await self.tick()
                continue
            low, self._low = self._low, {}
            await self._leases.refill(low)
            await asyncio.sleep(rules.refill_every_s)

    async def tick(self) -> None:
        """Report what is settled, fill what runs low, give back what is idle."""
        self._low = {}
        await self._leases.tick()

    async def close(self) -> bool:
        """Report everything, give everything back, and leave; answers whether that was possible."""
        leases = self._leases
        for _ in range(_CLOSE_ROUNDS_MAX):
            for purse in leases.purses.values():
                purse.left, purse.pace, purse.used, purse.wanted = 0, 0, 0, 0
            await leases.tick()
            if leases.is_behind or leases.has_pending:
                return False
            if leases.is_reported:
                await leases.leave()
                return True
        return False

    def _look_at_the_clock(self) -> None:
        """Once per batch: a batch is shorter than what makes a difference."""
        self._now = self._leases.clock()
        self._is_usable = self._leases.is_usable

    def _is_short(self, needs: Mapping[Account, int]) -> bool:
        """
        Tell whether the store must be asked now; has it asked soon where a purse runs low.

        Also where no money is needed the store must know this holder, or nobody would look up what it decided.
        """
        purses, rules, now = self._leases.purses, self._rules, self._now
        short = not self._leases.is_usable
        for account, micros in needs.items():
            purse = purses.get(account)
            if purse is None:
                short = True
            elif purse.left < micros:
                purse.wanted = micros if purse.is_dry else 0
                short |= not purse.is_dry or now - purse.asked_at >= rules.tick_s
            elif purse.left - micros < purse.pace * rules.slice_s / 4 and not purse.is_dry:
                self._low[account] = None
                self._wake.set()
        return short

    def _uncovered(self, purse: Purse, micros: int, version: int, rung: Rung) -> Grant:
        """The lease does not reach: there is no money, or nobody can say."""
        leases = self._leases
        period, left = leases.period, purse.left
        reason, aside, is_over = None, micros, False
        if leases.is_behind or not purse.is_dry:
            rung = Rung.STALE_BUDGET
        if purse.is_dry and micros:
            if self._now - purse.asked_at <= self._rules.known_for_s:
                reason, aside = Reason.BUDGET_EXHAUSTED, 0
            else:
                reason = Reason.REGISTRY_BEHIND
        elif purse.over + micros <= purse.allowance and self._is_usable:
            is_over = True
            purse.over += micros
            purse.used += micros
        elif micros:
            reason = Reason.DEGRADED
        period.pending += 1
        funding = Funding(registry_version=version, lease=period.label, lease_left_micros=left, rung=rung)
        return Grant(purse, period, aside, False, is_over, reason, funding)


def _spend(grant: Grant) -> None:
    """Its period reports it, whether it came true or is only feared to."""
    grant.is_open = False
    account, period, micros = grant.purse.account, grant.period, grant.micros
    period.pending -= 1
    if not micros:
        return
    period.spent[account] = period.spent.get(account, 0) + micros
    if not grant.is_leased:
        period.unfunded[account] = period.unfunded.get(account, 0) + micros
        if grant.is_over:
            period.over[account] = period.over.get(account, 0) + micros
