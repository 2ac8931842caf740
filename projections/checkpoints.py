"""
How far the projector is: a lease with a fence, the range that is being written, the position that is done.

C1  one holder at a time has the lease; its fence is higher than any before, and a write with another fence is refused
C2  a range is durable when `begin` returns; while one is pending no other begins, so a redo is of the very same range
C3  ranges join without gap or overlap: each begins where the one before ended
C4  `position_at` answers the same for a time for ever: a time that was asked for is never given a position later
    (as long as the clock is not set back by more than a second)
C5  positions and times of heads only grow, also while tables that were forgotten are filled again
"""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from projections.errors import LeaseLost, QueryRefused

FIRST_GENERATION = 1
HEAD_MS = 1_000
"""A head is known from the next full second on; so there are few of them, and no past answer changes."""


class Range(Struct, frozen=True):
    """Commits with positions over *after* up to *through*."""

    after: int
    through: int


class Lease(Struct, frozen=True):
    """The right to write the tables, until another has it."""

    fence: int


class Progress(Struct, frozen=True):
    """Of one generation of tables: all commits up to `done` are in them, `pending` may be in part."""

    done: int = 0
    pending: Range | None = None


class Known(Struct, frozen=True):
    """
    What the active tables hold: every commit up to `position`.

    `known_at` (epoch ms): everything that the ledger recorded before is among them; 0 if that was never seen.
    """

    generation: int
    position: int
    known_at: int


class Checkpoints(Protocol):
    """The checkpoints of one set of tables; see the promises above. Each raises `CheckpointsUnavailable`."""

    async def lease(self, holder: str, ttl_ms: int) -> Lease | None:
        """Return the lease, taken or renewed for *ttl_ms*; None while another holder has it."""

    async def release(self, lease: Lease) -> None:
        """Give the lease up, if it is still held."""

    async def progress(self, generation: int) -> Progress:
        """Return how far *generation* is; one never begun is at 0."""

    async def begin(self, lease: Lease, generation: int, block: Range) -> None:
        """
        Write down that *block* is about to be written.

        Raises:
            LeaseLost: another holder came between, or *block* does not begin where the last ended.
        """

    async def finish(self, lease: Lease, generation: int, block: Range, known_at: int) -> None:
        """
        Write down that *block* is in the tables; the active generation's position becomes a head.

        Raises:
            LeaseLost: another holder came between, or *block* is not the pending range.
        """

    async def touch(self, lease: Lease, generation: int, known_at: int) -> None:
        """
        Write down that the ledger had nothing more at *known_at*.

        Raises:
            LeaseLost: another holder came between.
        """

    async def activate(self, lease: Lease, generation: int) -> None:
        """
        Make *generation* the one that is read, in one transaction; its position becomes a head.

        Raises:
            LeaseLost: another holder came between, or *generation* is behind the active one or half-way in a range.
        """

    async def forget(self, lease: Lease, generation: int) -> None:
        """
        Write down that nothing is in the tables of *generation*, because they are gone.

        Raises:
            LeaseLost: another holder came between.
        """

    async def known(self) -> Known:
        """Return what the active tables hold."""

    async def position_at(self, at: int) -> int:
        """
        Return the highest position that was handled at *at* (epoch ms), 0 if none was.

        Raises:
            QueryRefused: *at* is in the future.
        """


class MemoryCheckpoints:
    """`Checkpoints` of one process, for tests and trials. *now* tells the time in epoch ms."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._holder = ""
        self._fence = 0
        self._leased_until = 0
        self._active = FIRST_GENERATION
        self._progress: dict[int, Progress] = {}
        self._known_at: dict[int, int] = {}
        self._heads: list[tuple[int, int]] = []

    async def lease(self, holder: str, ttl_ms: int) -> Lease | None:
        now = self._now()
        if holder != self._holder:
            if now < self._leased_until:
                return None
            self._holder = holder
            self._fence += 1
        self._leased_until = now + ttl_ms
        return Lease(self._fence)

    async def release(self, lease: Lease) -> None:
        if lease.fence == self._fence:
            self._holder, self._leased_until = "", 0

    async def progress(self, generation: int) -> Progress:
        return self._progress.get(generation, Progress())

    async def begin(self, lease: Lease, generation: int, block: Range) -> None:
        self._check(lease)
        progress = await self.progress(generation)
        if progress.pending not in {None, block} or progress.done != block.after:
            raise LeaseLost(f"{block} does not follow on {progress}")
        self._progress[generation] = replace(progress, pending=block)

    async def finish(self, lease: Lease, generation: int, block: Range, known_at: int) -> None:
        self._check(lease)
        if (await self.progress(generation)).pending != block:
            raise LeaseLost(f"{block} is not the pending range")
        self._progress[generation] = Progress(block.through)
        await self.touch(lease, generation, known_at)
        if generation == self._active:
            self._add_head(block.through)

    async def touch(self, lease: Lease, generation: int, known_at: int) -> None:
        self._check(lease)
        self._known_at[generation] = max(known_at, self._known_at.get(generation, 0))

    async def activate(self, lease: Lease, generation: int) -> None:
        self._check(lease)
        shadow, active = await self.progress(generation), await self.progress(self._active)
        if shadow.pending is not None or shadow.done < active.done:
            raise LeaseLost(f"generation {generation} is at {shadow}, the active one at {active}")
        self._active = generation
        self._add_head(shadow.done)

    async def forget(self, lease: Lease, generation: int) -> None:
        self._check(lease)
        self._progress.pop(generation, None)
        self._known_at.pop(generation, None)

    async def known(self) -> Known:
        done = (await self.progress(self._active)).done
        return Known(self._active, done, self._known_at.get(self._active, 0))

    async def position_at(self, at: int) -> int:
        check_past(at, self._now())
        return max((position for handled_at, position in self._heads if handled_at <= at), default=0)

    def _check(self, lease: Lease) -> None:
        if lease.fence != self._fence:
            raise LeaseLost(f"the lease with fence {lease.fence} is lost to {self._fence}")

    def _add_head(self, position: int) -> None:
        last, highest = self._heads[-1] if self._heads else (0, 0)
        if position < highest:
            return
        at = next_head(max(self._now(), last - HEAD_MS))
        if at == last:
            self._heads.pop()
        self._heads.append((at, position))


def next_head(now: int) -> int:
    """Return the first full second after *now* (epoch ms)."""
    return (now // HEAD_MS + 1) * HEAD_MS


def check_past(at: int, now: int) -> None:
    """Raise `QueryRefused` if *at* is after *now*: what will be known then cannot be said."""
    if at > now:
        raise QueryRefused("as_of", f"{at} is in the future")
