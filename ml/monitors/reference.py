"""
What decisions looked like when a model was trained: frozen bins, the counts in them, and when labels arrived.

Made once, from the rows of the training, and kept in the model's artifact, whose hash covers it.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec
import numpy as np
from msgspec import Struct

from domain.vocabulary import LabelSource
from ml.features.matrix import AT_LEAST, FRESH
from ml.labels.arrival import ArrivalCurve
from ml.monitors.rows import STATES, Codes, Floats, Rows
from ml.monitors.tallies import CELLS, EDGES_MAX, RISK_BINS, SHARES, SURFACES, Bins, Counts, Tally, count

FORMAT = 1
FEATURES_MAX = 200
BYTES_MAX = 4 << 20
_HALF_OF_ONE = 0.5
"""Half the width of the bin of a feature that has one value only."""
_QUANTILES: Floats = np.array([0.005, *np.arange(1, 10) / 10, 0.995])

Grid = tuple[tuple[int, ...], ...]


class CorruptReference(ValueError):
    """Bytes are no reference that this program can read."""


class LabelCurve(Struct, frozen=True, kw_only=True):
    """
    When one source labels what is invalid.

    `rate` is the share of all decisions that it ever labels, `caught` the share of the invalid ones, both as in the
    training. It holds only where the source labels regardless of risk and verdict.
    """

    source: LabelSource
    rate: float
    caught: float
    delays: ArrivalCurve


class Reference(Struct, frozen=True, kw_only=True):
    """The tally of a training's rows, as it is stored; see `ml.monitors.tallies.Tally`. SDK versions are not kept."""

    format: int = FORMAT
    schema_id: str
    names: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...]
    features: tuple[Grid, ...]
    states: tuple[Grid, ...]
    risks: Grid
    shares: tuple[Grid, ...]
    labels: tuple[LabelCurve, ...] = ()

    @property
    def bins(self) -> Bins:
        padded = [edges + (np.inf,) * (EDGES_MAX - len(edges)) for edges in self.edges]
        return Bins(self.names, np.array(padded, np.float64).reshape(len(self.names), EDGES_MAX))

    @property
    def tally(self) -> Tally:
        shape = len(SURFACES), len(self.names)
        return Tally(
            features=np.array(self.features, np.int64).reshape(*shape, CELLS),
            states=np.array(self.states, np.int64).reshape(*shape, STATES),
            risks=np.array(self.risks, np.int64),
            shares=np.array(self.shares, np.int64),
            clients={},
        )


class References(Protocol):
    async def reference(self, model: str) -> Reference | None:
        """
        Return the reference of the model of that id; None if it is not known or has none.

        Raises:
            CorruptReference: what is kept cannot be read.
        """


def reference_of(
    rows: Rows,
    names: Sequence[str],
    schema_id: str,
    labels: Sequence[LabelCurve] = (),
    unwatched: Collection[int] = (),
) -> Reference:
    """
    Return the reference of a training: *rows* as they were decided, with risks that the model gave to unseen rows.

    Bins are deciles and both tails of all surfaces' values together; of a feature with few values each has its bin, and
    of columns that are *unwatched* all have one.

    Raises:
        ValueError: *names* are not those of the columns.
    """
    if len(names) != rows.values.shape[1]:
        raise ValueError(f"{len(names)} names for {rows.values.shape[1]} features")
    edges = tuple(() if at in unwatched else _edges(rows.values[:, at], rows.status[:, at]) for at in range(len(names)))
    frozen = Reference(
        schema_id=schema_id, names=tuple(names), edges=edges, features=(), states=(), risks=(), shares=()
    )
    tally = count(rows, frozen.bins)
    return msgspec.structs.replace(
        frozen,
        features=_grid(tally.features),
        states=_grid(tally.states),
        risks=_grid(tally.risks),
        shares=_grid(tally.shares),
        labels=tuple(labels),
    )


def dump(reference: Reference) -> bytes:
    """Return *reference* as it is stored; the same reference gives the same bytes."""
    return msgspec.msgpack.encode(reference)


def load(data: bytes) -> Reference:
    """
    Return the reference in *data*, which a model's artifact keeps, so that the model's hash covers it.

    Raises:
        CorruptReference: it is too large, of another format, or does not fit together.
    """
    if len(data) > BYTES_MAX:
        raise CorruptReference(f"a reference has at most {BYTES_MAX} bytes")
    try:
        reference = msgspec.msgpack.decode(data, type=Reference)
        _check(reference)
    except (msgspec.DecodeError, ValueError) as error:
        raise CorruptReference(str(error)) from error
    return reference


def _edges(values: Floats, status: Codes) -> tuple[float, ...]:
    known = values[((status == FRESH) | (status == AT_LEAST)) & ~np.isnan(values)]
    distinct = np.unique(known)
    if len(distinct) < EDGES_MAX:
        gaps = np.diff(distinct) / 2
        half = float(gaps.min()) if len(gaps) else _HALF_OF_ONE
        beyond = [float(distinct[0]) - half, float(distinct[-1]) + half] if len(distinct) else []
        return tuple(sorted([*beyond, *(distinct[:-1] + gaps).tolist()]))
    return tuple(np.unique(np.quantile(known, _QUANTILES, method="inverted_cdf")).tolist())


def _grid(counts: Counts) -> tuple:  # type: ignore[type-arg]
    return tuple(_grid(part) if part.ndim else int(part) for part in counts)


def _check(reference: Reference) -> None:
    features = len(reference.names)
    if reference.format != FORMAT:
        raise ValueError(f"format {reference.format}, this program knows {FORMAT}")
    if not 1 <= features <= FEATURES_MAX or len(reference.edges) != features:
        raise ValueError("names and edges do not belong together")
    for edges in reference.edges:
        if len(edges) > EDGES_MAX or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
            raise ValueError("edges do not ascend, or are too many")
    if reference.tally.risks.shape != (len(SURFACES), RISK_BINS):
        raise ValueError("risks have other bins")
    if reference.tally.shares.shape != (len(SURFACES), len(SHARES), 2):
        raise ValueError("shares are others")
    for one in reference.labels:
        if not (0 <= one.rate <= 1 and 0 <= one.caught <= 1 and one.delays.scale_ms > 0 and one.delays.shape > 0):
            raise ValueError(f"labels of {one.source.value} have no such shares or delays")
