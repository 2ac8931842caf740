"""
Scored rows out of a data set: what labels say takes the place of the truth, for impressions that training never saw.

Labels are no truth: some are wrong, and who is labelled is nobody's fair sample. So a row weighs as much as its labels
are trusted, and the random sample stands in a frame of its own, in which a row stands for all that its propensity says.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from domain.placement_events import Stage
from domain.reasons import CLASS_OF, Reason, ReasonClass
from domain.vocabulary import AgentClass, DataSet
from ml.datasets.rows import FEATURES
from ml.datasets.snapshot import Snapshot
from ml.datasets.split import SplitRules, held_out
from ml.evaluation.measures import NO_OUTCOME
from ml.evaluation.scored import COLUMNS, MODEL, check, outcome_of
from ml.features.matrix import STATUS_LETTERS, Vectors
from ml.labels.beliefs import arrived, beliefs
from ml.models.artifact import ModelFacts
from ml.models.scorer import Scorer

_STATUS = {letter: status for status, letter in enumerate(STATUS_LETTERS)}
_DECLARED = (AgentClass.DECLARED_BOT.value, AgentClass.NOT_A_BROWSER.value)
_ASIDE = frozenset({ReasonClass.NOT_COUNTED, ReasonClass.POLICY, ReasonClass.DUPLICATE, ReasonClass.REQUEST})


class Labelled(NamedTuple):
    """Rows that labels speak of; those of them that are of the random sample; and how many rows there were to label."""

    frame: pl.DataFrame
    sample: pl.DataFrame
    rows: int


def labelled(snapshot: Snapshot, first: int, facts: ModelFacts, scorer: Scorer) -> Labelled:
    """
    Return what labels say of the renders of *snapshot* from position *first* on, scored by *scorer*.

    Impressions that were decided before the model's data end are left out, also where they were decided again since. Of
    publishers that training kept apart the rows are `held_out`.
    """
    rows = _rows(snapshot, first, facts.trained_until)
    known_at = rows.select("impression", known_at=pl.lit(snapshot.cutoff))
    said = beliefs(arrived(snapshot.scan("labels"), known_at, Stage.S2))
    told = rows.join(said, on="impression", maintain_order="left").filter(pl.col("invalid") != pl.col("human"))
    frame = _scored(told, scorer, facts.seed)
    sampled = told["propensity"].is_not_null()
    weight = told["propensity"].filter(sampled)
    sample = frame.filter(sampled).with_columns(weight=pl.col("weight") / weight)
    return Labelled(frame, sample, len(rows))


def vectors_of(rows: pl.DataFrame) -> Vectors:
    """Return the vectors that stand in *rows* of a data set."""
    values = rows.select(FEATURES).to_numpy().astype(np.float64)
    letters = np.frombuffer("".join(rows["status"]).encode(), np.uint8).reshape(values.shape)
    status = np.zeros(values.shape, np.uint8)
    for letter, number in _STATUS.items():
        status[letters == ord(letter)] = number
    return Vectors(values, status)


def _rows(snapshot: Snapshot, first: int, after: int) -> pl.DataFrame:
    """The last of each impression's renders that count or may yet, and that models are asked about."""
    aside = [reason.value for reason, of in CLASS_OF.items() if of in _ASIDE]
    seen = snapshot.scan("rows").filter(pl.col("decided_at") <= after).select("impression")
    return (
        snapshot.scan("rows")
        .join(seen, on="impression", how="anti", maintain_order="left")
        .filter((pl.col("position") >= first) & pl.col("begun"))
        .filter((pl.col("data_set") == DataSet.LIVE.value) & ~pl.col("agent_class").is_in(_DECLARED))
        .filter(~pl.col("reason").is_in(aside))
        .collect()
        .unique("impression", keep="last", maintain_order=True)
    )


def _scored(told: pl.DataFrame, scorer: Scorer, seed: int) -> pl.DataFrame:
    publishers = told["publisher"].to_numpy().astype(object)
    reasons = [Reason(reason) if reason else None for reason in told["reason"]]
    outcomes = [outcome_of(reason) for reason in reasons]
    settled = [reason is not None and CLASS_OF[reason] is ReasonClass.GIVT for reason in reasons]
    frame = told.select(
        y=(pl.col("invalid") > pl.col("human")).cast(pl.Float64),
        weight=(pl.col("invalid") - pl.col("human")).abs(),
        entity=pl.col("person").cast(pl.UInt64),
        world=pl.lit(""),
        family=pl.lit("labelled"),
        held_out=pl.Series(held_out(publishers, SplitRules().publishers, seed), dtype=pl.Boolean),
        surface="surface",
        format="format",
        mask="mask",
        settled=pl.Series(settled, dtype=pl.Boolean),
        currency="currency",
        price_micros="price_micros",
        outcome=pl.Series([NO_OUTCOME if one is None else one.value for one in outcomes], dtype=pl.String),
        outcome_by_rules=pl.lit(NO_OUTCOME),
    )
    assert set(frame.columns) == set(COLUMNS)
    return check(frame.with_columns(pl.Series(MODEL, scorer.score(vectors_of(told)).risk, dtype=pl.Float64)))
