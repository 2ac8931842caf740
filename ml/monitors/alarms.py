"""
From findings to alarms that do not flap: one starts when it was found in two looks running, and ends after three looks
that give no reason to keep it. A series of which too little is seen gives none.
"""

from collections.abc import Collection, Sequence
from typing import TypeAlias

from msgspec import Struct

from ml.monitors.checks import Check, Finding

START_AFTER = 2
END_AFTER = 3

Cell: TypeAlias = tuple[Check, str, str]
"""Check, surface, subject."""


class Alarm(Struct, frozen=True):
    """Raised `since` (epoch ms); `finding` is that of the last look that gave a reason."""

    since: int
    finding: Finding


class Changes(Struct, frozen=True):
    started: list[Alarm]
    ended: list[Alarm]


class Alarms:
    """What stands at the moment. Keeps only cells that are found or alarmed, so as many as a look has."""

    def __init__(self, start_after: int = START_AFTER, end_after: int = END_AFTER) -> None:
        self._start_after = start_after
        self._end_after = end_after
        self._found: dict[Cell, int] = {}
        self._quiet: dict[Cell, int] = {}
        self._standing: dict[Cell, Alarm] = {}

    @property
    def standing(self) -> list[Alarm]:
        """The alarms that stand, the oldest first."""
        return sorted(self._standing.values(), key=lambda alarm: alarm.since)

    def look(self, findings: Sequence[Finding], at: int, checks: Collection[Check] = tuple(Check)) -> Changes:
        """
        Take in the findings of one look at *at* (epoch ms); return what started and ended by it.

        Only *checks* were looked at; of the others nothing is said, and their alarms stay as they are.
        """
        seen = {cell_of(finding): finding for finding in findings}
        others = {cell: looks for cell, looks in self._found.items() if cell[0] not in checks}
        found = {cell: self._found.get(cell, 0) + 1 for cell, finding in seen.items() if finding.found}
        self._found = others | found
        started = {
            cell: Alarm(at, seen[cell])
            for cell, looks in found.items()
            if looks >= self._start_after and cell not in self._standing
        }
        ended = [self._standing.pop(cell) for cell in self._over(seen, checks)]
        self._standing |= started
        return Changes(list(started.values()), ended)

    def _over(self, seen: dict[Cell, Finding], checks: Collection[Check]) -> list[Cell]:
        """Bring what stands up to date; return the cells that gave no reason for long enough."""
        over = []
        for cell, alarm in self._standing.items():
            finding = seen.get(cell)
            if cell[0] not in checks:
                continue
            if finding is not None and finding.lasting:
                self._standing[cell] = Alarm(alarm.since, finding)
                self._quiet.pop(cell, None)
                continue
            self._quiet[cell] = self._quiet.get(cell, 0) + 1
            if self._quiet[cell] >= self._end_after:
                del self._quiet[cell]
                over.append(cell)
        return over


def cell_of(finding: Finding) -> Cell:
    return finding.check, finding.surface, finding.subject
