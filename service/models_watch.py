"""Follows the ledger's placements while the gate runs: loads what is in force, refuses what is damaged, and swaps."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

import structlog
from msgspec.structs import replace
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from domain.placement_events import ModelRef, Stage
from domain.placements import Canary, InForce, Placements
from ledger.codec import UnreadableCommit
from ledger.store import EventStore
from ml.models.scorer import Scorer
from ml.registry.loading import ready
from ml.registry.placing import PlacementTail
from ml.registry.registry import ModelStore, NoSuchModel
from service.scoring import Line, ModelHolder

POLL_S = 0.5
RETRY_S = 10.0
"""What was refused is looked at again this often: somebody may have put it right."""
FALLBACKS_MAX = 3
"""So many champions before are tried where the one in force is refused."""

log = structlog.get_logger()


class ModelsWatch(Collector):
    """
    Keeps *holder* on what the ledger says, and is a collector of Prometheus. Belongs to the event loop of the gate.

    A champion that is refused leaves the champion before it to advise, else rules alone; the rung says so.
    """

    def __init__(
        self,
        ledger: EventStore,
        models: ModelStore,
        holder: ModelHolder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tail = PlacementTail(ledger)
        self._models = models
        self._holder = holder
        self._clock = clock
        self._loaded: dict[str, Scorer] = {}
        self._refused: dict[str, str] = {}
        self._unreadable = ""
        self._look_again_at = 0.0
        self._ended: Canary | None = None
        self._turn = asyncio.Lock()
        self.swaps = 0
        self._is_behind = True
        self.is_followed = False
        """Whether what is in force was loaded once, as far as it can be."""

    @property
    def placements(self) -> Placements:
        return self._tail.placements

    @property
    def refused(self) -> dict[str, str]:
        """By model that should be in force and is not: why."""
        return dict(self._refused)

    async def poll(self) -> None:
        """
        Look once, and swap if something has changed.

        Placements that cannot be read change nothing: what is in force stays, and a gate that starts decides by rules.

        Raises:
            LedgerUnavailable: ledger or registry did not answer; without its champion the line stays as it is.
        """
        async with self._turn:
            self._is_behind |= await self._has_news()
            if self._is_behind or (self._refused and self._clock() >= self._look_again_at):
                await self._renew()

    async def _has_news(self) -> bool:
        try:
            news = await self._tail.follow()
        except UnreadableCommit as error:
            if self._unreadable != str(error):
                log.error("placements cannot be read", error=str(error))  # noqa: TRY400
            self._unreadable = str(error)
            return False
        self._unreadable = ""
        return bool(news)

    async def _renew(self) -> None:
        """A champion decides as soon as it is there: whether the rest of the line can be had is another matter."""
        self._look_again_at = self._clock() + RETRY_S
        wanted = self._tail.placements.of(Stage.S2)
        self._forget_all_but(self._named(wanted))
        if await self._load(wanted.champion) is not None:
            self._swap(self._line(wanted))
            for ref in self._named(wanted):
                await self._load(ref)
        elif wanted.champion is not None:
            await self._load_first(wanted.before[:FALLBACKS_MAX])
        self._swap(self._line(wanted))
        self._is_behind, self.is_followed = False, True

    def end_canary(self) -> None:
        """Do without the canary from the next batch on, before the ledger says so."""
        placed, canary = self._tail.placements.of(Stage.S2).canary, self._holder.line.canary
        if placed is not None and canary is not None and placed.ref.model == canary[0].id:
            self._ended = placed  # else another one has been placed since, and did nothing
        self._swap(replace(self._holder.line, canary=None))

    def _swap(self, line: Line) -> None:
        before = self._holder.line
        if _names(line) == _names(before):
            return
        self._holder.replace(line)
        self.swaps += 1
        log.info("models changed", **_names(line))

    def _line(self, wanted: InForce) -> Line:
        """Return what is loaded of *wanted*."""
        champion = self._loaded_of(wanted.champion)
        if champion is None:
            fallbacks = () if wanted.champion is None else wanted.before[:FALLBACKS_MAX]
            loaded = (self._loaded_of(ref) for ref in fallbacks)
            return Line(previous=next((scorer for scorer in loaded if scorer is not None), None))
        canary = self._canary_of(wanted)
        trying = None if canary is None else self._loaded_of(canary.ref)
        return Line(
            champion=champion,
            previous=self._loaded_of(next(iter(wanted.before), None)),
            challenger=self._loaded_of(wanted.challenger),
            canary=None if trying is None or canary is None else (trying, canary.share),
        )

    def _named(self, wanted: InForce) -> list[ModelRef | None]:
        canary = self._canary_of(wanted)
        return [wanted.champion, wanted.challenger, None if canary is None else canary.ref, *wanted.before[:1]]

    def _canary_of(self, wanted: InForce) -> Canary | None:
        return None if wanted.canary == self._ended else wanted.canary

    def _loaded_of(self, ref: ModelRef | None) -> Scorer | None:
        return None if ref is None else self._loaded.get(ref.model)

    async def _load_first(self, refs: Iterable[ModelRef]) -> None:
        for ref in refs:
            if await self._load(ref) is not None:
                return

    async def _load(self, ref: ModelRef | None) -> Scorer | None:
        """Loading is done away from the loop; requests are answered meanwhile by what is in force."""
        if ref is None:
            return None
        if ref.model in self._loaded:
            return self._loaded[ref.model]
        try:
            data = await self._models.read(ref.model)
            scorer = await asyncio.to_thread(ready, ref, data)
        except NoSuchModel:
            self._refuse(ref, "the registry does not have it")
            return None
        except ValueError as error:
            self._refuse(ref, str(error))
            return None
        self._loaded[ref.model] = scorer
        self._refused.pop(ref.model, None)
        return scorer

    def _refuse(self, ref: ModelRef, why: str) -> None:
        if self._refused.get(ref.model) != why:
            log.error("model refused", model=ref.model, reason=why, in_force=_names(self._holder.line))
        self._refused[ref.model] = why

    def _forget_all_but(self, named: Iterable[ModelRef | None]) -> None:
        kept = {ref.model for ref in named if ref is not None}
        self._loaded = {model: scorer for model, scorer in self._loaded.items() if model in kept}
        self._refused = {model: why for model, why in self._refused.items() if model in kept}

    def collect(self) -> Iterator[Metric]:
        """Yield what is refused and how often models changed, for Prometheus."""
        refused = GaugeMetricFamily(
            "impledger_model_refused", "1 for a model that should be in force and cannot be", labels=["model"]
        )
        for model in self._refused:
            refused.add_metric([model], 1.0)
        yield refused
        yield GaugeMetricFamily(
            "impledger_placements", "Placements of models that the gate knows of", value=self.placements.version
        )
        yield CounterMetricFamily("impledger_model_swaps", "Times the models in force changed", value=self.swaps)


def _names(line: Line) -> dict[str, object]:
    canary = line.canary
    return {
        "champion": _id(line.champion),
        "previous": _id(line.previous),
        "challenger": _id(line.challenger),
        "canary": _id(None if canary is None else canary[0]),
        "share": 0.0 if canary is None else canary[1],
    }


def _id(scorer: Scorer | None) -> str:
    return "" if scorer is None else scorer.id
