"""Budget leases on PostgreSQL: one function call per exchange; the row of a whole campaign orders all that touch it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from commands.budget_store import BOUNDS_MAX, Account, Bound, Corrected, Exchange, Granted, Holder, State, Void
from ledger.postgres_arrays import TextArray
from ledger.postgres_connection import PostgresConnection

_TOMBSTONE_MS = 86_400_000
_EXCHANGE = """
select * from budget_exchange(
    %s, %s, %s, %s, %s, %s, %s, %s, %s::integer[], %s::integer[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
"""
_LEAVE = """
update budget_holders h set is_void = true, is_buried = true, booked_through = after where holder = %s
    and not exists (select from budget_holdings where holder = h.holder) returning holder
"""
_HOLDER = "holder, seq, reported, after, booked_through, is_void, is_buried"
_FORGET = f"""
delete from budget_holders
where is_buried and expires_at <= extract(epoch from clock_timestamp()) * 1000 - {_TOMBSTONE_MS} returning holder
"""  # noqa: S608 (a constant of our own)
_DUE = f"""
select {_HOLDER} from budget_holders
where not is_buried and expires_at <= extract(epoch from clock_timestamp()) * 1000 order by holder limit %s
"""  # noqa: S608
_BURY = "select budget_bury(%s, %s, %s, %s, %s, %s::integer[], %s::bigint[])"
_CORRECT = "select budget_correct(%s, %s, %s, %s::bigint[])"
_CORRECTED = "select position, (select min(after) from budget_holders where not is_buried) from budget_corrections"
_BOUNDS = """
select a.campaign, a.limit_micros, a.spent_micros, coalesce(h.micros, 0)::bigint, coalesce(h.stale, 0)::bigint
from budget_accounts a
left join lateral (
    select sum(micros) as micros, sum(stale_micros) as stale from budget_holdings where campaign = a.campaign
) h on true
where a.day = 0 and a.campaign = any(%s) order by a.campaign
"""
# One statement, one snapshot.
_STATE = """
select 'account', campaign, day::bigint, spent_micros, 0::bigint, 0::bigint, false, false from budget_accounts
union all
select 'holder', holder, seq, reported, after, booked_through, is_void, is_buried from budget_holders
union all
select 'corrected', '', position, 0, 0, 0, false, false from budget_corrections
"""
_MEND = "select budget_mend(%s, %s::integer[], %s::bigint[])"


class PostgresBudgets:
    """A `BudgetStore`. The database's clock is the clock of leases."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def exchange(self, asked: Exchange) -> dict[Account, Granted]:
        lines = asked.lines
        arguments = [
            *(asked.holder, asked.seq, asked.reported, asked.after, asked.ttl_ms, asked.orphan, asked.orphan_after),
            TextArray.of([line.campaign for line in lines]),
            _numbers(line.day for line in lines),
            _numbers(line.version for line in lines),
            _numbers(line.limit_micros for line in lines),
            _numbers(line.daily_limit_micros for line in lines),
            _numbers(line.spent for line in lines),
            _numbers(line.keep for line in lines),
            _numbers(line.need for line in lines),
            _numbers(line.ahead for line in lines),
            _numbers(line.stale for line in lines),
        ]
        rows = await self._connection.fetch(_EXCHANGE, arguments)
        if rows and rows[0][0] == "void":
            raise Void
        return {
            (campaign, day): Granted(micros, free) for status, campaign, day, micros, free in rows if status == "ok"
        }

    async def leave(self, holder: str) -> None:
        await self._connection.fetch(_LEAVE, [holder])

    async def due(self, limit: int) -> list[Holder]:
        await self._connection.fetch(_FORGET, [])
        return [_holder(row) for row in await self._connection.fetch(_DUE, [limit])]

    async def bury(self, holder: Holder, spent: Mapping[Account, int], through: int) -> bool:
        [[done]] = await self._connection.fetch(
            _BURY,
            [
                holder.name,
                holder.seq,
                holder.booked_through,
                through,
                TextArray.of([campaign for campaign, _ in spent]),
                _numbers(day for _, day in spent),
                _numbers(spent.values()),
            ],
        )
        return bool(done)

    async def corrected(self) -> Corrected:
        [[through, may_through]] = await self._connection.fetch(_CORRECTED, [])
        return Corrected(through, may_through)

    async def book(self, after: int, through: int, spent: Mapping[str, int]) -> bool:
        arguments = [after, through, TextArray.of(list(spent)), _numbers(spent.values())]
        [[done]] = await self._connection.fetch(_CORRECT, arguments)
        return bool(done)

    async def bounds(self, campaigns: Sequence[str]) -> list[Bound]:
        if len(campaigns) > BOUNDS_MAX:
            raise ValueError(f"more than {BOUNDS_MAX} campaigns")
        rows = await self._connection.fetch(_BOUNDS, [TextArray.of(campaigns)])
        return [
            Bound(campaign=campaign, limit_micros=limit, spent_micros=spent, held_micros=held, stale_micros=stale)
            for campaign, limit, spent, held, stale in rows
        ]

    async def state(self) -> State:
        spent: dict[Account, int] = {}
        holders: list[Holder] = []
        corrected_through = 0
        for kind, *row in await self._connection.fetch(_STATE, []):
            match kind:
                case "account":
                    spent[row[0], row[1]] = row[2]
                case "holder":
                    holders.append(_holder(row))
                case _:
                    corrected_through = row[1]
        return State(spent=spent, holders=holders, corrected_through=corrected_through)

    async def mend(self, changes: Mapping[Account, int]) -> None:
        if changes:
            campaigns = TextArray.of([campaign for campaign, _ in changes])
            arguments = [campaigns, _numbers(day for _, day in changes), _numbers(changes.values())]
            await self._connection.fetch(_MEND, arguments)


def _numbers(values: Iterable[int | None]) -> str:
    """As an array's text: what a driver makes of a list of numbers depends on the largest of them."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def _holder(row: Sequence[Any]) -> Holder:
    name, seq, reported, after, booked_through, is_void, is_buried = row
    return Holder(
        name=name,
        seq=seq,
        reported=reported,
        after=after,
        booked_through=booked_through,
        is_void=is_void,
        is_buried=is_buried,
    )
