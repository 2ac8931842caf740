"""The gate's models: which are in force, and what they think of the renders that counters have just looked at."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from hashlib import blake2b

from msgspec import Struct
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from commands.items import Ready
from commands.ladder import Ladder
from commands.thoughts import Thought
from domain.events import ImpressionRendered
from domain.signals import Family
from domain.suspicion import Banding, Masked
from domain.vocabulary import Rung
from ml.counters.features import Features
from ml.features.logged import pack
from ml.features.matrix import Vectors, vectors
from ml.features.publishers import NO_HISTORY, History
from ml.features.schema import SCHEMA_ID, SHARED_TABLES, Group
from ml.models.masks import MASK_NAMES, MASKS
from ml.models.scorer import Scorer, Scores
from service.contest import Asked, Contest

SAMPLED = 0.003
"""Share of all renders that are of the random sample, dropped ones too."""
_BANDS = tuple(Banding)
_WORD = (1 << 64) - 1
_RUNG_OF = {
    "no_async": Rung.NO_ASYNC,
    "partial_client": Rung.PARTIAL_CLIENT,
    "partial_counters": Rung.PARTIAL_COUNTERS,
}
_RUNGS = [tuple(_RUNG_OF[part] for part in name.split("+") if part in _RUNG_OF) for name in MASK_NAMES]
_FALLBACK_RUNGS = [(Rung.MODEL_FALLBACK, *rungs) for rungs in _RUNGS]


class Line(Struct, frozen=True):
    """
    The models in force. Without *champion* the *previous* one advises, and drops nothing.

    *canary* decides for a share of all impressions in the champion's place; *challenger* is scored and decides nothing.
    """

    champion: Scorer | None = None
    previous: Scorer | None = None
    challenger: Scorer | None = None
    canary: tuple[Scorer, float] | None = None


class ModelHolder:
    """The gate's line of models. Belongs to the event loop: between two batches another takes its place."""

    def __init__(self, line: Line | None = None) -> None:
        self.line = Line() if line is None else line

    def replace(self, line: Line) -> None:
        """From the next batch on *line* is in force."""
        self.line = line

    @property
    def is_missing(self) -> bool:
        """Whether there is no model that may drop."""
        return self.line.champion is None


class Sample:
    """The random sample: a share *propensity* of all renders, by a keyed hash of their event ids."""

    def __init__(self, root: bytes, propensity: float = SAMPLED) -> None:
        self.propensity = propensity
        self._factor = int.from_bytes(blake2b(key=root, person=b"random sample", digest_size=8).digest()) | 1
        self._below = round(propensity * (_WORD + 1))

    def drawn(self, claims: Iterable[ImpressionRendered]) -> list[bool]:
        """Tell of each of *claims* whether it is in the sample; always the same for one event id."""
        factor, below = self._factor, self._below
        return [((claim.cause.int ^ claim.cause.int >> 64) * factor & _WORD) < below for claim in claims]


class _Batch:
    """The vectors of one batch, who scores which row, and the groups that all are scored without."""

    def __init__(self, found: Vectors, without: frozenset[Group]) -> None:
        self.vectors = found
        self.without = without
        self.scorers: list[Scorer] = []

    def masked(self, place: int, family: Family) -> Masked:
        risk, band = self.scorers[place].masked_risk(self.vectors, place, family, self.without)
        return Masked(risk, _BANDS[band])


class GateScoring(Collector):
    """
    Has every render scored by the model that decides for its impression; a `Scoring`. Belongs to one task.

    *counted* hands over what counters have just said of the same renders, None if they did not answer.
    """

    def __init__(
        self,
        counted: Callable[[], Features | None],
        models: ModelHolder,
        sample: Sample,
        ladder: Ladder,
        contest: Contest,
    ) -> None:
        self._counted = counted
        self._models = models
        self._sample = sample
        self._ladder = ladder
        self._contest = contest
        self.history: History = NO_HISTORY

    def think(self, renders: Sequence[Ready], shed: Collection[int]) -> Sequence[Thought | None]:
        """See `Scoring.think`."""
        counted = self._counted()
        drawn = self._sample.drawn(item.claim for item in renders)
        if not shed:
            return self._thoughts(renders, counted, drawn, [True] * len(renders))
        thoughts: list[Thought | None] = [None] * len(renders)
        places = [place for place, is_drawn in enumerate(drawn) if is_drawn or place not in shed]
        rows = None if counted is None else Features(counted.values[places], counted.status[places])
        deciding = [place not in shed for place in places]
        some = self._thoughts([renders[at] for at in places], rows, [drawn[at] for at in places], deciding)
        for place, thought in zip(places, some, strict=True):
            thoughts[place] = thought
        return thoughts

    def _thoughts(
        self, renders: Sequence[Ready], counted: Features | None, drawn: Sequence[bool], deciding: Sequence[bool]
    ) -> list[Thought]:
        ladder, line, propensity = self._ladder, self._models.line, self._sample.propensity
        history = NO_HISTORY if ladder.is_without(Rung.NO_ASYNC) else self.history
        without = _GEOMETRY if ladder.is_without(Rung.PARTIAL_CLIENT) else _NOTHING
        batch = _Batch(vectors([item.claim for item in renders], counted, history), without)
        is_fallback = line.champion is None or ladder.is_without(Rung.MODEL_FALLBACK)
        scorer = line.previous if is_fallback else line.champion
        rows = zip(pack(batch.vectors), drawn, strict=True)
        if scorer is None:
            return [
                Thought(*logged, SCHEMA_ID, propensity=propensity if is_drawn else None, rungs=_UNSCORED)
                for logged, is_drawn in rows
            ]
        scores = self._score(batch, scorer, None if is_fallback else line, renders)
        rungs = _FALLBACK_RUNGS if is_fallback else _RUNGS
        risks, bands, masks = (column.tolist() for column in scores)
        return [
            Thought(
                *logged,
                SCHEMA_ID,
                batch.scorers[at].id,
                MASK_NAMES[masks[at]],
                risks[at],
                _BANDS[bands[at]],
                propensity if is_drawn else None,
                deciding[at],
                not is_fallback,
                rungs[masks[at]],
                batch,
                at,
            )
            for at, (logged, is_drawn) in enumerate(rows)
        ]

    def _score(self, batch: _Batch, scorer: Scorer, line: Line | None, renders: Sequence[Ready]) -> Scores:
        """Have *batch* scored by *scorer*, by the canary where *line* has one for it; the challenger does it later."""
        asked = Asked(renders, batch.vectors, batch.without)
        rivals = (None, None) if line is None else (line.canary, line.challenger)
        scores, batch.scorers = self._contest.score(asked, scorer, *rivals)
        return scores

    def collect(self) -> Iterator[Metric]:
        """Yield which models are in force, for Prometheus."""
        line = self._models.line
        force = GaugeMetricFamily("impledger_model", "1 for each model in force", labels=["role", "model"])
        canary = None if line.canary is None else line.canary[0]
        for role, scorer in (
            ("champion", line.champion),
            ("previous", line.previous),
            ("challenger", line.challenger),
            ("canary", canary),
        ):
            if scorer is not None:
                force.add_metric([role, scorer.id], 1.0)
        yield force


def read_by_models(workers: int) -> frozenset[str]:
    """
    Return the tables of counters that models read, in a cell that has so many *workers*.

    Where several share the keys of devices and networks, nobody counts them: verdicts would depend on who sees what.
    """
    return SHARED_TABLES if workers == 1 else _NOTHING_SHARED


_NOTHING_SHARED: frozenset[str] = frozenset()
_NOTHING: frozenset[Group] = frozenset()
_GEOMETRY = MASKS["partial_client"]
_UNSCORED = (Rung.MODEL_FALLBACK,)
