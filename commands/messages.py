"""The port to the message broker: who sends needs no more of it than this, and loses nothing with it."""

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from msgspec import Struct

from domain.ids import ImpressionId

FEEDBACK_QUEUE = "feedback"
APPLY_FEEDBACK = "apply_feedback"
REEVALUATIONS_QUEUE = "reevaluations"
REEVALUATE = "reevaluate"


class BrokerUnavailable(Exception):
    """The broker did not answer. What was sent may have arrived."""


class Message(Struct, frozen=True):
    """A call of the actor of that name, in *queue*; *args* are plain JSON."""

    queue: str
    actor: str
    args: tuple[Any, ...]


class Messages(Protocol):
    """Every call raises `BrokerUnavailable` if the broker does not answer."""

    async def send(self, message: Message) -> None:
        """Put *message* into its queue. It is delivered at least once, or lost with the broker."""

    async def depth(self, queue: str) -> int:
        """Return how many messages of *queue* are not done."""


class MemoryMessages:
    """`Messages` in a list per queue, for tests and simulation."""

    def __init__(self) -> None:
        self.queues: dict[str, deque[Message]] = {}

    async def send(self, message: Message) -> None:
        self.queues.setdefault(message.queue, deque()).append(message)

    async def depth(self, queue: str) -> int:
        return len(self.queues.get(queue, ()))


def apply_feedback(ids: Sequence[UUID]) -> Message:
    """Return the message that asks for feedback *ids* to be applied."""
    return Message(FEEDBACK_QUEUE, APPLY_FEEDBACK, ([str(id_) for id_ in ids],))


def reevaluate(impressions: Sequence[ImpressionId]) -> Message:
    """Return the message that asks for *impressions* to be looked at again."""
    return Message(REEVALUATIONS_QUEUE, REEVALUATE, ([str(one) for one in impressions],))
