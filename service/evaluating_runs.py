"""
Generated traffic through a gate that has a model in force, for evaluation: what it decided, beside the truth.

The gate is `service/offline.py`'s, so features, scores and verdicts are what a real one would have made of the same.
"""

from collections.abc import Iterable

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
from ml.traffic.events import Truth
from ml.traffic.families import FAMILIES
from ml.traffic.generator import Plan
from service.activity import CountedActivity
from service.contest import Contest
from service.generated import START_MS, density, seed_of
from service.offline import OfflineGate, Passed, World, run_offline
from service.scoring import GateScoring, Line, ModelHolder, Sample, read_by_models
from service.wiring import ScreenLists

ALL_FAMILIES = tuple(family.name for family in FAMILIES)
DRILL_S = 1.0
HISTORY_EVERY_MS = 60_000
_CLOCK_S = 0.0
_KEY_BYTES = 16


class Run(Struct, frozen=True, kw_only=True):
    """
    One run: so many *impressions*, and a few, of the traffic of *seed*, as dense as what models are trained on; decided
    by *line*, on *rung* as in a drill of it.

    With *history* the gate knows its publishers by what it saw of them in this run, looked up every minute.
    """

    seed: int
    impressions: int
    line: Line
    rung: Rung | None = None
    history: bool = False
    families: tuple[str, ...] = ALL_FAMILIES

    @property
    def plan(self) -> Plan:
        """Return its traffic, whose days and outages are within the run."""
        dense = density(self.impressions)
        return Plan(seed=self.seed, rate=dense.rate, seconds=dense.span_s, families=self.families)


class Scene(Struct, frozen=True):
    """What all runs have in common."""

    pack: Pack
    lists: ScreenLists


def evaluation_seed(seed: int, number: int) -> int:
    """Return the seed of the world *number* of an evaluation: never one that somebody trains with."""
    return seed_of("evaluation", seed, number)


def play(run: Run, scene: Scene, number: int) -> Told:
    """Return what became of *run*, which is the world *number*."""
    commits, truths = play_whole(run, scene)
    return Told(number, collect(commits, scene.pack), truths)


def play_whole(run: Run, scene: Scene) -> Passed:
    """Return all commits and truths of *run*, until there are as many impressions as it is to have."""
    commits: list[Commit] = []
    truths: list[Truth] = []
    seen = 0
    scored = _Scored(run, scene)
    plan = run.plan
    log = PublisherLog(HISTORY_EVERY_MS)
    for passed in run_offline(plan, scored.world(plan.seconds)):
        commits += passed.commits
        truths += passed.truths
        if run.history:
            scored.learn(log, passed.commits)
        seen += sum(isinstance(commit.stream, ImpressionId) and not commit.version for commit in passed.commits)
        if seen >= run.impressions:
            break
    return Passed(commits, truths)


def offline_gate(run: Run, scene: Scene, seconds: float) -> OfflineGate:
    """Return a gate that decides as in *run*, for *seconds* from `START_MS` on; its traffic is somebody else's."""
    return OfflineGate(_Scored(run, scene).world(seconds))


class _Scored:
    """What decides in a run: counters, and scoring by its models."""

    def __init__(self, run: Run, scene: Scene) -> None:
        self._seed, self._scene = run.seed, scene
        self._ladder = ladder = Ladder(lambda: _CLOCK_S)  # time stands still: nothing is ever slow, no drill ends
        counted = CountedActivity(scene.pack.rates, START_MS, more=read_by_models(workers=1))
        counted.recall_whole()
        sample = Sample(run.seed.to_bytes(_KEY_BYTES))
        contest = Contest("evaluation", {}, lambda: 0)
        self._scoring = GateScoring(counted.take_features, ModelHolder(run.line), sample, ladder, contest)
        guarded = GuardedActivity(counted, ladder)
        self._activity: Activity = ScoringActivity(guarded, self._scoring, ladder, Shedding(ladder, scene.pack))
        if run.rung is not None:
            ladder.drill(run.rung.value, DRILL_S)

    def world(self, seconds: float) -> World:
        return World(
            seed=self._seed,
            start_ms=START_MS,
            seconds=seconds,
            pack=self._scene.pack,
            lists=self._scene.lists,
            activity=self._activity,
            ladder=self._ladder,
        )

    def learn(self, log: PublisherLog, commits: Iterable[Commit]) -> None:
        """Let the gate know of its publishers what *commits* say."""
        for commit in commits:
            if isinstance(commit.stream, ImpressionId):
                self._scoring.history = log.at(commit.recorded_at)
                log.count(decode_impression(commit.data), commit.recorded_at)
