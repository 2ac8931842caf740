"""Everything of feedback that lives in a gate: its endpoints, the dead letters', and what both add up to."""

from collections.abc import Iterator, Mapping

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.routing import Route

from commands.dead_letters import LetterState
from commands.dead_letters_postgres import PostgresLetters
from commands.feedback import FeedbackInbox
from commands.feedback_postgres import PostgresFeedback
from commands.feedback_store import FeedbackBooks, FeedbackState
from domain.pack import Pack
from ledger.postgres_connection import PostgresConnection
from service.access import Access
from service.campaigning import Work
from service.clock import now_ms
from service.dead_letters_http import DeadLettersHttp
from service.feedback_http import FeedbackHttp
from service.settings import Settings

COUNT_EVERY_S = 10.0
_DEADLINE_S = 5.0

log = structlog.get_logger(__name__)


class FeedbackIntake(Collector):
    """Has connections of its own: what it asks holds up no decision. Belongs to one event loop."""

    def __init__(self, settings: Settings, pack: Pack, database_url: str, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._connection = PostgresConnection(database_url, _DEADLINE_S)
        self._operators = PostgresConnection(database_url, _DEADLINE_S)
        self._registry = registry
        self._inbox = FeedbackInbox(
            PostgresFeedback(self._connection),
            token_age_max_ms=pack.token_age_max_ms,
            clock_ahead_max_ms=pack.clock_ahead_max_ms,
            pending_max=settings.feedback_pending_max,
            clock=now_ms,
        )
        self._store, self._letters = PostgresFeedback(self._operators), PostgresLetters(self._operators)
        self._books: FeedbackBooks | None = None
        self._dead: Mapping[LetterState, int] = {}
        registry.register(self)

    def routes(self, access: Access) -> list[Route]:
        http = FeedbackHttp(self._inbox, self._store, access, self._registry, self._settings.body_max_bytes)
        return [*http.routes(), *DeadLettersHttp(self._letters, access).routes()]

    def works(self) -> list[Work]:
        """Return what must be done again and again beside serving."""
        return [(COUNT_EVERY_S, self._count)]

    def collect(self) -> Iterator[Metric]:
        """Yield the books as of the last look; none before the first."""
        dead = GaugeMetricFamily(
            "impledger_dead_letters", "Messages that died, by what became of them", labels=["state"]
        )
        for letter, count in self._dead.items():
            dead.add_metric([letter.value], count)
        yield dead
        books = self._books
        if books is None:
            return
        feedback = GaugeMetricFamily("impledger_feedback", "Feedback accepted, by where it is", labels=["state"])
        for state in FeedbackState:
            feedback.add_metric([state.value], getattr(books, state.value))
        yield feedback
        yield GaugeMetricFamily("impledger_feedback_accepted", "Feedback accepted ever", value=books.accepted)
        text = "Feedback accepted that is nowhere: accepted - applied - parked - orphaned - waiting - held - refused"
        yield GaugeMetricFamily("impledger_feedback_unaccounted", text, value=books.unaccounted)
        text = "Feedback that could not be applied when it was last tried"
        yield GaugeMetricFamily("impledger_feedback_failing", text, value=books.failing)
        text = "How long the first of what waits to be applied has waited"
        age_s = 0.0 if books.oldest_at is None else max(0.0, (now_ms() - books.oldest_at) / 1_000)
        yield GaugeMetricFamily("impledger_outbox_oldest_seconds", text, value=age_s)

    async def close(self) -> None:
        await self._connection.close()
        await self._operators.close()

    async def _count(self) -> None:
        books = await self._store.books()
        if books.unaccounted:
            log.error("feedback is unaccounted for", unaccounted=books.unaccounted)
        self._books, self._dead = books, await self._letters.count()
