"""
From findings to alarms that do not flap: one starts when it was found in two looks running, and ends after three looks
that give no reason to keep it. A version of which too little is seen gives none.
"""

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from ml.monitors.checks import Check, Finding

START_AFTER = 2
END_AFTER = 3

Cell: TypeAlias = tuple[Check, str, str]
"""Check, surface, SDK."""


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

    def look(self, findings: Sequence[Finding], at: int) -> Changes:
        """Take in the findings of one look at *at* (epoch ms); return what started and ended by it."""
        seen = {(finding.check, finding.surface, finding.sdk): finding for finding in findings}
        self._found = {cell: self._found.get(cell, 0) + 1 for cell, finding in seen.items() if finding.found}
        started = [
            Alarm(at, seen[cell])
            for cell, looks in self._found.items()
            if looks >= self._start_after and cell not in self._standing
        ]
        ended = []
        for cell, alarm in list(self._standing.items()):
            finding = seen.get(cell)
            if finding is not None and finding.lasting:
                self._standing[cell] = Alarm(alarm.since, finding)
                self._quiet.pop(cell, None)
                continue
            self._quiet[cell] = self._quiet.get(cell, 0) + 1
            if self._quiet[cell] >= self._end_after:
                ended.append(self._standing.pop(cell))
                del self._quiet[cell]
        for alarm in started:
            finding = alarm.finding
            self._standing[finding.check, finding.surface, finding.sdk] = alarm
        return Changes(started, ended)
