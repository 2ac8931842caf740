"""What may go wrong, said per request by a function of the stream's name."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from random import Random
from typing import TypeAlias


class Fault(StrEnum):
    UNAVAILABLE = "unavailable"
    """The call breaks; nothing is written."""
    LOST_BEFORE = "lost_before"
    """Nothing is written and no answer comes."""
    LOST_AFTER = "lost_after"
    """Written, and no answer comes."""
    BROKEN_AFTER = "broken_after"
    """Written, and the call breaks instead of answering."""
    TIMEOUT_BEFORE = "timeout_before"
    """The server's own time-out, nothing written."""
    TIMEOUT_AFTER = "timeout_after"
    """The server's own time-out, and it was written all the same."""
    BUSY = "busy"
    NOT_READY = "not_ready"
    NOT_LEADER = "not_leader"
    """This node is no leader, and says who is."""
    NO_LEADER = "no_leader"
    """There is none at the moment."""
    DENIED = "denied"
    CUT = "cut"
    """The call breaks, and the client library says so of its failed write instead of saying why."""
    WRONG_VERSION = "wrong_version"
    """The stream stood otherwise, by a write that a change of leaders has undone since."""


Faults: TypeAlias = Callable[[str], Fault | None]


def none(_: str) -> None:
    return None


def script(faults: Iterable[Fault | None]) -> Faults:
    """Say *faults* one request after the other, then nothing."""
    waiting = deque(faults)
    return lambda _: waiting.popleft() if waiting else None


def chance(seed: int, rate: float, kinds: Sequence[Fault]) -> Faults:
    """Say one of *kinds* with probability *rate*, the same for the same *seed* and order of requests."""
    dice = Random(seed)
    return lambda _: dice.choice(kinds) if dice.random() < rate else None
