"""Budget leases in memory: the reference model, for tests, simulation and a gate without PostgreSQL."""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from commands.budget_store import BOUNDS_MAX, Account, Bound, Corrected, Exchange, Granted, Holder, Line, State, Void

TOMBSTONE_MS = 86_400_000
_AHEAD_SHARE = 8


class _Row(Struct):
    limit: int | None = None
    version: int = -1
    spent: int = 0


class _Held(Struct):
    micros: int
    stale: int


class MemoryBudgets:
    """A `BudgetStore`. `clock` gives ms and is the clock of leases."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._rows: dict[Account, _Row] = {}
        self._held: dict[tuple[str, int, str], _Held] = {}
        self._holders: dict[str, Holder] = {}
        self._expires_at: dict[str, int] = {}
        self._corrected_through = 0

    async def exchange(self, asked: Exchange) -> dict[Account, Granted]:
        known = self._holders.get(asked.holder) or Holder(name=asked.holder, seq=0, reported=0, after=asked.after)
        if known.is_void:
            self._look_again(known, asked.ttl_ms)
            raise Void
        if asked.seq <= known.seq:
            return {}
        is_news = asked.reported > known.reported
        self._put(replace(known, seq=asked.seq, reported=asked.reported, after=asked.after), asked.ttl_ms)
        for line in asked.lines:
            self._limit(line)
        if is_news and asked.orphan:
            self._adopt(asked)
        for line in asked.lines:
            if is_news and not asked.orphan:
                self._book(line.campaign, line.day, line.spent)
            self._held[line.campaign, line.day, asked.holder] = _Held(line.keep, line.stale)
        granted = self._grant(asked)
        for line in asked.lines:
            key = (line.campaign, line.day, asked.holder)
            if self._held[key] == _Held(0, 0):
                del self._held[key]
        return granted

    async def leave(self, holder: str) -> None:
        known = self._holders.get(holder)
        if known is not None and not any(name == holder for _, _, name in self._held):
            self._holders[holder] = replace(known, is_void=True, is_buried=True, booked_through=known.after)

    async def due(self, limit: int) -> list[Holder]:
        now = self._clock()
        for name, holder in list(self._holders.items()):
            if holder.is_buried and self._expires_at[name] <= now - TOMBSTONE_MS:
                del self._holders[name], self._expires_at[name]
        return [
            holder
            for name, holder in sorted(self._holders.items())
            if not holder.is_buried and self._expires_at[name] <= now
        ][:limit]

    async def bury(self, holder: Holder, spent: Mapping[Account, int], through: int) -> bool:
        if self._holders.get(holder.name) != holder or self._expires_at[holder.name] > self._clock():
            return False
        for (campaign, day), micros in spent.items():
            self._book(campaign, day, micros)
        for key in [key for key in self._held if key[2] == holder.name]:
            del self._held[key]
        if "." in holder.name:
            del self._holders[holder.name], self._expires_at[holder.name]
        else:
            self._holders[holder.name] = replace(holder, is_void=True, is_buried=True, booked_through=through)
        return True

    async def corrected(self) -> Corrected:
        after = [holder.after for holder in self._holders.values() if not holder.is_buried]
        return Corrected(self._corrected_through, min(after, default=None))

    async def book(self, after: int, through: int, spent: Mapping[str, int]) -> bool:
        if self._corrected_through != after:
            return False
        self._corrected_through = through
        for campaign, micros in spent.items():
            self._book(campaign, 0, micros)
        return True

    async def bounds(self, campaigns: Sequence[str]) -> list[Bound]:
        if len(campaigns) > BOUNDS_MAX:
            raise ValueError(f"more than {BOUNDS_MAX} campaigns")
        return [self._bound(one) for one in sorted(set(campaigns)) if (one, 0) in self._rows]

    async def state(self) -> State:
        return State(
            spent={account: row.spent for account, row in self._rows.items()},
            holders=list(self._holders.values()),
            corrected_through=self._corrected_through,
        )

    async def mend(self, changes: Mapping[Account, int]) -> None:
        for account, micros in changes.items():
            self._rows.setdefault(account, _Row()).spent += micros

    def _put(self, holder: Holder, ttl_ms: int) -> None:
        self._holders[holder.name] = holder
        self._expires_at[holder.name] = self._clock() + ttl_ms

    def _look_again(self, known: Holder, ttl_ms: int) -> None:
        """It lived on after its burial: what it spent since is looked for once more."""
        if known.is_buried:
            self._put(replace(known, is_buried=False, after=known.booked_through), ttl_ms)

    def _limit(self, line: Line) -> None:
        limits = {0: line.limit_micros, line.day: line.daily_limit_micros} if line.day else {0: line.limit_micros}
        for day, limit in limits.items():
            row = self._rows.setdefault((line.campaign, day), _Row())
            if row.version < line.version:
                row.limit, row.version = limit, line.version

    def _adopt(self, asked: Exchange) -> None:
        """The period's spend is held under its own name until the ledger is asked."""
        self._put(Holder(name=asked.orphan, seq=0, reported=0, after=asked.orphan_after), asked.ttl_ms)
        for line in asked.lines:
            if line.spent:
                self._held[line.campaign, line.day, asked.orphan] = _Held(line.spent, 0)

    def _book(self, campaign: str, day: int, micros: int) -> None:
        for one in {0, day}:
            self._rows.setdefault((campaign, one), _Row()).spent += micros

    def _grant(self, asked: Exchange) -> dict[Account, Granted]:
        granted: dict[Account, Granted] = {}
        wished: dict[str, int] = {}
        lines = sorted(asked.lines, key=lambda line: (line.campaign, line.day))
        free_before = [self._free(line.campaign, line.day) for line in lines]
        for line, (of_whole, of_day) in zip(lines, free_before, strict=True):
            if line.need + line.ahead + line.keep <= 0:
                continue
            free = min(of_whole - wished.get(line.campaign, 0), of_whole if of_day is None else of_day)
            wished[line.campaign] = wished.get(line.campaign, 0) + line.need + line.ahead
            need = min(line.need, max(free, 0))
            left = free - need
            micros = need + (min(line.ahead, left // _AHEAD_SHARE) if left >= line.ahead else 0)
            self._held[line.campaign, line.day, asked.holder].micros += micros
            granted[line.campaign, line.day] = Granted(micros, free - micros)
        return granted

    def _free(self, campaign: str, day: int) -> tuple[int, int | None]:
        """What is free of the campaign as a whole, and of the day if that has a limit of its own."""
        whole = self._rows[campaign, 0]
        free = (whole.limit or 0) - whole.spent - self._in_leases(campaign)
        of_day = self._rows.get((campaign, day)) if day else None
        if of_day is None or of_day.limit is None:
            return free, None
        return free, of_day.limit - of_day.spent - self._in_leases(campaign, day)

    def _in_leases(self, campaign: str, day: int | None = None) -> int:
        return sum(held.micros for (one, on, _), held in self._held.items() if one == campaign and day in {None, on})

    def _bound(self, campaign: str) -> Bound:
        row = self._rows[campaign, 0]
        stale = sum(held.stale for (one, _, _), held in self._held.items() if one == campaign)
        return Bound(
            campaign=campaign,
            limit_micros=row.limit,
            spent_micros=row.spent,
            held_micros=self._in_leases(campaign),
            stale_micros=stale,
        )
