"""
The model that looks again with what is known later, and what it would have of an impression.

It corrects nothing: `reevaluate` says what a correction with the authority of a model would ask for.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from domain.events import ImpressionEvent, ImpressionLabelled
from domain.feedback import SOURCES
from domain.impression import Decided, fold
from domain.placement_events import Stage
from domain.reasons import Reason, Verdict
from domain.signals import Family, Signal
from domain.standing import Dropped, Standing, Uncertain, Valid
from domain.vocabulary import Label, LabelSource
from ml.features.decided import decided_renders
from ml.features.later import LATER_SCHEMA, LATER_SCHEMA_ID, WIDTH, Context, columns, later_of, widened
from ml.features.logged import unpack
from ml.features.matrix import Vectors, vectors
from ml.features.schema import SCHEMA_ID, columns_of, columns_of_family
from ml.labels.sources import LESSONS
from ml.models import kernel
from ml.models.artifact import ModelArtifact, SchemaMismatch, load
from ml.models.masks import MASK_NAMES, MASKS, masks_of
from ml.models.scorer import fitted_mask, groups_of, wider

MODEL, LABEL = "s3", "label"
_RESOLVED = frozenset({Reason.RISK_GREY, Reason.EVIDENCE_INCOMPLETE})
"""What the model's word resolves by itself (semantics 9 of the design); `LATE` only with a notice of delivery."""


class NotDecided(ValueError):
    """The events are no stream of an impression that was decided."""


class Belief(Struct, frozen=True):
    """How far labels say that an impression is invalid, and human; what both lack to 1 is not known."""

    invalid: float = 0.0
    human: float = 0.0


class Risk(Struct, frozen=True):
    """A probability of being invalid, and which band it is in."""

    value: float
    is_grey: bool
    is_risky: bool


class WouldBe(Struct, frozen=True, kw_only=True):
    """
    What the model would have of an impression. `changes`: that is otherwise than it stands.

    `pair`: what carries a reason of class sivt. `masked_risk`: the risk without what the other of the pair knows.
    """

    verdict: Verdict
    reason: Reason | None
    risk: float
    changes: bool
    pair: tuple[str, ...] = ()
    masked_risk: float | None = None


class LaterScorer:
    """A model of stage S3, ready to score one impression after the other."""

    def __init__(self, artifact: ModelArtifact, model_id: str = "") -> None:
        """Raises `ValueError` where *artifact* is of another stage."""
        if artifact.stage is not Stage.S3:
            raise ValueError(f"a model of stage {artifact.stage.value} does not know what came later")
        self.id = model_id
        self._artifact = artifact
        self._forest = kernel.forest(artifact.trees)

    def risk(self, decided: Vectors, later: NDArray[np.float64], belief: Belief, without: Family | None = None) -> Risk:
        """
        Return the risk of one row: *decided* as at the decision, *later* the columns behind it.

        *without*: as if nothing of that family were known, by the calibration for what is missing then.
        """
        number = int(masks_of(decided.status)[0])
        mask = MASK_NAMES[number if without is None else wider(number, groups_of(without))]
        fitted = fitted_mask(self._artifact, mask)
        row = widened(decided.values, later)
        row[:, [at for group in MASKS[mask] for at in columns_of(group)]] = np.nan
        if without is Family.LABEL:
            belief = Belief()
        if without is not None:
            row[:, columns_of_family(without, LATER_SCHEMA)] = np.nan
        chance = float(self._artifact.calibrations[fitted](kernel.margins(self._forest, row))[0])
        value = belief.invalid + (1.0 - belief.invalid - belief.human) * chance
        band = self._artifact.bands[fitted]
        return Risk(value, value >= band.grey_from, value >= band.risky_from)


def load_s3(data: bytes, expected_hash: str | None = None) -> ModelArtifact:
    """Return the model of stage S3 in *data*; raises as `ml.models.artifact.load` does."""
    return load(data, expected_hash, schema_id=LATER_SCHEMA_ID, width=WIDTH)


def load_any(data: bytes, expected_hash: str | None = None) -> ModelArtifact:
    """Return the model in *data*, of whatever stage; raises as `ml.models.artifact.load` does."""
    try:
        artifact = load(data, expected_hash)
    except SchemaMismatch:
        artifact = load_s3(data, expected_hash)
    if (artifact.stage is Stage.S3) is not (artifact.schema_id == LATER_SCHEMA_ID):
        raise SchemaMismatch(f"a model of stage {artifact.stage.value} does not read {artifact.schema_id}")
    return artifact


def reevaluate(events: Sequence[ImpressionEvent], context: Context, model: LaterScorer) -> WouldBe:
    """
    Return what *model* would have of the impression whose stream is *events*, with what *context* knows beside it.

    Raises:
        NotDecided: nothing was decided of it.
    """
    state = fold(events)
    decided = list(decided_renders(events))
    if not isinstance(state, Decided) or not decided:
        raise NotDecided("nothing was decided of it")
    render = decided[-1]
    vector = _vector(render.scored.features, render.scored.feature_status, render.scored.versions.features)
    known = vectors([render.rendered], None) if vector is None else vector
    later = columns([later_of(render.rendered, render.outcome.decided_at, events, context)])
    belief = belief_of(events, context.at)
    subject = _Subject(known, later, belief)
    risk = subject.risk(model)
    standing = state.standing
    if risk.is_risky and isinstance(standing, Valid | Uncertain):
        found = _corroborated(subject, render.scored.signals, model)
        if found is not None:
            return _would_be(standing, Verdict.DROPPED, Reason.RISK_HIGH, risk.value, found)
    if not risk.is_grey and _is_cleared(standing, context):
        return _would_be(standing, Verdict.VALID, None, risk.value)
    return _would_be(standing, standing.verdict, standing.reason, risk.value)


def belief_of(events: Iterable[ImpressionEvent], at: int) -> Belief:
    """Return what the labels among *events* that had arrived by *at* (epoch ms) say together, by Dempster's rule."""
    last: dict[LabelSource, ImpressionLabelled] = {}
    for event in events:
        if isinstance(event, ImpressionLabelled) and event.received_at <= at and _teaches(event):
            known = last.get(event.source)
            if known is None or (known.observed_at, known.received_at) <= (event.observed_at, event.received_at):
                last[event.source] = event
    silent = {Label.INVALID: 1.0, Label.HUMAN: 1.0}
    for event in last.values():
        silent[event.label] *= 1.0 - min(max(event.weight, 0.0), SOURCES[event.source].weight)
    no_invalid, no_human = silent[Label.INVALID], silent[Label.HUMAN]
    agreed = 1.0 - (1.0 - no_invalid) * (1.0 - no_human)
    if agreed <= 0.0:
        return Belief()
    return Belief((1.0 - no_invalid) * no_human / agreed, (1.0 - no_human) * no_invalid / agreed)


def _teaches(event: ImpressionLabelled) -> bool:
    return Stage.S3 in LESSONS[event.source].stages and event.label in SOURCES[event.source].says


def _vector(packed: bytes, status: str, schema: str) -> Vectors | None:
    return unpack([(packed, status)]) if packed and schema == SCHEMA_ID else None


def _is_cleared(standing: Standing, context: Context) -> bool:
    match standing:
        case Uncertain(reason=Reason.LATE):
            return context.is_served
        case Uncertain():
            return standing.reason in _RESOLVED
        case Dropped():
            return standing.reason is Reason.RISK_HIGH
        case _:
            return False


class _Corroborated(NamedTuple):
    name: str
    masked_risk: float


class _Subject(NamedTuple):
    vector: Vectors
    later: NDArray[np.float64]
    belief: Belief

    def risk(self, model: LaterScorer, without: Family | None = None) -> Risk:
        return model.risk(self.vector, self.later, self.belief, without)


def _corroborated(subject: _Subject, signals: Sequence[Signal], model: LaterScorer) -> _Corroborated | None:
    """Return the first signal of another family that the model finds risky without what that family knows."""
    others = [(signal.family, signal.name) for signal in signals if signal.family is not Family.MODEL]
    if subject.belief.invalid > subject.belief.human:
        others.append((Family.LABEL, LABEL))
    for family, name in others:
        masked = subject.risk(model, without=family)
        if masked.is_risky:
            return _Corroborated(name, masked.value)
    return None


def _would_be(
    standing: Standing, verdict: Verdict, reason: Reason | None, risk: float, by: _Corroborated | None = None
) -> WouldBe:
    return WouldBe(
        verdict=verdict,
        reason=reason,
        risk=risk,
        changes=(verdict, reason) != (standing.verdict, standing.reason),
        pair=() if by is None else (by.name, MODEL),
        masked_risk=None if by is None else by.masked_risk,
    )
