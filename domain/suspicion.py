"""
From signals to reasons: two independent families make an impression invalid, one alone makes it uncertain.

The model is a family too. It corroborates another one only by what it knows from elsewhere: it must find the render
risky without the features of that family. Source: semantics 11 of the design: a reason of class sivt needs two
families, and pair and masked score are recorded.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from msgspec import Struct

from domain.events import ImpressionRendered
from domain.pack import Pack
from domain.reasons import PRECEDENCE, Reason
from domain.signals import Family, Signal

VISIBLE_TOO_LONG, VIDEO_TOO_LONG, STACKED = "visible_longer", "video_longer", "stacked"
INCONSISTENT, MODEL = "inconsistent", "model"


class Banding(StrEnum):
    """What a model's probability says, under the model's own thresholds."""

    CLEAR = "clear"
    GREY = "grey"
    RISKY = "risky"


SUSPECTED = frozenset({Banding.GREY, Banding.RISKY})


class Masked(NamedTuple):
    """What a model says of a render without one family of features."""

    risk: float
    band: Banding


class Opinion(Protocol):
    """What a model says of one render. `may_drop`: it is the one in force, so it may take part in dropping."""

    @property
    def band(self) -> Banding | None: ...

    @property
    def may_drop(self) -> bool: ...

    def without(self, family: Family) -> Masked: ...


class Suspicion(Struct, frozen=True, gc=False):
    """
    What signals lead to: the reasons, in order of precedence, and the names of the two that carry the first of them;
    one where it stands alone. `masked_risk` is the model's probability without the other's family, if it is of the two.
    """

    reasons: tuple[Reason, ...]
    pair: tuple[str, ...]
    masked_risk: float | None = None

    @property
    def reason(self) -> Reason:
        """The one that decides, of these."""
        return self.reasons[0]


def fingerprint(rendered: ImpressionRendered, pack: Pack) -> tuple[Signal, ...]:
    """Return how the device of *rendered* contradicts itself, if it does: it accuses of nothing, but corroborates."""
    count, rules = rendered.fingerprint_inconsistencies, pack.signals
    if count is None or not rules.is_inconsistent(count):
        return ()
    return (Signal(Family.FINGERPRINT, INCONSISTENT, count, rules.inconsistencies_max),)


def geometry(rendered: ImpressionRendered, pack: Pack) -> tuple[Signal, ...]:
    """Return what is impossible about the measures that *rendered* claims."""
    visible_ms, depth, rules = rendered.visible_ms, rendered.stack_depth, pack.signals
    found: list[Signal] = []
    if visible_ms is not None:
        open_ms = rendered.received_at - rendered.served_at
        if rules.is_visible_too_long(visible_ms, open_ms):
            found.append(_signal(VISIBLE_TOO_LONG, visible_ms - open_ms, rules.visible_longer_ms))
        duration_ms = rendered.duration_ms
        if duration_ms and rules.is_video_too_long(visible_ms, duration_ms):
            found.append(_signal(VIDEO_TOO_LONG, visible_ms / duration_ms, rules.video_longer_ratio))
    if depth is not None and rules.is_stacked(depth):
        found.append(_signal(STACKED, depth, rules.stack_depth_max))
    return tuple(found)


def suspect(signals: Sequence[Signal], pack: Pack, opinion: Opinion | None = None) -> Suspicion | None:
    """
    Return what *signals* and a model's *opinion* lead to; None where none of them accuses.

    A signal that the pack lets accuse needs another of another family beside it, accusing or not, or the model. A risky
    opinion needs any signal that it corroborates, and is `RISK_HIGH` then. What accuses alone is `RISK_GREY`.
    """
    accusers = [signal for signal in signals if signal.name in pack.accuses]
    accusers.sort(key=lambda signal: PRECEDENCE[pack.accuses[signal.name]])
    by_model = _corroborated(signals, opinion)
    found: list[tuple[Reason, tuple[str, ...]]] = []
    masked_risk = None
    if by_model is not None:
        signal, masked_risk = by_model
        found.append((Reason.RISK_HIGH, (MODEL, signal.name)))
    for accuser in accusers:
        reason = pack.accuses[accuser.name]
        other = next((one for one in signals if one.family is not accuser.family), None)
        if other is not None:
            found.append((reason, (accuser.name, other.name)))
            break
    if found:
        return Suspicion(tuple([reason for reason, _ in found]), found[0][1], masked_risk)
    if accusers:
        return Suspicion((Reason.RISK_GREY,), (accusers[0].name,))
    is_suspected = opinion is not None and opinion.band in SUSPECTED
    return Suspicion((Reason.RISK_GREY,), (MODEL,)) if is_suspected else None


def _corroborated(signals: Sequence[Signal], opinion: Opinion | None) -> tuple[Signal, float] | None:
    """Return the first of *signals* that the model finds risky without, and its probability then."""
    if opinion is None or not opinion.may_drop or opinion.band is not Banding.RISKY:
        return None
    for signal in signals:
        if signal.family is not Family.MODEL and (masked := opinion.without(signal.family)).band is Banding.RISKY:
            return signal, masked.risk
    return None


def _signal(name: str, value: float, threshold: float) -> Signal:
    return Signal(Family.GEOMETRY, name, value, threshold)
