"""Follows the folder of lists while the gate runs, and tells how old the lists in force are."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ml.lists.folder import read_folder, signature
from ml.lists.live import DAY_MS, LiveLists
from ml.lists.packaged import packaged, packaged_date_ms
from ml.lists.readers import ListsRefused
from ml.lists.screen_lists import Lists
from service.lists_open import keep_version
from service.settings import Settings

LISTS_POLL_S = 10.0

log = structlog.get_logger()


class ListsWatch(Collector):
    """
    Swaps new lists of the folder in, refuses broken ones, and is a collector of Prometheus.

    `poll` belongs to the thread that asks the lists; `clock` gives epoch ms.
    """

    def __init__(self, lists: LiveLists, settings: Settings, clock: Callable[[], int]) -> None:
        self._lists = lists
        self._settings = settings
        self._folder = Path(settings.lists_dir) if settings.lists_dir else None
        self._clock = clock
        self._settled: object = None
        self._settling: object = None
        self._refused = ""
        self._told_stale_ms = 0

    async def poll(self) -> None:
        """Look once. A change is read when two looks in a row find the same, so that no half-written file is."""
        if self._folder is None:
            return
        self._tell_if_stale()
        try:
            found = signature(self._folder)
        except ListsRefused as refused:
            self._refuse(refused)
            self._settled = self._settling = None
            return
        if found == self._settled:
            return
        if found != self._settling:
            self._settling = found
            return
        try:
            await self._refresh(self._folder)
        except ListsRefused as refused:
            self._refuse(refused)
        self._settled = found

    async def _refresh(self, folder: Path) -> None:
        """Read and compile away from the loop, then swap between two questions."""
        in_force = self._lists.lists.sources
        new = await asyncio.to_thread(read_folder, folder, packaged(), in_force=in_force)
        refreshed_ms = new.refreshed_ms or packaged_date_ms()
        compiled = self._lists.lists
        if new.sources.version != in_force.version:
            compiled = await asyncio.to_thread(Lists, new.sources)
            log.info("lists changed", version=compiled.version, before=in_force.version)
        await asyncio.to_thread(keep_version, self._settings, new.sources, refreshed_ms)
        self._lists.swap(compiled, refreshed_ms)
        self._refused = ""

    def _refuse(self, refused: ListsRefused) -> None:
        if str(refused) != self._refused:
            self._refused = str(refused)
            version = self._lists.version
            log.error("lists refused", file=refused.file, line=refused.line, reason=refused.reason, in_force=version)

    def _tell_if_stale(self) -> None:
        now = self._clock()
        if self._lists.stale(now) and now - self._told_stale_ms >= DAY_MS:
            self._told_stale_ms = now
            log.warning("lists are stale", version=self._lists.version, age_days=round(self._lists.age_days(now), 1))

    def collect(self) -> Iterator[Metric]:
        now = self._clock()
        gauges = (
            ("impledger_lists_age_days", "Days since the lists in force were known to be current", self._age(now)),
            (
                "impledger_lists_stale",
                "1 if lists that are kept up to date are over 7 days old",
                self._lists.stale(now),
            ),
            ("impledger_lists_refused", "1 if the folder holds lists that cannot be used", bool(self._refused)),
        )
        for name, text, value in gauges:
            yield GaugeMetricFamily(name, text, value=float(value))
        info = GaugeMetricFamily("impledger_lists_info", "The lists in force", labels=("version",))
        info.add_metric((self._lists.version,), 1.0)
        yield info

    def _age(self, now: int) -> float:
        return round(self._lists.age_days(now), 3)
