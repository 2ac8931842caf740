"""
Finds the model that looks again: the champion of its stage; where it cannot be used the one before, else the newest in
the registry. So a model that was trained and never promoted is used, and one that was retired is not.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog

from commands.reevaluating import NoModel
from domain.placement_events import ModelRef, Stage
from ledger.codec import UnreadableCommit
from ledger.store import EventStore
from ml.models.s3 import LaterScorer
from ml.registry.loading import ready_later
from ml.registry.placing import PlacementTail
from ml.registry.registry import ModelStore, NoSuchModel

POLL_MS = 2_000
CANDIDATES_MAX = 5
"""So many champions, and so many of the newest, are tried where what should be in force is refused."""

log = structlog.get_logger(__name__)


class LaterModels:
    """Belongs to one event loop. `clock` gives epoch ms."""

    def __init__(self, ledger: EventStore, models: ModelStore, clock: Callable[[], int]) -> None:
        self._tail = PlacementTail(ledger)
        self._models = models
        self._clock = clock
        self._scorer: LaterScorer | None = None
        self._refused: dict[str, str] = {}
        self._look_at = 0
        self._turn = asyncio.Lock()

    @property
    def model(self) -> str:
        """Return the id of the model that looks; empty without one."""
        return "" if self._scorer is None else self._scorer.id

    @property
    def refused(self) -> dict[str, str]:
        """Return why each model that was tried since the last change cannot be used."""
        return dict(self._refused)

    async def current(self) -> LaterScorer:
        """
        Return the model that looks, as of POLL_MS ago at most.

        Raises:
            NoModel: there is none that can be used.
            LedgerUnavailable: ledger or registry did not answer.
        """
        async with self._turn:
            if self._clock() >= self._look_at:
                await self._renew()
                self._look_at = self._clock() + POLL_MS
        if self._scorer is None:
            raise NoModel
        return self._scorer

    async def _renew(self) -> None:
        try:
            await self._tail.follow()
        except UnreadableCommit:
            log.exception("placements cannot be read")
        before, refused = self.model, self._refused
        self._refused = {}
        self._scorer = await self._first()
        if self.model != before:
            log.info("another model looks again", model=self.model, before=before)
        if self._refused and self._refused != refused:
            log.error("models refused", refused=self._refused, model=self.model)

    async def _first(self) -> LaterScorer | None:
        tried: set[str] = set()
        async for ref in self._candidates():
            if ref.model not in tried:
                tried.add(ref.model)
                if (scorer := await self._load(ref)) is not None:
                    return scorer
        return None

    async def _candidates(self) -> AsyncIterator[ModelRef]:
        in_force = self._tail.placements.of(Stage.S3)
        if in_force.champions and in_force.champion is None:
            return  # somebody has retired it
        for ref in (in_force.champion, *in_force.before[: CANDIDATES_MAX - 1]):
            if ref is not None:
                yield ref
        for entry in await self._models.page("", CANDIDATES_MAX, Stage.S3):
            yield entry.known.ref

    async def _load(self, ref: ModelRef) -> LaterScorer | None:
        if self._scorer is not None and self._scorer.id == ref.model:
            return self._scorer
        try:
            data = await self._models.read(ref.model)
            return await asyncio.to_thread(ready_later, ref, data)
        except NoSuchModel:
            self._refused[ref.model] = "the registry does not have it"
        except ValueError as error:
            self._refused[ref.model] = str(error)
        return None
