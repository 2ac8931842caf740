"""
Publishers' history on its way to the gates: computed in one place, so that every gate says the same of a publisher.

The port, its adapters, and what its two sides do.
"""

import asyncio
from typing import Protocol

import numpy as np

from ledger.postgres_connection import PostgresConnection
from ml.context.store import LaterStore
from ml.datasets.history import first_hour, history_of
from ml.features.publishers import History, PublisherHistory

PUBLISH_EVERY_MS = 1_800_000
PAGE = 1_000
"""Publishers in one read of a gate: it decides between two."""


class Histories(Protocol):
    """Calls raise `LedgerUnavailable` if the store does not answer."""

    async def latest(self) -> int:
        """Return when the newest was computed (epoch ms); 0: there is none."""

    async def publish(self, history: History) -> None:
        """Keep *history* of some publishers, at once, and the one before it, which somebody may be reading."""

    async def page(self, computed_at: int, after: str, limit: int) -> dict[str, PublisherHistory]:
        """Return what was said at *computed_at* of up to *limit* publishers with names after *after*, in order."""


async def publish_when_due(later: LaterStore, histories: Histories) -> int:
    """
    Publish what is known of publishers, if the last is `PUBLISH_EVERY_MS` old; say of how many.

    Raises:
        LedgerUnavailable: a store did not answer; nothing is lost by trying again.
    """
    at = (await later.followed()).at
    if at < await histories.latest() + PUBLISH_EVERY_MS:
        return 0
    tallies = await later.tallies(first_hour(at))
    history = await asyncio.to_thread(history_of, tallies, at)
    known = {name: said for name, said in history.publishers.items() if not np.isnan(said.duplicate_rate)}
    if known:
        await histories.publish(History(at, known))
    return len(known)


async def newest(histories: Histories, known: History) -> History:
    """
    Return the newest history, *known* if that is it.

    Raises:
        LedgerUnavailable: the store did not answer.
    """
    computed_at = await histories.latest()
    if computed_at <= known.computed_at:
        return known
    publishers: dict[str, PublisherHistory] = {}
    after = ""
    while page := await histories.page(computed_at, after, PAGE):
        publishers |= page
        after = next(reversed(page))
    return History(computed_at, publishers)


class MemoryHistories:
    """`Histories` in memory, for tests."""

    def __init__(self) -> None:
        self._kept: dict[int, dict[str, PublisherHistory]] = {}

    async def latest(self) -> int:
        return max(self._kept, default=0)

    async def publish(self, history: History) -> None:
        before = await self.latest()
        self._kept = {at: said for at, said in self._kept.items() if at >= before}
        self._kept[history.computed_at] = dict(sorted(history.publishers.items()))

    async def page(self, computed_at: int, after: str, limit: int) -> dict[str, PublisherHistory]:
        said = self._kept.get(computed_at, {})
        return {name: said[name] for name in [name for name in said if name > after][:limit]}


_LATEST = "select coalesce(max(computed_at), 0) from publisher_histories"
_PUBLISH = """
with older as (
    delete from publisher_histories where computed_at < (select max(computed_at) from publisher_histories)
), added as (
    insert into publisher_histories
    select %s, * from unnest(%s::text[], %s::float8[], %s::float8[], %s::float8[])
    on conflict (computed_at, publisher) do nothing
    returning 1
)
select count(*) from added
"""
_PAGE = """
select publisher, duplicate_rate, invisible_share, click_z from publisher_histories
where computed_at = %s and publisher > %s order by publisher limit %s::bigint
"""


class PostgresHistories:
    """`Histories` on PostgreSQL."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def latest(self) -> int:
        [[at]] = await self._connection.fetch(_LATEST, [])
        return int(at)

    async def publish(self, history: History) -> None:
        columns = [list(column) for column in zip(*history.publishers.values(), strict=True)]
        await self._connection.fetch(_PUBLISH, [history.computed_at, list(history.publishers), *columns])

    async def page(self, computed_at: int, after: str, limit: int) -> dict[str, PublisherHistory]:
        rows = await self._connection.fetch(_PAGE, [computed_at, after, limit])
        return {publisher: PublisherHistory(*said) for publisher, *said in rows}
