"""The gate's `Activity` port on the counters of `ml/`: rates and rhythm of persons, judged by a rule pack."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from commands.activity import Conduct
from commands.items import Ready
from commands.observing import UNKNOWN
from domain.events import ImpressionDeduped, ImpressionEvent, ImpressionReconciled, ImpressionRendered, ImpressionViewed
from domain.ids import ImpressionId
from domain.rates import RateRules, is_abusive, signals
from ml.counters.counters import BATCH_MAX, Counters
from ml.counters.features import Features
from ml.counters.observer import NO_OTHER_DAY, Observer, OtherDay
from ml.counters.tables import HOUR_MS, Capacities
from ml.features.replayed import is_pending, is_redecision

CLOCKS_APART_MAX_MS = 60_000
"""Commits of several workers stand in the order of the ledger, not of their clocks; they are this close."""


class CountedActivity(Collector):
    """
    Judges each render by what counters know of its person. They count what *rules* read, and the tables *more*, which
    models read. Belongs to one task.

    After a restart commits are recalled first, in the ledger's order; what the counters say is then right for windows
    that begin after the first of them, and marked as cold for others.
    """

    def __init__(
        self,
        rules: RateRules,
        watched_since: int,
        capacities: Capacities | None = None,
        more: Collection[str] = (),
    ) -> None:
        self._tables = _tables(rules).union(more)
        self._counters = Counters(capacities or Capacities(), watched_since, kept=self._tables)
        self._observer = Observer(self._counters)
        self._rules = rules
        self._recalled: list[ImpressionRendered] = []
        self._causes: set[int] = set()
        self._pending: dict[ImpressionId, list[ImpressionRendered]] = {}
        self._is_watching = False
        self._features: Features | None = None

    def take_memory(self) -> None:
        """Take the memory of full counters, so that no render waits for it."""
        self._counters.take_memory()

    def take_features(self) -> Features | None:
        """Return, once, what counters said at the last look, by place; None if they did not."""
        found, self._features = self._features, None
        return found

    def look(self, renders: Sequence[Ready]) -> Mapping[int, Conduct]:
        """Return what stands out, by place in *renders*, and where not enough was watched to know."""
        self._flush()
        others = [_day_before(item) for item in renders] if any(item.alias for item in renders) else ()
        looked = self._observer.look([item.claim for item in renders], others)
        self._features = looked.features
        found: dict[int, Conduct] = dict.fromkeys(looked.cold(), UNKNOWN)
        for place in looked.outstanding(self._rules):
            activity = looked.activity(place)
            rungs = UNKNOWN.rungs if place in found else ()
            conduct = Conduct(is_abusive(activity, self._rules), signals(activity, self._rules), rungs)
            if conduct.abusive or conduct.signals:
                found[place] = conduct
        return found

    def count(self, claims: Sequence[ImpressionRendered]) -> None:
        """Count renders that are durable now, each once: a spool may bring again what was recalled."""
        self._flush()
        causes = self._causes
        self._observer.keep([claim for claim in claims if claim.cause.int not in causes] if causes else claims)

    def is_cold(self, now: int) -> bool:
        """Tell whether a render of *now* (epoch ms) would meet counters that have not watched a whole hour."""
        return now - self._counters.watched_since < HOUR_MS

    def recall_whole(self) -> None:
        """What will be recalled is all that there is: nothing was before it. Harmless once recalling has begun."""
        if self._is_watching:
            return
        self._counters.watch_from(0)
        self._is_watching = True

    def recall(self, impression: ImpressionId, events: Sequence[ImpressionEvent]) -> None:
        """
        Count what one commit of the ledger holds; everything is recalled before the first look.

        What was decided without the ledger counts when it is decided again, as in a replay.
        """
        if not self._is_watching:
            self._watch(events)
        renders = [event for event in events if isinstance(event, ImpressionRendered)]
        if is_pending(events):
            self._pending[impression] = renders
            return
        if impression in self._pending and is_redecision(events):
            renders = [*self._pending.pop(impression), *renders]
        self._recalled += [claim for claim in renders if claim.cause.int not in self._causes]
        self._causes.update(claim.cause.int for claim in renders)
        if len(self._recalled) >= BATCH_MAX:
            self._flush()

    def _watch(self, events: Sequence[ImpressionEvent]) -> None:
        """Nothing that happened after the first commit was recorded before it, but for the clocks of others."""
        for event in events:
            if isinstance(event, ImpressionDeduped | ImpressionViewed | ImpressionReconciled):
                self._counters.watch_from(event.decided_at + CLOCKS_APART_MAX_MS)
                self._is_watching = True
                return

    def _flush(self) -> None:
        self._is_watching = True
        if self._recalled:
            recalled, self._recalled = self._recalled, []
            self._observer.keep(recalled)

    def collect(self) -> Iterator[Metric]:
        """Yield how full the counters are, for Prometheus."""
        rows = GaugeMetricFamily("impledger_counter_rows", "Keys that the counters know", labels=["table"])
        evicted = CounterMetricFamily("impledger_counter_evicted", "Keys that full counters forgot", labels=["table"])
        for table, use in self._counters.use().items():
            if table in self._tables:
                rows.add_metric([table], use.rows)
                evicted.add_metric([table], use.evicted)
        yield rows
        yield evicted


def _tables(rules: RateRules) -> set[str]:
    """Return the tables that *rules* read."""
    shared = {"devices"} if rules.device is not None else set()
    if rules.network is not None:
        shared |= {"networks", "network_devices"}
    return {"people", *shared}


def _day_before(item: Ready) -> OtherDay:
    """Return what the person of *item* was called the day before; devices beside a user and networks are not known."""
    if not item.alias:
        return NO_OTHER_DAY
    return OtherDay(user=item.alias) if item.claim.user else OtherDay(device=item.alias)
