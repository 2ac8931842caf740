"""Everything of models that lives in a gate: what scores, who follows and guards what is in force, its endpoints."""

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry
from starlette.routing import Route

from commands.ladder import Ladder
from domain.events import ImpressionEvent
from domain.vocabulary import Rung
from ledger.postgres_connection import PostgresConnection
from ledger.store import EventStore
from ml.context.histories import PostgresHistories, newest
from ml.counters.features import Features
from ml.registry.guards import parse_limits
from ml.registry.postgres import postgres_tables
from service.access import Access
from service.campaigning import Work
from service.clock import now_ms
from service.contest import Contest
from service.modelling import Modelling
from service.models_http import ModelsHttp
from service.scoring import GateScoring, ModelHolder, Sample
from service.settings import Settings

HISTORY_POLL_S = 30.0
_DEADLINE_S = 5.0


class GateModels:
    """Has a connection of its own: what it loads holds up no decision. Belongs to one event loop."""

    def __init__(self, settings: Settings, store: EventStore, database_url: str, gate: str, ladder: Ladder) -> None:
        self._connection = PostgresConnection(database_url, _DEADLINE_S)
        self._ladder = ladder
        self._holder = ModelHolder()
        self._contest = Contest(gate, parse_limits(settings.canary_limits), now_ms, lambda: ladder.is_shedding)
        self._histories = PostgresHistories(self._connection)
        self._scoring: GateScoring | None = None
        self._modelling = Modelling(store, postgres_tables(self._connection), self._holder, self._contest)
        self.decided: Callable[[Sequence[ImpressionEvent]], None] = self._contest.decided
        """To be told what was decided and is durable."""

    @property
    def is_ready(self) -> bool:
        """Whether what is in force was loaded once, as far as it can be."""
        return self._modelling.is_ready

    def scoring(self, counted: Callable[[], Features | None], root: bytes) -> GateScoring:
        """Return what scores renders of which *counted* says what counters do; the ladder is told of what it lacks."""
        scoring = GateScoring(counted, self._holder, Sample(root), self._ladder, self._contest)
        self._scoring = scoring
        self._ladder.watch(Rung.MODEL_FALLBACK, lambda: self._holder.is_missing)
        self._ladder.watch(Rung.NO_ASYNC, lambda: not scoring.history.publishers)
        return scoring

    def routes(self, access: Access) -> list[Route]:
        return ModelsHttp(self._modelling, access).routes()

    def works(self) -> list[Work]:
        """Return what must be done again and again beside serving."""
        return [*self._modelling.works(), (HISTORY_POLL_S, self._look_up_history)]

    def measure(self, metrics: CollectorRegistry) -> None:
        """Show in *metrics* what is in force, refused, compared and guarded."""
        self._modelling.measure(metrics)

    async def _look_up_history(self) -> None:
        if self._scoring is not None:
            self._scoring.history = await newest(self._histories, self._scoring.history)

    async def close(self) -> None:
        """Keep what was compared, as far as the store answers, and let go of what is open."""
        await self._modelling.close()
        await self._connection.close()
