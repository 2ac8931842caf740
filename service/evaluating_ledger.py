"""`impledger evaluate --range`: what a model is worth on the ledger's own traffic, as far as labels say."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
from msgspec import Struct

from ledger.store import EventStore, read_everything
from ml.datasets.build import build
from ml.datasets.snapshot import Recipe, Snapshot
from ml.evaluation.labelled import labelled
from ml.evaluation.scored import Cell
from ml.evaluation.tables import Asked, Row, cut, row
from ml.models.artifact import ModelFacts, load, model_id
from ml.models.scorer import Scorer
from ml.training.bands import Costs
from service.machine import postgres_at_hand
from service.settings import Settings
from service.wiring import open_store

CUTS = ("surface", "format", "mask")

Tell = Callable[[str], None]


class NothingLabelled(ValueError):
    """No label speaks of an impression that the model's training did not see."""


class Range(Struct, frozen=True, kw_only=True):
    """Positions of the ledger, both included; without *last* to its head. *rounds* and *seed* draw the intervals."""

    first: int = 1
    last: int | None = None
    rounds: int = 200
    seed: int = 1


class LedgerEvaluation(Struct, frozen=True, kw_only=True):
    """
    What labels say of a model, on impressions decided after its data end.

    A row weighs as its labels are trusted. `unseen` are those of publishers that its training kept apart; `sample` is
    the random sample, weighted by propensity: it alone stands for all traffic. None: there are no such rows.
    `unreadable` commits were left out.
    """

    model: str
    facts: ModelFacts
    positions: tuple[int, int]
    snapshot: str
    unreadable: int
    rows: int
    labelled: Row
    unseen: Row | None
    sample: Row | None
    cuts: dict[str, list[Row]]


def evaluate_range(data: bytes, within: Range, settings: Settings, tell: Tell) -> LedgerEvaluation:
    """
    Evaluate the model in *data* on the ledger that *settings* name.

    Raises:
        CorruptArtifact, SchemaMismatch: *data* is no model for these features.
        NothingLabelled: no label speaks of any impression that training did not see.
        LauncherError: PostgreSQL cannot be started.
        LedgerUnavailable: the ledger does not answer.
    """
    artifact, name = load(data), model_id(data)
    with tempfile.TemporaryDirectory(prefix="impledger-evaluate-") as folder, postgres_at_hand(settings, tell):
        tell("reading the ledger")
        snapshot = asyncio.run(_read(open_store(settings), within, Path(folder)))
        told = labelled(snapshot, within.first, artifact.card, Scorer(artifact, name))
    if not len(told.frame):
        raise NothingLabelled(f"of {told.rows:,} impressions decided after the model's data end none has a label")
    asked = Asked(costs=Costs(), seed=within.seed, rounds=within.rounds)
    return LedgerEvaluation(
        model=name,
        facts=artifact.card,
        positions=snapshot.ledger_range,
        snapshot=snapshot.id,
        unreadable=snapshot.unreadable,
        rows=told.rows,
        labelled=row("labelled", Cell.of(told.frame), asked),
        unseen=_row("publishers unseen", told.frame.filter("held_out"), asked),
        sample=_row("random sample", told.sample, asked),
        cuts={by: cut(told.frame, by, asked) for by in CUTS},
    )


async def _read(store: EventStore, within: Range, folder: Path) -> Snapshot:
    """Read from the beginning: what counters and histories knew of the range stands before it."""
    try:
        until = await store.head() if within.last is None else within.last
        return await build(read_everything(store), until, Recipe(history=False), folder)
    finally:
        await store.close()


def _row(name: str, frame: pl.DataFrame, asked: Asked) -> Row | None:
    return row(name, Cell.of(frame), asked) if len(frame) else None
