"""
Messages that no worker could process, kept until somebody has looked at them: a broker forgets its own after a while.

A letter is one message however often it died. To replay it is to write that down; whoever sends messages sends it.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from commands.messages import Message

LETTERS_MAX = 10_000
"""So many different ones are kept; of more, the work itself is still due, but no letter says why it failed."""
LISTED_MAX = 1_000
KEPT_MS = 30 * 86_400_000
ERROR_MAX = 4_000
"""Characters of the end of an error, where it says most."""


class LetterState(StrEnum):
    DEAD = "dead"
    REPLAYING = "replaying"
    """It is to be sent again."""
    REPLAYED = "replayed"
    """It was sent again, and has not died since."""


class Letter(Struct, frozen=True, kw_only=True):
    """`times` is how often it died, first and last at these times (epoch ms); `error` is how it died the last time."""

    name: str
    message: Message
    error: str
    times: int = 1
    first_at: int
    last_at: int
    state: LetterState = LetterState.DEAD


class NoSuchLetter(Exception):
    """There is no dead letter of that name."""


class DeadLetters(Protocol):
    """Everything is durable when a call returns. Calls raise `LedgerUnavailable` if the store does not answer."""

    async def bury(self, message: Message, error: str, now: int) -> bool:
        """Keep *message*, which died of *error*; False if there are LETTERS_MAX others."""

    async def letters(self, states: Sequence[LetterState], after: tuple[int, str] | None, limit: int) -> list[Letter]:
        """Return letters in *states*, the last to die first; *after* is when the last one seen died, and its name."""

    async def find(self, name: str) -> Letter | None: ...

    async def replay(self, name: str) -> Letter | None:
        """Write down that the letter is to be sent again; return it as it then stands, None if there is none."""

    async def sent(self, names: Sequence[str]) -> None:
        """Write down that they were sent again; one that has died meanwhile stays dead."""

    async def count(self) -> Mapping[LetterState, int]: ...

    async def forget(self, now: int) -> int:
        """Delete letters that died `KEPT_MS` before *now* or earlier; say how many."""


class MemoryLetters:
    """`DeadLetters` in memory, for tests and simulation."""

    def __init__(self) -> None:
        self.kept: dict[str, Letter] = {}

    async def bury(self, message: Message, error: str, now: int) -> bool:
        name = name_of(message)
        known = self.kept.get(name)
        if known is None and len(self.kept) >= LETTERS_MAX:
            return False
        letter = known or Letter(name=name, message=message, error="", times=0, first_at=now, last_at=now)
        changes = {"error": error[-ERROR_MAX:], "times": letter.times + 1, "last_at": now, "state": LetterState.DEAD}
        self.kept[name] = replace(letter, **changes)
        return True

    async def letters(self, states: Sequence[LetterState], after: tuple[int, str] | None, limit: int) -> list[Letter]:
        found = [(one.last_at, one.name) for one in self.kept.values() if one.state in states]
        page = sorted((place for place in found if after is None or place < after), reverse=True)
        return [self.kept[name] for _, name in page[:limit]]

    async def find(self, name: str) -> Letter | None:
        return self.kept.get(name)

    async def replay(self, name: str) -> Letter | None:
        if name in self.kept:
            self.kept[name] = replace(self.kept[name], state=LetterState.REPLAYING)
        return self.kept.get(name)

    async def sent(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self.kept and self.kept[name].state is LetterState.REPLAYING:
                self.kept[name] = replace(self.kept[name], state=LetterState.REPLAYED)

    async def count(self) -> Mapping[LetterState, int]:
        return {state: sum(one.state is state for one in self.kept.values()) for state in LetterState}

    async def forget(self, now: int) -> int:
        old = [name for name, one in self.kept.items() if one.last_at + KEPT_MS <= now]
        for name in old:
            del self.kept[name]
        return len(old)


def name_of(message: Message) -> str:
    """Return the name of *message*'s letter: the same for the same call."""
    return blake2b(msgspec.json.encode(message), digest_size=16).hexdigest()
