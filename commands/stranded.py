"""What a batch could not bring into the ledger, and the port of those who keep it."""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from commands.items import Answer, Malformed, Ready
from commands.recent import FirstAnswer, RecentSlots
from domain.ids import ImpressionId
from ledger.store import Append


class Stranded(Struct, frozen=True, kw_only=True):
    """
    Renders and views without a durable answer, by their places in the batch, and what else must be kept.

    `sent` are appends to impressions whose outcome is not known, `counts` those of what was only counted. `slots` is
    what the gate remembers of what was shown to whom, `first` of how first renders were answered; `remember` is told
    what is answered anew. `now` is epoch ms.
    """

    now: int
    ready: Sequence[tuple[int, Ready]]
    sent: Sequence[Append]
    counts: Sequence[Append]
    malformed: Sequence[Malformed]
    slots: RecentSlots
    first: Callable[[ImpressionId], FirstAnswer | None]
    remember: Callable[[Ready, Answer], None]


class Spooling(Protocol):
    async def take(self, stranded: Stranded) -> list[Answer]:
        """
        Keep all of *stranded*; return, when it is durable, an answer to each of `ready`, in order.

        Raises:
            LedgerUnavailable: nothing of it is kept.
        """
