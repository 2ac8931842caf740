"""All that an evaluation found. The same seeds, model and lists give the same."""

from msgspec import Struct

from ml.evaluation.bootstrap import Estimate
from ml.evaluation.real_table import RealTable
from ml.evaluation.tables import Against, Row, Table
from ml.models.artifact import ModelFacts
from ml.training.bands import Costs


class Data(Struct, frozen=True, kw_only=True):
    """
    What was evaluated on. `origin` says where it came from in words; `baselines_from` what the baselines were fitted
    to. `gross` impressions have a row, `settled` of them are dropped by rules; `aside` are outside of gross.
    """

    origin: str
    baselines_from: str
    gross: int
    settled: int
    aside: int
    invalid: int
    left_open: int
    left_open_invalid: int


class RungRow(Struct, frozen=True, kw_only=True):
    """
    A rung of the ladder, from a run on it. `mask` is what the model went without; None where no model was asked or the
    rung changes none of its inputs, as `note` says then.
    """

    rung: str
    mask: str | None
    note: str
    row: Row | None


class Delay(Struct, frozen=True, kw_only=True):
    """A model trained on the labels that had arrived so long after the last of its impressions."""

    after: str
    labels: int
    positives: int
    row: Row


class Attack(Struct, frozen=True, kw_only=True):
    """
    An adversary that sees only what its impressions are answered, and tunes itself by it.

    Of the ways that it began with, and of the best of its last round: the share of impressions that counted, and how
    many counted per device and hour. Means over *runs* of different seeds, with the least and the most in place of an
    interval. `tuned` is what its habits came to.
    """

    against: str
    runs: int
    rounds: int
    impressions: int
    counted_before: Estimate
    counted_after: Estimate
    earned_before: Estimate
    earned_after: Estimate
    tuned: dict[str, float]


class Again(Struct, frozen=True, kw_only=True):
    """The model that looks again, so long after each decision, beside the one that decided, on the same rows."""

    model: str
    after: str
    known: Row
    known_decided: Row
    held_out: Row
    held_out_decided: Row


class Evaluation(Struct, frozen=True, kw_only=True):
    model: str
    stage: str
    facts: ModelFacts
    data: Data
    costs: Costs
    seed: int
    known: Table
    held_out: Table
    real: RealTable | None = None
    rungs: list[RungRow] = []
    ablations: list[Against] = []
    delays: list[Delay] = []
    again: list[Again] = []
    attacks: list[Attack] = []
