"""Opens the inspections of what models decide; what they need is loaded at their first look."""

from collections.abc import Awaitable, Callable

from ledger.postgres_connection import PostgresConnection
from ledger.store import EventStore
from ml.monitors.checks import DECISION_CHECKS, LABEL_CHECKS, SKEW_CHECKS
from service.clock import now_ms
from service.monitoring import Inspection, Later
from service.settings import Settings

DECISIONS_EVERY_MIN_S = 15
"""A look at an hour of decisions takes half a second of CPU."""
REPLAYED_PER_SAMPLE = 4
"""A replay reads so many times the commits of a look at decisions: most windows reach back behind the first ones."""


def model_inspections(
    store: EventStore,
    position_at: Callable[[int], Awaitable[int]],
    registry: PostgresConnection,
    settings: Settings,
) -> list[Inspection]:
    """Return the inspections of decisions, labels and skew: those in *store*, whose models *registry* has."""
    often_s, seldom_s = max(DECISIONS_EVERY_MIN_S, settings.monitor_every_s), settings.monitor_slow_every_s

    def decisions() -> Inspection:
        from service.monitors_model import DecisionInspection, sources  # noqa: PLC0415 (a second, 100 MB)

        return DecisionInspection(
            sources(store, position_at, registry),
            every_s=often_s,
            window_s=settings.monitor_window_s,
            sample=settings.monitor_sample,
        )

    def labels() -> Inspection:
        from service.monitors_model import LabelInspection, sources  # noqa: PLC0415

        return LabelInspection(sources(store, position_at, registry), every_s=seldom_s)

    def skew() -> Inspection:
        from service.monitors_skew import SkewInspection  # noqa: PLC0415 (numba: a second more)

        sample = REPLAYED_PER_SAMPLE * settings.monitor_sample
        return SkewInspection(store, now_ms, every_s=seldom_s, sample=sample)

    return [
        Later("decisions", DECISION_CHECKS, often_s, decisions),
        Later("labels", LABEL_CHECKS, seldom_s, labels),
        Later("skew", SKEW_CHECKS, seldom_s, skew),
    ]
