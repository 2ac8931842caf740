"""The gate's `Activity` port on the counters of `ml/`: rates and rhythm of persons, judged by a rule pack."""

from collections.abc import Mapping, Sequence

from commands.activity import Conduct
from domain.events import ImpressionDeduped, ImpressionEvent, ImpressionReconciled, ImpressionRendered, ImpressionViewed
from domain.ids import ImpressionId
from domain.rates import RateRules, is_abusive, signals
from ml.counters.counters import BATCH_MAX, Counters
from ml.counters.observer import Observer, OtherDay

CLOCKS_APART_MAX_MS = 60_000
"""Commits of several workers stand in the order of the ledger, not of their clocks; they are this close."""


class CountedActivity:
    """
    Judges each render by what *counters* know of its person. Belongs to one task.

    After a restart commits are recalled first, in the ledger's order; what the counters say is then right for windows
    that begin after the first of them, and marked as cold for others.
    """

    def __init__(self, counters: Counters, rules: RateRules) -> None:
        self._counters = counters
        self._observer = Observer(counters)
        self._rules = rules
        self._recalled: list[ImpressionRendered] = []
        self._is_watching = False

    def look(self, claims: Sequence[ImpressionRendered], others: Sequence[OtherDay] = ()) -> Mapping[int, Conduct]:
        """Return what stands out, by place in *claims*; *others* are their pseudonyms of the day before, if any."""
        self._flush()
        looked = self._observer.look(claims, others)
        found: dict[int, Conduct] = {}
        for place in looked.outstanding(self._rules):
            activity = looked.activity(place)
            conduct = Conduct(is_abusive(activity, self._rules), signals(activity, self._rules))
            if conduct.abusive or conduct.signals:
                found[place] = conduct
        return found

    def count(self, claims: Sequence[ImpressionRendered]) -> None:
        """Count renders that are durable now, each once."""
        self._flush()
        self._observer.keep(claims)

    def recall(self, impression: ImpressionId, events: Sequence[ImpressionEvent]) -> None:  # noqa: ARG002 (the port)
        """Count what one commit of the ledger holds; everything is recalled before the first look."""
        if not self._is_watching:
            self._watch(events)
        self._recalled += [event for event in events if isinstance(event, ImpressionRendered)]
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
