"""Models as one gate handles them: the registry, what is in force, rivals and their guards."""

from contextlib import suppress
from typing import Any
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry

from domain.ids import digest_of
from domain.placement_events import Role, Stage
from domain.placements import Placements
from domain.placing import PlacementCommand, RetireModel
from ledger.codec import UnreadableCommit
from ledger.store import EventStore, LedgerUnavailable
from ml.registry.guards import Tripped
from ml.registry.placing import ModelPlacements, PlacementList, Recorded
from ml.registry.registry import Compared, ModelEntry, PlacementRow, Tables, add_model
from service.campaigning import Work
from service.clock import now_ms
from service.contest import Contest
from service.models_watch import POLL_S, ModelsWatch
from service.scoring import ModelHolder

COMPARE_EVERY_S = 0.1
WRITE_EVERY_S = 10.0
FORGET_EVERY_S = 3_600.0
COMPARISONS_KEPT_MS = 35 * 86_400_000
GUARD = "guard"
"""Who asked, in the event by which a canary is ended by itself."""

log = structlog.get_logger()


class Modelling:
    """Everything about models in one gate. Belongs to one event loop."""

    def __init__(self, ledger: EventStore, tables: Tables, holder: ModelHolder, contest: Contest) -> None:
        self._models, self._table, self._comparisons = tables
        self._list = PlacementList(ledger, self._table)
        self._placing = ModelPlacements(ledger, self._models, now_ms)
        self._holder = holder
        self._watch = ModelsWatch(ledger, self._models, holder)
        self.contest = contest
        self._listed = -1
        self._tripped: tuple[str, Tripped] | None = None

    @property
    def is_ready(self) -> bool:
        return self._watch.is_followed

    async def add(self, data: bytes, by: str) -> tuple[ModelEntry, bool]:
        """Keep the model in *data*; see `add_model`."""
        return await add_model(self._models, data, by=by, at=now_ms())

    async def find(self, model: str) -> ModelEntry | None:
        return await self._models.find(model)

    async def page(self, after: str, limit: int, stage: Stage | None) -> list[ModelEntry]:
        return await self._models.page(after, limit, stage)

    async def history(self, before: int, limit: int) -> list[PlacementRow]:
        """Return placements with versions under *before*, the latest first; raises `LedgerUnavailable`."""
        return await self._table.page(before, limit)

    async def compared(self, since: int, limit: int) -> list[Compared]:
        """Return comparisons of the hours from *since* (epoch ms) on; raises `LedgerUnavailable`."""
        return await self._comparisons.since(since, limit)

    async def placements(self) -> Placements:
        """Return what is in force, as the ledger has it; raises `LedgerUnavailable`."""
        return await self._placing.read()

    async def handle(self, command: PlacementCommand) -> Recorded:
        """
        Do *command*; this gate and the table know it when this returns.

        Raises:
            PlacementRefused, LedgerUnavailable: see `ModelPlacements.handle`.
        """
        recorded = await self._placing.handle(command)
        await self.follow()
        return recorded

    @property
    def serving(self) -> dict[str, Any]:
        """What this gate has in force, and what it refused."""
        line = self._holder.line
        canary = line.canary
        return {
            "champion": "" if line.champion is None else line.champion.id,
            "previous": "" if line.previous is None else line.previous.id,
            "challenger": "" if line.challenger is None else line.challenger.id,
            "canary": "" if canary is None else canary[0].id,
            "share": 0.0 if canary is None else canary[1],
            "placements": self._watch.placements.version,
            "refused": self._watch.refused,
        }

    def works(self) -> list[Work]:
        """Return what must be done again and again beside serving."""
        return [
            (POLL_S, self.follow),
            (COMPARE_EVERY_S, self.compare),
            (WRITE_EVERY_S, self.write_comparisons),
            (FORGET_EVERY_S, self._forget),
        ]

    async def follow(self) -> None:
        """Bring what is in force and the table up to the ledger; raises `LedgerUnavailable`."""
        await self._watch.poll()
        if self._listed != self._watch.placements.version:
            with suppress(UnreadableCommit):  # the watch tells of it
                await self._list.follow()
            self._listed = self._watch.placements.version

    async def compare(self) -> None:
        """Have rivals score what waits for them, and end a canary that has gone over a guard."""
        await self.contest.compare()
        tripped, canary = self.contest.tripped, self._holder.line.canary
        if tripped is not None and canary is not None and canary[0].id == self.contest.watched:
            self._watch.end_canary()
            self.contest.ended(tripped)
            self._tripped = canary[0].id, tripped
            log.error("canary ended by its guard", model=canary[0].id, reason=tripped.reason)
        if self._tripped is not None:
            await self._record_end(*self._tripped)
            self._tripped = None

    async def write_comparisons(self) -> None:
        """Keep what rivals were found to say since this was done last."""
        rows = self.contest.beside.take(now_ms())
        if not rows:
            return
        try:
            await self._comparisons.put(rows)
        except BaseException:
            self.contest.beside.give_back(rows)
            raise

    async def close(self) -> None:
        """Keep what was compared, as far as the store answers."""
        with suppress(LedgerUnavailable):
            await self.write_comparisons()

    def measure(self, metrics: CollectorRegistry) -> None:
        """Show in *metrics* what is in force, refused, compared and guarded."""
        metrics.register(self._watch)
        metrics.register(self.contest)

    async def _record_end(self, model: str, tripped: Tripped) -> None:
        """Of several gates whose guards find the same, one is recorded: the others find the canary gone."""
        reason = tripped.reason
        command = RetireModel(
            cause=uuid4(),
            digest=digest_of(model, reason),
            by=GUARD,
            reason=reason,
            decided_at=now_ms(),
            model=model,
            only_as=Role.CANARY,
        )
        await self.handle(command)

    async def _forget(self) -> None:
        await self._comparisons.drop_before(now_ms() - COMPARISONS_KEPT_MS)
