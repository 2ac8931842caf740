"""The model that takes part in decisions: trained on what was known when they were made."""

from ml.datasets.snapshot import Snapshot
from ml.models.artifact import Stage
from ml.training.fit import Trained, fit
from ml.training.params import Params
from ml.training.table import read_table


def train_s2(snapshot: Snapshot, params: Params, seed: int) -> Trained:
    """
    Return the model of stage S2 that *params* and *seed* make of *snapshot*; always the same.

    Raises:
        OneClass: labels say too little to learn from.
    """
    return fit(read_table(snapshot, Stage.S2), snapshot, Stage.S2, params, seed)
