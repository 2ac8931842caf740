"""What an evaluation asks beside its tables: rungs, groups of features, how long labels took, an adversary."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from msgspec.structs import replace

from commands.items import Answer
from domain.placement_events import Stage
from domain.vocabulary import Rung
from ml.datasets.build import build_of
from ml.datasets.snapshot import Recipe, Snapshot
from ml.evaluation.bootstrap import Estimate
from ml.evaluation.collect import collect
from ml.evaluation.frames import World, Worlds, rows_of, with_scores
from ml.evaluation.later import looked_again
from ml.evaluation.measures import outcome_measures, score_measures
from ml.evaluation.report import Again, Attack, Delay, RungRow
from ml.evaluation.scored import COLUMNS, MODEL, Cell
from ml.evaluation.tables import Against, Asked, Row, against_baselines, held_out, known, measured
from ml.evaluation.variants import Lesson, without
from ml.features.schema import Group
from ml.models.artifact import load, model_id
from ml.models.s3 import load_s3
from ml.models.scorer import Scorer
from ml.traffic.adversary import KEPT, Adversary, Round
from ml.traffic.events import Sending, Truth
from ml.traffic.families import TRAINABLE
from ml.traffic.feedback import Labels
from ml.traffic.generator import Plan, Traffic
from ml.training.params import Params
from ml.training.stages import train_s2
from ml.training.table import read_table
from service.evaluating_runs import Run, Scene, evaluation_seed, offline_gate, play, play_whole
from service.generated import START_MS, label_commit
from service.scoring import Line

HOUR_MS = 3_600_000
DELAYS = (("1 h", HOUR_MS), ("1 d", 24 * HOUR_MS), ("7 d", 7 * 24 * HOUR_MS), ("30 d", 30 * 24 * HOUR_MS))
ATTACK_ROUNDS, ATTACK_RUNS = 6, 2
ATTACKED_S = 86_400.0
LOOKED_AGAIN = (("1 h", HOUR_MS), ("1 d", 24 * HOUR_MS), ("7 d", 7 * 24 * HOUR_MS))
_RUNG_WORLD, _ATTACK_WORLD, _AGAIN_WORLD = 1_000, 2_000, 3_000
"""Numbers of worlds, apart from those of the tables."""
NOT_RUN = {
    Rung.STALE_REGISTRY: "changes no input of the model; what the copy denies is uncertain",
    Rung.STALE_BUDGET: "changes no input of the model and no verdict",
    Rung.SPOOLED: "scores as before; every verdict is uncertain until it is drained",
    Rung.SHELTERED: "nothing is read or scored; every verdict is uncertain until it is home",
}


class OnRung(NamedTuple):
    """A run on *rung*, of which *note* says what is special."""

    rung: Rung
    line: Line
    note: str
    history: bool = False


def rungs(scorer: Scorer, scene: Scene, impressions: int, asked: Asked) -> list[RungRow]:
    """Return a row for every rung, from a run of known families on it where the rung changes what is scored."""
    line, before = Line(champion=scorer), Line(previous=scorer)
    runs = [
        OnRung(Rung.FULL, line, "publishers' history given, as computed from this run's past", history=True),
        OnRung(Rung.NO_ASYNC, line, "no history of publishers"),
        OnRung(Rung.PARTIAL_CLIENT, line, "no measures of any client"),
        OnRung(Rung.PARTIAL_COUNTERS, line, "counters are not asked"),
        OnRung(Rung.MODEL_FALLBACK, before, "the model as the previous one: it advises, and drops nothing"),
        OnRung(Rung.MODEL_FALLBACK, Line(), "no model: rules alone"),
        OnRung(Rung.SHED, line, "figures of ranks and size are of what was scored all the same"),
        OnRung(Rung.STALE_LISTS, line, "same lists, older"),
    ]
    found = [on_rung(run, scene, impressions, asked) for run in runs]
    return found + [RungRow(rung=rung.value, mask=None, note=note, row=None) for rung, note in NOT_RUN.items()]


def on_rung(on: OnRung, scene: Scene, impressions: int, asked: Asked) -> RungRow:
    run = Run(
        seed=evaluation_seed(asked.seed, _RUNG_WORLD),
        impressions=impressions,
        line=on.line,
        rung=None if on.rung is Rung.FULL else on.rung,
        history=on.history,
        families=TRAINABLE,
    )
    frame = rows_of([play(run, scene, 0)]).frame.filter(~pl.col("settled"))
    scored = frame.filter(pl.col(MODEL).is_not_null())
    whole = Cell.of(frame.with_columns(pl.col(MODEL).fill_null(0.0)))
    figures = measured("", whole, outcome_measures(whole, asked.costs), asked).figures
    if len(scored):
        cell = Cell.of(scored)
        figures |= measured("", cell, score_measures(cell, MODEL, is_probability=True), asked).figures
    found = replace(measured(on.rung.value, whole, {}, asked), figures=figures)
    return RungRow(rung=on.rung.value, mask=_masks_in(scored), note=on.note, row=found)


def _masks_in(scored: pl.DataFrame) -> str | None:
    """Name the masks that most of the rows had, with their shares."""
    if not len(scored):
        return None
    counts = scored["mask"].value_counts(sort=True).head(2)
    return ", ".join(f"{mask} {count / len(scored):.0%}" for mask, count in counts.iter_rows())


def ablations(rows: Worlds, taught: Lesson, params: Params, seed: int, asked: Asked) -> list[Against]:
    """Return what known families look like to models that were trained without one group of features each."""
    whole = without(taught, (), params, seed).score(rows.vectors.values)
    scores = {
        f"without {group.value}": without(taught, (group,), params, seed).score(rows.vectors.values) for group in Group
    }
    frame = with_scores(rows.frame.select(pl.exclude(MODEL)), {MODEL: whole, **scores})
    return against_baselines(Cell.of(known(frame).filter(~pl.col("settled"))), asked)


def delays(rows: Worlds, snapshot: Snapshot, params: Params, asked: Asked) -> list[Delay]:
    """Return how models do that were trained with the labels that had arrived so long after the last decision."""
    found = []
    last_at = snapshot.scan("rows").select(pl.col("decided_at").max()).collect().item()
    for after, delay_ms in DELAYS:
        seen = replace(snapshot, cutoff=last_at + delay_ms)
        trained = train_s2(seen, params, asked.seed)
        scores = Scorer(load(trained.data)).score(rows.vectors).risk
        frame = with_scores(rows.frame.select(pl.exclude(MODEL)), {MODEL: scores})
        cell = Cell.of(known(frame).filter(~pl.col("settled")))
        told = read_table(seen).told
        of_score = measured(after, cell, score_measures(cell, MODEL, is_probability=True), asked)
        found.append(Delay(after=after, labels=len(told.row), positives=int(told.is_invalid.sum()), row=of_score))
    return found


def looking_again(scorer: Scorer, later: bytes, scene: Scene, impressions: int, asked: Asked) -> list[Again]:
    """Return how the model in *later*, of stage S3, does some time after the decisions of *scorer*."""
    run = Run(seed=evaluation_seed(asked.seed, _AGAIN_WORLD), impressions=impressions, line=Line(champion=scorer))
    commits, truths = play_whole(run, scene)
    rows = rows_of([World(1, collect(commits, scene.pack), truths)])
    decided = rows.frame.with_columns(impression=pl.Series(rows.impressions)).filter(~pl.col("settled"))
    artifact, name = load_s3(later), model_id(later, Stage.S3)
    with tempfile.TemporaryDirectory(prefix="impledger-again-") as folder:
        told = Labels(run.seed, held_out=True).of(truths)
        labels = [label_commit(feedback, len(commits) + at) for at, feedback in enumerate(told, start=1)]
        snapshot = build_of([*commits, *labels], Recipe(seed=run.seed, history=False), Path(folder))
        scores = {after: looked_again(snapshot, artifact, after_ms) for after, after_ms in LOOKED_AGAIN}
    return [_again(name, after, decided, score, asked) for after, score in scores.items()]


def _again(name: str, after: str, decided: pl.DataFrame, score: pl.DataFrame, asked: Asked) -> Again:
    both = decided.join(score, on="impression", maintain_order="left").drop("impression")
    found: dict[str, Row] = {}
    for which, part in (("known", known(both)), ("held_out", held_out(both))):
        for suffix, p in (("", "again"), ("_decided", MODEL)):
            cell = Cell.of(part.select(*COLUMNS, pl.col(p).alias(MODEL)))
            found[which + suffix] = measured(after, cell, score_measures(cell, MODEL, is_probability=True), asked)
    return Again(model=name, after=after, **found)


def attacks(scorer: Scorer, scene: Scene, asked: Asked) -> list[Attack]:
    """Return how far an adversary gets against rules alone, and against the model."""
    return [
        _attack("rules alone", Line(), scene, asked),
        _attack("rules and model", Line(champion=scorer), scene, asked),
    ]


def _attack(against: str, line: Line, scene: Scene, asked: Asked) -> Attack:
    seeds = [evaluation_seed(asked.seed, _ATTACK_WORLD + run) for run in range(ATTACK_RUNS)]
    runs = [attacked(line, scene, seed, ATTACK_ROUNDS) for seed in seeds]
    first, last = [rounds[0] for rounds, _ in runs], [rounds[-1] for rounds, _ in runs]
    habits = [way.habits() for round_ in last for way in round_.ways[:KEPT]]
    return Attack(
        against=against,
        runs=ATTACK_RUNS,
        rounds=ATTACK_ROUNDS,
        impressions=sum(sent for _, sent in runs),
        counted_before=_over_runs([float(np.mean(round_.counted)) for round_ in first]),
        counted_after=_over_runs([float(np.mean(round_.counted[:KEPT])) for round_ in last]),
        earned_before=_over_runs([float(np.mean(round_.earned)) for round_ in first]),
        earned_after=_over_runs([float(np.mean(round_.earned[:KEPT])) for round_ in last]),
        tuned={name: float(np.median([one[name] for one in habits])) for name in habits[0]},
    )


def attacked(line: Line, scene: Scene, seed: int, rounds: int) -> tuple[list[Round], int]:
    """Return the *rounds* of one adversary against *line*, and how many events it sent."""
    sent = 0
    with offline_gate(Run(seed=seed, impressions=1, line=line), scene, ATTACKED_S) as gate:

        def decide(sendings: Sequence[Sending]) -> Sequence[Answer]:
            nonlocal sent
            sent += len(sendings)
            gate.take()
            return gate.decide(sendings)

        market = Traffic(Plan(seed=seed, rate=1.0, seconds=ATTACKED_S), gate.minter, _forget).market
        adversary = Adversary(seed, gate.minter, market, _forget)
        at, played = START_MS, []
        for _ in range(rounds):
            played.append(adversary.round(decide, at))
            at = played[-1].ends_ms + 1
    return played, sent


def _forget(_: Truth) -> None:
    """The adversary's truth is known: all of it is invalid."""


def _over_runs(values: Sequence[float]) -> Estimate:
    return Estimate(float(np.mean(values)), min(values), max(values))
