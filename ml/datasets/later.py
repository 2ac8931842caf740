"""
What was known of each row some time after its decision, joined as of that time.

Nothing that was recorded, or that arrived, later than a row's `known_at` is in what is said of it.
"""

import numpy as np
import polars as pl

from domain.placement_events import Stage
from domain.vocabulary import Label
from ml.datasets.snapshot import Snapshot
from ml.features.later import HOUR_S, LATER_NAMES
from ml.labels.beliefs import taught

_HOUR_MS = HOUR_S * 1_000


def later_columns(snapshot: Snapshot, rows: pl.DataFrame) -> pl.DataFrame:
    """
    Return `impression` and the columns of LATER for *rows*, in their order.

    *rows* has `impression` (once), `position`, `event_at`, `decided_at`, `recorded_at`, `person`, `publisher` and
    `known_at` (epoch ms).
    """
    parts = [_views(snapshot, rows), _next(snapshot, rows), _others(snapshot, rows), _publishers(snapshot, rows)]
    found = rows.select("impression", age_ms=(pl.col("known_at") - pl.col("decided_at")).cast(pl.Float64))
    for part in parts:
        found = found.join(part, on="impression", how="left", maintain_order="left")
    return found.with_columns(pl.col("view_clicked").fill_null(0.0)).select(
        "impression", *(pl.col(name).cast(pl.Float64).fill_null(np.nan) for name in LATER_NAMES)
    )


def _views(snapshot: Snapshot, rows: pl.DataFrame) -> pl.DataFrame:
    known = snapshot.scan("views").join(rows.lazy().select("impression", "event_at", "known_at"), on="impression")
    return (
        known.filter(pl.col("arrived_at") <= pl.col("known_at"))
        .group_by("impression", maintain_order=True)
        .agg(
            view_wait_ms=(pl.col("viewed_at") - pl.col("event_at")).min(),
            view_ratio=pl.col("visible_ratio").drop_nulls().first(),
            view_ms=pl.col("visible_ms").max(),
            view_clicked=pl.col("clicked").any().cast(pl.Float64),
        )
        .collect()
    )


def _next(snapshot: Snapshot, rows: pl.DataFrame) -> pl.DataFrame:
    """The person's next render, and how many there were in the hour after, in the order in which they were recorded."""
    of_somebody = rows.filter(pl.col("person") != 0)
    renders = (
        snapshot.scan("rows")
        .filter(pl.col("begun") & (pl.col("person") != 0))
        .select("person", "position", "recorded_at", "event_at")
        .sort("recorded_at", "position")
        .with_columns(
            rank=pl.int_range(pl.len()).over("person"),
            next_event_at=pl.col("event_at").shift(-1).over("person"),
            next_recorded_at=pl.col("recorded_at").shift(-1).over("person"),
        )
        .collect()
    )
    decided_last = renders.unique(["person", "position"], keep="last")  # a commit may decide an impression twice
    own = of_somebody.join(decided_last.drop("event_at", "recorded_at"), on=["person", "position"])
    until = pl.min_horizontal("known_at", pl.col("recorded_at") + _HOUR_MS).alias("until")
    counted = (
        own.with_columns(until)
        .sort("until")
        .join_asof(
            renders.select("person", "recorded_at", last=pl.col("rank")),
            left_on="until",
            right_on="recorded_at",
            by="person",
            check_sortedness=False,
        )
    )
    is_known = pl.col("next_recorded_at") <= pl.col("known_at")
    return counted.select(
        "impression",
        next_gap_ms=pl.when(is_known).then(pl.col("next_event_at") - pl.col("event_at")),
        next_hour=(pl.col("last") - pl.col("rank")).cast(pl.Float64),
    )


def _others(snapshot: Snapshot, rows: pl.DataFrame) -> pl.DataFrame:
    """Sums of trust over the labels of the person's other impressions, each that had arrived."""
    people = snapshot.scan("rows").select("impression", "person").unique("impression", keep="last")
    told = taught(snapshot.scan("labels"), Stage.S3).join(people, on="impression").filter(pl.col("person") != 0)
    found = rows.filter(pl.col("person") != 0).select("impression", "person", "known_at").sort("known_at")
    for label in (Label.INVALID, Label.HUMAN):
        of_kind = told.filter(pl.col("label") == label.value).sort("arrived_at", "impression", "source").collect()
        found = found.with_columns(
            (_sums_by(found, of_kind, "person") - _sums_by(found, of_kind, "impression")).alias(f"others_{label.value}")
        )
    return found.select("impression", "others_invalid", "others_human")


def _sums_by(rows: pl.DataFrame, labels: pl.DataFrame, key: str) -> pl.Series:
    """Return the trust in those *labels* of each row's *key* that had arrived; both are in order of their times."""
    sums = labels.select(key, "arrived_at", total=pl.col("trust").cum_sum().over(key))
    known = rows.join_asof(sums, left_on="known_at", right_on="arrived_at", by=key, check_sortedness=False)
    return known["total"].fill_null(0.0)


def _publishers(snapshot: Snapshot, rows: pl.DataFrame) -> pl.DataFrame:
    """Publishers' history as it was computed last before; who sent nothing for a day is not in it any more."""
    history = snapshot.scan("history").collect()
    computed = history.select("computed_at").unique().sort("computed_at")
    return (
        rows.select("impression", "publisher", "known_at")
        .sort("known_at")
        .join_asof(computed, left_on="known_at", right_on="computed_at")
        .join(history, on=["publisher", "computed_at"], how="left")
        .drop("publisher", "known_at", "computed_at")
    )
