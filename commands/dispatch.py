"""
What a scheduler does: it enqueues what is due and deletes what has outlived its time. It decides and applies nothing.

Several may run at once: each claims its own, and what is sent twice is done once.
"""

from collections.abc import Callable

from msgspec import Struct

from commands.dead_letters import DeadLetters, LetterState
from commands.feedback_store import FORGOTTEN_MAX, FeedbackStore
from commands.messages import FEEDBACK_QUEUE, Messages, apply_feedback
from commands.reevaluations import Reevaluations

CHUNK = 500
"""Feedback per message: a worker takes some hundred messages a second, whatever is in them."""
DEPTH_MAX = 40
"""Messages that may wait in the queue. So a queue without workers does not fill up with repeats of the same work."""
AGAIN_MS = 180_000
"""What was enqueued and is not done by then is enqueued again."""
_REPLAYS_MAX = 100
_FORGETS_MAX = 50


class Swept(Struct, frozen=True):
    messages: int = 0
    items: int = 0


class Dispatcher:
    """`clock` gives epoch ms. Every call raises `LedgerUnavailable` or `BrokerUnavailable`; it is safe to repeat."""

    def __init__(
        self,
        *,
        feedback: FeedbackStore,
        letters: DeadLetters,
        reevaluations: Reevaluations,
        messages: Messages,
        clock: Callable[[], int],
    ) -> None:
        self._feedback = feedback
        self._letters = letters
        self._reevaluations = reevaluations
        self._messages = messages
        self._clock = clock

    async def sweep(self) -> Swept:
        """Enqueue feedback that is due, in chunks, for as long as the queue is short."""
        messages = items = 0
        for _ in range(max(0, DEPTH_MAX - await self._messages.depth(FEEDBACK_QUEUE))):
            now = self._clock()
            ids = await self._feedback.claim(now, now + AGAIN_MS, CHUNK)
            if not ids:
                break
            await self._messages.send(apply_feedback(ids))
            messages, items = messages + 1, items + len(ids)
            if len(ids) < CHUNK:
                break
        return Swept(messages, items)

    async def replay(self) -> int:
        """Send the dead letters that somebody wants replayed; say how many."""
        sent: list[str] = []
        try:
            for letter in await self._letters.letters([LetterState.REPLAYING], None, _REPLAYS_MAX):
                await self._messages.send(letter.message)
                sent.append(letter.name)
        finally:
            await self._letters.sent(sent)
        return len(sent)

    async def tidy(self) -> int:
        """Delete what has outlived its time; say how much."""
        now, deleted = self._clock(), await self._letters.forget(self._clock())
        for forget in (self._feedback.forget, self._reevaluations.forget):
            for _ in range(_FORGETS_MAX):
                deleted += (forgotten := await forget(now))
                if forgotten < FORGOTTEN_MAX:
                    break
        return deleted
