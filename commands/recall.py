"""
After a restart: what the gate remembered between batches, read again from the ledger's tail.

Without it the ledger would still have the final word on every impression; but a double fire of what was shown just
before the restart would pass, and clocks of devices would have to be learned anew.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import structlog

from domain.events import ImpressionEvent
from domain.ids import ImpressionId
from ledger.codec import UnreadableCommit, decode_impression
from ledger.store import EventStore, read_everything

log = structlog.get_logger()

Memory: TypeAlias = Callable[[ImpressionId, Sequence[ImpressionEvent]], None]
"""Takes the events of one commit of an impression, in the order of the ledger."""


async def recall(
    store: EventStore, commits_max: int, memories: Sequence[Memory], whole: Callable[[], None] = lambda: None
) -> int:
    """
    Hand the last commits, at most *commits_max*, to *memories*; return how many were read.

    *whole* is called before if those are all that there are. A commit that cannot be read is left out, and logged.

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
        try:
            events = decode_impression(commit.data)
        except UnreadableCommit as error:
            log.error("a commit is not recalled", position=commit.position, error=str(error))  # noqa: TRY400
            continue
        for memory in memories:
            memory(commit.stream, events)
    return count
