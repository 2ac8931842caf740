"""
A model as it is kept: plain arrays in MessagePack, named by their content, checked before anything walks them.

The same model has the same bytes. Nothing in them is code.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from domain.placement_events import Stage
from ml.features.schema import SCHEMA, SCHEMA_ID
from ml.models import rows_kernel
from ml.models.masks import FULL, MASKS

FORMAT = 1
BYTES_MAX = 64 << 20
TREES_MAX, NODES_MAX, DEPTH_MAX, KNOTS_MAX = 4_096, 1 << 20, 64, 4_096
_HASH_CHARS = 16

Floats: TypeAlias = NDArray[np.float64]


class CorruptArtifact(ValueError):
    """The bytes are not a model, or not the one that was asked for; nothing of them may be used."""


class SchemaMismatch(ValueError):
    """The model reads other features than are made here."""


class Trees(Struct, frozen=True, kw_only=True):
    """
    Trees one after the other: *starts* (trees + 1) says where each begins. A leaf has -1 to its left and right.

    A row goes left where its value is at most the node's *threshold*, NaN where *missing_left* says so. The margin
    (log odds) is *baseline* and the *value* of each tree's leaf, added in order.
    """

    starts: NDArray[np.int32]
    feature: NDArray[np.int16]
    threshold: Floats
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.uint8]
    value: Floats
    baseline: float


class Calibration(Struct, frozen=True):
    """
    From margins to probabilities.

    `platt`: *x* is (a, b), p = 1 / (1 + exp(-(a * margin + b))). `isotonic`: between the knots (*x*, *y*) straight
    lines, beyond them the last.
    """

    kind: Literal["platt", "isotonic"]
    x: Floats
    y: Floats

    def __call__(self, margins: Floats) -> Floats:
        """Return the probability that goes with each of *margins*."""
        return judged(curves([self], np.ones((1, 2))), margins, np.zeros(len(margins), np.int64))[0]


class Curves(NamedTuple):
    """Several calibrations with their bands, as the kernel reads them."""

    starts: NDArray[np.int64]
    logistic: NDArray[np.bool_]
    x: Floats
    y: Floats
    limits: Floats


def curves(calibrations: Sequence[Calibration], limits: Floats) -> Curves:
    """Return *calibrations* as the kernel reads them, each with its *limits*, (n, 2): grey and risky from."""
    lengths = [len(one.x) for one in calibrations]
    return Curves(
        starts=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        logistic=np.array([one.kind == "platt" for one in calibrations], np.bool_),
        x=np.concatenate([one.x for one in calibrations]),
        y=np.concatenate([one.y if len(one.y) else np.zeros(len(one.x)) for one in calibrations]),
        limits=np.ascontiguousarray(limits),
    )


def judged(of: Curves, margins: Floats, which: NDArray[np.int64]) -> tuple[Floats, NDArray[np.uint8]]:
    """Return probability and band (0 clear, 1 grey, 2 risky) of each of *margins* by the curve that *which* names."""
    risk, band = np.empty(len(margins)), np.empty(len(margins), np.uint8)
    rows_kernel.judge(*of, np.ascontiguousarray(margins, np.float64), which, risk, band)
    return risk, band


class Band(Struct, frozen=True):
    """A probability from *risky_from* on is risky, from *grey_from* on grey, below clear."""

    grey_from: float
    risky_from: float


class ModelFacts(Struct, frozen=True, kw_only=True):
    """
    What a model was made of. `costs` are micros of the base currency per wrongly billed, wrongly dropped, undecided.

    `ledger_range` are the first and last position that were read, `trained_until` the end of its events (epoch ms); all
    0 where it was made of generated traffic, and nothing of any ledger is known to it.
    """

    seed: int
    snapshot: str
    ledger_range: tuple[int, int]
    trained_until: int
    rows: int
    positives: int
    libraries: dict[str, str] = {}
    costs: dict[str, float] = {}
    note: str = ""
    figures: dict[str, float] = {}


class ModelArtifact(Struct, frozen=True, kw_only=True):
    """
    Everything that scoring needs, and where it came from. The mask `full` always has calibration and band.

    `reference` is what monitors compare decisions with (`ml.monitors.reference`), as it is stored; scoring ignores it.
    """

    stage: Stage
    trees: Trees
    calibrations: Mapping[str, Calibration]
    bands: Mapping[str, Band]
    card: ModelFacts
    schema_id: str = SCHEMA_ID
    format: int = FORMAT
    reference: bytes = b""


def dump(artifact: ModelArtifact) -> bytes:
    """Return the bytes of *artifact*, always the same for the same."""
    return _ENCODER.encode(artifact)


def model_id(data: bytes, stage: Stage = Stage.S2) -> str:
    """Return the name of the model whose bytes are *data*."""
    return f"{stage.value}-{sha256(data).hexdigest()[:_HASH_CHARS]}"


def load(
    data: bytes, expected_hash: str | None = None, *, schema_id: str = SCHEMA_ID, width: int = len(SCHEMA)
) -> ModelArtifact:
    """
    Return the model in *data*, for rows of *width* features of the schema *schema_id*.

    Its SHA-256 must begin with *expected_hash*, which may also be a whole model id.

    Raises:
        CorruptArtifact: the bytes are damaged, of another format, or not those expected.
        SchemaMismatch: the model is for other features.
    """
    if len(data) > BYTES_MAX:
        raise CorruptArtifact(f"a model has at most {BYTES_MAX} bytes")
    if expected_hash is not None and not _is_of(data, expected_hash):
        raise CorruptArtifact("its hash is another one")
    try:
        artifact = _DECODER.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise CorruptArtifact(f"it cannot be read: {error}") from error
    if artifact.format != FORMAT:
        raise CorruptArtifact(f"it has format {artifact.format}, this program reads {FORMAT}")
    if artifact.schema_id != schema_id:
        raise SchemaMismatch(f"it reads {artifact.schema_id}, here are {schema_id}")
    _check_trees(artifact.trees, width)
    _check_masks(artifact)
    return artifact


def depths(trees: Trees) -> NDArray[np.int32]:
    """Return how many steps the longest way down each tree has. A child always stands after its parent."""
    depth = np.zeros(len(trees.feature), np.int32)
    for node in np.flatnonzero(trees.left >= 0).tolist():
        depth[trees.left[node]] = depth[trees.right[node]] = depth[node] + 1
    return np.maximum.reduceat(depth, trees.starts[:-1])


def _is_of(data: bytes, expected: str) -> bool:
    digest = expected.rpartition("-")[2]
    return len(digest) >= _HASH_CHARS and sha256(data).hexdigest().startswith(digest)


def _check(condition: object, problem: str) -> None:
    if not condition:
        raise CorruptArtifact(problem)


def _check_trees(trees: Trees, width: int) -> None:
    starts, n = trees.starts, len(trees.feature)
    _check(2 <= len(starts) <= TREES_MAX + 1 and n <= NODES_MAX, "it has no trees, or too many")
    _check(starts[0] == 0 and starts[-1] == n and (np.diff(starts) > 0).all(), "its trees do not follow on each other")
    nodes = (trees.threshold, trees.left, trees.right, trees.missing_left, trees.value)
    _check(all(len(array) == n for array in nodes), "its arrays differ in length")
    is_leaf = trees.left == -1
    _check((is_leaf == (trees.right == -1)).all(), "a node has one child")
    own = np.arange(n)
    end = np.repeat(starts[1:], np.diff(starts))
    for child in (trees.left, trees.right):
        _check((is_leaf | ((child > own) & (child < end))).all(), "a child does not stand after its parent in its tree")
    ways = np.bincount(np.concatenate((starts[:-1], trees.left[~is_leaf], trees.right[~is_leaf])), minlength=n)
    _check((ways == 1).all(), "a node is nobody's child, or of two")
    _check(((trees.feature >= 0) & (trees.feature < width)).all(), "it reads a feature that there is not")
    _check((trees.missing_left <= 1).all(), "a direction is neither left nor right")
    _check(not np.isnan(trees.threshold).any(), "a threshold is no number")
    _check(np.isfinite(trees.value).all() and np.isfinite(trees.baseline), "a value is not finite")
    _check(depths(trees).max() <= DEPTH_MAX, f"a tree is deeper than {DEPTH_MAX}")


def _check_masks(artifact: ModelArtifact) -> None:
    names = set(artifact.calibrations)
    _check(FULL in names and names <= set(MASKS), "its masks are not those that there are")
    _check(names == set(artifact.bands), "masks have calibration and band")
    for band in artifact.bands.values():
        _check(0 <= band.grey_from <= band.risky_from, "a band is upside down")
    for calibration in artifact.calibrations.values():
        _check_calibration(calibration)


def _check_calibration(one: Calibration) -> None:
    _check(np.isfinite(one.x).all() and np.isfinite(one.y).all(), "a calibration is not finite")
    if one.kind == "platt":
        _check(len(one.x) == 2 and len(one.y) == 0 and one.x[0] >= 0, "a calibration does not rise")
        return
    _check(1 <= len(one.x) == len(one.y) <= KNOTS_MAX, "a calibration has a knot for each")
    _check((np.diff(one.x) > 0).all() and (np.diff(one.y) >= 0).all(), "a calibration does not rise")
    with np.errstate(over="ignore"):
        slopes = np.diff(one.y) / np.diff(one.x)
    _check(np.isfinite(slopes).all(), "a calibration is too steep")
    _check(one.y[0] >= 0 and one.y[-1] <= 1, "a calibration is no probability")


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.astype(value.dtype.newbyteorder("<")).tobytes()
    raise NotImplementedError


def _from_plain(kind: Any, plain: Any) -> Any:
    dtype = _DTYPES[kind]
    if not isinstance(plain, bytes):
        raise ValueError("an array stands as bytes")  # noqa: TRY004 (decoding knows no other)
    return np.frombuffer(plain, dtype.newbyteorder("<")).astype(dtype)


_DTYPES: dict[Any, np.dtype[Any]] = {
    NDArray[kind]: np.dtype(kind)  # type: ignore[valid-type]
    for kind in (np.int16, np.int32, np.uint8, np.float64)
}
_ENCODER = msgspec.msgpack.Encoder(enc_hook=_to_plain, order="deterministic")
_DECODER = msgspec.msgpack.Decoder(ModelArtifact, dec_hook=_from_plain)
