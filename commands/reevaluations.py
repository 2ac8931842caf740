"""
Which impressions are to be looked at again, why and when: what is due stands here until it was done.

A row is one reason for one impression. A message about it may be lost or come twice; the row is what counts.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from domain.ids import ImpressionId
from domain.reevaluation import Look, Why
from ledger.following import Followed, Page

KEPT_MS = 93 * 86_400_000
"""What nobody could look at until no correction reaches it any more is forgotten."""
DUE_MAX = 10_000
COUNTED_MAX = 100_000
"""More than this is told as this."""


class Reevaluation(Struct, frozen=True):
    impression: ImpressionId
    why: Why
    due_at: int


class Noted(Struct, frozen=True, kw_only=True):
    """
    One row as it was read. `notes`: how often it was noted; a later note is not done with an earlier one.

    `wanted_at` is when it was due first (epoch ms), `tries` how often in a row it failed.
    """

    impression: ImpressionId
    why: Why
    wanted_at: int
    notes: int
    tries: int = 0


class Postponed(Struct, frozen=True):
    """The row is to be looked at again at *due_at* (epoch ms); it failed if there is an *error*."""

    noted: Noted
    due_at: int
    error: str = ""


class Backlog(Struct, frozen=True, kw_only=True):
    """What was due for *why* and is not done: how many (COUNTED_MAX at most), how many failed, since when."""

    why: Why
    due: int
    failing: int
    oldest_at: int


class Reevaluations(Protocol):
    """Everything is durable when a call returns. Calls raise `LedgerUnavailable` if the store does not answer."""

    async def note(self, impressions: Sequence[ImpressionId], why: Why, due_at: int, now: int) -> None:
        """Have *impressions* looked at again at *due_at* (epoch ms), or before, if they were due before."""

    async def followed(self) -> Followed:
        """Return up to where in the ledger impressions have been chosen."""

    async def choose(self, page: Page, looks: Sequence[tuple[ImpressionId, Look]], now: int) -> bool:
        """Note *looks*, all that *page* gives cause for, at once with its end; False if it does not begin there."""

    async def due(self, now: int, limit: int) -> list[Reevaluation]:
        """Return up to *limit* of what is due, the longest due first."""

    async def claim(self, now: int, again_at: int, limit: int) -> list[ImpressionId]:
        """Make up to *limit* rows that are due be due *again_at*; return their impressions, once each."""

    async def noted(self, impressions: Sequence[ImpressionId], now: int) -> list[Noted]:
        """Return what is noted of *impressions* and has been due since *now* or before, claimed or not."""

    async def done(self, rows: Sequence[Noted]) -> int:
        """Delete *rows*, but those noted again since they were read; say how many."""

    async def postpone(self, rows: Sequence[Postponed]) -> None:
        """Make *rows* due later, but those noted again since they were read."""

    async def backlog(self, now: int) -> list[Backlog]:
        """Say what is due, by reason; reasons without any are left out."""

    async def waiting(self, why: Why) -> int:
        """Return how many are noted for *why*, COUNTED_MAX at most; quick for `finalise`."""

    async def forget(self, now: int) -> int:
        """Delete what was noted `KEPT_MS` before *now*; say how many, at most DUE_MAX."""


class _Row(Struct, frozen=True, kw_only=True):
    """`wanted_at` is when it was due first; `due_at` when it is looked at next."""

    wanted_at: int
    due_at: int
    noted_at: int
    notes: int = 1
    tries: int = 0
    error: str = ""


class MemoryReevaluations:
    """`Reevaluations` in memory, for tests and simulation."""

    def __init__(self) -> None:
        self.rows: dict[tuple[ImpressionId, Why], _Row] = {}
        self._followed = Followed()

    async def note(self, impressions: Sequence[ImpressionId], why: Why, due_at: int, now: int) -> None:
        for impression in dict.fromkeys(impressions):
            self._note(impression, Look(why, due_at), now)

    async def followed(self) -> Followed:
        return self._followed

    async def choose(self, page: Page, looks: Sequence[tuple[ImpressionId, Look]], now: int) -> bool:
        if page.after != self._followed.position:
            return False
        self._followed = Followed(page.through, max(page.at, self._followed.at))
        for impression, look in looks:
            self._note(impression, look, now)
        return True

    async def due(self, now: int, limit: int) -> list[Reevaluation]:
        return [Reevaluation(*key, self.rows[key].due_at) for key in self._due(now)[: min(limit, DUE_MAX)]]

    async def claim(self, now: int, again_at: int, limit: int) -> list[ImpressionId]:
        keys = self._due(now)[: min(limit, DUE_MAX)]
        for key in keys:
            self.rows[key] = replace(self.rows[key], due_at=again_at)
        return list(dict.fromkeys(impression for impression, _ in keys))

    async def noted(self, impressions: Sequence[ImpressionId], now: int) -> list[Noted]:
        wanted = set(impressions)
        return [
            Noted(impression=key[0], why=key[1], wanted_at=row.wanted_at, notes=row.notes, tries=row.tries)
            for key, row in self.rows.items()
            if key[0] in wanted and row.wanted_at <= now
        ]

    async def done(self, rows: Sequence[Noted]) -> int:
        same = [row for row in rows if self._is_same(row)]
        for row in same:
            del self.rows[row.impression, row.why]
        return len(same)

    async def postpone(self, rows: Sequence[Postponed]) -> None:
        for row in rows:
            if self._is_same(row.noted):
                key = row.noted.impression, row.noted.why
                tries = self.rows[key].tries + 1 if row.error else 0
                self.rows[key] = replace(self.rows[key], due_at=row.due_at, error=row.error, tries=tries)

    async def backlog(self, now: int) -> list[Backlog]:
        found: dict[Why, list[_Row]] = {}
        for (_, why), row in self.rows.items():
            if row.wanted_at <= now:
                found.setdefault(why, []).append(row)
        return [
            Backlog(
                why=why,
                due=min(len(rows), COUNTED_MAX),
                failing=sum(bool(row.error) for row in rows),
                oldest_at=min(row.wanted_at for row in rows),
            )
            for why, rows in sorted(found.items())
        ]

    async def waiting(self, why: Why) -> int:
        return min(sum(one is why for _, one in self.rows), COUNTED_MAX)

    async def forget(self, now: int) -> int:
        old = [key for key, row in self.rows.items() if row.noted_at + KEPT_MS <= now][:DUE_MAX]
        for key in old:
            del self.rows[key]
        return len(old)

    def _note(self, impression: ImpressionId, look: Look, now: int) -> None:
        key, due_at = (impression, look.why), look.due_at
        known = self.rows.get(key)
        if known is None:
            self.rows[key] = _Row(wanted_at=due_at, due_at=due_at, noted_at=now)
            return
        self.rows[key] = replace(
            known,
            wanted_at=min(known.wanted_at, due_at),
            due_at=min(known.due_at, due_at),
            notes=known.notes + 1,
        )

    def _due(self, now: int) -> list[tuple[ImpressionId, Why]]:
        found = [(row.due_at, *key) for key, row in self.rows.items() if row.due_at <= now]
        return [(impression, why) for _, impression, why in sorted(found)]

    def _is_same(self, row: Noted) -> bool:
        known = self.rows.get((row.impression, row.why))
        return known is not None and known.notes == row.notes
