"""From a table to a model: targets, trees, and for each mask a calibration and a band, on rows of their own."""

from collections import Counter
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from domain.placement_events import Stage
from domain.reasons import Reason
from ml.datasets.snapshot import Snapshot
from ml.datasets.split import Places, Split, split
from ml.features.later import LATER_SCHEMA_ID
from ml.features.schema import SCHEMA_ID
from ml.labels.pu import matured_count
from ml.models import kernel
from ml.models.artifact import Band, Calibration, ModelArtifact, ModelFacts, Trees, dump, model_id
from ml.models.masks import FULL, MASKS
from ml.models.scorer import Scorer
from ml.monitors.reference import dump as dump_reference
from ml.monitors.trained import Labelling, reference_of_training
from ml.training import calibration
from ml.training.bands import Sample, band_of, cheapest, expected_cost, open_share
from ml.training.corroboration import corroborated
from ml.training.dropout import with_holes, without
from ml.training.params import Params
from ml.training.table import Table
from ml.training.targets import Targets, targets
from ml.training.trees import grow

Floats = NDArray[np.float64]

_NOMINAL = frozenset({FULL, "no_async", "partial_client", "no_async+partial_client"})
"""Masks of ordinary days: most renders carry no measures, and a publisher is new to everybody once."""
_OF_THE_MODEL = ("", Reason.RISK_GREY.value, Reason.RISK_HIGH.value)
_HOLED_WEIGHT = 0.5
_LIBRARIES = ("scikit-learn", "numpy", "scipy", "polars")


class MaskFigures(Struct, frozen=True, kw_only=True):
    """What a mask's calibration and band do to the test's rows. `cost` is in prices per row."""

    ece: float
    open_share: float
    cost: float
    grey_from: float
    risky_from: float
    calibration: str


class Trained(Struct, frozen=True, kw_only=True):
    """A model's id and bytes, and what came of training it. ECE is against what labels say, not against truth."""

    model: str
    data: bytes
    rows: dict[str, int]
    positives: dict[str, int]
    masks: dict[str, MaskFigures]
    invalid_share: float
    labelled_share: float


class _Held(NamedTuple):
    """Rows that fit or test calibrations: features, chance of being invalid, and what rules say of them."""

    rows: Floats
    chance: Floats
    is_settled: NDArray[np.bool_]
    families: NDArray[np.object_]


def fit(table: Table, snapshot: Snapshot, stage: Stage, params: Params, seed: int) -> Trained:
    """
    Return the model of *stage* that *params* and *seed* make of *table*, which was read from *snapshot*.

    Raises:
        OneClass: labels say too little to learn from.
    """
    table = table.without(params.unread)
    parts = split(table.decided_at, table.entities, params.split, seed)
    known = targets(table, parts.train, seed)
    trees = _grown(table, known, parts.train, params, seed)
    fitted = _fitted(kernel.forest(trees), _held(table, known, parts.calibrate), params)
    figures = _figures(fitted, _held(table, known, parts.test), params)
    artifact = ModelArtifact(
        stage=stage,
        trees=trees,
        calibrations=fitted.calibrations,
        bands=fitted.bands,
        schema_id=SCHEMA_ID if stage is Stage.S2 else LATER_SCHEMA_ID,
        card=_card(table, snapshot, params, figures[FULL], seed),
    )
    if stage is Stage.S2:
        artifact = replace(artifact, reference=_reference(artifact, table, snapshot, parts, known))
    data = dump(artifact)
    return Trained(
        model=model_id(data, stage),
        data=data,
        rows={"all": len(table.age_ms), **{name: len(places) for name, places in parts._asdict().items()}},
        positives=_positives(table),
        masks=figures,
        invalid_share=float(known.chance.mean()),
        labelled_share=float((table.invalid > 0).mean()),
    )


def _reference(artifact: ModelArtifact, table: Table, snapshot: Snapshot, parts: Split, known: Targets) -> bytes:
    """Return what monitors compare the model's decisions with: those of the time that trees did not see."""
    unseen = np.concatenate([parts.calibrate, parts.test])
    since = int(table.decided_at[unseen].min()) if len(unseen) else 0
    told, labelled = table.told, {}
    for source in set(told.source[told.is_invalid].tolist()):
        ages, curve = table.age_ms[told.row[told.is_invalid & (told.source == source)]], known.curves[source]
        labelled[source] = Labelling(matured_count(ages, curve) / len(table.age_ms), curve)
    return dump_reference(reference_of_training(snapshot, Scorer(artifact), since, labelled))


class _Fitted(NamedTuple):
    forest: kernel.Forest
    calibrations: dict[str, Calibration]
    bands: dict[str, Band]

    def risk(self, rows: Floats, mask: str) -> Floats:
        return self.calibrations[mask](kernel.margins(self.forest, without(rows, mask)))

    def sample(self, held: _Held, mask: str, risky_from: float) -> Sample:
        risk = self.risk(held.rows, mask)
        drops = corroborated(self.forest, self.calibrations, (held.rows, held.families), mask, risky_from)
        return Sample(risk, _even(risk), held.is_settled | (drops & (risk >= risky_from)))


def _fitted(forest: kernel.Forest, held: _Held, params: Params) -> _Fitted:
    fitted = _Fitted(forest, {}, {})
    for mask in MASKS:
        margins = kernel.margins(forest, without(held.rows, mask))
        fitted.calibrations[mask] = calibration.calibrate(calibration.Sample(margins, held.chance, _even(margins)))
    for mask in MASKS:
        share_max = params.open_max if mask in _NOMINAL else params.open_degraded_max
        sample = fitted.sample(held, mask, cheapest(params.costs).risky_from)
        fitted.bands[mask] = band_of(params.costs, sample, share_max)
    return fitted


def _figures(fitted: _Fitted, test: _Held, params: Params) -> dict[str, MaskFigures]:
    figures = {}
    for mask, band in fitted.bands.items():
        sample = fitted.sample(test, mask, band.risky_from)
        figures[mask] = MaskFigures(
            ece=calibration.expected_error(sample.risk, test.chance, sample.weight),
            open_share=open_share(band, sample),
            cost=expected_cost(band, params.costs, sample, test.chance),
            grey_from=band.grey_from,
            risky_from=band.risky_from,
            calibration=fitted.calibrations[mask].kind,
        )
    return figures


def _grown(table: Table, known: Targets, train: Places, params: Params, seed: int) -> Trees:
    rng = np.random.default_rng(seed)
    rows, chance = table.features[train], known.chance[train]
    weight = np.repeat([1.0, _HOLED_WEIGHT], len(train))
    repeated = np.concatenate([rows, with_holes(rows, rng)])
    return grow(repeated, np.tile(chance, 2), weight, params.trees, seed)


def _held(table: Table, known: Targets, places: Places) -> _Held:
    reasons, families = (table.facts[name].to_numpy().astype(object)[places] for name in ("reason", "families"))
    return _Held(table.features[places], known.chance[places], ~np.isin(reasons, _OF_THE_MODEL), families)


def _card(table: Table, snapshot: Snapshot, params: Params, full: MaskFigures, seed: int) -> ModelFacts:
    of_ledger = not snapshot.recipe.generated
    return ModelFacts(
        seed=seed,
        snapshot=snapshot.id,
        ledger_range=snapshot.ledger_range if of_ledger else (0, 0),
        trained_until=snapshot.cutoff if of_ledger else 0,
        rows=len(table.age_ms),
        positives=int((table.invalid > 0).sum()),
        libraries={name: version(name) for name in _LIBRARIES},
        costs={
            "billed_invalid": params.costs.billed_invalid,
            "dropped_human": params.costs.dropped_human,
            "undecided": params.costs.undecided,
        },
        note=params.note,
        figures={"ece": full.ece, "open_share": full.open_share, "cost": full.cost},
    )


def _positives(table: Table) -> dict[str, int]:
    told = table.told
    return dict(sorted(Counter(source.value for source in told.source[told.is_invalid].tolist()).items()))


def _even(like: Floats) -> Floats:
    return np.ones(len(like))
