"""Follows the ledger in a scheduler: what is known of persons and publishers first, then what is looked at again."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from commands.choosing import Chooser
from commands.reevaluations_postgres import PostgresReevaluations
from domain.reevaluation import LookTimes
from ledger.following import Follower, advance
from ledger.postgres_connection import PostgresConnection
from ledger.store import EventStore
from ml.context.follower import LaterFollower
from ml.context.histories import PostgresHistories, publish_when_due
from ml.context.postgres import PostgresLater
from service.clock import now_ms
from service.settings import Settings

PAGE = 5_000
"""Of 1,000 a commit costs PostgreSQL half as much again; measured by benchmarks/following.py."""
PAGES_MAX = 4
"""In one round, so that others get their turn."""
_FORGETS_MAX = 20


class Following:
    """Belongs to one event loop; *connection* to one caller at a time is enough for it."""

    def __init__(
        self, settings: Settings, store: EventStore, connection: PostgresConnection, registry: CollectorRegistry
    ) -> None:
        self._store = store
        self._later = PostgresLater(connection)
        self._histories = PostgresHistories(connection)
        chooser = Chooser(PostgresReevaluations(connection), look_times(settings), self._later.others, now_ms)
        self._followers: Sequence[Follower] = (LaterFollower(store, self._later), chooser)
        self._commits = Counter("impledger_followed_commits", "Commits of the ledger looked at", registry=registry)
        self._at = Gauge(
            "impledger_followed_timestamp_seconds",
            "Up to when what the ledger recorded has been looked at for what to look at again",
            registry=registry,
        )

    async def follow(self) -> None:
        """
        Take in what is new, up to PAGES_MAX pages.

        Raises:
            LedgerUnavailable: a store did not answer; nothing is lost by trying again.
        """
        for _ in range(PAGES_MAX):
            read = await advance(self._store, self._followers, limit=PAGE, clock=now_ms)
            self._commits.inc(read)
            if read < PAGE:
                break
        self._at.set(min([(await one.followed()).at for one in self._followers]) / 1_000)

    async def publish(self) -> None:
        """
        Publish what is known of publishers, when it is time.

        Raises:
            LedgerUnavailable: see `follow`.
        """
        await publish_when_due(self._later, self._histories)

    async def tidy(self) -> int:
        """Delete what is too old to be asked for; say how much."""
        deleted = 0
        for _ in range(_FORGETS_MAX):
            deleted += (forgotten := await self._later.forget(now_ms()))
            if not forgotten:
                break
        return deleted


def look_times(settings: Settings) -> LookTimes:
    return LookTimes(
        uncertain_ms=settings.reevaluate_uncertain_s * 1_000,
        deadline_ms=settings.reevaluate_deadline_s * 1_000,
        shed_ms=settings.reevaluate_shed_s * 1_000,
        sample_ms=settings.reevaluate_sample_s * 1_000,
    )
