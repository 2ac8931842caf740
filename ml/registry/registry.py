"""
The ports of the registry, and what is kept in it.

Models are kept by what they consist of and never change. Placements follow the ledger's `config-models` stream and can
be rebuilt from it alone. Comparisons are what gates saw of two models side by side, by the hour.
"""

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from domain.placement_events import ModelPlaced, ModelRef, Role, Stage
from domain.placing import KnownModel
from ml.models.artifact import CorruptArtifact, model_id
from ml.models.s3 import load_any

MODEL_BYTES_MAX = 16 << 20
PAGE_MAX = 1_000


class NoSuchModel(LookupError):
    """The registry has no model of that id."""


class ModelEntry(Struct, frozen=True, kw_only=True):
    """
    A model beside its bytes: `size` of them, whose SHA-256 is `sha256`; `features` is the schema that it reads.

    `card` tells what it was made of, the range of the ledger among it. `by` added it at `added_at` (epoch ms).
    """

    model: str
    stage: Stage
    sha256: str
    features: str
    size: int
    by: str
    added_at: int
    card: dict[str, Any]

    @property
    def known(self) -> KnownModel:
        return KnownModel(ModelRef(self.model, self.sha256, self.features), self.stage)


class PlacementRow(Struct, frozen=True):
    """The event at place *version* of the stream."""

    version: int
    placed: ModelPlaced


class ComparedKey(Struct, frozen=True, kw_only=True):
    """*gate* scored *other*, in *role*, beside *champion* in the UTC hour that begins at *hour* (epoch ms)."""

    hour: int
    gate: str
    role: Role
    champion: str
    other: str
    currency: str


class Compared(Struct, frozen=True, kw_only=True):
    """
    What came of *rows* that both scored.

    *agreed* got the same band from both, *stricter* a worse one from the other, *milder* a better one. Differences are
    probabilities, the other's less the champion's; *money_micros* is what would be billed more by the other's word.
    """

    key: ComparedKey
    rows: int = 0
    agreed: int = 0
    stricter: int = 0
    milder: int = 0
    difference_sum: float = 0.0
    difference_abs_sum: float = 0.0
    difference_max: float = 0.0
    money_micros: int = 0


class ModelStore(Protocol):
    """Models by id. Every call raises `LedgerUnavailable` if the store does not answer."""

    async def add(self, entry: ModelEntry, data: bytes) -> bool:
        """Keep *data* as *entry* says; tell whether it is new. What is there already stays as it is."""

    async def find(self, model: str) -> ModelEntry | None:
        """Return what is known of *model*, None if it is not here."""

    async def page(self, after: str, limit: int, stage: Stage | None = None) -> list[ModelEntry]:
        """Return up to *limit* models, those added last first, beginning after the model *after*."""

    async def read(self, model: str) -> bytes:
        """
        Return the bytes of *model* as they lie there; whoever uses them checks their hash.

        Raises:
            NoSuchModel: it is not here.
        """


class PlacementTable(Protocol):
    """Placements in order. Every call raises `LedgerUnavailable` if the store does not answer."""

    async def through(self) -> int:
        """Return how many events of the stream the table has: all before that place."""

    async def put(self, rows: Sequence[PlacementRow]) -> None:
        """Keep *rows*; those that are there stay as they are."""

    async def page(self, before: int, limit: int) -> list[PlacementRow]:
        """Return up to *limit* rows with versions under *before*, the latest first."""

    async def clear(self) -> None:
        """Forget everything."""


class ComparisonTable(Protocol):
    """Comparisons by the hour. Every call raises `LedgerUnavailable` if the store does not answer."""

    async def put(self, rows: Sequence[Compared]) -> None:
        """Keep *rows* in place of those with the same keys."""

    async def since(self, hour: int, limit: int) -> list[Compared]:
        """Return up to *limit* rows of all gates together, `gate` empty, of hours from *hour* on, the latest first."""

    async def drop_before(self, hour: int) -> int:
        """Forget the hours before *hour*, and return how many rows those were."""


class Tables(NamedTuple):
    """All that the registry keeps, beside the ledger."""

    models: ModelStore
    placements: PlacementTable
    comparisons: ComparisonTable


def check_page(limit: int) -> None:
    """Raise `ValueError` unless *limit* is in 1 to `PAGE_MAX`."""
    if not 1 <= limit <= PAGE_MAX:
        raise ValueError(f"limit {limit} is not in 1 to {PAGE_MAX}")


def entry_of(data: bytes, *, by: str, at: int) -> ModelEntry:
    """
    Return what is to be kept beside *data*, which is checked as if it were to be used.

    Raises:
        CorruptArtifact: it is no model, or too large.
        SchemaMismatch: it reads other features than are made here.
    """
    if len(data) > MODEL_BYTES_MAX:
        raise CorruptArtifact(f"a model has at most {MODEL_BYTES_MAX} bytes")
    artifact = load_any(data)
    return ModelEntry(
        model=model_id(data, artifact.stage),
        stage=artifact.stage,
        sha256=sha256(data).hexdigest(),
        features=artifact.schema_id,
        size=len(data),
        by=by,
        added_at=at,
        card=msgspec.json.decode(msgspec.json.encode(artifact.card)),
    )


async def add_model(store: ModelStore, data: bytes, *, by: str, at: int) -> tuple[ModelEntry, bool]:
    """
    Check *data* and keep it; return what is kept of it, and whether it is new.

    Raises:
        CorruptArtifact, SchemaMismatch: see `entry_of`; nothing was kept.
        LedgerUnavailable: the store did not answer; adding it again is safe.
    """
    entry = await asyncio.to_thread(entry_of, data, by=by, at=at)  # a large one takes a while to check
    if await store.add(entry, data):
        return entry, True
    kept = await store.find(entry.model)
    if kept is None or kept.sha256 != entry.sha256:
        raise CorruptArtifact(f"another model has the id {entry.model}")
    return kept, False
