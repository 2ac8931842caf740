"""What a training run may be told."""

from msgspec import Struct

from ml.datasets.split import SplitRules
from ml.training.bands import Costs
from ml.training.trees import TreeRules


class Params(Struct, frozen=True, kw_only=True):
    """
    How a model is trained. `open_max`: the share of renders that may stay undecided for the model's sake while all that
    can be known is, or all but publishers' history and what clients measure; `open_degraded_max`: with more missing.
    `unread` are features that no tree may read. `note` stands in the card.
    """

    trees: TreeRules = TreeRules()
    split: SplitRules = SplitRules()
    costs: Costs = Costs()
    open_max: float = 0.03
    open_degraded_max: float = 0.1
    unread: tuple[str, ...] = ()
    note: str = ""
