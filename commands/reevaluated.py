"""What looking again found: one row per impression, the last one; a report, of which nothing follows by itself."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from domain.ids import ImpressionId
from domain.reasons import Reason, Verdict
from domain.reevaluation import Why

KEPT_MS = 93 * 86_400_000
"""As far back as corrections reach."""
LISTED_MAX = 1_000
FORGOTTEN_MAX = 10_000
GROUPS_MAX = 1_000


class Reevaluated(Struct, frozen=True, kw_only=True):
    """
    What *model* would have of an impression: where it stands and where it would stand, at a risk in [0, 1].

    `known_at` is up to when what came later was known, `looked_at` when it was looked at (epoch ms); `version` is how
    many events its stream had. `changes`: the two differ; `allowed`: a correction by a model would be taken. `micros`
    of `currency` would be billed more. `pair` carries a reason of class sivt, `masked_risk` corroborates it.
    """

    impression: ImpressionId
    version: int
    known_at: int
    looked_at: int
    why: Why
    model: str
    risk: float
    from_verdict: Verdict
    from_reason: Reason | None
    to_verdict: Verdict
    to_reason: Reason | None
    changes: bool
    allowed: bool
    pair: tuple[str, ...] = ()
    masked_risk: float | None = None
    micros: int
    currency: str
    campaign: str
    event_at: int


class Wanted(Struct, frozen=True, kw_only=True):
    """
    Which rows, those looked at last first: looked at from *since* (epoch ms) on. *after* is the last one seen.

    Raises:
        ValueError: `limit` is not in 1 to LISTED_MAX.
    """

    since: int = 0
    why: Why | None = None
    changes_only: bool = False
    campaign: str = ""
    after: tuple[int, ImpressionId] | None = None
    limit: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= LISTED_MAX:
            raise ValueError(f"limit {self.limit} is not in 1 to {LISTED_MAX}")


class Group(Struct, frozen=True, kw_only=True):
    """So many *impressions* went the same way; together they would be billed *micros* more."""

    why: Why
    from_verdict: Verdict
    from_reason: Reason | None
    to_verdict: Verdict
    to_reason: Reason | None
    changes: bool
    allowed: bool
    currency: str
    impressions: int
    micros: int


class ReevaluatedStore(Protocol):
    """Everything is durable when a call returns. Calls raise `LedgerUnavailable` if the store does not answer."""

    async def put(self, rows: Sequence[Reevaluated]) -> None:
        """Keep *rows*, of different impressions, but where one that knew as much or more is there."""

    async def find(self, impression: ImpressionId) -> Reevaluated | None: ...

    async def page(self, wanted: Wanted) -> list[Reevaluated]: ...

    async def groups(self, since: int) -> list[Group]:
        """Add up what was looked at from *since* (epoch ms) on, in order; GROUPS_MAX groups at most."""

    async def forget(self, now: int) -> int:
        """Delete what was looked at `KEPT_MS` before *now*; say how many, at most FORGOTTEN_MAX."""


class MemoryReevaluated:
    """A `ReevaluatedStore` in memory, for tests and simulation."""

    def __init__(self) -> None:
        self.rows: dict[ImpressionId, Reevaluated] = {}

    async def put(self, rows: Sequence[Reevaluated]) -> None:
        for row in rows:
            known = self.rows.get(row.impression)
            if known is None or (known.version, known.known_at) < (row.version, row.known_at):
                self.rows[row.impression] = row

    async def find(self, impression: ImpressionId) -> Reevaluated | None:
        return self.rows.get(impression)

    async def page(self, wanted: Wanted) -> list[Reevaluated]:
        found = [row for row in self.rows.values() if _is_wanted(row, wanted)]
        return sorted(found, key=_place, reverse=True)[: wanted.limit]

    async def groups(self, since: int) -> list[Group]:
        found: dict[tuple[object, ...], Group] = {}
        for row in self.rows.values():
            if row.looked_at >= since:
                group = _group_of(row)
                known = found.get(_key(group), replace(group, impressions=0, micros=0))
                sums = {"impressions": known.impressions + 1, "micros": known.micros + row.micros}
                found[_key(group)] = replace(known, **sums)
        return [found[key] for key in sorted(found, key=str)][:GROUPS_MAX]

    async def forget(self, now: int) -> int:
        old = [one for one, row in self.rows.items() if row.looked_at + KEPT_MS <= now][:FORGOTTEN_MAX]
        for one in old:
            del self.rows[one]
        return len(old)


def _place(row: Reevaluated) -> tuple[int, ImpressionId]:
    return row.looked_at, row.impression


def _is_wanted(row: Reevaluated, wanted: Wanted) -> bool:
    return (
        row.looked_at >= wanted.since
        and wanted.why in {None, row.why}
        and (row.changes or not wanted.changes_only)
        and wanted.campaign in {"", row.campaign}
        and (wanted.after is None or _place(row) < wanted.after)
    )


def _group_of(row: Reevaluated) -> Group:
    return Group(
        why=row.why,
        from_verdict=row.from_verdict,
        from_reason=row.from_reason,
        to_verdict=row.to_verdict,
        to_reason=row.to_reason,
        changes=row.changes,
        allowed=row.allowed,
        currency=row.currency,
        impressions=1,
        micros=row.micros,
    )


def _key(group: Group) -> tuple[object, ...]:
    reasons = group.from_reason or "", group.to_reason or ""
    return group.why, group.from_verdict, reasons[0], group.to_verdict, reasons[1], group.allowed, group.currency
