"""Has a period looked at again: selects what counts in it from the tables, notes it resumably, waits for workers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec import Struct

from commands.finalising import Finaliser, Progress, Run, a_run, run_name
from commands.finalising_postgres import PostgresRuns
from commands.reevaluations_postgres import PostgresReevaluations
from domain.ids import ImpressionId
from domain.reevaluation import Why
from ledger.postgres_connection import PostgresConnection
from ledger.store import EventStore
from projections.counted import Span, counted_page, counted_totals
from projections.engine import Client
from service.clock import now_ms
from service.processes import LauncherError
from service.reader import Desk
from service.settings import Settings
from service.wiring import database_url, open_store

POLL_S = 0.5
STALLED_S = 120.0
"""Where nothing is done for so long, nobody is waited for."""
_DEADLINE_S = 10.0
_BEHIND_MAX_S = 120.0

Show = Callable[[int, int, int], None]
"""Hears how many are noted, how many of them are done, and how many there are."""


class Counted(Struct, frozen=True):
    """So many impressions count, for so many micros of *currency*."""

    currency: str
    impressions: int
    billable_micros: int


class Planned(Struct, frozen=True, kw_only=True):
    """What would be looked at again; `noted` and `is_finished` are of the run that is there already."""

    counted: list[Counted]
    noted: int
    is_finished: bool

    def line(self) -> str:
        sums = [
            f"{one.impressions:,} impressions, {one.billable_micros:,} micros {one.currency}" for one in self.counted
        ]
        before = " All of it was done before; --again does it once more." if self.is_finished else ""
        under_way = f" {self.noted:,} of them are noted." if self.noted and not self.is_finished else ""
        return f"Counted: {'; '.join(sums) or 'nothing'}.{before}{under_way}"


class Finalised(Struct, frozen=True, kw_only=True):
    noted: int
    waiting: int
    is_done: bool

    def line(self) -> str:
        if self.is_done:
            return f"{self.noted:,} looked at again; `impledger reevaluations` says what was found."
        return f"{self.noted:,} noted, {self.waiting:,} are due still; do work and scheduler run, and is there a model?"


class Period(Struct, frozen=True):
    """Event times from *since* to before *until* (epoch ms), of one *campaign*, or of all where it is empty."""

    since: int
    until: int
    campaign: str

    @property
    def name(self) -> str:
        return run_name(self.since, self.until, self.campaign)


async def plan(settings: Settings, period: Period) -> Planned:
    """
    Say what `finalise` would do.

    Raises:
        LauncherError: the desk is behind.
        LedgerUnavailable, ProjectionError: a store did not answer.
    """
    async with _opened(settings) as tables:
        counted = await tables.totals(period)
        run = await PostgresRuns(tables.database).find(period.name)
    return Planned(
        counted=counted,
        noted=0 if run is None else run.noted,
        is_finished=run is not None and run.finished_at is not None,
    )


async def finalise(settings: Settings, period: Period, *, again: bool, show: Show) -> Finalised:
    """
    Note everything that counts in *period*, going on where a run before stopped, and wait until it is done.

    Raises:
        LauncherError, LedgerUnavailable, ProjectionError: see `plan`; start it again.
    """
    async with _opened(settings) as tables:
        runs, noted = PostgresRuns(tables.database), PostgresReevaluations(tables.database)
        expected = sum(one.impressions for one in await tables.totals(period))
        draft = a_run(
            period.since, period.until, period.campaign, position=tables.position, expected=expected, now=now_ms()
        )
        run = await runs.begin(draft, again=again)
        finaliser = Finaliser(runs=runs, noted=noted, counted=tables, clock=now_ms)
        patience = _Patience()
        while True:
            run, progress = await finaliser.step(run)
            waiting = await noted.waiting(Why.FINALISE)
            show(run.noted, max(0, run.noted - waiting), run.expected)
            is_over = progress is Progress.FINISHED and not waiting
            if is_over or patience.ends(run.noted, waiting):
                return Finalised(noted=run.noted, waiting=waiting, is_done=is_over)
            if progress is not Progress.MOVED:
                await asyncio.sleep(POLL_S)


class _Patience:
    """Ends where nothing has changed for STALLED_S."""

    def __init__(self) -> None:
        self._last: tuple[int, ...] = ()
        self._since = now_ms()

    def ends(self, *figures: int) -> bool:
        if figures != self._last:
            self._last, self._since = figures, now_ms()
        return now_ms() - self._since > STALLED_S * 1_000


class _Tables:
    """`CountedImpressions` from the tables of the desk, which have the ledger up to *position*."""

    def __init__(self, client: Client, generation: int, position: int, database: PostgresConnection) -> None:
        self._client = client
        self._generation = generation
        self.position = position
        self.database = database

    async def page(self, run: Run, limit: int) -> list[ImpressionId]:
        span = Span(since=run.next_at, until=run.next_until, campaign=run.campaign)
        return await asyncio.to_thread(counted_page, self._client, self._generation, span, run.next_after, limit)

    async def totals(self, period: Period) -> list[Counted]:
        span = Span(since=period.since, until=period.until, campaign=period.campaign)
        rows = await asyncio.to_thread(counted_totals, self._client, self._generation, span)
        return [Counted(*row) for row in rows]


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[_Tables]:
    """Open the tables once they have what the ledger has now."""
    store, database = open_store(settings), PostgresConnection(database_url(settings), _DEADLINE_S)
    try:
        async with Desk(settings) as desk:
            position, generation = await _caught_up(desk, store)
            client = await asyncio.to_thread(desk.tables)
            try:
                yield _Tables(client, generation, position, database)
            finally:
                client.close()
    finally:
        await store.close()
        await database.close()


async def _caught_up(desk: Desk, store: EventStore) -> tuple[int, int]:
    head = await store.head()
    try:
        async with asyncio.timeout(_BEHIND_MAX_S):
            while True:
                known = await desk.known()
                if known.position >= head:
                    return known.position, known.generation
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        raise LauncherError("the desk is behind the ledger, and what counts is read from its tables") from error
