"""What waits in quarantine, and what became of replays, for Prometheus."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from commands.quarantine_entries import EntryCode

CODES = tuple(code.value for code in EntryCode)
_OTHER = "other"


class QuarantineMetrics:
    """The labels are closed lists: a code that is none of ours counts as `other`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waiting = Gauge(
            "impledger_quarantine_waiting", "Bodies that wait in quarantine", ("code",), registry=registry
        )
        self._replays = Counter(
            "impledger_quarantine_replays", "Attempts to replay a body", ("outcome",), registry=registry
        )
        self.waits({})

    def waits(self, by_code: Mapping[str, int]) -> None:
        for code in CODES:
            self._waiting.labels(code).set(by_code.get(code, 0))
        self._waiting.labels(_OTHER).set(sum(count for code, count in by_code.items() if code not in CODES))

    def replayed(self, outcome: str) -> None:
        """Count an attempt; *outcome* is the state after it, or the name of the error that it ended in."""
        self._replays.labels(outcome).inc()
