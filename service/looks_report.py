"""What is due to be looked at again and what was found, as one gate tells it: endpoints and metrics."""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.routing import Route

from commands.reevaluated_postgres import PostgresReevaluated
from commands.reevaluations import Backlog
from commands.reevaluations_postgres import PostgresReevaluations
from domain.reevaluation import Why
from ledger.postgres_connection import PostgresConnection
from service.access import Access
from service.campaigning import Work
from service.clock import now_ms
from service.reevaluations_http import ReevaluationsHttp

COUNT_EVERY_S = 10.0
_DEADLINE_S = 15.0


class LooksReport(Collector):
    """Has a connection of its own: what it asks holds up no decision. Belongs to one event loop."""

    def __init__(self, database_url: str, registry: CollectorRegistry) -> None:
        self._connection = PostgresConnection(database_url, _DEADLINE_S)
        self._noted = PostgresReevaluations(self._connection)
        self._found = PostgresReevaluated(self._connection)
        self._backlog: Sequence[Backlog] | None = None
        registry.register(self)

    def routes(self, access: Access) -> list[Route]:
        return ReevaluationsHttp(self._found, self._noted, access, now_ms).routes()

    def works(self) -> list[Work]:
        """Return what must be done again and again beside serving."""
        return [(COUNT_EVERY_S, self._count)]

    def collect(self) -> Iterator[Metric]:
        """Yield what was due at the last look; nothing before the first."""
        if self._backlog is None:
            return
        by_why = {one.why: one for one in self._backlog}
        due = GaugeMetricFamily("impledger_reevaluations_due", "Impressions due to be looked at again", labels=["why"])
        text = "How long the first of what is due to be looked at again has been"
        age = GaugeMetricFamily("impledger_reevaluations_oldest_seconds", text, labels=["why"])
        failing = GaugeMetricFamily(
            "impledger_reevaluations_failing", "Impressions that could not be looked at again", labels=["why"]
        )
        for why in Why:
            one = by_why.get(why)
            due.add_metric([why.value], 0 if one is None else one.due)
            failing.add_metric([why.value], 0 if one is None else one.failing)
            age.add_metric([why.value], 0.0 if one is None else max(0.0, (now_ms() - one.oldest_at) / 1_000))
        yield from (due, age, failing)

    async def close(self) -> None:
        await self._connection.close()

    async def _count(self) -> None:
        self._backlog = await self._noted.backlog(now_ms())
