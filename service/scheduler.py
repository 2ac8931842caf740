"""
The scheduler process: enqueues what is due, again and again, and clears away what is old. It decides nothing.

It also follows the ledger, to know what is to be looked at again. Two at once do no harm, none delays: nothing is lost
that PostgreSQL has.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from commands.dead_letters_postgres import PostgresLetters
from commands.dispatch import Dispatcher
from commands.feedback_postgres import PostgresFeedback
from commands.looks_dispatch import LooksDispatcher
from commands.messages import BrokerUnavailable
from commands.reevaluated_postgres import PostgresReevaluated
from commands.reevaluations_postgres import PostgresReevaluations
from ledger.postgres_connection import PostgresConnection
from ledger.store import EventStore, LedgerUnavailable
from service.broker import DramatiqMessages, open_broker
from service.clock import now_ms
from service.following import Following
from service.health import health_app
from service.serving import calm_collector, serve_until_stopped, server_for
from service.settings import Settings

SWEEP_EVERY_S = 0.5
FOLLOW_EVERY_S = 0.5
PUBLISH_EVERY_S = 60.0
REPLAY_EVERY_S = 2.0
TIDY_EVERY_S = 600.0
_DEADLINE_S = 5.0
_PAUSE_S = 2.0

log = structlog.get_logger(__name__)


async def run_scheduler(settings: Settings, store: EventStore, database_url: str, broker_url: str) -> None:
    """
    Schedule until SIGTERM or SIGINT.

    Raises:
        LauncherError: the broker's driver is not installed.
    """
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        connection, following_connection = (PostgresConnection(database_url, _DEADLINE_S) for _ in range(2))
        stack.push_async_callback(connection.close)
        stack.push_async_callback(following_connection.close)
        messages = DramatiqMessages(open_broker(broker_url))
        stack.push_async_callback(messages.close)
        reevaluations = PostgresReevaluations(connection)
        rounds = Rounds(
            Dispatcher(
                feedback=PostgresFeedback(connection),
                letters=PostgresLetters(connection),
                reevaluations=reevaluations,
                messages=messages,
                clock=now_ms,
            ),
            LooksDispatcher(
                noted=reevaluations, found=PostgresReevaluated(connection), messages=messages, clock=now_ms
            ),
            Following(settings, store, following_connection, registry),
            registry,
        )
        server = server_for(health_app(registry, rounds.unready), settings.host, settings.scheduler_port)
        tasks = [asyncio.create_task(rounds.go(*duty)) for duty in rounds.duties()]
        calm_collector()
        await serve_until_stopped(server)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Rounds:
    """Every duty of a scheduler, each at its own pace; what fails is tried again."""

    def __init__(
        self, dispatcher: Dispatcher, looks: LooksDispatcher, following: Following, registry: CollectorRegistry
    ) -> None:
        self._dispatcher = dispatcher
        self._looks = looks
        self._following = following
        self._enqueued = Counter(
            "impledger_scheduler_enqueued", "Pieces of work enqueued", ("queue",), registry=registry
        )
        self._failures = Counter("impledger_scheduler_failures", "Rounds that failed", ("duty",), registry=registry)
        self._swept_at = Gauge(
            "impledger_scheduler_swept_timestamp_seconds", "When what is due was last enqueued", registry=registry
        )
        self._why: str | None = "nothing was swept yet"

    def duties(self) -> list[tuple[float, str, Callable[[], Awaitable[None]]]]:
        return [
            (SWEEP_EVERY_S, "sweep", self._sweep),
            (SWEEP_EVERY_S, "sweep_reevaluations", self._sweep_reevaluations),
            (FOLLOW_EVERY_S, "follow", self._following.follow),
            (PUBLISH_EVERY_S, "publish", self._following.publish),
            (REPLAY_EVERY_S, "replay", self._replay),
            (TIDY_EVERY_S, "tidy", self._tidy),
        ]

    async def go(self, every_s: float, duty: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work* now and every so many seconds, whatever happens to it."""
        while True:
            try:
                await work()
            except (LedgerUnavailable, BrokerUnavailable) as error:
                self._failed(duty, str(error))
                await asyncio.sleep(_PAUSE_S)
            except Exception:
                self._failed(duty, "see the log")
                log.exception("a duty failed", duty=duty)
                await asyncio.sleep(_PAUSE_S)
            else:
                await asyncio.sleep(every_s)

    async def unready(self) -> str | None:
        return self._why

    async def _sweep(self) -> None:
        swept = await self._dispatcher.sweep()
        self._enqueued.labels("feedback").inc(swept.items)
        self._swept_at.set_to_current_time()
        self._why = None

    async def _sweep_reevaluations(self) -> None:
        swept = await self._looks.sweep()
        self._enqueued.labels("reevaluations").inc(swept.items)

    async def _replay(self) -> None:
        sent = await self._dispatcher.replay()
        if sent:
            log.info("dead letters sent again", letters=sent)

    async def _tidy(self) -> None:
        deleted = await self._dispatcher.tidy() + await self._looks.tidy() + await self._following.tidy()
        if deleted:
            log.info("tidied", deleted=deleted)

    def _failed(self, duty: str, why: str) -> None:
        self._failures.labels(duty).inc()
        if duty == "sweep":
            if self._why != why:
                log.warning("nothing can be enqueued", error=why)
            self._why = why
