"""The spool of one gate: the guards around what its answers wait for, the journal, and what drains it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from commands.activity import Activity
from commands.backlog import Backlog
from commands.barred import BarredStore
from commands.budget_spool import LABEL, SpoolMoney
from commands.draining import Drain
from commands.funding import Funds
from commands.ingest import Ingest
from commands.items import Answer
from commands.keyring import Keyring
from commands.ladder import Ladder
from commands.redecide import Redecider
from commands.spooling import SpooledAnswers
from commands.stranded import Stranded
from domain.pack import Pack
from domain.vocabulary import Rung
from ledger.breaker import Breaker, BreakerRules, Guard, GuardedStore
from ledger.postgres_connection import PostgresConnection
from ledger.spool import SUFFIX, Spool, SpoolRefused
from ledger.spool_owners import damaged, own_new
from ledger.store import EventStore
from service.processes import LauncherError
from service.settings import Settings

DRAIN_EVERY_S = 0.5
ADOPT_EVERY_S = 10.0
_REST_MAX_S = 0.5
_CALM_S, _IDLE_S = 2.0, 0.25
_CALM_SHARE, _BUSY_SHARE = 2, 20
_KEYS_DEADLINE_S = 1.0
"""A key is fetched once a day, by a request that alone waits for it."""
_MIB = 1 << 20

Work: TypeAlias = tuple[float, Callable[[], Awaitable[object]]]

log = structlog.get_logger()


def spool_dir(settings: Settings) -> Path:
    """Return the folder of all spools of this machine's gates."""
    return Path(settings.spool_dir) if settings.spool_dir else settings.data_dir / "spool"


def is_drained(settings: Settings) -> bool:
    """Whether no gate of this machine keeps anything that is not in the ledger yet."""
    return not any(spool_dir(settings).rglob(f"*{SUFFIX}"))


class GateSpool(Collector):
    """
    Everything about the spool in one gate; a `Spooling`. Build it, then `decide_with` what decides.

    `store` and `guard_database` are for what answers wait for. Belongs to one event loop.
    """

    def __init__(
        self,
        settings: Settings,
        store: EventStore,
        database: PostgresConnection,
        ladder: Ladder,
        left_s: Callable[[], float],
    ) -> None:
        """
        *ladder* may have the ledger away for a drill; *left_s* tells how long an answer can still wait.

        Raises:
            LauncherError: the folder of spools cannot be used.
        """
        self._settings = settings
        self._root = spool_dir(settings)
        self._raw = store
        self._database = database
        deadline_s = settings.ledger_deadline_ms / 1_000
        self._guards = {
            name: Guard(Breaker(BreakerRules(), time.monotonic), deadline_s, left_s) for name in ("ledger", "database")
        }
        self.guard_keys = Guard(self._guards["database"].breaker, _KEYS_DEADLINE_S)
        self._was_open = dict.fromkeys(self._guards, False)
        self._is_barred = partial(ladder.is_without, Rung.SPOOLED)
        self.store: EventStore = BarredStore(GuardedStore(store, self._guards["ledger"]), self._is_barred)
        ladder.watch(Rung.SPOOLED, lambda: not self.is_asking)
        self.guard_database = self._guards["database"]
        try:
            self._owned = own_new(self._root)
        except OSError as error:
            raise LauncherError(
                f"The spool cannot be kept in {self._root}: {error.strerror}. "
                "Make the folder writable, or name another with IMPLEDGER_SPOOL_DIR."
            ) from error
        self._spool = Spool(self._owned.folder, max_bytes=settings.spool_max_mb * _MIB)
        self._pace = _Pace(self._guards["ledger"])
        self._answers: SpooledAnswers | None = None
        self._backlog: Backlog | None = None
        self._answered = self._refused = 0

    @property
    def is_ready(self) -> bool:
        """Whether renders can be answered without the ledger."""
        return self._spool.has_room

    @property
    def is_asking(self) -> bool:
        """Whether the ledger is asked at the moment."""
        return not self._guards["ledger"].breaker.is_open and not self._is_barred()

    def decide_with(  # noqa: PLR0913 (its collaborators)
        self,
        ingest: Ingest,
        *,
        keyring: Keyring,
        pack: Pack,
        activity: Activity,
        funds: Funds | None,
        money: SpoolMoney,
        clock: Callable[[], int],
    ) -> None:
        """Join spool and *ingest*, and adopt what dead gates left."""
        self._answers = SpooledAnswers(
            self._spool,
            keyring=keyring,
            pack=pack,
            funds=funds,
            label=LABEL + self._owned.owner,
            answers_max=self._settings.recent_max,
        )
        drain = Drain(self._raw, ingest, activity=activity, keyring=keyring, clock=clock, rest=self._pace.rest)
        again = Redecider(
            self._raw,
            pack=pack,
            slots=ingest.slots,
            activity=activity,
            funds=funds,
            over=money.over,
            clock=clock,
            rest=self._pace.rest,
        )
        self._backlog = Backlog(
            self._root, self._spool, self._owned, drain=drain, again=again, money=None if funds is None else money
        )
        self._backlog.adopt()

    async def take(self, stranded: Stranded) -> list[Answer]:
        """See `Spooling.take`."""
        assert self._answers is not None, "joined before anything is decided"
        try:
            answers = await self._answers.take(stranded)
        except SpoolRefused as error:
            self._refused += len(stranded.ready)
            log.error("the spool refuses", events=len(stranded.ready), error=str(error))  # noqa: TRY400
            raise
        self._answered += len(answers)
        return answers

    def works(self) -> list[Work]:
        """Return what must be done again and again beside serving."""
        assert self._backlog is not None, "joined before it is served"
        return [
            (BreakerRules().probe_every_s, self.probe),
            (DRAIN_EVERY_S, self.drain),
            (ADOPT_EVERY_S, self._adopt),
        ]

    async def probe(self) -> None:
        """Ask what does not answer whether it does again."""
        asks: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "ledger": self._raw.head,
            "database": lambda: self._database.fetch("select 1", []),
        }
        for name, guard in self._guards.items():
            if guard.breaker.is_open:
                await guard.probe(asks[name])
            if guard.breaker.is_open is not self._was_open[name]:
                self._was_open[name] = guard.breaker.is_open
                told = "does not answer: answering without it" if guard.breaker.is_open else "answers again"
                log.warning(told, store=name, spooled_bytes=self._spool.size)

    async def drain(self) -> None:
        """Bring in what was spooled, unless the ledger does not answer anyhow."""
        if self._backlog is not None and self.is_asking:
            self._pace.begin()
            await self._backlog.work()

    async def close(self) -> None:
        """Leave what is not in the ledger to the next gate."""
        if self._backlog is not None:
            await self._backlog.close()

    def collect(self) -> Iterator[Metric]:
        """Yield how the spool stands, for Prometheus."""
        spool, backlog = self._spool, self._backlog
        assert backlog is not None, "joined before it is measured"
        oldest = spool.oldest_at
        for name, says, value in (
            ("bytes", "Bytes of renders that the ledger does not have yet", spool.size + backlog.orphan_bytes),
            ("segments", "Files of the spool", spool.segments + backlog.orphan_segments),
            ("oldest_seconds", "Age of the oldest file of the spool", 0.0 if oldest is None else time.time() - oldest),
            ("damaged_segments", "Files of the spool that were set aside", len(damaged(self._root))),
            ("has_room", "1 while the spool would take a batch", float(spool.has_room)),
        ):
            yield GaugeMetricFamily(f"impledger_spool_{name}", says, value=value)
        totals = backlog.totals
        for name, says, count in (
            ("answered", "Events answered without the ledger", self._answered),
            ("refused", "Events that the spool refused", self._refused),
            ("drained", "Events brought into the ledger", totals.drained),
            ("superseded", "Events whose own copy was dropped, for the ledger had them", totals.superseded),
            ("decided_again", "Events decided again, for another render was first", totals.decided_again),
            ("redecided", "Impressions that stood uncertain because the ledger was away", totals.redecided),
            ("expired", "Bodies whose key was destroyed before they were drained", totals.expired),
            ("adopted", "Spools of dead gates that were adopted", totals.adopted),
        ):
            yield CounterMetricFamily(f"impledger_spool_{name}", says, value=count)
        opened = GaugeMetricFamily("impledger_breaker_open", "1 while a store is not asked", labels=["store"])
        openings = CounterMetricFamily(
            "impledger_breaker_openings", "Times a store stopped answering", labels=["store"]
        )
        for name, guard in self._guards.items():
            opened.add_metric([name], float(guard.breaker.is_open))
            openings.add_metric([name], guard.breaker.opened)
        yield opened
        yield openings

    async def _adopt(self) -> None:
        if self._backlog is not None:
            self._backlog.adopt()


class _Pace:
    """
    Two thirds of the time are for those who wait for an answer; nearly all of it where one had to wait too long lately;
    none where nobody asks.

    Otherwise draining what a slow ledger did not take in time would make it slower still.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._since = time.monotonic()

    def begin(self) -> None:
        self._since = time.monotonic()

    async def rest(self) -> None:
        now = time.monotonic()
        share = _CALM_SHARE if now - self._guard.missed_at > _CALM_S else _BUSY_SHARE
        if now - self._guard.asked_at > _IDLE_S:
            share = 0
        await asyncio.sleep(min(share * (now - self._since), _REST_MAX_S))
        self._since = time.monotonic()
