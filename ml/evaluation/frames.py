"""Scored rows out of what was collected and what is true of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from ml.evaluation.collect import ASIDE, Collected
from ml.evaluation.metrics import Floats
from ml.evaluation.scored import COLUMNS, MODEL, Outcome, check
from ml.features.matrix import Vectors
from ml.models.masks import MASK_NAMES, masks_of
from ml.traffic.events import Truth

_ENTITIES_MAX = 1 << 32
_TRUTHS = {"event": pl.String(), "y": pl.Float64(), "who": pl.UInt64(), "family": pl.String(), "held_out": pl.Boolean()}


class World(NamedTuple):
    """One run of the generator: its number, what a gate made of it, and the truth."""

    number: int
    collected: Collected
    truths: Sequence[Truth]


class Worlds(NamedTuple):
    """Rows in gross of some worlds, with what they were scored from; `aside` impressions are outside of gross."""

    frame: pl.DataFrame
    vectors: Vectors
    impressions: list[str]
    aside: int


def rows_of(worlds: Iterable[World]) -> Worlds:
    """Return the rows of *worlds* that are in gross with the model or without; the score is the one recorded."""
    frames, values, status, aside = [], [], [], 0
    impressions: list[str] = []
    for world in worlds:
        facts, vectors = world.collected
        joined = facts.join(_truth_frame(world.truths), on="event", how="left", maintain_order="left")
        is_in = ((joined["outcome"] != ASIDE) & joined["y"].is_not_null()).to_numpy()
        frames.append(_frame(joined.with_columns(mask=_masks(joined, vectors)).filter(pl.Series(is_in)), world.number))
        values.append(vectors.values[is_in])
        status.append(vectors.status[is_in])
        impressions += facts["impression"].filter(pl.Series(is_in)).to_list()
        aside += int(len(is_in) - is_in.sum())
    return Worlds(pl.concat(frames), Vectors(np.concatenate(values), np.concatenate(status)), impressions, aside)


def with_scores(frame: pl.DataFrame, scores: Mapping[str, Floats]) -> pl.DataFrame:
    """
    Return *frame* with *scores* of its rows by name, ready to be measured.

    What rules settle a gate scores only for the random sample: as it is dropped, it counts as surely invalid.
    """
    settled = pl.when("settled").then(pl.col(MODEL).fill_null(1.0)).otherwise(MODEL)
    given = frame.with_columns(settled.alias(MODEL)) if MODEL in frame.columns else frame
    return check(given.with_columns(pl.Series(name, score) for name, score in scores.items()))


def _truth_frame(truths: Iterable[Truth]) -> pl.DataFrame:
    """Return what is true of each event; of an id that was used again, of the first that had it."""
    rows = [(str(one.event_id), float(one.invalid), one.who, one.family, one.held_out) for one in truths]
    return pl.DataFrame(rows, schema=_TRUTHS, orient="row").unique("event", keep="first", maintain_order=True)


def _frame(joined: pl.DataFrame, world: int) -> pl.DataFrame:
    """Return the columns of scored rows; a row that no model scored has no score yet."""
    return joined.select(
        *(pl.col(name) for name in COLUMNS if name in joined.columns),
        pl.lit(1.0).alias("weight"),
        (pl.col("who") + world * _ENTITIES_MAX).cast(pl.UInt64).alias("entity"),
        pl.lit(str(world)).alias("world"),
        (pl.col("outcome_by_rules") == Outcome.DROPPED.value).alias("settled"),
        pl.col("risk").alias(MODEL),
    )


def _masks(facts: pl.DataFrame, vectors: Vectors) -> pl.Series:
    """Return the recorded masks, and where none was what the features would have come to."""
    found = pl.Series([MASK_NAMES[mask] for mask in masks_of(vectors.status).tolist()], dtype=pl.String)
    recorded = facts["mask"]
    return found.zip_with(recorded == "", recorded)
