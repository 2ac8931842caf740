"""The gate process: the write API, the batcher, and what must be kept in order beside them."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta

import structlog
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from commands.batcher import Batcher
from commands.clocks import DeviceClocks
from commands.gate_postgres import PostgresDayKeys
from commands.guarded import GuardedDayKeys, GuardedHolding
from commands.ingest import Ingest
from commands.intake import Intake
from commands.items import Caller, Status
from commands.keyring import DAY_MS, KEY_BYTES, Keyring
from commands.quarantine import Holding
from commands.quarantine_postgres import PostgresQuarantine
from commands.quarantine_replay import Quarantine
from commands.recall import recall
from commands.sequences import SequenceCounter, SequenceTracker
from commands.serves import Serves
from domain.ids import day_of
from domain.pack import Pack
from domain.vocabulary import DataSet, Rung
from ledger.postgres_connection import PostgresConnection
from ledger.store import EventStore, LedgerUnavailable
from ml.lists.live import LiveLists
from service.access import Access
from service.activity import CountedActivity
from service.campaigning import Authority, Campaigning
from service.campaigns_http import campaign_routes
from service.cell_watch import CELL_MAP_POLL_S, CellMapWatch
from service.clock import now_ms
from service.drills_http import DrillsHttp
from service.endpoints import ASTRAY, refused
from service.feedback_intake import FeedbackIntake
from service.gate_http import GateApp
from service.gate_metrics import GateMetrics
from service.gate_models import GateModels
from service.keyfiles import Keys
from service.laddering import GateLadder
from service.lists_watch import LISTS_POLL_S, ListsWatch
from service.looks_report import LooksReport
from service.outages import OutageLog
from service.quarantine_http import QuarantineHttp
from service.quarantine_metrics import QuarantineMetrics
from service.scoring import read_by_models
from service.serves_http import COUNTS_MAX, ServesApp
from service.serving import calm_collector, serve_until_stopped, server_for
from service.settings import Settings
from service.shelter_http import ShelterHttp, closed_routes
from service.sheltering import open_sheltering
from service.spooling import GateSpool
from service.wiring import open_holding, open_tails

DAYS_BACK, DAYS_AHEAD = 8, 2
"""Partitions that always exist: as old as a token may be, and made ahead."""
UNPARK_MAX = 500
_UNPARK_EVERY_S = 2.0
_TIDY_EVERY_S = 600.0
_DROPS_MAX = 100
_COUNT_EVERY_S = 5.0
_FLOODS_EVERY_S = 1.0
_COUNT_WAITING_EVERY_S = 30.0
_HOUR_MS = 3_600_000

log = structlog.get_logger()


class Gate:
    """All parts of one gate, built; `serve` runs them."""

    def __init__(  # noqa: PLR0913 (its collaborators)
        self,
        *,
        settings: Settings,
        keys: Keys,
        pack: Pack,
        lists: LiveLists,
        store: EventStore,
        ledger_url: str,
        database_url: str,
    ) -> None:
        self._settings = settings
        self._store = store
        self._database = PostgresConnection(database_url, deadline_s=5.0)
        self._probed_database = PostgresConnection(database_url, deadline_s=5.0)
        self._outages = OutageLog()
        self._ladder = GateLadder()
        ladder = self._ladder.ladder
        left_s = self._ladder.countdown.left_s
        self._spool = spool = GateSpool(settings, store, self._probed_database, ladder, left_s)
        self._keyring = Keyring(GuardedDayKeys(PostgresDayKeys(self._database), spool.guard_keys), keys.root)
        self._holding_store = GuardedHolding(open_holding(store, ledger_url, self._database), spool.guard_database)
        self._holding = Holding(self._holding_store, self._keyring, settings.quarantine_ttl_h * _HOUR_MS, now_ms)
        self._operators_database = PostgresConnection(database_url, deadline_s=5.0)
        self._quarantine_store = PostgresQuarantine(self._operators_database)
        self._pack = pack
        self._clocks = DeviceClocks(settings.recent_max)
        self._cell_map = CellMapWatch(settings)
        self._intake = Intake(
            pack=pack,
            region=settings.region,
            token_keys=keys.token_keys(),
            keyring=self._keyring,
            lists=lists,
            clocks=self._clocks,
            store=store,
            clock=now_ms,
            homes=self._cell_map.homes,
            devices=lists,
        )
        self._campaigning = Campaigning(
            store,
            tails=open_tails(store, ledger_url),
            database_url=database_url,
            pack=pack,
            authority=Authority(settings.campaigns),
            campaigns_max=settings.campaigns_max,
            judged_by=spool.store,
            ladder=ladder,
        )
        name = f"{settings.region}-{secrets.token_hex(6)}"
        self._activity = CountedActivity(pack.rates, now_ms(), more=read_by_models(settings.workers))
        self._models = GateModels(settings, store, database_url, name, ladder)
        scoring = self._models.scoring(self._activity.take_features, keys.root)
        ladder.watch(Rung.PARTIAL_COUNTERS, lambda: self._activity.is_cold(now_ms()))
        ladder.watch(Rung.STALE_LISTS, lambda: lists.stale(now_ms()))
        activity, unhurried = self._ladder.over(self._activity, scoring, pack)
        self._ingest = Ingest(
            store=spool.store,
            pack=pack,
            activity=activity,
            funds=self._campaigning.funds,
            holding=self._holding,
            recent_max=settings.recent_max,
            name=name,
            clock=now_ms,
            spooling=spool,
            ladder=ladder,
            countdown=self._ladder.countdown,
            witness=self._models.decided,
        )
        spool.decide_with(
            self._ingest,
            keyring=self._keyring,
            pack=pack,
            activity=unhurried,
            funds=self._campaigning.funds,
            money=self._campaigning.spool_money,
            clock=now_ms,
        )
        tracker = SequenceTracker(started_at=now_ms(), idle_ms=settings.session_idle_s * 1_000)
        self._sequences = SequenceCounter(tracker, store, name, now_ms)
        self._serves = Serves(store=store, region=settings.region, clock=now_ms, counts_max=COUNTS_MAX)
        self._access = Access(keys.api)
        self._metrics = GateMetrics(pack)
        self._feedback = FeedbackIntake(settings, pack, database_url, self._metrics.registry)
        self._looks = LooksReport(database_url, self._metrics.registry)
        self._quarantine_metrics = QuarantineMetrics(self._metrics.registry)
        self._campaigning.measure(self._metrics.registry)
        self._models.measure(self._metrics.registry)
        self._ready = self._recalled = False
        self._lists_watch = ListsWatch(lists, settings, now_ms)
        self._metrics.registry.register(self._lists_watch)
        self._metrics.registry.register(self._activity)
        self._metrics.registry.register(scoring)
        self._metrics.registry.register(self._cell_map)
        self._metrics.registry.register(spool)
        self._metrics.registry.register(self._ladder)
        self._sheltering = open_sheltering(
            settings, keys, self._cell_map.homes, database_url=database_url, registry=self._metrics.registry
        )

    async def serve(self) -> None:
        """Serve until SIGTERM or SIGINT; requests under way are answered first."""
        batcher = Batcher(
            self._ingest.decide_batch,
            batch_max=self._settings.batch_max,
            wait_max_s=self._settings.admission_max_ms / 1_000,
            waited=self._ladder.waited,
        )
        self._ladder.watch_queue(lambda: batcher.oldest_s, self._settings.admission_max_ms / 1_000)
        app = GateApp(
            intake=self._intake,
            batcher=batcher,
            access=self._access,
            settings=self._settings,
            metrics=self._metrics,
            inner=self._cold_routes([*self._quarantine_routes(batcher), *self._shelter_routes(batcher)]),
            watch=self._sequences.note,
            shelter=None if self._sheltering is None else self._sheltering.shelter,
        )
        server = server_for(app, self._settings.host, self._settings.gate_port)
        workers = (self._campaigning, self._models, self._spool, self._ladder, self._feedback, self._looks)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._spool.close)
            stack.push_async_callback(self._database.close)
            stack.push_async_callback(self._probed_database.close)
            stack.push_async_callback(self._campaigning.close)
            stack.push_async_callback(self._models.close)
            stack.push_async_callback(self._operators_database.close)
            stack.push_async_callback(self._feedback.close)
            stack.push_async_callback(self._looks.close)
            deciding = asyncio.create_task(self._decide(batcher))
            deciding.add_done_callback(lambda _: setattr(server, "should_exit", True))
            background = [
                deciding,
                asyncio.create_task(self._every(_TIDY_EVERY_S, self._tidy)),
                asyncio.create_task(self._every(_UNPARK_EVERY_S, self._unpark, batcher)),
                asyncio.create_task(self._every(_COUNT_EVERY_S, self._sequences.flush)),
                asyncio.create_task(self._every(_FLOODS_EVERY_S, self._ingest.write_floods)),
                asyncio.create_task(self._every(LISTS_POLL_S, self._lists_watch.poll)),
                asyncio.create_task(self._every(CELL_MAP_POLL_S, self._cell_map.poll)),
                *(asyncio.create_task(self._every(*work)) for worker in workers for work in worker.works()),
                asyncio.create_task(self._every(_COUNT_WAITING_EVERY_S, self._count_waiting)),
            ]
            if self._sheltering is not None:
                stack.push_async_callback(self._sheltering.close)
                background += [asyncio.create_task(self._every(*work)) for work in self._sheltering.works()]
            calm_collector()
            await serve_until_stopped(server)
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            if not deciding.cancelled():
                deciding.result()

    def _quarantine_routes(self, batcher: Batcher) -> list[Route]:
        quarantine = Quarantine(
            store=self._quarantine_store,
            ledger=self._store,
            keyring=self._keyring,
            intake=self._intake,
            submit=batcher.submit,
            clock=now_ms,
        )
        http = QuarantineHttp(quarantine, self._access, self._quarantine_metrics, batcher.check_admission)
        return http.routes()

    def _shelter_routes(self, batcher: Batcher) -> list[Route]:
        if self._sheltering is None:
            return closed_routes(self._access)
        arrivals = self._sheltering.arrivals(
            intake=self._intake, ledger=self._store, submit=batcher.submit, watch=self._sequences.note
        )
        return ShelterHttp(self._sheltering, arrivals, self._access, batcher.check_admission).routes()

    def _cold_routes(self, more: Sequence[Route]) -> Starlette:
        async def healthz(_: Request) -> Response:
            return PlainTextResponse("ok\n")

        async def readyz(request: Request) -> Response:
            ready = self._ready and self._recalled and self._campaigning.is_ready and self._models.is_ready
            if ready and self._spool.is_ready:
                return PlainTextResponse("ready\n" if self._spool.is_asking else "ready, spooling\n")
            try:
                await self._store.head()
            except LedgerUnavailable as error:
                return refused(request, error)
            return PlainTextResponse("ready\n" if ready else "starting\n", 200 if ready else 503)

        async def metrics(_: Request) -> Response:
            return Response(generate_latest(self._metrics.registry), media_type="text/plain; version=0.0.4")

        serves = ServesApp(
            self._serves, self._access, self._metrics.registry, body_max_bytes=self._settings.body_max_bytes
        )
        routes = [
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/v1/serves", serves),
            *self._cell_map.routes(self._access),
            *campaign_routes(self._campaigning, self._access),
            *self._models.routes(self._access),
            *self._feedback.routes(self._access),
            *self._looks.routes(self._access),
            *DrillsHttp(self._ladder.ladder, self._access, now_ms).routes(),
            *more,
        ]
        return Starlette(routes=routes, exception_handlers=ASTRAY)

    async def _decide(self, batcher: Batcher) -> None:
        """Remember what this process's forerunner knew, then decide; until then whoever sends is told to wait."""
        began = time.perf_counter()
        # Before anybody is served: while the kernel clears pages, all threads wait for memory.
        self._activity.take_memory()
        memories = (self._ingest.recall, self._clocks.recall, self._activity.recall)
        while True:
            try:
                commits = await recall(
                    self._store, self._settings.recall_max, memories, whole=self._activity.recall_whole
                )
                break
            except LedgerUnavailable as error:
                self._outages.tell("recall", error)
                await asyncio.sleep(1.0)
        log.info("recalled", commits=commits, seconds=round(time.perf_counter() - began, 3))
        self._recalled = True
        await batcher.run()

    async def _tidy(self) -> None:
        """Destroy keys that are due, make partitions ahead, drop what has outlived its time."""
        now = now_ms()
        destroyed = await self._keyring.destroy_due(now)
        today = day_of(now)
        await self._store.prepare_days(
            today - timedelta(days=DAYS_BACK), today + timedelta(days=DAYS_AHEAD), DataSet.LIVE
        )
        day = now // DAY_MS  # at hand should nobody be there to ask for them, at midnight, too
        await self._keyring.ensure([day - 1, day, day + 1], now, secrets.token_bytes(KEY_BYTES))
        self._ready = True  # whatever else is to be tidied, renders can be taken
        dropped = 0
        for _ in range(_DROPS_MAX):
            dropped += (gone := await self._holding_store.drop_expired(now, now - self._pack.token_age_max_ms))
            if not gone:
                break
        if destroyed or dropped:
            log.info("tidied", keys_destroyed=destroyed, dropped=dropped)

    async def _count_waiting(self) -> None:
        self._quarantine_metrics.waits(await self._quarantine_store.waiting(now_ms()))

    async def _unpark(self, batcher: Batcher) -> None:
        """Apply views whose render has arrived by now, as if they came again."""
        due = await self._holding.due_views(UNPARK_MAX, now_ms())
        if not due:
            return
        settled = []
        for event_id, received_at, body in due:
            caller = Caller(frozenset({"ingest", "replay"}), received_at=received_at)
            [answer] = await batcher.submit(await self._intake.prepare([body], caller))
            if answer.status not in {Status.PARKED, Status.DEFERRED}:
                settled.append(event_id)
        await self._holding.unpark(settled)

    async def _every(self, seconds: float, work: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Do *work* now and then every *seconds*, whatever happens to it."""
        while True:
            try:
                await work(*arguments)
            except LedgerUnavailable as error:
                self._outages.tell(work.__name__, error)
                await asyncio.sleep(min(seconds, 1.0))
                continue
            except Exception:
                log.exception("background work failed", work=work.__name__)
            await asyncio.sleep(seconds)
