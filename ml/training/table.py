"""A data set in memory, as training reads it: the renders that a stage learns from, and what labels say of them."""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from domain.vocabulary import AgentClass, DataSet, Label, LabelSource
from ml.datasets.rows import FEATURES
from ml.datasets.snapshot import Snapshot
from ml.datasets.split import Entities
from ml.labels.beliefs import arrived, beliefs
from ml.models.artifact import Stage

Floats = NDArray[np.float64]

ROWS_MAX = 2_000_000
"""Most rows that are read; of more, the newest."""
_DECLARED = (AgentClass.DECLARED_BOT.value, AgentClass.NOT_A_BROWSER.value)
_READ = ("impression", "position", "decided_at", "publisher", "person", "device", "reason", "propensity")


class Told(NamedTuple):
    """Labels that had arrived: place of the row, source, whether it says invalid, delay in ms, trust in [0, 1]."""

    row: NDArray[np.int64]
    source: NDArray[np.object_]
    is_invalid: NDArray[np.bool_]
    delay_ms: Floats
    trust: Floats


class Table(NamedTuple):
    """By row: facts, features (n, width), age at the cut-off in ms, how far labels say invalid and human, in [0, 1]."""

    facts: pl.DataFrame
    features: Floats
    age_ms: Floats
    invalid: Floats
    human: Floats
    told: Told

    @property
    def decided_at(self) -> NDArray[np.int64]:
        return self.facts["decided_at"].to_numpy()

    @property
    def entities(self) -> Entities:
        names = self.facts["publisher"].to_numpy().astype(object)
        return Entities(names, self.facts["person"].to_numpy(), self.facts["device"].to_numpy())


def read_table(snapshot: Snapshot, stage: Stage) -> Table:
    """
    Return what *stage* may learn from in *snapshot*.

    These are live renders that began, the last of each impression. What names itself a bot is settled by that, and no
    target (semantics 18 of the design), so it is no example of anything else either. Verdicts choose nothing.
    """
    rows = (
        snapshot.scan("rows")
        .filter(pl.col("begun") & (pl.col("data_set") == DataSet.LIVE.value) & ~pl.col("agent_class").is_in(_DECLARED))
        .select(*_READ, *FEATURES)
        .collect()
        .unique("impression", keep="last", maintain_order=True)
        .tail(ROWS_MAX)
        .with_row_index("row")
    )
    ages = rows.select("impression", "row", "decided_at", known_at=pl.lit(snapshot.recipe.cutoff))
    known = arrived(snapshot.scan("labels").collect(), ages, stage)
    said = rows.select("impression").join(beliefs(known), on="impression", how="left", maintain_order="left")
    return Table(
        facts=rows.select("row", *_READ),
        features=rows.select(FEATURES).to_numpy().astype(np.float64),
        age_ms=(snapshot.recipe.cutoff - rows["decided_at"].to_numpy()).astype(np.float64),
        invalid=said["invalid"].fill_null(0.0).to_numpy(),
        human=said["human"].fill_null(0.0).to_numpy(),
        told=told_of(known),
    )


def told_of(known: pl.DataFrame) -> Told:
    """Return the labels in *known*, see `arrived`, whose rows carry `row` and `decided_at`."""
    ordered = known.sort("row", "source")
    return Told(
        row=ordered["row"].to_numpy().astype(np.int64),
        source=np.array([LabelSource(source) for source in ordered["source"]], object),
        is_invalid=(ordered["label"] == Label.INVALID.value).to_numpy(),
        delay_ms=(ordered["arrived_at"] - ordered["decided_at"]).to_numpy().astype(np.float64),
        trust=ordered["trust"].to_numpy(),
    )
