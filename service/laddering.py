"""The degradation ladder of one gate: what it watches and waits for, what it tells of itself."""

import time
from collections.abc import Callable, Iterator

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from commands.activity import Activity
from commands.countdown import Busyness, Countdown
from commands.ladder import SHED_RATE, TICK_S, Ladder
from commands.observing import GuardedActivity
from commands.scoring import Scoring, ScoringActivity, Shedding
from domain.pack import Pack
from domain.vocabulary import Rung
from service.campaigning import Work

log = structlog.get_logger()


class GateLadder(Collector):
    """Everything about the ladder in one gate. Belongs to one event loop."""

    def __init__(self) -> None:
        self.ladder = Ladder(time.monotonic)
        self._busyness = Busyness(time.monotonic, time.process_time)
        self.countdown = Countdown(time.monotonic, is_busy=self._busyness.is_busy)
        self._guarded: GuardedActivity | None = None
        self._shedding: Shedding | None = None
        self._scored: ScoringActivity | None = None
        self._oldest_s: Callable[[], float] = lambda: 0.0
        self._wait_max_s = float("inf")
        self._told: tuple[Rung, ...] = ()

    def over(self, activity: Activity, scoring: Scoring, pack: Pack) -> tuple[ScoringActivity, ScoringActivity]:
        """
        Return *activity*, whose renders are scored by *scoring*, for what is decided now, and for what is decided
        again, which nothing hurries.
        """
        self._guarded = GuardedActivity(activity, self.ladder)
        self._shedding = Shedding(self.ladder, pack)
        self._scored = ScoringActivity(self._guarded, scoring, self.ladder, self._shedding)
        return self._scored, ScoringActivity(self._guarded, scoring, self.ladder)

    def waited(self, seconds: float) -> None:
        """Say how long the oldest render of a batch waited, which is decided next."""
        self.countdown.waited(seconds)
        self.ladder.waited(seconds, self._wait_max_s)

    def watch_queue(self, oldest_s: Callable[[], float], wait_max_s: float) -> None:
        """
        *oldest_s* tells how long the oldest render waits, of at most *wait_max_s* until it is not admitted.

        It is asked now and then, so that a gate recovers to which nobody comes any more.
        """
        self._oldest_s, self._wait_max_s = oldest_s, wait_max_s

    def works(self) -> list[Work]:
        """Return what must be done again and again beside serving."""
        return [(TICK_S, self.tick)]

    async def tick(self) -> None:
        """Look at what is watched, and tell of what has changed."""
        ladder = self.ladder
        self._busyness.tick()
        if (oldest_s := self._oldest_s()) == 0.0:
            ladder.waited(oldest_s, self._wait_max_s)
        ladder.tick()
        for drill in ladder.take_ended():
            log.warning("drill ended", rung=drill.rung.value)
        if (in_force := ladder.in_force) != self._told:
            rungs = [rung.value for rung in in_force]
            log.warning("rungs in force", rungs=rungs, shed_rate=SHED_RATE if ladder.is_shedding else 0.0)
            self._told = in_force

    def collect(self) -> Iterator[Metric]:
        """Yield which rungs are in force and how much was decided on each, for Prometheus."""
        ladder = self.ladder
        in_force, drilled, changes = set(ladder.in_force), {drill.rung for drill in ladder.drills}, ladder.changes
        force = GaugeMetricFamily("impledger_rung", "1 while the rung is in force", labels=["rung"])
        drills = GaugeMetricFamily("impledger_rung_drilled", "1 while the rung is drilled", labels=["rung"])
        changed = CounterMetricFamily("impledger_rung_changes", "Times a rung came or went by itself", labels=["rung"])
        decided = CounterMetricFamily(
            "impledger_decisions_by_rung", "Decisions that name the rung, as the worst or beside it", labels=["rung"]
        )
        for rung, count in ladder.decisions.items():
            force.add_metric([rung.value], float(rung in in_force))
            drills.add_metric([rung.value], float(rung in drilled))
            changed.add_metric([rung.value], changes.get(rung, 0))
            decided.add_metric([rung.value], count)
        yield from (force, drills, changed, decided)
        yield GaugeMetricFamily(
            "impledger_shed_rate",
            "Share of renders without a reason against them whose scoring is skipped now",
            value=SHED_RATE if ladder.is_shedding else 0.0,
        )
        if self._guarded is not None and self._shedding is not None and self._scored is not None:
            yield CounterMetricFamily("impledger_shed", "Renders whose scoring was skipped", value=self._shedding.shed)
            yield CounterMetricFamily(
                "impledger_counter_failures", "Times counters failed or took too long", value=self._guarded.failed
            )
            yield CounterMetricFamily(
                "impledger_scoring_failures", "Batches that could not be scored", value=self._scored.failed
            )
