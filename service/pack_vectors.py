"""Boundary vectors: what a rule pack must say just below, at and just above each of its numbers, as data beside it."""

import tomllib
from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from domain.pack import PackError
from domain.pack_tables import Expected
from domain.rates import Activity
from domain.reasons import Reason
from domain.standing import Viewability
from domain.vocabulary import AgentClass, CountingMethod, Evidence, Format, NetworkClass, OmidType, Surface

VECTORS_MAX = 10_000
"""Most vectors of one file."""
_Case: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]


class _Vector(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input and what the pack must say of it; `case` is a sentence. Times are ms after the ad was served."""

    case: _Case


class ScreenVector(_Vector, frozen=True, kw_only=True):
    """A render that has every field but those that it `lacks`, and all reasons that hold against it, in order."""

    surface: Surface = Surface.FEED
    format: Format = Format.DISPLAY
    received_after_ms: int = 1_000
    client_after_ms: int = 0
    on_screen: bool = True
    omid_type: OmidType | None = None
    prefetched: bool = False
    background: bool = False
    width: int = 300
    height: int = 250
    agent: AgentClass = AgentClass.BROWSER
    network: NetworkClass = NetworkClass.EYEBALL
    lacks: tuple[Expected, ...] = ()
    reasons: tuple[Reason, ...]
    method: CountingMethod | None = None
    evidence: Evidence | None = None


class ViewVector(_Vector, frozen=True, kw_only=True):
    """What was measured, and what each viewability pack says; one that is not named says nothing."""

    format: Format
    area_px: int | None = None
    visible_ratio: float | None = None
    visible_ms: int | None = None
    duration_ms: int | None = None
    clicked: bool = False
    says: dict[str, Viewability]


class LatenessVector(_Vector, frozen=True, kw_only=True):
    age_ms: int
    says: str


class SignalVector(_Vector, frozen=True, kw_only=True):
    """What a client says of geometry or of itself; whether that is a signal, and of which reason it accuses."""

    signal: Literal["visible_longer", "video_longer", "stacked", "inconsistent"]
    visible_ms: int = 0
    open_ms: int = 0
    duration_ms: int = 0
    depth: int = 0
    inconsistencies: int = 0
    holds: bool
    accuses: Reason | None = None


class DeadlineVector(_Vector, frozen=True, kw_only=True):
    """Whether what is undecided for *reason* expires `after_ms` after its receipt."""

    reason: Reason
    after_ms: int
    expires: bool


class LateViewVector(_Vector, frozen=True, kw_only=True):
    """Whether a view received `after_ms` after begin still bills a campaign that pays for viewable impressions."""

    after_ms: int
    bills: bool


class RepeatVector(_Vector, frozen=True, kw_only=True):
    """Whether the impression's repeat of that number, from 1 on, is kept as an event of its own."""

    number: Annotated[int, Meta(ge=1, le=1_000)]
    kept: bool


class IdleVector(_Vector, frozen=True, kw_only=True):
    """Whether `idle_ms` without a repeat end a flood."""

    idle_ms: int
    ends: bool


class DoubleFireVector(_Vector, frozen=True, kw_only=True):
    """Whether the same slot, user and creative under another id, `apart_ms` apart, is a double fire."""

    apart_ms: int
    fires: bool


class RateVector(_Vector, frozen=True, kw_only=True):
    """What is known of a person's activity; whether that is abusive, and its signals as `family name`."""

    activity: Activity
    abusive: bool = False
    signals: tuple[str, ...] = ()


Vector: TypeAlias = (
    ScreenVector
    | ViewVector
    | LatenessVector
    | SignalVector
    | DeadlineVector
    | LateViewVector
    | RepeatVector
    | IdleVector
    | DoubleFireVector
    | RateVector
)


class Vectors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The vectors of the rule pack whose id is `pack`."""

    pack: str
    screen: tuple[ScreenVector, ...] = ()
    view: tuple[ViewVector, ...] = ()
    lateness: tuple[LatenessVector, ...] = ()
    signal: tuple[SignalVector, ...] = ()
    deadline: tuple[DeadlineVector, ...] = ()
    late_view: tuple[LateViewVector, ...] = ()
    repeat: tuple[RepeatVector, ...] = ()
    idle: tuple[IdleVector, ...] = ()
    double_fire: tuple[DoubleFireVector, ...] = ()
    rate: tuple[RateVector, ...] = ()

    def all(self) -> Iterator[tuple[str, Vector]]:
        """Yield every vector with the name of its table."""
        for table in self.__struct_fields__[1:]:
            for vector in getattr(self, table):
                yield table, vector


def parse_vectors(text: str, source: str) -> Vectors:
    """
    Return the vectors in *text* (TOML).

    Raises:
        PackError: naming *source*, the key and what is wrong with it.
    """
    try:
        vectors = msgspec.convert(tomllib.loads(text), Vectors)
    except tomllib.TOMLDecodeError as error:
        raise PackError(f"{source}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise PackError(f"{source}: {error}") from error
    count = sum(1 for _ in vectors.all())
    if not 0 < count <= VECTORS_MAX:
        raise PackError(f"{source}: {count} vectors; there must be 1 to {VECTORS_MAX}")
    return vectors
