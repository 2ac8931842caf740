"""
What keeps budgets true to the ledger: holders that died are buried, corrections are booked, everything can be checked.

Any gate may do it, several at once too: the store takes each step from one of them.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence

import structlog
from msgspec import Struct
from msgspec.structs import replace

from commands.account_days import Calendars
from commands.budget_store import Account, BudgetStore, Holder, State
from commands.ledger_tails import LedgerTails
from commands.registry import Registry
from commands.spend import Spend, belongs_to, spends
from ledger.codec import UnreadableCommit
from ledger.store import Commit, EventStore

DUE_MAX = 100
LATER_MAX = 2_000
_PAGE = 250

log = structlog.get_logger()


class Upkeep:
    """Looks after *budgets*; *registry* knows the time zones of campaigns."""

    def __init__(self, store: EventStore, tails: LedgerTails, budgets: BudgetStore, registry: Registry) -> None:
        self._store = store
        self._tails = tails
        self._budgets = budgets
        self._accounts = _Accounts(registry)

    async def bury(self) -> int:
        """
        Look up in the ledger what holders spent that were not heard of in time, and free the rest; return how many.

        Raises:
            LedgerUnavailable: ledger or store did not answer; nothing is lost by trying again.
        """
        holders = await self._budgets.due(DUE_MAX)
        if not holders:
            return 0
        through = await self._store.head()
        found: dict[str, dict[Account, int]] = {holder.name: {} for holder in holders}
        async for page in _pages(self._store, min(holder.after for holder in holders), through):
            of_holders = [(commit.position, spend) for commit in page for spend in _decisions(commit, holders)]
            accounts = await self._accounts.of([spend for _, spend in of_holders])
            for (position, spend), account in zip(of_holders, accounts, strict=True):
                for holder in holders:
                    if belongs_to(spend.lease, holder) and position > holder.after:
                        sums = found[holder.name]
                        sums[account] = sums.get(account, 0) + spend.micros
        return sum([await self._budgets.bury(holder, found[holder.name], through) for holder in holders])

    async def book_corrections(self) -> int:
        """
        Book what corrections took or gave since the last time; return up to which position.

        A correction counts for the campaign as a whole: what was shown on a day has been shown, and does not make room
        for more of it on that day. It is booked once every gate has reported what it decided before, a tick or two.

        Raises:
            LedgerUnavailable: as above.
        """
        corrected = await self._budgets.corrected()
        after = corrected.through
        while corrected.may_through is None or after < corrected.may_through:
            later = await self._tails.later(after, LATER_MAX, corrected.may_through)
            if later.through <= after:
                break
            changes: Counter[str] = Counter()
            for commit in later.commits:
                try:
                    changes.update(_corrections(spends(commit)))
                except UnreadableCommit as error:  # whoever verifies the budgets finds the difference
                    log.error("a correction is not booked", position=commit.position, error=str(error))  # noqa: TRY400
            if not await self._budgets.book(after, later.through, changes):
                break
            after = later.through
        return after

    async def unbooked(self, after: int) -> dict[str, int]:
        """
        Return by campaign what corrections after position *after* took or gave, up to the ledger's head of now.

        Raises:
            LedgerUnavailable: as above.
        """
        changes: Counter[str] = Counter()
        through = await self._store.head()
        while after < through:
            later = await self._tails.later(after, LATER_MAX, through)
            if later.through <= after:
                break
            for commit in later.commits:
                changes.update(_corrections(_read(commit) or ()))  # what is unreadable is told where it would be booked
            after = later.through
        return changes


class Difference(Struct, frozen=True, kw_only=True):
    """An account that does not hold what the ledger says, in micros."""

    campaign: str
    day: int
    ledger: int
    booked: int


class Checked(Struct, frozen=True, kw_only=True):
    """
    What was compared: accounts, and the ledger up to position `through`.

    What the commits at positions `unreadable` took or gave is not known, and may be what makes differences.
    """

    through: int
    accounts: int
    differences: list[Difference]
    unreadable: list[int]


async def check_budgets(store: EventStore, budgets: BudgetStore, registry: Registry, *, mend: bool = False) -> Checked:
    """
    Compare what is booked with a fold of the ledger, also while gates run; with *mend*, book the differences, unless
    part of the ledger cannot be read.

    Raises:
        LedgerUnavailable: ledger or store did not answer.
    """
    state = await budgets.state()
    through = await store.head()
    known = {holder.name for holder in state.holders}
    began = [holder for holder in (await budgets.state()).holders if holder.name not in known]
    unheard = [replace(holder, reported=0, booked_through=0) for holder in began]
    state = replace(state, holders=[*state.holders, *unheard])  # what they have spent was not booked by then
    accounts = _Accounts(registry)
    found: dict[Account, int] = {}
    unreadable: list[int] = []
    async for page in _pages(store, 0, through):
        read = [(commit.position, _read(commit)) for commit in page]
        unreadable += [position for position, some in read if some is None]
        booked = [spend for position, some in read for spend in some or () if _is_booked(spend, position, state)]
        for spend, account in zip(booked, await accounts.of(booked), strict=True):
            for one in {account, (account[0], 0)}:
                found[one] = found.get(one, 0) + spend.micros
    names = sorted(found.keys() | state.spent.keys())
    differences = [
        Difference(campaign=name[0], day=name[1], ledger=found.get(name, 0), booked=state.spent.get(name, 0))
        for name in names
        if found.get(name, 0) != state.spent.get(name, 0)
    ]
    if mend and not unreadable:
        await budgets.mend({(one.campaign, one.day): one.ledger - one.booked for one in differences})
    return Checked(through=through, accounts=len(names), differences=differences, unreadable=unreadable)


class _Accounts:
    """Which account a spend belongs to. A gate that did not know the campaign did not know its day either."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._calendars = Calendars()

    async def of(self, found: Sequence[Spend]) -> list[Account]:
        """Raises `LedgerUnavailable` if a campaign is to be read and the store does not answer."""
        dated = {spend.campaign for spend in found if spend.registry_version}
        zones: dict[str, str] = {}
        await self._registry.load(self._registry.missing(sorted(dated)))
        for one in dated:
            campaign = self._registry.look(one)
            assert campaign is not None, "a decision knew a campaign that has no stream"
            zones[one] = campaign.time_zone
        return [
            (
                spend.campaign,
                self._calendars.day(zones[spend.campaign], spend.event_at) if spend.registry_version else 0,
            )
            for spend in found
        ]


async def _pages(store: EventStore, after: int, through: int) -> AsyncIterator[list[Commit]]:
    while after < through:
        page = [commit for commit in await store.read_all(after, _PAGE) if commit.position <= through]
        if not page:
            return
        yield page
        after = page[-1].position


def _decisions(commit: Commit, holders: Iterable[Holder]) -> list[Spend]:
    """Bytes are searched before they are read: nearly all commits are of other holders."""
    if not any(holder.name.encode() in commit.data for holder in holders):
        return []
    found = _read(commit)
    if found is None:
        log.error("what a dead holder spent is not known", position=commit.position)
    return [spend for spend in found or () if spend.is_decision]


def _read(commit: Commit) -> Sequence[Spend] | None:
    """Return what *commit* takes; None where it cannot be read, which nothing else waits for."""
    try:
        return spends(commit)
    except UnreadableCommit:
        return None


def _corrections(found: Iterable[Spend]) -> Counter[str]:
    changes: Counter[str] = Counter()
    for spend in found:
        if not spend.is_decision:
            changes[spend.campaign] += spend.micros
    return changes


def _is_booked(spend: Spend, position: int, state: State) -> bool:
    if not spend.is_decision:
        return position <= state.corrected_through
    return not any(belongs_to(spend.lease, holder) and position > holder.booked_through for holder in state.holders)
