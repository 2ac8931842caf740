"""`impledger evaluate`: what a model is worth on traffic that its training never saw, and on a real log."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from domain.pack import Pack
from ml.datasets.build import build_of
from ml.datasets.snapshot import Recipe, Snapshot
from ml.evaluation import baselines
from ml.evaluation.card import PLOTS
from ml.evaluation.frames import Worlds, rows_of, with_scores
from ml.evaluation.metrics import Floats
from ml.evaluation.plots import calibration_curve, precision_recall, score_histogram
from ml.evaluation.real import UNREAD, log_vectors, network_rules, read_log
from ml.evaluation.real_table import RealTable, real_table
from ml.evaluation.report import Data, Evaluation
from ml.evaluation.scored import MODEL, Cell
from ml.evaluation.tables import Asked, held_out, known, table
from ml.evaluation.variants import COUNTED, lesson, without
from ml.models.artifact import ModelArtifact, load, model_id
from ml.models.scorer import Scorer
from ml.training.bands import Costs
from ml.training.params import Params
from ml.training.stages import train_s2, train_s3
from ml.training.table import read_table
from service import evaluating_studies as studies
from service.evaluating_runs import Run, Scene, evaluation_seed, play
from service.generated import Generated, generate
from service.scoring import Line
from service.wiring import ScreenLists

WORLDS = 4
RUNG_SHARE, AGAIN_SHARE = 0.05, 0.1
"""Impressions of the run on each rung, and of the one that is looked at again, as shares of all."""

Tell = Callable[[str], None]


class Order(Struct, frozen=True, kw_only=True):
    """
    What to evaluate on: *impressions* in so many *worlds*, runs of the generator, and *access_log* if there is one.

    Baselines, and the model if none is given, are trained on *training_impressions* of *training_seed*. Without
    *studies* there are tables alone.
    """

    impressions: int = 200_000
    worlds: int = WORLDS
    seed: int = 1
    rounds: int = 200
    training_impressions: int = 60_000
    training_seed: int = 1
    access_log: Path | None = None
    studies: bool = True


class Evaluated(NamedTuple):
    """What was found, and plots as SVG by name."""

    found: Evaluation
    plots: dict[str, str]


class _Subject(NamedTuple):
    name: str
    artifact: ModelArtifact
    scorer: Scorer


def evaluate_generated(data: bytes | None, order: Order, pack: Pack, tell: Tell) -> Evaluated:
    """
    Evaluate the model in *data*, one that is trained for it if that is None, on generated traffic.

    Always the same for the same; neither ledger nor clock is read.

    Raises:
        CorruptArtifact, SchemaMismatch: *data* is no model for these features.
        OneClass: the training traffic is too little to learn from.
        OSError: the access log cannot be read.
    """
    given = None if data is None else _subject(data)
    with tempfile.TemporaryDirectory(prefix="impledger-evaluate-") as folder:
        tell(f"generating {order.training_impressions:,} impressions to train on")
        return _Work(given, order, pack, Path(folder)).evaluate(tell)


class _Work:
    """One evaluation: the model, what baselines learn from, and how to measure."""

    def __init__(self, given: _Subject | None, order: Order, pack: Pack, folder: Path) -> None:
        self._order, self._params = order, Params()
        self._scene = Scene(pack, ScreenLists())
        self._snapshot = _taught(order, pack, folder)
        self._taught = lesson(read_table(self._snapshot), self._params, order.training_seed)
        self._subject = _subject(self._trained()) if given is None else given
        self._asked = Asked(costs=_costs(self._subject.artifact), seed=order.seed, rounds=order.rounds)
        weight = np.ones(len(self._taught.chance))
        self._logistic = baselines.logistic(self._taught.rows, self._taught.chance, weight)
        self._without_counters = without(self._taught, COUNTED, self._params, order.training_seed)

    def evaluate(self, tell: Tell) -> Evaluated:
        order, subject, asked = self._order, self._subject, self._asked
        rows = self._played(tell)
        tell("measuring")
        frame = with_scores(rows.frame, self._scores(rows))
        found = Evaluation(
            model=subject.name,
            stage=subject.artifact.stage.value,
            facts=subject.artifact.card,
            data=_data(frame, rows, order),
            costs=asked.costs,
            seed=order.seed,
            known=table("Known families", known(frame), asked, ~pl.col("held_out")),
            held_out=table("Held-out families", held_out(frame), asked, pl.col("held_out")),
            real=None if order.access_log is None else self._real(order.access_log),
        )
        if order.studies:
            found = self._with_studies(found, rows, tell)
        return Evaluated(found, _plots(Cell.of(known(frame).filter(~pl.col("settled")))))

    def _trained(self) -> bytes:
        return train_s2(self._snapshot, self._params, self._order.training_seed).data

    def _played(self, tell: Tell) -> Worlds:
        order, worlds = self._order, []
        for number in range(order.worlds):
            tell(f"world {number + 1} of {order.worlds}")
            run = Run(
                seed=evaluation_seed(order.seed, number),
                impressions=order.impressions // order.worlds,
                line=Line(champion=self._subject.scorer),
            )
            worlds.append(play(run, self._scene, number + 1))
        return rows_of(worlds)

    def _scores(self, rows: Worlds) -> dict[str, Floats]:
        values = rows.vectors.values
        return {
            baselines.RULES: baselines.rules(rows.frame["outcome_by_rules"].to_numpy().astype(str)),
            baselines.RATE: baselines.rate(values, self._scene.pack.rates.unusual),
            baselines.LOGISTIC: self._logistic.score(values),
            baselines.WITHOUT_COUNTERS: self._without_counters.score(values),
        }

    def _real(self, path: Path) -> RealTable:
        lists, pack = self._scene.lists.lists, self._scene.pack
        log = read_log(path, lists)
        seen = log_vectors(log)
        scores = {
            MODEL: self._subject.scorer.score(seen, UNREAD).risk,
            baselines.RULES: network_rules(log),
            baselines.RATE: baselines.rate(seen.values, pack.rates.unusual),
            baselines.LOGISTIC: self._logistic.score(seen.values),
            baselines.WITHOUT_COUNTERS: self._without_counters.score(seen.values),
        }
        return real_table(log, scores, seen, self._asked)

    def _with_studies(self, found: Evaluation, rows: Worlds, tell: Tell) -> Evaluation:
        order, scene, asked, scorer = self._order, self._scene, self._asked, self._subject.scorer
        tell("every rung")
        rungs = studies.rungs(scorer, scene, int(order.impressions * RUNG_SHARE), asked)
        tell("without groups of features")
        ablations = studies.ablations(rows, self._taught, self._params, order.training_seed, asked)
        tell("labels that were waited for")
        delays = studies.delays(rows, self._snapshot, self._params, asked)
        tell("looking again")
        later = train_s3(self._snapshot, self._params, order.training_seed)
        again = studies.looking_again(scorer, later.data, scene, int(order.impressions * AGAIN_SHARE), asked)
        tell("an adversary")
        attacks = studies.attacks(scorer, scene, asked)
        return replace(found, rungs=rungs, ablations=ablations, delays=delays, again=again, attacks=attacks)


def _taught(order: Order, pack: Pack, folder: Path) -> Snapshot:
    """Generate what is trained on, with labels as late and as wrong as they come."""
    commits = generate(Generated(impressions=order.training_impressions, seed=order.training_seed), pack)
    return build_of(commits, Recipe(seed=order.training_seed, generated=True), folder)


def _subject(data: bytes) -> _Subject:
    artifact, name = load(data), model_id(data)
    return _Subject(name, artifact, Scorer(artifact, name))


def _costs(artifact: ModelArtifact) -> Costs:
    """Return the costs that the model's bands were made for."""
    return msgspec.convert(artifact.card.costs, Costs)


def _data(frame: pl.DataFrame, rows: Worlds, order: Order) -> Data:
    open_, whole = frame.filter(~pl.col("settled")), len(frame) + rows.aside
    return Data(
        origin=f"{whole:,} generated impressions in {order.worlds} worlds, all families; seed {order.seed}",
        baselines_from=f"{order.training_impressions:,} other generated impressions, none of held-out families, with "
        f"labels as they arrive; seed {order.training_seed}",
        gross=len(frame),
        settled=len(frame) - len(open_),
        aside=rows.aside,
        invalid=int(frame["y"].sum()),
        left_open=len(open_),
        left_open_invalid=int(open_["y"].sum()),
    )


def _plots(cell: Cell) -> dict[str, str]:
    return dict(zip(PLOTS, (calibration_curve(cell), precision_recall(cell), score_histogram(cell)), strict=True))
