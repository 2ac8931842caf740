"""Which impressions are to be scored again, why and when; whatever scores them reads this table."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from domain.ids import ImpressionId
from ledger.postgres_arrays import UuidArray
from ledger.postgres_connection import PostgresConnection

KEPT_MS = 93 * 86_400_000
"""What nobody scored until no correction reaches it any more is forgotten."""
DUE_MAX = 10_000
_NOTE = """
insert into reevaluations (impression, why, due_at, noted_at)
select distinct i, %(why)s::text, %(due_at)s::bigint, %(now)s::bigint from unnest(%(impressions)s) as v(i) order by i
on conflict (impression, why) do update set due_at = least(reevaluations.due_at, excluded.due_at) returning impression
"""
_DUE = "select impression, why, due_at from reevaluations where due_at <= %s order by due_at, impression, why limit %s"
_FORGET = f"""
delete from reevaluations where (impression, why) in (
    select impression, why from reevaluations where noted_at <= %s limit {DUE_MAX} for update skip locked
) returning impression
"""  # noqa: S608 (made of a constant)


class Why(StrEnum):
    LABEL = "label"
    """A label came."""


class Reevaluation(Struct, frozen=True):
    impression: ImpressionId
    why: Why
    due_at: int


class Reevaluations(Protocol):
    """Everything is durable when a call returns. Calls raise `LedgerUnavailable` if the store does not answer."""

    async def note(self, impressions: Sequence[ImpressionId], why: Why, due_at: int, now: int) -> None:
        """Have *impressions* scored again at *due_at* (epoch ms); what is noted already stays due when it was."""

    async def due(self, now: int, limit: int) -> list[Reevaluation]:
        """Return up to *limit* of what is due, the longest due first."""

    async def forget(self, now: int) -> int:
        """Delete what was noted `KEPT_MS` before *now*; say how many, at most DUE_MAX."""


class MemoryReevaluations:
    """`Reevaluations` in memory, for tests and simulation."""

    def __init__(self) -> None:
        self._noted: dict[tuple[ImpressionId, Why], tuple[int, int]] = {}

    async def note(self, impressions: Sequence[ImpressionId], why: Why, due_at: int, now: int) -> None:
        for impression in impressions:
            before, noted_at = self._noted.get((impression, why), (due_at, now))
            self._noted[impression, why] = min(before, due_at), noted_at

    async def due(self, now: int, limit: int) -> list[Reevaluation]:
        found = [(due_at, *key) for key, (due_at, _) in self._noted.items() if due_at <= now]
        return [Reevaluation(impression, why, due_at) for due_at, impression, why in sorted(found)[:limit]]

    async def forget(self, now: int) -> int:
        old = [key for key, (_, noted_at) in self._noted.items() if noted_at + KEPT_MS <= now][:DUE_MAX]
        for key in old:
            del self._noted[key]
        return len(old)


class PostgresReevaluations:
    """`Reevaluations` on PostgreSQL."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def note(self, impressions: Sequence[ImpressionId], why: Why, due_at: int, now: int) -> None:
        if impressions:
            arguments = {"impressions": UuidArray.of(impressions), "why": why.value, "due_at": due_at, "now": now}
            await self._connection.fetch(_NOTE, arguments)

    async def due(self, now: int, limit: int) -> list[Reevaluation]:
        rows = await self._connection.fetch(_DUE, [now, min(limit, DUE_MAX)])
        return [Reevaluation(impression, Why(why), due_at) for impression, why, due_at in rows]

    async def forget(self, now: int) -> int:
        return len(await self._connection.fetch(_FORGET, [now - KEPT_MS]))
