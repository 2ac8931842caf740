"""
The champion's rivals in one gate: who scores which render, how they compare, and what ends a canary.

On the path of a batch stands only what decides. The challenger scores afterwards, in a thread of its own; where it
cannot keep up, it leaves renders out, and counts them.
"""

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from time import perf_counter
from typing import NamedTuple, TypeAlias

import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from commands.items import Ready
from domain.events import ImpressionDeduped, ImpressionEvent, ImpressionScored
from domain.placement_events import Role
from domain.reasons import Verdict
from ml.features.matrix import Vectors
from ml.features.schema import Group
from ml.models.scorer import Scorer, Scores
from ml.registry.arms import in_share
from ml.registry.guards import Guard, Guardrails, Share, Tripped
from ml.registry.memory import added
from ml.registry.registry import Compared
from ml.registry.side_by_side import Pair, Rows, SideBySide, is_models_word

PENDING_MAX = 64
"""Batches that wait for the challenger, 10 MB at most."""
SLOW_CALL_S, SLOW_ROW_S = 0.002, 0.000_05
"""A model that takes longer than this, and this much for each render, is slow."""

log = structlog.get_logger()


Trying: TypeAlias = tuple[Scorer, float]
"""A canary and its share."""


class Asked(NamedTuple):
    """Renders of one batch, their vectors, and the groups that all of them are scored without."""

    renders: Sequence[Ready]
    vectors: Vectors
    without: Collection[Group]


class Chosen(NamedTuple):
    """What decides: the scores, and whose they are, by render."""

    scores: Scores
    scorers: list[Scorer]


class _Pending(NamedTuple):
    at: int
    pair: Pair
    asked: Asked
    champion: Scores
    other: Scorer | Scores


class _Arms(NamedTuple):
    canary: Scorer
    champion: Scorer
    rails: Guardrails


class Contest(Collector):
    """
    Belongs to the event loop of the gate; what rivals say is counted for *gate*.

    *clock* gives epoch ms; *is_busy* tells that there is no time for rivals that decide nothing.
    """

    def __init__(
        self,
        gate: str,
        limits: Mapping[Guard, float],
        clock: Callable[[], int],
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.beside = SideBySide(gate)
        self._limits = limits
        self._clock = clock
        self._is_busy = is_busy
        self._pending: deque[_Pending] = deque()
        self._arms: _Arms | None = None
        self._became: Counter[tuple[str, Verdict]] = Counter()
        self._told: set[str] = set()
        self.skipped = 0
        self.failed = 0
        self._totals: dict[tuple[Role, str], Compared] = {}
        self._ended: Counter[Guard] = Counter()

    def score(self, asked: Asked, champion: Scorer, canary: Trying | None, challenger: Scorer | None) -> Chosen:
        """Have *champion* and, for its share, *canary* score *asked*; *challenger* does it later."""
        self._take_turn(champion, None if canary is None else canary[0])
        began = perf_counter()
        scores = champion.score(asked.vectors, asked.without)
        took_s = perf_counter() - began
        chosen = Chosen(scores, [champion] * len(asked.renders))
        if challenger is not None:
            self._later(Pair(Role.CHALLENGER, champion.id, challenger.id), asked, scores, challenger)
        if canary is None:
            return chosen
        ids = [item.impression for item in asked.renders]
        places = np.flatnonzero(in_share(ids, canary[0].id, canary[1]))
        self._note_scored(champion, len(ids) - len(places), len(ids), took_s)
        return self._with_canary(chosen, canary[0], places, asked) if len(places) else chosen

    def decided(self, events: Sequence[ImpressionEvent]) -> None:
        """Say what was decided and is durable."""
        if self._arms is None:
            return
        for scored, decision in itertools.pairwise(events):
            if isinstance(scored, ImpressionScored) and isinstance(decision, ImpressionDeduped):
                self._became[scored.versions.model, decision.verdict] += 1

    @property
    def watched(self) -> str:
        """The canary that the guards watch, empty while there is none."""
        return "" if self._arms is None else self._arms.canary.id

    @property
    def tripped(self) -> Tripped | None:
        """The guard that the canary which is watched has gone over, None while there is none."""
        return None if self._arms is None else self._arms.rails.tripped

    def ended(self, tripped: Tripped) -> None:
        """Say that the canary was ended for *tripped*; it is not watched any more."""
        self._ended[tripped.guard] += 1
        self._arms = None

    async def compare(self) -> int:
        """Have rivals score what waits for them; return how many renders those were."""
        compared = 0
        while self._pending:
            pending = self._pending.popleft()
            try:
                scores = await asyncio.to_thread(_scored, pending)
            except Exception as error:  # noqa: BLE001 (it decides nothing)
                self._fail(pending.other, error, 0)
            else:
                compared += self._note(pending, scores)
        return compared

    def _with_canary(self, chosen: Chosen, canary: Scorer, places: NDArray[np.intp], asked: Asked) -> Chosen:
        """Put the canary's scores in their places. One that fails leaves them to the champion."""
        renders = [asked.renders[at] for at in places]
        theirs = Asked(renders, Vectors(asked.vectors.values[places], asked.vectors.status[places]), asked.without)
        began = perf_counter()
        try:
            scores = canary.score(theirs.vectors, theirs.without)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with it, the renders are decided)
            self._fail(canary, error, len(places))
            return chosen
        self._note_scored(canary, len(places), len(places), perf_counter() - began)
        before = Scores(chosen.scores.risk[places], chosen.scores.band[places], chosen.scores.mask[places])
        self._later(Pair(Role.CANARY, chosen.scorers[0].id, canary.id), theirs, before, scores)
        risk, band, mask = chosen.scores.risk.copy(), chosen.scores.band.copy(), chosen.scores.mask.copy()
        risk[places], band[places], mask[places] = scores
        for at in places.tolist():
            chosen.scorers[at] = canary
        return Chosen(Scores(risk, band, mask), chosen.scorers)

    def _later(self, pair: Pair, asked: Asked, champion: Scores, other: Scorer | Scores) -> None:
        if len(self._pending) >= PENDING_MAX or self._is_busy():
            self.skipped += len(asked.renders)
            return
        self._pending.append(_Pending(self._clock(), pair, asked, champion, other))

    def _note(self, pending: _Pending, scores: Scores) -> int:
        """Count what was said; of the loop, as `beside` is, which is taken from there."""
        renders = pending.asked.renders
        claims = [item.claim for item in renders]
        rows = Rows(
            [claim.currency for claim in claims],
            np.array([claim.price_micros for claim in claims], np.int64),
            np.array([is_models_word(item.reasons) for item in renders], np.bool_),
        )
        for seen in self.beside.note(pending.at, pending.pair, (pending.champion, scores), rows):
            whole = (seen.key.role, seen.key.currency)
            self._totals[whole] = added(self._totals.get(whole, Compared(key=seen.key)), seen)
        return len(claims)

    def _fail(self, scorer: object, error: Exception, rows: int) -> None:
        """A canary's failures are its guard's business; of each kind one is logged."""
        self.failed += 1
        if self._arms is not None and scorer is self._arms.canary:
            self._arms.rails.observe(Guard.ERRORS, Share(rows, rows), Share())
        name = getattr(scorer, "id", "")
        if f"{name} {error!r}" not in self._told:
            self._told = {*list(self._told)[:99], f"{name} {error!r}"}
            log.error("model failed", model=name, error=repr(error))

    def _note_scored(self, scorer: Scorer, own: int, rows: int, took_s: float) -> None:
        """*scorer* took *took_s* for *rows*, of which *own* are decided by it."""
        if self._arms is None or not own:
            return
        slow = Share(own if took_s > SLOW_CALL_S + rows * SLOW_ROW_S else 0, own)
        rails, is_canary = self._arms.rails, scorer is self._arms.canary
        rails.observe(Guard.SLOW, slow if is_canary else Share(), Share() if is_canary else slow)
        scored = Share(0, own)
        rails.observe(Guard.ERRORS, scored if is_canary else Share(), Share() if is_canary else scored)

    def _take_turn(self, champion: Scorer, canary: Scorer | None) -> None:
        """Give what became of the batch before to the guards; a new pair of models gets new ones."""
        arms = self._arms
        if arms is None or arms.canary is not canary or arms.champion is not champion:
            self._arms = None if canary is None else _Arms(canary, champion, Guardrails(self._limits))
            self._became.clear()
            return
        if not self._became:
            return
        for guard, verdict in ((Guard.UNCERTAIN, Verdict.UNCERTAIN), (Guard.DROPPED, Verdict.DROPPED)):
            ours, theirs = (self._share(scorer.id, verdict) for scorer in (arms.canary, arms.champion))
            arms.rails.observe(guard, ours, theirs)
        self._became.clear()

    def _share(self, model: str, verdict: Verdict) -> Share:
        rows = sum(count for (of, _), count in self._became.items() if of == model)
        return Share(self._became[model, verdict], rows)

    def collect(self) -> Iterator[Metric]:
        """Yield how rivals compare and what guards have seen, for Prometheus."""
        beside = CounterMetricFamily(
            "impledger_beside", "Renders that a rival scored beside the champion, by its band", labels=["role", "band"]
        )
        differences = CounterMetricFamily(
            "impledger_beside_difference", "Sum of absolute differences of the probability", labels=["role"]
        )
        money = GaugeMetricFamily(
            "impledger_beside_money_micros", "What a rival would have billed more", labels=["role", "currency"]
        )
        for role in (Role.CHALLENGER, Role.CANARY):
            rows = [row for (of, _), row in self._totals.items() if of is role]
            for band in ("agreed", "stricter", "milder"):
                beside.add_metric([role.value, band], sum(getattr(row, band) for row in rows))
            differences.add_metric([role.value], sum(row.difference_abs_sum for row in rows))
        for (role, currency), row in self._totals.items():
            money.add_metric([role.value, currency], row.money_micros)
        yield from (beside, differences, money)
        yield CounterMetricFamily(
            "impledger_beside_skipped", "Renders that a rival had no time for", value=self.skipped
        )
        yield CounterMetricFamily("impledger_rival_failures", "Times a rival could not score", value=self.failed)
        over = GaugeMetricFamily(
            "impledger_canary_over", "How much higher the canary's share is than the champion's", labels=["guard"]
        )
        if self._arms is not None:
            for guard, difference in self._arms.rails.differences.items():
                over.add_metric([guard.value], difference)
        yield over
        ended = CounterMetricFamily("impledger_canaries_ended", "Canaries that a guard ended", labels=["guard"])
        for guard in Guard:
            ended.add_metric([guard.value], self._ended[guard])
        yield ended


def _scored(pending: _Pending) -> Scores:
    """Return what the other says, in whatever thread."""
    other, asked = pending.other, pending.asked
    return other if isinstance(other, Scores) else other.score(asked.vectors, asked.without)
