"""A data set in memory, as training reads it: the renders that a stage learns from, and what labels say of them."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from domain.placement_events import Stage
from domain.vocabulary import AgentClass, DataSet, Label, LabelSource
from ml.datasets.later import later_columns
from ml.datasets.rows import FEATURES
from ml.datasets.snapshot import Snapshot
from ml.datasets.split import Entities
from ml.features.later import LATER_NAMES, widened
from ml.features.schema import PLACE
from ml.labels.beliefs import arrived, beliefs
from ml.labels.sources import LESSONS, Sight

Floats = NDArray[np.float64]

ROWS_MAX = 2_000_000
"""Most rows that are read; of more, the newest."""
AGES_MS = (3_600_000, 6 * 3_600_000, 24 * 3_600_000)
"""How long after its decision a row is scored again."""
_DECLARED = (AgentClass.DECLARED_BOT.value, AgentClass.NOT_A_BROWSER.value)
_READ = (
    *("impression", "position", "event_at", "decided_at", "recorded_at"),
    *("publisher", "person", "device", "reason", "families", "propensity"),
)


class Told(NamedTuple):
    """Labels that had arrived: place of the row, source, whether it says invalid, delay in ms, trust in [0, 1]."""

    row: NDArray[np.int64]
    source: NDArray[np.object_]
    is_invalid: NDArray[np.bool_]
    delay_ms: Floats
    trust: Floats

    def of(self, sight: Sight) -> "Told":
        """Return those that say invalid, of sources of *sight*."""
        sources = [source for source, lesson in LESSONS.items() if lesson.sight is sight]
        kept = self.is_invalid & np.isin(self.source, sources)
        return Told(self.row[kept], self.source[kept], self.is_invalid[kept], self.delay_ms[kept], self.trust[kept])


class Table(NamedTuple):
    """
    By row: facts, features (n, width), age at the cut-off in ms, how far labels say invalid and human, in [0, 1].

    Ages and delays count from when the row was scored: at its decision, or again.
    """

    facts: pl.DataFrame
    features: Floats
    age_ms: Floats
    invalid: Floats
    human: Floats
    told: Told

    def without(self, unread: Collection[str]) -> "Table":
        """Return the table as if nobody knew the features *unread*."""
        features = self.features.copy()
        features[:, [PLACE[name] for name in unread]] = np.nan
        return self._replace(features=features)

    @property
    def decided_at(self) -> NDArray[np.int64]:
        return self.facts["decided_at"].to_numpy()

    @property
    def entities(self) -> Entities:
        names = self.facts["publisher"].to_numpy().astype(object)
        return Entities(names, self.facts["person"].to_numpy(), self.facts["device"].to_numpy())


def read_table(snapshot: Snapshot) -> Table:
    """
    Return what S2 may learn from in *snapshot*.

    These are live renders that began, the last of each impression. What names itself a bot is settled by that, and no
    target (semantics 18 of the design), so it is no example of anything else either. Verdicts choose nothing.
    """
    rows = _rows(snapshot).with_columns(scored_at="decided_at")
    return _table(snapshot, rows, _features(rows), Stage.S2)


def read_later_table(snapshot: Snapshot, seed: int) -> Table:
    """
    Return what S3 may learn from in *snapshot*: the same renders, each scored again after a time of AGES_MS, drawn.

    Targets are labels that came after that. What was labelled before needs no model to be known, and is left out.
    """
    rows = _rows(snapshot)
    ages = np.random.default_rng(seed).choice(AGES_MS, len(rows))
    rows = rows.with_columns(scored_at=pl.col("decided_at") + pl.Series(ages))
    rows = rows.filter(pl.col("scored_at") < snapshot.cutoff)
    told = arrived(snapshot.scan("labels"), rows.select("impression", known_at="scored_at"), Stage.S3)
    rows = rows.join(told, on="impression", how="anti", maintain_order="left")
    later = later_columns(snapshot, rows.with_columns(known_at="scored_at"))
    features = widened(_features(rows), later.select(LATER_NAMES).to_numpy())
    return _table(snapshot, rows, features, Stage.S3)


def _rows(snapshot: Snapshot) -> pl.DataFrame:
    """Of a data set that is larger than memory, no more than where its newest rows begin is read to its end."""
    is_read = pl.col("begun") & (pl.col("data_set") == DataSet.LIVE.value) & ~pl.col("agent_class").is_in(_DECLARED)
    rows = snapshot.scan("rows").filter(is_read)
    places = _newest(rows.select("impression", "position"))["position"]
    return _newest(rows.filter(pl.col("position") >= (places.min() or 0)).select(*_READ, *FEATURES))


def _newest(rows: pl.LazyFrame) -> pl.DataFrame:
    return rows.collect().unique("impression", keep="last", maintain_order=True).tail(ROWS_MAX)


def _features(rows: pl.DataFrame) -> Floats:
    return rows.select(FEATURES).to_numpy().astype(np.float64)


def _table(snapshot: Snapshot, rows: pl.DataFrame, features: Floats, stage: Stage) -> Table:
    rows = rows.with_row_index("row")
    known_at = pl.lit(snapshot.cutoff).alias("known_at")
    known = arrived(snapshot.scan("labels"), rows.select("impression", "row", "scored_at", known_at), stage)
    said = rows.select("impression").join(beliefs(known), on="impression", how="left", maintain_order="left")
    return Table(
        facts=rows.select("row", *_READ),
        features=features,
        age_ms=(snapshot.cutoff - rows["scored_at"].to_numpy()).astype(np.float64),
        invalid=said["invalid"].fill_null(0.0).to_numpy(),
        human=said["human"].fill_null(0.0).to_numpy(),
        told=_told(known),
    )


def _told(known: pl.DataFrame) -> Told:
    ordered = known.sort("row", "source")
    return Told(
        row=ordered["row"].to_numpy().astype(np.int64),
        source=np.array([LabelSource(source) for source in ordered["source"]], object),
        is_invalid=(ordered["label"] == Label.INVALID.value).to_numpy(),
        delay_ms=(ordered["arrived_at"] - ordered["scored_at"]).to_numpy().astype(np.float64),
        trust=ordered["trust"].to_numpy(),
    )
