"""
What scoring costs: the kernel beside scikit-learn and treelite, each part of a gate's way; the seed as only argument.

CPU in microseconds a row or render. Each batch's part is the least of rounds, then the mean of batches: the machine is
shared. Prints JSON.
"""

import asyncio
import itertools
import json
import platform
import sys
import time
from pathlib import Path

import numba
import numpy as np
import sklearn
import treelite
from sklearn.ensemble import HistGradientBoostingClassifier
from treelite import gtil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gatekit import EVERYTHING, PACK, KitGate
from modelkit import an_artifact

from commands.activity import Conduct
from commands.items import Caller, Ready
from commands.judge import render_of
from commands.ladder import Ladder
from commands.observing import GuardedActivity
from commands.recent import RecentSlots
from commands.scoring import ScoringActivity, Shedding
from domain.decide import decide
from domain.impression import Unseen
from domain.reasons import CLASS_OF, ReasonClass
from domain.render import Kind
from domain.token import TokenKey
from ledger.codec import encode
from ml.counters.tables import Capacities
from ml.features.logged import pack
from ml.features.matrix import vectors
from ml.features.publishers import NO_HISTORY
from ml.features.schema import SCHEMA, SHARED_TABLES
from ml.lists.live import LiveLists
from ml.lists.packaged import packaged, packaged_date_ms
from ml.lists.screen_lists import Lists
from ml.models import kernel
from ml.models.export import of_sklearn
from ml.models.scorer import Scorer
from ml.registry.guards import LIMITS
from ml.traffic.generator import Plan, Traffic
from ml.traffic.shot import Minter
from ml.training.trees import TreeRules
from service.activity import CountedActivity
from service.contest import Contest
from service.scoring import GateScoring, Line, ModelHolder, Sample
from service.serving import calm_collector

START = 1_790_000_000_000
EVENTS, BATCH, BATCHES, ROUNDS = 30_000, 100, 60, 15
CAPACITIES = Capacities(*[32_768] * 8)
RULES = TreeRules()
SETTLED = {ReasonClass.NOT_COUNTED, ReasonClass.POLICY, ReasonClass.GIVT}
"""Classes of reasons that a model cannot come before."""


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    items, people = asyncio.run(_renders(seed))
    counted, x = _watched(items)
    y = np.array([item.claim.cause not in people for item in items])
    y ^= np.random.default_rng(seed).random(len(y)) < 0.1
    given = {"max_iter": RULES.trees, "max_depth": RULES.depth_max, "max_leaf_nodes": RULES.leaves_max}
    x[:, np.isnan(x).all(axis=0)] = 0.0  # scikit-learn cannot bin what nobody knows
    model = HistGradientBoostingClassifier(random_state=seed, early_stopping=False, **given).fit(x, y)
    forest = kernel.forest(of_sklearn(model))
    scorer = Scorer(an_artifact(of_sklearn(model)), "s2-benchmark")
    batches = [items[at : at + BATCH] for at in range(0, len(items) - BATCH, BATCH)]
    before, batches, counted = batches[:-BATCHES], batches[-BATCHES:], counted[len(batches) - BATCHES : len(batches)]
    calm_collector()
    print(
        json.dumps(
            {
                "machine": {"processor": platform.machine(), "cores": 2, "python": platform.python_version()},
                "versions": {one.__name__: one.__version__ for one in (numba, np, sklearn, treelite)},
                "seed": seed,
                "model": {**given, "nodes": len(forest.value)},
                "features": len(SCHEMA),
                "us_per_row": {n: _kernels(model, forest, x[:n]) for n in (1, 32, 512)},
                "parity_difference": float(np.abs(kernel.margins(forest, x) - model.decision_function(x)).max()),
                "us_per_render_at_100": _way(before, batches, counted, scorer, forest),
                "screen_first": _screen_first(batches, counted, scorer),
            },
            indent=2,
        )
    )


async def _renders(seed: int) -> tuple[list[Ready], set]:
    """Prepared renders of generated traffic, and the event ids of people's."""
    people = set()
    kit = KitGate()
    kit.lists = LiveLists(Lists(packaged()), refreshed_ms=packaged_date_ms(), is_refreshed=False)
    kit.now = START + 600_000
    kit.restart()
    minter = Minter("k1", TokenKey(b"s" * 32, b"p" * 32), b"h" * 32, "eu")
    traffic = Traffic(
        Plan(seed=seed, rate=200, seconds=3_600, people=4_000),
        minter,
        lambda truth: people.add(truth.event_id) if truth.human else None,
    )
    items: list[Ready] = []
    caller = Caller(EVERYTHING, "Mozilla/5.0", "::1")
    sendings = itertools.islice(traffic.sendings(START), EVENTS)
    while some := list(itertools.islice(sendings, 500)):
        kit.now = some[-1].at_ms + 50
        prepared = await kit.intake.prepare([one.event.body(one.at_ms, one.attempt) for one in some], caller)
        items += [one for one in prepared if isinstance(one, Ready) and one.kind is Kind.RENDER]
    return items, people


def _watched(items):
    """What counters say of each, batch by batch, and the vectors."""
    activity, features, found = CountedActivity(PACK.rates, 0, more=SHARED_TABLES), [], []
    for at in range(0, len(items), BATCH):
        batch = items[at : at + BATCH]
        activity.look(batch)
        features.append(activity.take_features())
        claims = [item.claim for item in batch]
        found.append(vectors(claims, features[-1]).values)
        activity.count(claims)
    return features, np.concatenate(found)


def _us(work, batches, rows, rounds=ROUNDS) -> float:
    least = [float("inf")] * len(batches)
    for _ in range(rounds):
        for at, batch in enumerate(batches):
            began = time.thread_time_ns()
            work(batch)
            least[at] = min(least[at], time.thread_time_ns() - began)
    return _mean_us(least, rows)


def _mean_us(least, rows) -> float:
    return round(sum(least) / len(least) / rows / 1e3, 2)


def _kernels(model, forest, x) -> dict:
    trees = treelite.sklearn.import_model(model)
    n, many = len(x), [x.copy() for _ in range(50)]
    single = x.astype(np.float64)
    return {
        "kernel": _us(lambda rows: kernel.margins(forest, rows), many, n),
        "scikit-learn": _us(model.decision_function, many, n, 5),
        "treelite": _us(lambda rows: gtil.predict(trees, rows, nthread=1, pred_margin=True), [single] * 20, n, 5),
    }


class Gate:
    """What a gate does to a batch from the look to the bytes of its commits, and to counters when they are there."""

    def __init__(self, before, scorer=None) -> None:
        ladder = Ladder(time.monotonic)
        self.counted = CountedActivity(PACK.rates, 0, CAPACITIES, SHARED_TABLES if scorer else ())
        for batch in before:
            self.counted.count(_claims(batch))
        self.looks = guarded = GuardedActivity(self.counted, ladder)
        if scorer is not None:
            models = ModelHolder(Line(scorer))
            contest = Contest("benchmark", LIMITS, lambda: START)
            scoring = GateScoring(self.counted.take_features, models, Sample(b"k" * 32), ladder, contest)
            self.looks = ScoringActivity(guarded, scoring, ladder, Shedding(ladder, PACK))
        self._slots = RecentSlots(0, PACK.double_fire_window_ms)

    def steps(self, batch):
        """Do a batch, a step at a time; yield what each did."""
        conducts = self.looks.look(batch)
        yield conducts
        commands = [self._command(conducts, at, item) for at, item in enumerate(batch)]
        yield commands
        decisions = [decide(Unseen(), command) for command in commands]
        yield decisions
        yield [encode(events) for events in decisions]
        yield self.counted.count(_claims(batch))

    def _command(self, conducts, at, item):
        return render_of(item, PACK, self._slots, conducts.get(at, _PLAIN), now=item.claim.received_at)


STEPS = ("look", "judge", "decide", "encode", "count")


def _beside(before, batches, scorer) -> list[dict]:
    """What each step costs without scoring and with it; both take turns batch by batch."""
    least = np.full((2, len(STEPS), len(batches)), np.inf)
    for _ in range(ROUNDS):
        gates = Gate(before), Gate(before, scorer)
        for at, batch in enumerate(batches):
            for number, gate in enumerate(gates):
                began = time.thread_time_ns()
                for step, _ in enumerate(gate.steps(batch)):
                    ended = time.thread_time_ns()
                    least[number, step, at] = min(least[number, step, at], ended - began)
                    began = time.thread_time_ns()
    return [
        {step: _mean_us(found, BATCH) for step, found in zip(STEPS, steps.tolist(), strict=True)} for steps in least
    ]


def _way(before, batches, counted, scorer, trees) -> dict:
    """Each part of a gate's way that scoring adds, and the way with and without all of it."""
    sample, claims = Sample(b"k" * 32), [_claims(batch) for batch in batches]
    given = list(zip(claims, counted, strict=True))
    found = [vectors(*one) for one in given]
    without, scored = _beside(before, batches, scorer)
    plain, more = (
        sum(len(data) for batch in batches for data in list(gate.steps(batch))[3]) / len(batches) / BATCH
        for gate in (Gate(before), Gate(before, scorer))
    )
    return {
        "without_scoring": without,
        "scored": scored,
        "scoring": round(sum(scored.values()) - sum(without.values()), 2),
        "parts": {
            "vectors": _us(lambda one: vectors(*one), given, BATCH),
            "score": _us(scorer.score, found, BATCH),
            "kernel": _us(lambda one: kernel.margins(trees, one.values), found, BATCH),
            "packing": _us(pack, found, BATCH),
            "sampling": _us(sample.drawn, claims, BATCH),
        },
        "commit_bytes": round(plain),
        "scored_commit_bytes": round(more),
    }


_PLAIN = Conduct()


def _claims(batch):
    return [item.claim for item in batch]


def _screen_first(batches, counted, scorer) -> dict:
    """What the screen settles by itself, and what scoring only the rest of each batch would save."""
    rests = [[at for at, item in enumerate(batch) if not _is_settled(item)] for batch in batches]
    claims = [_claims(batch) for batch in batches]

    def some(one):
        names, features, rest = one
        chosen = type(features)(features.values[rest], features.status[rest])
        found = vectors([names[at] for at in rest], chosen, NO_HISTORY)
        return scorer.score(found), pack(found)

    def every(one):
        names, features, _ = one
        found = vectors(names, features, NO_HISTORY)
        return scorer.score(found), pack(found)

    parts = list(zip(claims, counted, rests, strict=True))
    return {
        "settled_share": round(1 - sum(map(len, rests)) / BATCH / len(batches), 4),
        "us_per_render_all": _us(every, parts, BATCH),
        "us_per_render_rest_only": _us(some, parts, BATCH),
    }


def _is_settled(item) -> bool:
    return bool(item.reasons) and CLASS_OF[item.reasons[0]] in SETTLED


if __name__ == "__main__":
    main()
