"""What a scheduler does about impressions that are to be looked at again: it enqueues what is due, and tidies up."""

from collections.abc import Callable

from commands.dispatch import AGAIN_MS, DEPTH_MAX, Swept
from commands.messages import REEVALUATIONS_QUEUE, Messages, reevaluate
from commands.reevaluated import FORGOTTEN_MAX, ReevaluatedStore
from commands.reevaluations import Reevaluations

CHUNK = 200
"""Rows per message; each costs more than a label."""
_FORGETS_MAX = 50


class LooksDispatcher:
    """`clock` gives epoch ms. Every call raises `LedgerUnavailable` or `BrokerUnavailable`; it is safe to repeat."""

    def __init__(
        self, *, noted: Reevaluations, found: ReevaluatedStore, messages: Messages, clock: Callable[[], int]
    ) -> None:
        self._noted = noted
        self._found = found
        self._messages = messages
        self._clock = clock

    async def sweep(self) -> Swept:
        """Enqueue what is due, in chunks, for as long as the queue is short."""
        messages = items = 0
        for _ in range(max(0, DEPTH_MAX - await self._messages.depth(REEVALUATIONS_QUEUE))):
            now = self._clock()
            impressions = await self._noted.claim(now, now + AGAIN_MS, CHUNK)
            if not impressions:
                break
            await self._messages.send(reevaluate(impressions))
            messages, items = messages + 1, items + len(impressions)
        return Swept(messages, items)

    async def tidy(self) -> int:
        """Delete what was found long ago; say how much."""
        deleted = 0
        for _ in range(_FORGETS_MAX):
            deleted += (forgotten := await self._found.forget(self._clock()))
            if forgotten < FORGOTTEN_MAX:
                break
        return deleted
