"""
From the ledger into the tables, exactly once: write down a range, write its rows, write down that it is done.

Nothing is kept in memory from one cycle to the next but the lease, so whatever happened before - a crash anywhere, a
lost answer, another projector - a cycle starts from what is durable and does the very same pending range again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import structlog
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ledger.codec import UnreadableCommit
from ledger.store import READ_MAX, Commit, EventStore, LedgerError
from projections.checkpoints import Checkpoints, Lease, Progress, Range
from projections.errors import LeaseLost, ProjectionError
from projections.tables import Sink

BLOCK_MAX = 10_000
"""Most commits in one block; more of them make it cheaper per commit and later."""

_log = structlog.get_logger(__name__)


class Pace(Struct, frozen=True, kw_only=True):
    """How much at once, and how often: after a quiet look, between blocks that are not full, and after failures."""

    block_max: int = BLOCK_MAX
    poll_s: float = 0.1
    spacing_s: float = 0.5
    touch_ms: int = 500
    lease_ttl_ms: int = 15_000
    retry_first_s: float = 0.1
    retry_max_s: float = 5.0


class LostCommits(Exception):
    """The ledger no longer has what was projected from it: it is not the ledger that these tables are of."""


class Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.position = Gauge("impledger_projector_position", "Ledger position that is done", registry=registry)
        self.lag_s = Gauge("impledger_projector_lag_seconds", "Age of what is known", registry=registry)
        self.leading = Gauge("impledger_projector_leading", "1 while this process has the lease", registry=registry)
        self.commits = Counter("impledger_projector_commits", "Commits projected", registry=registry)
        self.rows = Counter("impledger_projector_rows", "Rows written", registry=registry)
        self.block_s = Histogram("impledger_projector_block_seconds", "Time to write a block", registry=registry)
        self.errors = Counter("impledger_projector_errors", "Failed cycles", ["error"], registry=registry)


@dataclass(frozen=True)
class Ports:
    """What a projector reads and writes. *now* tells the time in epoch ms."""

    store: EventStore
    checkpoints: Checkpoints
    sink: Sink
    now: Callable[[], int]


class Projector:
    """Keeps one generation of tables up to date: *generation*, or whichever is active. *holder* names this process."""

    def __init__(
        self,
        ports: Ports,
        holder: str,
        metrics: Metrics,
        *,
        pace: Pace | None = None,
        generation: int | None = None,
    ) -> None:
        self._ports = ports
        self._holder = holder
        self._metrics = metrics
        self.pace = pace or Pace()
        self._generation = generation
        self._lease: Lease | None = None
        self._renew_at = 0
        self._touch_at = 0
        self._known_at = 0
        metrics.lag_s.set_function(self._lag_s)
        self.failure: Exception | None = None
        """Why the last cycle failed; None if it did not."""

    async def run(self, stop: asyncio.Event) -> None:
        """
        Project until *stop*, through every failure of ledger, checkpoints and tables.

        Raises:
            LostCommits: the ledger and the tables do not belong together.
        """
        loop = asyncio.get_running_loop()
        failures = 0
        while not stop.is_set():
            started = loop.time()
            try:
                handled = await self.step()
            except (LedgerError, ProjectionError, UnreadableCommit) as error:
                self._failed(error)
                pause_s = min(self.pace.retry_first_s * 2**failures, self.pace.retry_max_s)
                failures = min(failures + 1, 16)
            else:
                self.failure, failures = None, 0
                spacing_s = self.pace.spacing_s if handled else self.pace.poll_s
                pause_s = 0 if handled >= self.pace.block_max else started + spacing_s - loop.time()
            await _pause(stop, pause_s)
        await self._release()

    async def step(self) -> int:
        """
        Do one cycle; return how many commits it projected, 0 at the end of the ledger or without the lease.

        Raises:
            LedgerError, ProjectionError, UnreadableCommit: do it again; nothing is lost or counted twice.
        """
        lease = await self._leased()
        checkpoints = self._ports.checkpoints
        known = await checkpoints.known()
        self._known_at = known.known_at
        if lease is None:
            return 0
        generation = self._generation or known.generation
        asked_at = self._ports.now()
        progress = await checkpoints.progress(generation)
        commits = await self._read(progress)
        if not commits:
            await self._touch(lease, generation, asked_at)
            return 0
        block = Range(progress.done, commits[-1].position)
        began_at = asked_at
        if progress.pending is None:
            began_at = self._ports.now()
            await checkpoints.begin(lease, generation, block)
        elif progress.pending != block:
            raise LostCommits(f"{progress.pending} was begun, the ledger has {block}")
        with self._metrics.block_s.time():
            rows = await self._ports.sink.write(generation, block, commits, began_at)
        full = len(commits) == self.pace.block_max or progress.pending is not None
        known_at = commits[-1].recorded_at if full else asked_at
        await checkpoints.finish(lease, generation, block, known_at)
        self._count(commits, rows, known_at)
        return len(commits)

    async def _read(self, progress: Progress) -> list[Commit]:
        if progress.pending is None:
            return await self._ports.store.read_all(progress.done, self.pace.block_max)
        through = progress.pending.through
        commits = await self._ports.store.read_all(progress.done, READ_MAX)
        found = [commit for commit in commits if commit.position <= through]
        if not found:
            raise LostCommits(f"{progress.pending} was begun, the ledger has none of it")
        return found

    async def _leased(self) -> Lease | None:
        now = self._ports.now()
        if self._lease is None or now >= self._renew_at:
            self._lease = await self._ports.checkpoints.lease(self._holder, self.pace.lease_ttl_ms)
            self._renew_at = now + self.pace.lease_ttl_ms // 3
            self._metrics.leading.set(0 if self._lease is None else 1)
        return self._lease

    async def _touch(self, lease: Lease, generation: int, known_at: int) -> None:
        if known_at >= self._touch_at:
            await self._ports.checkpoints.touch(lease, generation, known_at)
            self._touch_at = known_at + self.pace.touch_ms

    async def _release(self) -> None:
        if self._lease is None:
            return
        try:
            await self._ports.checkpoints.release(self._lease)
        except ProjectionError as error:  # it ends by itself
            _log.warning("lease not given back", why=str(error))
        self._lease = None
        self._metrics.leading.set(0)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, LeaseLost):
            self._lease = None
        self._metrics.errors.labels(type(error).__name__).inc()
        if self.failure is None or str(self.failure) != str(error):
            _log.warning("projection waits", error=type(error).__name__, why=str(error)[:500])
        self.failure = error

    def _count(self, commits: list[Commit], rows: int, known_at: int) -> None:
        lag_s = max(0, self._ports.now() - known_at) / 1_000
        self._metrics.position.set(commits[-1].position)
        self._metrics.commits.inc(len(commits))
        self._metrics.rows.inc(rows)
        _log.debug("block projected", through=commits[-1].position, commits=len(commits), rows=rows, lag_s=lag_s)

    def _lag_s(self) -> float:
        """Asked for at every scrape, so that it grows while cycles fail, or those of whoever has the lease."""
        return max(0, self._ports.now() - self._known_at) / 1_000 if self._known_at else nan


async def _pause(stop: asyncio.Event, pause_s: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), max(pause_s, 0))
    except TimeoutError:
        return
