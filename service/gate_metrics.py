"""What the gate counts and times, for Prometheus."""

from collections import Counter as Tally
from collections.abc import Sequence
from operator import attrgetter

from prometheus_client import CollectorRegistry, Counter, Histogram

from commands.items import Answer

_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 5.0)


_kind = attrgetter("status", "verdict", "reason")


class GateMetrics:
    """Counters of one gate; increments per batch, not per render."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "impledger_answers", "Renders answered", ("status", "verdict", "reason"), registry=self.registry
        )
        self._failures = Counter(
            "impledger_request_failures", "Requests answered with an error", ("status",), registry=self.registry
        )
        self._seconds = Histogram(
            "impledger_request_seconds", "Time to answer a request", buckets=_BUCKETS_S, registry=self.registry
        )

    def answered(self, answers: Sequence[Answer]) -> None:
        for (status, verdict, reason), count in Tally(map(_kind, answers)).items():
            self._answers.labels(status.value, verdict.value if verdict else "", reason.value if reason else "").inc(
                count
            )

    def failed(self, status: int) -> None:
        self._failures.labels(str(status)).inc()

    def took(self, seconds: float) -> None:
        self._seconds.observe(seconds)
