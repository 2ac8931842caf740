"""
The work process: takes messages off the broker and does what they say, until it is told to stop.

Dramatiq's threads fetch, heartbeat and acknowledge; the work itself runs in this process's one event loop, to which the
stores belong. Start as many of these processes as there is work for.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

import structlog
from dramatiq import Worker
from prometheus_client import CollectorRegistry

from commands.dead_letters_postgres import PostgresLetters
from commands.feedback_postgres import PostgresFeedback
from commands.labelling import FeedbackActor, Labeller
from commands.messages import FEEDBACK_QUEUE, BrokerUnavailable, Message
from commands.reevaluated_postgres import PostgresReevaluated
from commands.reevaluating import Reevaluator
from commands.reevaluations_postgres import PostgresReevaluations
from domain.ids import ImpressionId
from domain.reevaluation import Why
from ledger.postgres_connection import PostgresConnection
from ledger.store import EventStore, LedgerUnavailable
from ml.context.look import Surroundings
from ml.context.postgres import PostgresLater
from ml.registry.postgres import PostgresModels
from service.actors import WorkMetrics, declare
from service.broker import DramatiqMessages, open_broker
from service.clock import now_ms
from service.health import health_app
from service.later_models import LaterModels
from service.second_look import SecondLook
from service.serving import calm_collector, serve_until_stopped, server_for
from service.settings import Settings

THREADS = 2
"""Messages at once: while one waits for PostgreSQL the other is worked on."""
_DEADLINE_S = 5.0
_BURY_TRIES = 5
_BURY_PAUSE_S = 1.0
_STOP_WITHIN_MS = 6_000

log = structlog.get_logger(__name__)


async def run_work(settings: Settings, store: EventStore, database_url: str, broker_url: str) -> None:
    """
    Work until SIGTERM or SIGINT; messages that are being worked on are finished first.

    Raises:
        LauncherError: the broker's driver is not installed.
    """
    loop, registry = asyncio.get_running_loop(), CollectorRegistry()
    metrics = WorkMetrics(registry)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        connection, letters_connection, looks_connection = (
            PostgresConnection(database_url, _DEADLINE_S) for _ in range(3)
        )
        for one in (connection, letters_connection, looks_connection):
            stack.push_async_callback(one.close)
        undertaking = _Undertaking(PostgresLetters(letters_connection), metrics)
        run = _runner(loop)
        broker = open_broker(broker_url, lambda message, error: run(undertaking.bury(message, error)))
        messages = DramatiqMessages(broker)
        stack.push_async_callback(messages.close)
        labeller = Labeller(
            ledger=store,
            feedback=PostgresFeedback(connection),
            touched=_touched(PostgresReevaluations(connection)),
            clock=now_ms,
        )
        looker = _Looker(store, looks_connection, metrics)
        declare(broker, run, FeedbackActor(labeller, messages, metrics.labelled), looker, metrics)
        worker = Worker(broker, worker_threads=THREADS)
        worker.start()

        async def unready() -> str | None:
            try:
                await store.head()
                await messages.depth(FEEDBACK_QUEUE)
            except (LedgerUnavailable, BrokerUnavailable) as error:
                return str(error)
            return None

        calm_collector()
        await serve_until_stopped(server_for(health_app(registry, unready), settings.host, settings.work_port))
        await asyncio.to_thread(worker.stop, _STOP_WITHIN_MS)


class _Looker:
    """What a worker does with a message about impressions to look at again."""

    def __init__(self, store: EventStore, connection: PostgresConnection, metrics: WorkMetrics) -> None:
        self._models = LaterModels(store, PostgresModels(connection), now_ms)
        self._reevaluator = Reevaluator(
            ledger=store,
            noted=PostgresReevaluations(connection),
            found=PostgresReevaluated(connection),
            reviewer=SecondLook(self._models, Surroundings(PostgresLater(connection)), now_ms),
            clock=now_ms,
        )
        self._metrics = metrics
        self._has_model = True

    async def __call__(self, impressions: Sequence[ImpressionId]) -> None:
        looked = await self._reevaluator.look(impressions)
        self._metrics.looked(looked)
        for impression, why in looked.failing.items():
            log.error("an impression cannot be looked at again", impression=str(impression), error=why)
        has_model = not looked.without_model
        if self._has_model and not has_model:
            log.warning("nothing is looked at again: there is no model of stage s3", refused=self._models.refused)
        self._has_model = has_model


class _Undertaking:
    """Keeps dead letters, patiently; what cannot be kept is logged, and its work is due again by itself."""

    def __init__(self, letters: PostgresLetters, metrics: WorkMetrics) -> None:
        self._letters = letters
        self._metrics = metrics

    async def bury(self, message: Message, error: str) -> None:
        is_kept, why = False, "there are too many already"
        for _ in range(_BURY_TRIES):
            try:
                is_kept = await self._letters.bury(message, error, now_ms())
                break
            except LedgerUnavailable as unavailable:
                why = str(unavailable)
                await asyncio.sleep(_BURY_PAUSE_S)
        self._metrics.buried(is_kept=is_kept)
        if is_kept:
            log.error("a message died", actor=message.actor, error=error.strip().rpartition("\n")[2])
        else:
            log.error("a message died and is not kept", actor=message.actor, error=error, why=why)


def _touched(
    reevaluations: PostgresReevaluations,
) -> Callable[[Sequence[ImpressionId], int], Coroutine[Any, Any, None]]:
    """Return what has impressions scored again at once when they got a label."""

    async def touched(impressions: Sequence[ImpressionId], now: int) -> None:
        await reevaluations.note(impressions, Why.LABEL, now, now)

    return touched


def _runner(loop: asyncio.AbstractEventLoop) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Return what runs a coroutine in *loop* for another thread."""
    owner = threading.current_thread()

    def run(work: Coroutine[Any, Any, None]) -> None:
        assert threading.current_thread() is not owner, "the loop would wait for itself"
        asyncio.run_coroutine_threadsafe(work, loop).result()

    return run
