"""
What the labels of an impression, as they had arrived by a moment, say together.

A label that is trusted by t says so much with mass t and nothing with the rest. Labels of several sources are combined
by Dempster's rule, so that the order of their arrival does not matter, two weak ones are worth more than one, and what
contradicts itself says less. Of one source the last observed counts: who changes his mind does not speak twice.
Source: Shafer, A Mathematical Theory of Evidence, 1976, for two hypotheses and simple support functions.
"""

import polars as pl

from domain.feedback import SOURCES
from domain.placement_events import Stage
from domain.vocabulary import Label
from ml.labels.sources import LESSONS

LABEL_COLUMNS: dict[str, type[pl.DataType]] = {
    "impression": pl.String,
    "source": pl.String,
    "label": pl.String,
    "weight": pl.Float64,
    "observed_at": pl.Int64,
    "arrived_at": pl.Int64,
}
"""What a label is in a data set. Times in epoch ms; it arrived when it was both received and in the ledger."""


def taught(labels: pl.LazyFrame, stage: Stage) -> pl.LazyFrame:
    """
    Return those of *labels*, which has LABEL_COLUMNS, that may teach *stage*, with the `trust` in each.

    The weight that stands in a label can lower the trust in its source, never raise it.
    """
    weight = pl.col("weight").clip(0.0, None)
    return labels.join(_trusts(stage).lazy(), on=["source", "label"]).with_columns(
        trust=pl.min_horizontal(weight, "trust")
    )


def arrived(labels: pl.LazyFrame, rows: pl.DataFrame, stage: Stage) -> pl.DataFrame:
    """
    Return the labels that were known of *rows* and may teach *stage*: the last observed of each source.

    *rows* has `impression`, each once, and `known_at` (epoch ms); what else stands in it is added.
    """
    return (
        taught(labels, stage)
        .join(rows.lazy(), on="impression")
        .filter(pl.col("arrived_at") <= pl.col("known_at"))
        .sort("impression", "source", "observed_at", "arrived_at", "label", "weight")
        .group_by("impression", "source", maintain_order=True)
        .last()
        .filter(pl.col("trust") > 0)
        .collect()
    )


def beliefs(known: pl.DataFrame) -> pl.DataFrame:
    """
    Return `invalid` and `human`, in [0, 1], of each impression that has labels in *known*, see `arrived`.

    What both lack to 1 is not known.
    """
    says = [
        (1.0 - pl.col("trust").filter(pl.col("label") == label.value)).product().alias(f"no_{label.value}")
        for label in (Label.INVALID, Label.HUMAN)
    ]
    no_invalid, no_human = pl.col("no_invalid"), pl.col("no_human")
    agreed = 1.0 - (1.0 - no_invalid) * (1.0 - no_human)
    return (
        known.lazy()
        .group_by("impression", maintain_order=True)
        .agg(says)
        .select(
            "impression",
            # two certain labels that contradict each other say nothing
            invalid=pl.when(agreed > 0).then((1.0 - no_invalid) * no_human / agreed).otherwise(0.0),
            human=pl.when(agreed > 0).then((1.0 - no_human) * no_invalid / agreed).otherwise(0.0),
        )
        .collect()
    )


def _trusts(stage: Stage) -> pl.DataFrame:
    """Return which labels teach *stage*, and how far they are trusted at most."""
    taught = [
        (source.value, label.value, trust.weight)
        for source, trust in SOURCES.items()
        if stage in LESSONS[source].stages
        for label in trust.says
    ]
    return pl.DataFrame(taught, schema={"source": pl.String, "label": pl.String, "trust": pl.Float64}, orient="row")
