"""`impledger train`: from a ledger, the real one or one of generated traffic, to data set, models and report."""

import asyncio
import resource
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from domain.placement_events import Stage
from ledger.store import EventStore, read_everything
from ml.datasets.build import MAKING, build, build_of
from ml.datasets.snapshot import Recipe, Snapshot
from ml.models.masks import FULL
from ml.training.fit import MaskFigures, Trained
from ml.training.params import Params
from ml.training.stages import train_s2, train_s3
from ml.training.trees import OneClass
from service.generated import Generated, generate
from service.machine import postgres_at_hand
from service.settings import Settings
from service.wiring import load_pack, open_store

DATASETS, MODELS = "datasets", "models"
"""Folders in the data folder."""
DATASETS_KEPT = 3
"""Data sets in the data folder; older ones are deleted when another is made."""
ABANDONED_S = 86_400.0
"""A data set on its way of which nothing was written for so long is nobody's any more: whoever made it was killed."""
_MIB = 1 << 20

Tell = Callable[[str], None]


class Clock:
    """What was spent since this was made, by this process."""

    def __init__(self) -> None:
        self._began, self._cpu_began = time.monotonic(), time.process_time()

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._began, 2)

    @property
    def cpu_seconds(self) -> float:
        return round(time.process_time() - self._cpu_began, 2)


class Order(Struct, frozen=True, kw_only=True):
    """
    What to train: on the ledger up to position *until* (None: its head), as known at *cutoff* (None: at its end).

    *later*: also the model that looks again.
    """

    seed: int = 1
    params: Params = Params()
    until: int | None = None
    cutoff: int | None = None
    later: bool = True


class ModelReport(Struct, frozen=True, kw_only=True):
    """
    A model and how it did on the last part of its data, as far as labels say. `uncertain_share`: what would be left
    undecided for its sake with nothing missing.
    """

    model: str
    file: str
    bytes: int
    rows: dict[str, int]
    positives: dict[str, int]
    invalid_share: float
    uncertain_share: float
    masks: dict[str, MaskFigures]


class TrainReport(Struct, frozen=True, kw_only=True):
    """
    What was trained on what, and what it cost. `why_not`: the reason for a model that is missing, by stage;
    `unreadable`: commits that could not be read, and were left out.
    """

    snapshot: str
    schema: str
    ledger_range: tuple[int, int]
    cutoff: int
    parts: dict[str, int]
    unreadable: int
    seed: int
    models: dict[str, ModelReport]
    why_not: dict[str, str]
    seconds: float
    cpu_seconds: float
    memory_mib: float


class NothingToLearn(ValueError):
    """The ledger has no labels that a model could be trained on."""


def train_on_ledger(settings: Settings, order: Order, tell: Tell) -> TrainReport:
    """
    Train on the ledger that *settings* name; PostgreSQL is started for it if it is embedded and does not run.

    Raises:
        NothingToLearn: labels say too little.
        LauncherError: PostgreSQL cannot be started.
        LedgerUnavailable: the ledger does not answer.
    """
    clock = Clock()
    _forget_abandoned(settings.data_dir / DATASETS)
    with postgres_at_hand(settings, tell):
        tell("reading the ledger")
        snapshot = asyncio.run(_read(open_store(settings), order, settings.data_dir / DATASETS))
    _forget_old(settings.data_dir / DATASETS)
    return train(snapshot, order, settings.data_dir / MODELS, clock, tell)


def train_on_generated(settings: Settings, order: Order, generated: Generated, tell: Tell) -> TrainReport:
    """
    Train on *generated* traffic. Neither ledger nor clock is read.

    Raises:
        NothingToLearn: there is too little.
    """
    clock = Clock()
    tell(f"generating {generated.impressions:,} impressions in {generated.worlds} worlds")
    commits = generate(generated, load_pack(settings.rule_pack))
    folder = settings.data_dir / DATASETS
    _forget_abandoned(folder)
    snapshot = build_of(commits, Recipe(cutoff=order.cutoff, seed=order.seed, generated=True), folder)
    _forget_old(folder)
    return train(snapshot, order, settings.data_dir / MODELS, clock, tell)


async def _read(store: EventStore, order: Order, folder: Path) -> Snapshot:
    try:
        until = await store.head() if order.until is None else order.until
        recipe = Recipe(cutoff=order.cutoff, seed=order.seed)
        return await build(read_everything(store), until, recipe, folder)
    finally:
        await store.close()


def train(snapshot: Snapshot, order: Order, folder: Path, clock: Clock, tell: Tell) -> TrainReport:
    """
    Train what *order* asks for on *snapshot* and keep the models in *folder*.

    Raises:
        NothingToLearn: labels say too little.
    """
    models: dict[str, ModelReport] = {}
    why_not: dict[str, str] = {}
    for stage in (Stage.S2, Stage.S3) if order.later else (Stage.S2,):
        tell(f"training {stage.value} on {snapshot.parts['rows']:,} rows and {snapshot.parts['labels']:,} labels")
        try:
            trained = _STAGES[stage](snapshot, order.params, order.seed)
        except OneClass as error:
            why_not[stage.value] = str(error)
            continue
        models[stage.value] = _report(trained, keep(trained, folder))
    if Stage.S2.value not in models:
        raise NothingToLearn(
            f"{snapshot.parts['labels']:,} labels of {snapshot.parts['rows']:,} renders: {why_not[Stage.S2.value]}"
        )
    return TrainReport(
        snapshot=snapshot.id,
        schema=snapshot.schema_id,
        ledger_range=snapshot.ledger_range,
        cutoff=snapshot.cutoff,
        parts=snapshot.parts,
        unreadable=snapshot.unreadable,
        seed=order.seed,
        models=models,
        why_not=why_not,
        seconds=clock.seconds,
        cpu_seconds=clock.cpu_seconds,
        memory_mib=memory_mib(),
    )


def keep(trained: Trained, folder: Path) -> Path:
    """Write a model where its name, which is its content's, says that it is whole; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{trained.model}.model"
    new = file.with_suffix(".new")
    new.write_bytes(trained.data)
    new.replace(file)
    return file


def memory_mib() -> float:
    """Return the most memory that this process has used so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (_MIB if sys.platform == "darwin" else 1 << 10), 1)


def _report(trained: Trained, file: Path) -> ModelReport:
    return ModelReport(
        model=trained.model,
        file=str(file),
        bytes=len(trained.data),
        rows=trained.rows,
        positives=trained.positives,
        invalid_share=trained.invalid_share,
        uncertain_share=trained.masks[FULL].open_share,
        masks=trained.masks,
    )


def _forget_old(folder: Path) -> None:
    made = sorted(folder.glob("data-*"), key=lambda one: one.stat().st_mtime, reverse=True)
    for old in made[DATASETS_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def _forget_abandoned(folder: Path) -> None:
    for making in folder.glob(f"{MAKING}*"):
        with suppress(FileNotFoundError):  # another training has just made it whole
            if making.stat().st_mtime < time.time() - ABANDONED_S:
                shutil.rmtree(making, ignore_errors=True)


_STAGES = {Stage.S2: train_s2, Stage.S3: train_s3}
