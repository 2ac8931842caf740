"""Looks at what can be seen every so often, keeps alarms, and tells them to Prometheus and the log."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from ledger.store import LedgerError
from ml.monitors.alarms import Alarm, Alarms, cell_of
from ml.monitors.checks import Check, Finding, Measured, judge
from ml.monitors.storms import gathered
from projections.errors import ProjectionError
from projections.queries import Fresh

_CELL = ("check", "surface", "subject")

log = structlog.get_logger(__name__)


class Seen(Fresh, frozen=True, kw_only=True):
    """What one inspection measured; `says` what it looked at, or why there was nothing to."""

    measured: list[Measured]
    says: str = ""


class Inspection(Protocol):
    """Measures series of some checks, which no other inspection measures."""

    @property
    def name(self) -> str: ...

    @property
    def checks(self) -> frozenset[Check]: ...

    @property
    def every_s(self) -> int: ...

    async def measure(self) -> Seen:
        """
        Measure everything once.

        Raises:
            ProjectionError, LedgerError: what it looks at did not answer.
        """


class Later:
    """An inspection that *opened* makes at its first look: what it loads takes a second and 100 MB."""

    def __init__(self, name: str, checks: frozenset[Check], every_s: int, opened: Callable[[], Inspection]) -> None:
        self.name = name
        self.checks = checks
        self.every_s = every_s
        self._open = opened
        self._opened: Inspection | None = None

    async def measure(self) -> Seen:
        """See `Inspection.measure`."""
        if self._opened is None:
            self._opened = await asyncio.to_thread(self._open)
        return await self._opened.measure()


class Look(Fresh, frozen=True, kw_only=True):
    """The last look of one inspection, taken `at` (epoch ms)."""

    inspection: str
    at: int
    every_s: int
    says: str
    findings: list[Finding]


class Watch:
    """Takes looks by *inspections*, each at its own pace. *now* tells the time in epoch ms."""

    def __init__(self, inspections: Sequence[Inspection], registry: CollectorRegistry, now: Callable[[], int]) -> None:
        self._inspections = tuple(inspections)
        self._now = now
        self._alarms = Alarms()
        self._looks_by_name: dict[str, Look] = {}
        self._value = Gauge("impledger_monitor_value", "What a monitor measured", _CELL, registry=registry)
        self._excess = Gauge("impledger_monitor_excess", "How far over what is expected", _CELL, registry=registry)
        self._alarm = Gauge("impledger_monitor_alarm", "1 while an alarm stands", _CELL, registry=registry)
        self._ended = Counter(
            "impledger_monitor_looks", "Looks by how they ended", ("inspection", "how"), registry=registry
        )

    @property
    def looks(self) -> list[Look]:
        """The last look of each inspection that took one."""
        return [self._looks_by_name[one.name] for one in self._inspections if one.name in self._looks_by_name]

    @property
    def alarms(self) -> list[Alarm]:
        """The alarms that stand, the oldest first."""
        return self._alarms.standing

    async def run(self, stop: asyncio.Event) -> None:
        """Look until *stop*, through every failure: what the desk is asked does not depend on it."""
        await asyncio.gather(*(self._run(one, stop) for one in self._inspections))

    async def look(self) -> list[Look]:
        """
        Let every inspection take a look now.

        Raises:
            ProjectionError, LedgerError: one had no answer; its alarms stay as they are.
        """
        return [await self._look(one) for one in self._inspections]

    async def _run(self, inspection: Inspection, stop: asyncio.Event) -> None:
        while not await _stopped(stop, inspection.every_s):
            try:
                await self._look(inspection)
            except (ProjectionError, LedgerError) as error:
                self._ended.labels(inspection.name, "failed").inc()
                why = str(error)[:500]
                log.warning("monitors wait", inspection=inspection.name, error=type(error).__name__, why=why)
            except Exception:
                self._ended.labels(inspection.name, "failed").inc()
                log.exception("monitors failed", inspection=inspection.name)

    async def _look(self, inspection: Inspection) -> Look:
        seen = await inspection.measure()
        findings = gathered(await asyncio.to_thread(judge, seen.measured))
        at = self._now()
        changes = self._alarms.look(findings, at, inspection.checks)
        look = Look(
            inspection=inspection.name,
            at=at,
            every_s=inspection.every_s,
            known_through=seen.known_through,
            lag_s=seen.lag_s,
            says=seen.says,
            findings=findings,
        )
        self._looks_by_name[inspection.name] = look
        self._show()
        self._ended.labels(inspection.name, "done").inc()
        for alarm in changes.started:
            log.warning("alarm started", **_told(alarm.finding))
        for alarm in changes.ended:
            log.info("alarm ended", **_told(alarm.finding), since=alarm.since)
        return look

    def _show(self) -> None:
        for gauge in (self._value, self._excess, self._alarm):
            gauge.clear()
        for look in self.looks:
            for finding in look.findings:
                if finding.excess is not None and _is_shown(finding):
                    self._value.labels(*cell_of(finding)).set(finding.value)
                    self._excess.labels(*cell_of(finding)).set(finding.excess)
        for alarm in self.alarms:
            self._alarm.labels(*cell_of(alarm.finding)).set(1)


async def _stopped(stop: asyncio.Event, within_s: float) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), within_s)
    except TimeoutError:
        return False
    return True


def _is_shown(finding: Finding) -> bool:
    """Of SDK versions times features there are thousands; Prometheus gets those that may matter."""
    return finding.check is not Check.CLIENT_UNIT or finding.lasting


def _told(finding: Finding) -> dict[str, object]:
    return {
        "check": finding.check.value,
        "surface": finding.surface,
        "subject": finding.subject,
        "trials": finding.trials,
        "value": round(finding.value, 5),
        "expected": None if finding.expected is None else round(finding.expected, 5),
        "q_value": finding.q_value,
        "says": finding.says,
    }
