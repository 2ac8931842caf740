"""Looks at the desk's tables every so often, keeps alarms, and tells them to Prometheus and the log."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from ml.monitors.alarms import Alarm, Alarms
from ml.monitors.checks import FALSE_DISCOVERY_RATE, Check, Finding, Series, judge
from projections.cells import CellQueries, Cells, NumbersMinute, ServedMinute
from projections.errors import ProjectionError
from projections.queries import Fresh

CELLS_MAX = 200
"""Of each check, the SDK versions with most to look at; clients may name as many as they like."""
UNREPORTED_MAX = 0.01
"""Where more of a surface's renders than this share have no serve under their SDK, the two sides cannot be compared."""
_UNLIKE = "delivery and clients do not name the same SDK versions, or reports are missing"
_CELL = ("check", "surface", "sdk")

log = structlog.get_logger(__name__)


class Look(Fresh, frozen=True, kw_only=True):
    """One look at the last `window_s` seconds, taken `at` (epoch ms)."""

    at: int
    window_s: int
    false_discovery_rate: float
    findings: list[Finding]
    alarms: list[Alarm]


class Watch:
    """Takes a look every *every_s* seconds at the last *window_s*. *now* tells the time in epoch ms."""

    def __init__(
        self, cells: CellQueries, registry: CollectorRegistry, now: Callable[[], int], *, every_s: int, window_s: int
    ) -> None:
        self._cells = cells
        self._now = now
        self._every_s = every_s
        self._window_s = window_s
        self._alarms = Alarms()
        self._share = Gauge("impledger_monitor_share", "Share of hits", _CELL, registry=registry)
        self._excess = Gauge("impledger_monitor_excess", "Share over that elsewhere", _CELL, registry=registry)
        self._alarm = Gauge("impledger_monitor_alarm", "1 while an alarm stands", _CELL, registry=registry)
        self._looks = Counter("impledger_monitor_looks", "Looks by how they ended", ("how",), registry=registry)
        self.last: Look | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Look until *stop*, through every failure: what the desk is asked does not depend on it."""
        while not await _stopped(stop, self._every_s):
            try:
                await self.look()
            except ProjectionError as error:
                self._looks.labels("failed").inc()
                log.warning("monitors wait", error=type(error).__name__, why=str(error)[:500])
            except Exception:
                self._looks.labels("failed").inc()
                log.exception("monitors failed")

    async def look(self) -> Look:
        """
        Take a look and return it.

        Raises:
            ProjectionError: the tables did not answer; alarms stay as they are.
        """
        cells = await self._cells.cells(self._window_s * 1_000)
        findings = await asyncio.to_thread(findings_of, cells, self._now() - self._window_s * 1_000)
        at = self._now()
        changes = self._alarms.look(findings, at)
        look = Look(
            at=at,
            known_through=cells.known_through,
            lag_s=cells.lag_s,
            window_s=self._window_s,
            false_discovery_rate=FALSE_DISCOVERY_RATE,
            findings=findings,
            alarms=self._alarms.standing,
        )
        self._show(look)
        for alarm in changes.started:
            log.warning("alarm started", **_told(alarm.finding))
        for alarm in changes.ended:
            log.info("alarm ended", **_told(alarm.finding), since=alarm.since)
        self.last = look
        return look

    def _show(self, look: Look) -> None:
        for gauge in (self._share, self._excess, self._alarm):
            gauge.clear()
        for finding in look.findings:
            if finding.excess is not None:
                self._share.labels(*_cell(finding)).set(finding.share)
                self._excess.labels(*_cell(finding)).set(finding.excess)
        for alarm in look.alarms:
            self._alarm.labels(*_cell(alarm.finding)).set(1)
        self._looks.labels("done").inc()


async def _stopped(stop: asyncio.Event, within_s: float) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), within_s)
    except TimeoutError:
        return False
    return True


def findings_of(cells: Cells, since: int) -> list[Finding]:
    """Return what stands out in *cells*; what needs no waiting is looked at from *since* (epoch ms) on."""
    recent = [minute for minute in cells.served if minute.at >= since]
    over = [minute for minute in cells.served if minute.over]
    unlike = _unlike(over)
    lost = _series(Check.LOST, over, lambda one: (max(0, one.served - one.heard), one.served))
    series = [
        *(one for one in lost if one.surface not in unlike),
        *_series(Check.DOUBLE_FIRES, recent, lambda one: (one.double_fires, one.heard)),
        *_series(
            Check.DUPLICATE_RENDERS,
            recent,
            lambda one: (one.duplicate_renders, one.heard + one.duplicate_renders),
        ),
        *_numbers(cells.numbers),
    ]
    return [*judge(series), *(_untested(one) for one in lost if one.surface in unlike)]


def _unlike(minutes: Iterable[ServedMinute]) -> set[str]:
    """The surfaces on which served and heard of cannot be put beside each other by SDK."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for minute in minutes:
        sums[minute.surface, minute.sdk][0] += minute.served
        sums[minute.surface, minute.sdk][1] += minute.heard
    served: dict[str, int] = defaultdict(int)
    unreported: dict[str, int] = defaultdict(int)
    for (surface, _), (was_served, was_heard) in sums.items():
        served[surface] += was_served
        unreported[surface] += max(0, was_heard - was_served)
    return {surface for surface, number in unreported.items() if number > UNREPORTED_MAX * served[surface]}


def _series(
    check: Check, minutes: Iterable[ServedMinute], counts: Callable[[ServedMinute], tuple[int, int]]
) -> list[Series]:
    return _largest(check, [((one.surface, one.sdk), counts(one)) for one in minutes])


def _numbers(minutes: Iterable[NumbersMinute]) -> list[Series]:
    counts = [((one.surface, one.sdk), (max(0, one.missing), one.numbers)) for one in minutes]
    return _largest(Check.MISSING_NUMBERS, counts)


def _largest(check: Check, counts: Sequence[tuple[tuple[str, str], tuple[int, int]]]) -> list[Series]:
    cells: dict[tuple[str, str], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for cell, (hits, trials) in counts:
        if trials > 0:
            cells[cell][0].append(min(hits, trials))
            cells[cell][1].append(trials)
    series = [Series(check, *cell, hits, trials) for cell, (hits, trials) in cells.items()]
    return sorted(series, key=lambda one: -sum(one.trials))[:CELLS_MAX]


def _untested(one: Series) -> Finding:
    hits, trials = sum(one.hits), sum(one.trials)
    return Finding(
        check=one.check,
        surface=one.surface,
        sdk=one.sdk,
        hits=hits,
        trials=trials,
        share=hits / trials,
        untested=_UNLIKE,
    )


def _cell(finding: Finding) -> tuple[str, str, str]:
    return finding.check.value, finding.surface, finding.sdk


def _told(finding: Finding) -> dict[str, object]:
    return {
        "check": finding.check.value,
        "surface": finding.surface,
        "sdk": finding.sdk,
        "hits": finding.hits,
        "trials": finding.trials,
        "share": round(finding.share, 5),
        "rest_share": None if finding.rest_share is None else round(finding.rest_share, 5),
        "q_value": finding.q_value,
    }
