"""
The event of the `config-models` stream: which model has which role, who said so, and why. A fact, never edited.

`by` tells who asked: the first hex digits of the SHA-256 of a key, or a part of this system that acts by itself.
"""

from enum import StrEnum

from msgspec import Struct

from domain.ids import CauseId


class Stage(StrEnum):
    S2 = "s2"
    """Scores every render before it is answered."""
    S3 = "s3"
    """Scores again, later and with more context."""


class Role(StrEnum):
    CHAMPION = "champion"
    """Decides."""
    CHALLENGER = "challenger"
    """Is scored beside the champion and decides nothing: in shadow."""
    CANARY = "canary"
    """Decides for its share of impressions, the same ones always."""
    NONE = "none"


class ModelRef(Struct, frozen=True, gc=False):
    """A model by its id, and what it has to be: the SHA-256 of its bytes and the schema of its features."""

    model: str
    sha256: str
    features: str


class ModelPlaced(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="ModelPlaced", gc=False):
    """
    From `decided_at` (epoch ms) on *model* has *role*.

    `share` in (0, 1) is a canary's. `rolled_back`: it is champion because it was before, and who took its place is not
    any more; without a model then, rules alone decided before.
    """

    cause: CauseId
    digest: str
    by: str
    reason: str
    decided_at: int
    stage: Stage
    role: Role
    model: ModelRef | None = None
    share: float = 0.0
    rolled_back: bool = False
