"""What stands out about the activity of persons, devices and networks: the port of the sliding-window counters."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from commands.items import Ready
from commands.thoughts import Thought
from domain.events import ImpressionEvent, ImpressionRendered
from domain.ids import ImpressionId
from domain.signals import Signal
from domain.vocabulary import Rung


class Conduct(Struct, frozen=True, gc=False):
    """
    What stands out about one render: whether its rate is beyond anything human, and signals.

    `rungs` are those that looking at it was on: what does not stand out may not have been seen. `thought` is what a
    model makes of it, if any was asked.
    """

    abusive: bool = False
    signals: tuple[Signal, ...] = ()
    rungs: tuple[Rung, ...] = ()
    thought: Thought | None = None


PLAIN = Conduct()
"""Nothing stands out."""


class Activity(Protocol):
    """Counters over renders; belongs to one task."""

    def look(self, renders: Sequence[Ready]) -> Mapping[int, Conduct]:
        """
        Return what stands out, by place in *renders*, each counted after those before it; most have nothing.

        Nothing is counted for later.
        """

    def count(self, claims: Sequence[ImpressionRendered]) -> None:
        """Count renders that are durable now, each once."""

    def recall(self, impression: ImpressionId, events: Sequence[ImpressionEvent]) -> None:
        """Count what one commit of the ledger holds, after a restart."""


class NoActivity:
    """No counters: nothing stands out."""

    def look(self, renders: Sequence[Ready]) -> Mapping[int, Conduct]:  # noqa: ARG002
        return {}

    def count(self, claims: Sequence[ImpressionRendered]) -> None: ...

    def recall(self, impression: ImpressionId, events: Sequence[ImpressionEvent]) -> None: ...
