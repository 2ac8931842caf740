"""
A local journal for what the ledger does not take: fsynced, checksummed, in segments, bounded, append-only.

S1  when `write` returns, the batch is on this machine's disk; one fsync per frame, of which a batch mostly is one
S2  a frame is whole or not there: a torn tail is recognised and cut, and nothing of its batch was ever acknowledged
S3  damage in the middle of a segment is told, never skipped in silence: what is good is read, the file is set aside
S4  what does not fit is refused with `SpoolRefused`, and nothing of it stays; there is always room left on the disk
S5  a segment goes only when its reader says that all of it is done; reading one again must be harmless
"""

import asyncio
import errno
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from ledger.spool_frames import FrameTooLarge, Scan, frame, payload_of, scan
from ledger.store import LedgerUnavailable

SEGMENT_MAX = 8 << 20
"""Bytes after which a new segment is begun: about 25,000 renders, which are read as a whole."""
DISK_RESERVE = 64 << 20
"""Bytes that are left free on the disk, for the database that shares it."""
SUFFIX = ".segment"
_PRIVATE = 0o600


class SpoolRefused(LedgerUnavailable):
    """The ledger does not answer, and the spool does not take it either; nothing of the batch is kept."""


class SpoolFull(SpoolRefused):
    """The spool holds as much as it may."""


class SpoolDiskFull(SpoolRefused):
    """The disk is full, or nearly so."""


class SpoolBroken(SpoolRefused):
    """The disk does not do what it is asked."""


class Disk(Protocol):
    """What a spool asks of the operating system; every call may raise `OSError`."""

    def write(self, file: int, data: bytes) -> None:
        """Append all of *data*."""

    def sync(self, file: int) -> None:
        """Return when everything written is on disk."""

    def sync_folder(self, folder: Path) -> None:
        """Return when the names in *folder* are on disk."""

    def cut(self, file: int, size: int) -> None:
        """Cut the file to *size* bytes."""

    def free_bytes(self, folder: Path) -> int: ...


class OsDisk:
    """A `Disk`."""

    def write(self, file: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]

    def sync(self, file: int) -> None:
        os.fsync(file)

    def sync_folder(self, folder: Path) -> None:
        sync_folder(folder)

    def cut(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def free_bytes(self, folder: Path) -> int:
        return shutil.disk_usage(folder).free


class Segment(Struct, frozen=True):
    """One file of a spool as it was read; `first` and `last` are the numbers of its frames, None without any."""

    path: Path
    data: bytes
    scan: Scan

    def payloads(self) -> Iterator[bytes]:
        """Yield the batches that can be read, in order."""
        for found in self.scan.frames:
            yield payload_of(self.data, found)

    @property
    def first(self) -> int | None:
        return self.scan.frames[0].number if self.scan.frames else None

    @property
    def last(self) -> int | None:
        return self.scan.frames[-1].number if self.scan.frames else None


class _Open(Struct):
    path: Path
    file: int
    size: int = 0


class Spool:
    """
    The journal of one process in *folder*, which is its alone. Belongs to one event loop.

    *max_bytes* bounds what all its segments hold together.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, segment_max: int = SEGMENT_MAX, disk: Disk | None = None
    ) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._segment_max = segment_max
        self._disk = disk or OsDisk()
        self._open: _Open | None = None
        self._number = 0
        self._sizes: dict[Path, int] = {}
        self._began: dict[Path, float] = {}
        self._turn = asyncio.Lock()
        self._files = 0

    @property
    def size(self) -> int:
        """How many bytes are written and not done yet."""
        return sum(self._sizes.values())

    @property
    def segments(self) -> int:
        return len(self._sizes)

    @property
    def oldest_at(self) -> float | None:
        """When the oldest segment was begun, in seconds since 1970."""
        return min(self._began.values(), default=None)

    @property
    def has_room(self) -> bool:
        """Whether a batch would be taken, as far as can be told without trying."""
        try:
            free = self._disk.free_bytes(self.folder)
        except OSError:
            return False
        return self.size < self._max_bytes and free > DISK_RESERVE

    async def write(self, *payloads: bytes) -> None:
        """
        Keep *payloads*, the frames of one batch; all of them are on disk when this returns.

        Who is cancelled meanwhile may find them kept; whoever is next waits until it shows.

        Raises:
            SpoolRefused, SpoolFull, SpoolDiskFull, SpoolBroken: none of them is kept.
        """
        await asyncio.shield(self._write(payloads))

    async def seal(self) -> list[Path]:
        """Begin a new segment with the next batch; return those before it, oldest first."""
        async with self._turn:
            self._close()
            return sorted(self._sizes)

    def done(self, path: Path) -> None:
        """Delete the segment *path*, all of which is done."""
        path.unlink(missing_ok=True)
        self._forget(path)

    def set_aside(self, path: Path, aside: Path) -> Path:
        """Move the damaged segment *path* into the folder *aside*; return where it is now."""
        moved = set_aside(path, aside)
        self._forget(path)
        return moved

    async def close(self) -> None:
        """Let go of what is open; what is not done stays for whoever adopts it."""
        async with self._turn:
            self._close()

    async def _write(self, payloads: Sequence[bytes]) -> None:
        async with self._turn:
            frames = await asyncio.to_thread(self._frames, payloads)
            if self.size + sum(map(len, frames)) > self._max_bytes:
                raise SpoolFull(f"the spool holds {self.size} bytes and may hold {self._max_bytes}")
            await asyncio.to_thread(self._append, frames)
            self._number += len(frames)

    def _forget(self, path: Path) -> None:
        self._sizes.pop(path, None)
        self._began.pop(path, None)

    def _frames(self, payloads: Sequence[bytes]) -> list[bytes]:
        try:
            return [frame(number, payload) for number, payload in enumerate(payloads, self._number + 1)]
        except FrameTooLarge as error:
            raise SpoolRefused(f"the spool does not take it: {error}") from error

    def _append(self, frames: Sequence[bytes]) -> None:
        size = sum(map(len, frames))
        try:
            if self._disk.free_bytes(self.folder) < DISK_RESERVE + size:
                raise SpoolDiskFull(f"less than {DISK_RESERVE} bytes are free on the disk of {self.folder}")
            segment = self._segment(size)
        except OSError as error:
            raise _refusal(error) from error
        try:
            for data in frames:
                self._disk.write(segment.file, data)
                self._disk.sync(segment.file)
        except OSError as error:
            self._take_back(segment)
            raise _refusal(error) from error
        segment.size += size
        self._sizes[segment.path] = segment.size

    def _segment(self, size: int) -> _Open:
        if self._open is not None and self._open.size + size <= self._segment_max:
            return self._open
        self._close()
        self._files += 1
        path = self.folder / f"{self._files:08d}{SUFFIX}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, _PRIVATE)
        self._open = _Open(path, file)
        self._began[path] = time.time()
        self._sizes[path] = 0
        try:
            self._disk.sync_folder(self.folder)
        except OSError:
            self._close()  # what is written to a file whose name may be lost is not on disk
            raise
        return self._open

    def _take_back(self, segment: _Open) -> None:
        """Nobody knows what is on the disk after a failure: the batch is cut off, and the segment not used again."""
        try:
            self._disk.cut(segment.file, segment.size)
            self._disk.sync(segment.file)
        except OSError:
            pass  # a torn tail then, which every reader recognises, after frames that it does no harm to read
        self._close()

    def _close(self) -> None:
        if self._open is None:
            return
        segment, self._open = self._open, None
        os.close(segment.file)
        if not segment.size:
            segment.path.unlink(missing_ok=True)
            self._forget(segment.path)


def segments_of(folder: Path) -> list[Path]:
    """Return the segments in *folder*, oldest first; none if it is gone."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
    except FileNotFoundError:
        return []


def read_segment(path: Path) -> Segment:
    """
    Read the segment *path*.

    Raises:
        OSError: it cannot be read at all.
    """
    data = path.read_bytes()
    return Segment(path, data, scan(data))


def cut_tail(segment: Segment) -> None:
    """Cut what is torn off the file of *segment*."""
    file = os.open(segment.path, os.O_WRONLY)
    try:
        os.ftruncate(file, segment.scan.whole_bytes)
        os.fsync(file)
    finally:
        os.close(file)


def set_aside(path: Path, aside: Path) -> Path:
    """Move the segment *path* into the folder *aside*, under the name of its owner, too."""
    aside.mkdir(mode=0o700, parents=True, exist_ok=True)
    moved = path.rename(aside / f"{path.parent.name}-{path.name}")
    sync_folder(aside)
    return moved


def sync_folder(folder: Path) -> None:
    """Return when the names in *folder* are on disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _refusal(error: OSError) -> SpoolRefused:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return SpoolDiskFull(f"the disk of the spool is full: {error.strerror}")
    return SpoolBroken(f"the spool cannot be written: {error.strerror}")
