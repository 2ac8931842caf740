"""The two models that are trained: the one that takes part in decisions, and the one that looks again later."""

from domain.placement_events import Stage
from ml.datasets.snapshot import Snapshot
from ml.training.fit import Trained, fit
from ml.training.params import Params
from ml.training.table import read_later_table, read_table


def train_s2(snapshot: Snapshot, params: Params, seed: int) -> Trained:
    """
    Return the model that *params* and *seed* make of what was known in *snapshot* at decisions; always the same.

    Raises:
        OneClass: labels say too little to learn from.
    """
    return fit(read_table(snapshot), snapshot, Stage.S2, params, seed)


def train_s3(snapshot: Snapshot, params: Params, seed: int) -> Trained:
    """
    Return the model that *params* and *seed* make of what was known in *snapshot* later; always the same.

    Raises:
        OneClass: labels that came later say too little to learn from.
    """
    return fit(read_later_table(snapshot, seed), snapshot, Stage.S3, params, seed)
