"""
After a restart: what the gate remembered between batches, read again from the ledger's tail.

Without it the ledger would still have the final word on every impression; but a double fire of what was shown just
before the restart would pass, and clocks of devices would have to be learned anew.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from domain.events import ImpressionEvent
from domain.ids import ImpressionId
from ledger.codec import decode_impression
from ledger.store import EventStore, read_everything

Memory: TypeAlias = Callable[[ImpressionId, Sequence[ImpressionEvent]], None]
"""Takes the events of one commit of an impression, in the order of the ledger."""


async def recall(
    store: EventStore, commits_max: int, memories: Sequence[Memory], whole: Callable[[], None] = lambda: None
) -> int:
    """
    Hand the last commits, at most *commits_max*, to *memories*; return how many were read.

    *whole* is called before if those are all that there are.

    Raises:
        LedgerUnavailable: the store did not answer; what was remembered so far stays right.
    """
    after = await store.before_last(commits_max)
    if not after:
        whole()
    count = 0
    async for commit in read_everything(store, after):
        count += 1
        if isinstance(commit.stream, str):
            continue
        events = decode_impression(commit.data)
        for memory in memories:
            memory(commit.stream, events)
    return count
