"""
From signals to a reason: two independent families make an impression invalid, one alone makes it uncertain.

Source: semantics 11 of the design: a reason of class sivt needs two families, and the pair is recorded.
"""

from collections.abc import Sequence

from msgspec import Struct

from domain.events import ImpressionRendered
from domain.pack import Pack
from domain.reasons import PRECEDENCE, Reason
from domain.signals import Family, Signal

VISIBLE_TOO_LONG, VIDEO_TOO_LONG, STACKED = "visible_longer", "video_longer", "stacked"


class Suspicion(Struct, frozen=True, gc=False):
    """What signals lead to: the reason, and the names of the two that carry it; one where it stands alone."""

    reason: Reason
    pair: tuple[str, ...]


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


def suspect(signals: Sequence[Signal], pack: Pack) -> Suspicion | None:
    """
    Return what *signals* lead to; None where none of them accuses.

    A signal that the pack lets accuse needs another of another family beside it, accusing or not. Of several reasons
    the first in order of precedence holds.
    """
    accusers = [signal for signal in signals if signal.name in pack.accuses]
    for accuser in sorted(accusers, key=lambda signal: PRECEDENCE[pack.accuses[signal.name]]):
        for other in signals:
            if other.family is not accuser.family:
                return Suspicion(pack.accuses[accuser.name], (accuser.name, other.name))
    return Suspicion(Reason.RISK_GREY, (accusers[0].name,)) if accusers else None


def _signal(name: str, value: float, threshold: float) -> Signal:
    return Signal(Family.GEOMETRY, name, value, threshold)
