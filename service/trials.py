"""
Generated traffic through a gate that has a model in force, for evaluation: what it decided, beside the truth.

The gate is `service/offline.py`'s, so features, scores and verdicts are what a real one would have made of the same.
"""

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

from msgspec import Struct

from commands.activity import Activity
from commands.ladder import Ladder
from commands.observing import GuardedActivity
from commands.scoring import ScoringActivity, Shedding
from domain.ids import ImpressionId
from domain.pack import Pack
from domain.vocabulary import Rung
from ledger.codec import decode_impression
from ledger.store import Commit
from ml.datasets.history import PublisherLog
from ml.evaluation.collect import collect
from ml.evaluation.frames import World as Told
from ml.lists.live import LiveLists
from ml.traffic.events import Truth
from ml.traffic.families import FAMILIES
from ml.traffic.generator import Plan
from service.activity import CountedActivity
from service.offline import Passed, World, run_offline
from service.scoring import GateScoring, Line, ModelHolder, Sample, read_by_models

ALL_FAMILIES = tuple(family.name for family in FAMILIES)
RATE = 120.0
"""Events per second: a busy hour of a small cell."""
EVENTS_PER_IMPRESSION = 1.52
"""Views, retries and repeats among them; measured."""
DRILL_S = 1.0
HISTORY_EVERY_MS = 60_000
_CLOCK_S = 0.0


class Trial(Struct, frozen=True, kw_only=True):
    """
    One run: about so many *impressions* of the traffic of *seed*, decided by *line*, on *rung* as in a drill of it.

    With *history* the gate knows its publishers by what it saw of them in this run, looked up every minute.
    """

    seed: int
    impressions: int
    line: Line
    rung: Rung | None = None
    history: bool = False
    families: tuple[str, ...] = ALL_FAMILIES


class Scene(Struct, frozen=True):
    """What all runs have in common: rule pack, lists, and when they begin (epoch ms)."""

    pack: Pack
    lists: LiveLists
    start_ms: int


def evaluation_seed(seed: int, number: int) -> int:
    """Return the seed of the world *number* of an evaluation: never one that somebody trains with."""
    return int.from_bytes(blake2b(f"evaluation {seed} {number}".encode(), digest_size=7).digest())


def play(trial: Trial, scene: Scene, number: int, tell: Callable[[int], None] | None = None) -> Told:
    """Return what became of *trial*; *tell* is told how many events there were so far."""
    commits: list[Commit] = []
    truths: list[Truth] = []
    for passed in _ScoredGate(trial, scene).run():
        commits += passed.commits
        truths += passed.truths
        if tell is not None:
            tell(len(truths))
    return Told(number, collect(commits, scene.pack), truths)


class _ScoredGate:
    """An offline gate whose renders are scored by the models of a trial."""

    def __init__(self, trial: Trial, scene: Scene) -> None:
        self._trial, self._scene = trial, scene
        self._ladder = ladder = Ladder(lambda: _CLOCK_S)  # time stands still: nothing is ever slow, no drill ends
        counted = CountedActivity(scene.pack.rates, 0, more=read_by_models(1))
        sample = Sample(trial.seed.to_bytes(16))
        self._scoring = GateScoring(counted.take_features, ModelHolder(trial.line), sample, ladder)
        guarded = GuardedActivity(counted, ladder)
        self._activity: Activity = ScoringActivity(guarded, self._scoring, ladder, Shedding(ladder, scene.pack))
        if trial.rung is not None:
            ladder.drill(trial.rung.value, DRILL_S)

    def run(self) -> Iterator[Passed]:
        trial, scene = self._trial, self._scene
        seconds = trial.impressions * EVENTS_PER_IMPRESSION / RATE
        world = World(
            seed=trial.seed,
            start_ms=scene.start_ms,
            seconds=seconds,
            pack=scene.pack,
            lists=scene.lists,
            activity=self._activity,
            ladder=self._ladder,
        )
        plan = Plan(seed=trial.seed, rate=RATE, seconds=seconds, families=trial.families)
        log = PublisherLog(HISTORY_EVERY_MS)
        for passed in run_offline(plan, world):
            yield passed
            if trial.history:
                self._learn(log, passed.commits)

    def _learn(self, log: PublisherLog, commits: Iterable[Commit]) -> None:
        for commit in commits:
            if isinstance(commit.stream, ImpressionId):
                self._scoring.history = log.at(commit.recorded_at)
                log.count(decode_impression(commit.data), commit.recorded_at)
