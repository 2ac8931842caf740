"""What the gate counts and times, for Prometheus."""

from collections import Counter as Tally
from collections.abc import Sequence
from operator import attrgetter

from prometheus_client import CollectorRegistry, Counter, Histogram

from commands.items import Answer, Item, Ready
from domain.pack import Pack

_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0)


_kind = attrgetter("status", "verdict", "reason")


class GateMetrics:
    """Counters of one gate; increments per batch, not per render."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "impledger_answers", "Renders answered", ("status", "verdict", "reason"), registry=self.registry
        )
        self._received = Counter(
            "impledger_received", "Events by class of lateness", ("lateness",), registry=self.registry
        )
        self._failures = Counter(
            "impledger_request_failures", "Requests answered with an error", ("status",), registry=self.registry
        )
        self._seconds = Histogram(
            "impledger_request_seconds", "Time to answer a request", buckets=_BUCKETS_S, registry=self.registry
        )

    def received(self, items: Sequence[Item]) -> None:
        """Count events by how late they came, in the rule pack's classes; a retry is an event that came again."""
        ages = [item.claim.received_at - item.claim.served_at for item in items if type(item) is Ready]
        for lateness, count in Tally(map(self._pack.lateness_of, ages)).items():
            self._received.labels(lateness).inc(count)

    def answered(self, answers: Sequence[Answer]) -> None:
        for (status, verdict, reason), count in Tally(map(_kind, answers)).items():
            self._answers.labels(status.value, verdict.value if verdict else "", reason.value if reason else "").inc(
                count
            )

    def failed(self, status: int) -> None:
        self._failures.labels(str(status)).inc()

    def took(self, seconds: float) -> None:
        self._seconds.observe(seconds)
