"""What a model thinks of one render."""

from typing import Protocol

from msgspec import Struct

from domain.signals import Family
from domain.suspicion import Banding, Masked
from domain.vocabulary import Rung


class Source(Protocol):
    """Knows a whole batch, and what its model says of one of it without a family of features."""

    def masked(self, place: int, family: Family) -> Masked: ...


class Thought(Struct, frozen=True, gc=False):
    """
    What is thought of one render: its features as they are logged, and what a model makes of them.

    `model` is empty where none scored; `risk` and `band` are None then. `mask` names the groups of features that were
    left out, which is also the calibration. `propensity` is that of the random sample that it is of. `decides`: it may
    change a verdict; `may_drop`: to dropped. `rungs` are those that scoring was on; `source` has the render at `place`.
    """

    features: bytes = b""
    status: str = ""
    schema: str = ""
    model: str = ""
    mask: str = ""
    risk: float | None = None
    band: Banding | None = None
    propensity: float | None = None
    decides: bool = True
    may_drop: bool = True
    rungs: tuple[Rung, ...] = ()
    source: Source | None = None
    place: int = 0

    def without(self, family: Family) -> Masked:
        """Return what the model says without the features of *family*."""
        assert self.source is not None, "without a model there is no band"
        return self.source.masked(self.place, family)
