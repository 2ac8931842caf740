"""From a training to the reference that its model's decisions are compared with, and back out of the registry."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from domain.reasons import CLASS_OF, Reason, ReasonClass
from domain.vocabulary import DataSet, LabelSource, Rung
from ml.datasets.rows import FEATURES
from ml.datasets.snapshot import Snapshot
from ml.features.logged import status_of
from ml.features.matrix import Vectors
from ml.features.schema import SCHEMA, SCHEMA_ID, Group, columns_of
from ml.labels.arrival import ArrivalCurve
from ml.models.scorer import BAND_NAMES, Scorer
from ml.monitors.reference import LabelCurve, Reference, reference_of
from ml.monitors.rows import rows_of
from ml.monitors.sampling import DECLARED

ROWS_MAX = 500_000
"""Most rows that are counted; of more, the newest."""
REGARDLESS = frozenset({LabelSource.HONEYPOT, LabelSource.ACCOUNT_ACTION, LabelSource.THIRD_PARTY})
"""
Sources that label whatever we decided. People review what was uncertain, advertisers dispute what was billed, and a ban
labels a publisher's traffic at once: how many labels those give follows from more than the risk.
"""
_READ = ("surface", "sdk", "reason", "rungs", "begun", "agent_class", "status", *FEATURES)


class Labelling(NamedTuple):
    """The share of decisions that await a label which a source labels invalid in the end, and when it does."""

    rate: float
    delays: ArrivalCurve


def reference_of_training(
    snapshot: Snapshot, scorer: Scorer, since: int, labelled: Mapping[LabelSource, Labelling]
) -> Reference:
    """Return the reference of *scorer*, made of all live rows decided from *since* on, which its trees did not see."""
    table = (
        snapshot.scan("rows")
        .filter((pl.col("data_set") == DataSet.LIVE.value) & (pl.col("decided_at") >= since))
        .select(_READ)
        .tail(ROWS_MAX)
        .collect()
    )
    vectors = Vectors(table.select(FEATURES).to_numpy().astype(np.float64), status_of(table["status"].to_list()))
    scores = scorer.score(vectors)
    rows = rows_of(table["surface"].to_numpy().astype(np.str_), vectors)._replace(
        sdk=table["sdk"].to_numpy().astype(np.str_),
        risk=scores.risk,
        band=np.array(BAND_NAMES)[scores.band],
        invalid_by_rules=np.isin(table["reason"].to_numpy(), _GIVT),
        full=np.isin(table["rungs"].to_numpy(), _NOMINAL),
    )
    awaits = table["begun"].to_numpy() & ~np.isin(table["agent_class"].to_numpy(), _DECLARED)
    labels = label_curves(labelled, float(scores.risk[awaits].mean()) if awaits.any() else 0.0)
    return reference_of(rows, [feature.name for feature in SCHEMA], SCHEMA_ID, labels, _SOLD)


def label_curves(labelled: Mapping[LabelSource, Labelling], mean_risk: float) -> tuple[LabelCurve, ...]:
    """Return what to expect of the sources that label regardless, if on average decisions had *mean_risk*."""
    return tuple(
        LabelCurve(source=source, rate=one.rate, caught=min(1.0, one.rate / mean_risk), delays=one.delays)
        for source, one in sorted(labelled.items())
        if source in REGARDLESS and one.rate > 0 and mean_risk > 0
    )


_SOLD = columns_of(Group.TOKEN)
"""What delivery sells changes with its campaigns, and says nothing of how it is measured."""
_GIVT = [reason.value for reason in Reason if CLASS_OF[reason] is ReasonClass.GIVT]
_DECLARED = [one.value for one in DECLARED]
_NOMINAL = [Rung.FULL.value, Rung.NO_ASYNC.value]
