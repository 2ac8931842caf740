"""What each message makes a worker do. Actors are declared on a broker that is handed in, never by an import."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any
from uuid import UUID

import dramatiq
import structlog
from dramatiq import Broker
from prometheus_client import CollectorRegistry, Counter

from commands.labelling import Labelled
from commands.messages import APPLY_FEEDBACK, FEEDBACK_QUEUE, REEVALUATE, REEVALUATIONS_QUEUE, BrokerUnavailable
from commands.reevaluating import Looked
from ledger.store import LedgerUnavailable

WITHIN_S = 120.0
"""Longest that one message may take; then it counts as failed."""
AFTER_LABELS = 10
"""Dramatiq's priority, lower first, of looking again: a label never waits behind it."""

log = structlog.get_logger(__name__)

Done = Callable[[Sequence[UUID]], Awaitable[None]]
Run = Callable[[Coroutine[Any, Any, None]], None]
"""Runs a coroutine in the loop that everything belongs to, from any thread, and returns when it is done."""


class WorkMetrics:
    """What a worker has done, for Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._messages = Counter(
            "impledger_work_messages", "Messages processed", ("actor", "outcome"), registry=registry
        )
        self._feedback = Counter(
            "impledger_feedback_processed", "Feedback by what became of it", ("outcome",), registry=registry
        )
        self._buried = Counter(
            "impledger_dead_letters_buried", "Messages that died here", ("is_kept",), registry=registry
        )
        self._looked = Counter(
            "impledger_reevaluated", "Impressions looked at again by what became of it", ("outcome",), registry=registry
        )

    def processed(self, actor: str, outcome: str) -> None:
        self._messages.labels(actor, outcome).inc()

    def labelled(self, done: Labelled) -> None:
        for outcome in ("applied", "parked", "orphaned", "refused"):
            self._feedback.labels(outcome).inc(getattr(done, outcome))
        self._feedback.labels("failing").inc(len(done.failing))

    def looked(self, looked: Looked) -> None:
        for outcome in ("done", "changed", "absent", "early", "without_model"):
            self._looked.labels(outcome).inc(getattr(looked, outcome))
        self._looked.labels("failing").inc(len(looked.failing))

    def buried(self, *, is_kept: bool) -> None:
        self._buried.labels("yes" if is_kept else "no").inc()


def declare(broker: Broker, run: Run, apply_feedback: Done, reevaluate: Done, metrics: WorkMetrics) -> None:
    """Declare all actors on *broker*. Each runs what it is given in the loop behind *run*."""

    @dramatiq.actor(broker=broker, queue_name=FEEDBACK_QUEUE, actor_name=APPLY_FEEDBACK)
    def on_feedback(ids: list[str]) -> None:
        run(_tried(APPLY_FEEDBACK, apply_feedback([UUID(one) for one in ids]), metrics))

    @dramatiq.actor(broker=broker, queue_name=REEVALUATIONS_QUEUE, actor_name=REEVALUATE, priority=AFTER_LABELS)
    def on_reevaluations(impressions: list[str]) -> None:
        run(_tried(REEVALUATE, reevaluate([UUID(one) for one in impressions]), metrics))


async def _tried(actor: str, work: Awaitable[None], metrics: WorkMetrics) -> None:
    """
    Do *work*. Where a store is away the message is done with all the same: the work is due again by itself.

    So an outage leaves no delayed messages, which a broker may strand, and no dead letters, which would be about it.
    """
    try:
        async with asyncio.timeout(WITHIN_S):
            await work
    except (LedgerUnavailable, BrokerUnavailable) as error:
        metrics.processed(actor, "later")
        log.warning("work is left for later", actor=actor, error=str(error))
    except BaseException:
        metrics.processed(actor, "failed")
        raise
    else:
        metrics.processed(actor, "done")
