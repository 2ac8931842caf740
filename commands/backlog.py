"""
Spools that wait to be drained: this process's own, and those of dead processes that it adopted.

A segment is read as a whole, brought in batch by batch, and forgotten when all of it is durable and what it left
uncertain is decided again. One that was damaged is set aside then, and so is one of which something stays out of the
ledger, for the stream that it belongs to cannot be read; the rest of it is in the ledger.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import structlog
from msgspec import Struct

from commands.budget_spool import LABEL, SpoolMoney
from commands.draining import Drain, Drained
from commands.redecide import Redecided
from commands.spool_records import UnreadableRecord, unpack
from domain.ids import ImpressionId
from ledger.spool import Segment, Spool, cut_tail, read_segment, set_aside
from ledger.spool_owners import DAMAGED, Owned, adopt
from ledger.store import StreamId

TOGETHER_MAX = 8
"""Segments that are booked and decided again together."""

log = structlog.get_logger()


class Again(Protocol):
    """`commands.redecide.Redecider`."""

    async def redecide(self, impressions: Iterable[ImpressionId]) -> Redecided: ...


class Totals(Struct):
    """What was done since the process started; `damaged` counts segments, `lost_frames` what was missing of them."""

    drained: int = 0
    already: int = 0
    superseded: int = 0
    decided_again: int = 0
    expired: int = 0
    redecided: int = 0
    damaged: int = 0
    adopted: int = 0


class _Progress(Struct):
    """How far one segment is; `done` has what is pending of all its batches."""

    batches: int = 0
    is_unreadable: bool = False
    done: Drained = msgspec.field(default_factory=Drained)


class Backlog:
    """Drains *spool* and adopted ones. Belongs to one event loop; `money` is None where budgets are not leased."""

    def __init__(  # noqa: PLR0913 (its collaborators)
        self, root: Path, spool: Spool, owned: Owned, *, drain: Drain, again: Again, money: SpoolMoney | None
    ) -> None:
        self._root = root
        self._spool = spool
        self._owned = owned
        self._drain = drain
        self._again = again
        self._money = money
        self._orphans: list[Owned] = []
        self._progress: dict[Path, _Progress] = {}
        self._last: dict[Path, int] = {}
        self._not_adopted = ""
        self.totals = Totals()

    @property
    def orphan_bytes(self) -> int:
        return sum(path.stat().st_size for orphan in self._orphans for path in orphan.segments())

    @property
    def orphan_segments(self) -> int:
        return sum(len(orphan.segments()) for orphan in self._orphans)

    def adopt(self) -> int:
        """Take over spools whose processes died; return how many. One that cannot be had keeps no gate from working."""
        try:
            found = adopt(self._root)
        except OSError as error:
            if str(error) != self._not_adopted:
                log.error("a spool cannot be adopted: make it this user's own", error=str(error))  # noqa: TRY400
            self._not_adopted = str(error)
            return 0
        self._not_adopted = ""
        self._orphans += found
        self.totals.adopted += len(found)
        for orphan in found:
            log.warning("adopted a spool", owner=orphan.owner, segments=len(orphan.segments()))
        return len(found)

    async def work(self) -> int:
        """
        Bring in everything that is written by now; return how many events were brought in.

        Raises:
            LedgerUnavailable: the rest is brought in next time.
            OSError: a file of one spool cannot be read or deleted; the other spools are brought in.
        """
        before = self.totals.drained
        failed: OSError | None = None
        for owned in (self._owned, *self._orphans):
            try:
                await self._work_on(owned)
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed
        return self.totals.drained - before

    async def close(self) -> None:
        """Leave what is not done to whoever adopts it."""
        await self._spool.close()
        for owned in (self._owned, *self._orphans):
            owned.release()

    async def _work_on(self, owned: Owned) -> None:
        if owned is not self._owned:
            await self._bring_in(owned.segments(), owned.owner, own=False)
            owned.release()
            self._orphans.remove(owned)
        elif self._spool.segments:
            await self._bring_in(await self._spool.seal(), owned.owner, own=True)

    async def _bring_in(self, paths: Sequence[Path], owner: str, *, own: bool) -> None:
        for at in range(0, len(paths), TOGETHER_MAX):
            await self._bring_in_together(paths[at : at + TOGETHER_MAX], f"{LABEL}{owner}", own=own)

    async def _bring_in_together(self, paths: Sequence[Path], label: str, *, own: bool) -> None:
        began = time.perf_counter()
        if self._money is not None and paths:
            await self._money.call_up(label)
        brought = [(await self._read_in(path, label), self._progress[path]) for path in paths]
        if self._money is not None and paths:
            await self._money.book(label)
        pending = [impression for _, progress in brought for impression in progress.done.pending]
        again = await self._again.redecide(pending)
        self.totals.redecided += again.decided
        if again.unreadable:
            log.error("not decided again: streams cannot be read", streams=_told(again.unreadable))
        for segment, progress in brought:
            self._finish(segment, progress, own=own)
        if brought:
            log.info(
                "drained",
                spool=label,
                segments=len(brought),
                events=sum(progress.done.drained for _, progress in brought),
                superseded=sum(progress.done.superseded for _, progress in brought),
                seconds=round(time.perf_counter() - began, 3),
            )

    async def _read_in(self, path: Path, label: str) -> Segment:
        """Bring in what of the segment *path* is not in yet; return it without its data."""
        segment = await asyncio.to_thread(read_segment, path)
        progress = self._progress.setdefault(path, _Progress())
        for number, payload in enumerate(segment.payloads()):
            if number < progress.batches:
                continue
            done = Drained(pending=progress.done.pending)
            try:
                await self._drain.bring_in(unpack(payload), label, done)
            except UnreadableRecord as error:
                progress.is_unreadable = True
                log.error("a batch of the spool cannot be read", segment=str(path), error=str(error))  # noqa: TRY400
            if done.aside:
                progress.is_unreadable = True
                log.error("set aside: streams cannot be read", segment=str(path), streams=_told(done.aside))
            progress.batches = number + 1
            self._note(progress, done)
        return Segment(path, b"", segment.scan)

    def _note(self, progress: _Progress, done: Drained) -> None:
        for sums in (self.totals, progress.done):
            sums.drained += done.drained
            sums.already += done.already
            sums.superseded += done.superseded
            sums.decided_again += done.decided_again
            sums.expired += done.expired

    def _finish(self, segment: Segment, progress: _Progress, *, own: bool) -> None:
        path, scan = segment.path, segment.scan
        is_damaged = scan.is_damaged or progress.is_unreadable or self._misses_some(segment)
        if scan.torn_bytes and not is_damaged:
            cut_tail(segment)
            log.warning("cut a torn tail", segment=str(path), bytes=scan.torn_bytes)
        if is_damaged:
            self.totals.damaged += 1
            aside = self._root / DAMAGED
            moved = self._spool.set_aside(path, aside) if own else set_aside(path, aside)
            log.error("a segment of the spool is damaged", kept_as=str(moved), damage=scan.damage, missing=scan.gaps)
        elif own:
            self._spool.done(path)
        else:
            path.unlink()
        del self._progress[path]

    def _misses_some(self, segment: Segment) -> bool:
        """
        Tell whether batches are missing between this segment and the one before it.

        What an operator has put back has another name, and what stood between may be in the ledger long since.
        """
        folder, first, last = segment.path.parent, segment.first, segment.last
        if first is None or last is None or not segment.path.stem.isdecimal():
            return False
        before = self._last.get(folder)
        self._last[folder] = last
        # What was refused may have stayed on a disk that failed; what came next has its numbers again.
        return before is not None and first > before + 1


def _told(streams: Mapping[StreamId, str]) -> dict[str, str]:
    return {str(stream): why for stream, why in streams.items()}
