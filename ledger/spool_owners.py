"""
Whose spool is whose: a folder per process with a lock that ends with it, however it ends.

Whoever finds a folder whose lock is free adopts it. A lock on the folder of all of them is held while one is made or
looked for or taken away, so that no folder is adopted between being made and being locked, or while it goes.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ledger.spool import segments_of, sync_folder

DAMAGED = "damaged"
"""The folder, beside those of owners, of segments that were set aside."""
_LOCK, _GUARD = "owner", "guard"
_PRIVATE_DIR, _PRIVATE = 0o700, 0o600
_OWNER_BYTES = 8
_NOT_SPOOLS = frozenset({DAMAGED, "lost+found"})


class Owned:
    """A folder that this process owns, until `release`."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    @property
    def owner(self) -> str:
        return self.folder.name

    def segments(self) -> list[Path]:
        return segments_of(self.folder)

    def release(self) -> None:
        """Give it up; a folder that nothing else is in is gone afterwards."""
        if self.folder.is_dir() and not self.segments():
            with _guard(self.folder.parent), suppress(OSError):
                (self.folder / _LOCK).unlink()
                self.folder.rmdir()
        os.close(self._lock)


def own_new(root: Path) -> Owned:
    """
    Make a folder under *root* for this process.

    Raises:
        OSError: it cannot be made.
    """
    root.mkdir(mode=_PRIVATE_DIR, parents=True, exist_ok=True)
    with _guard(root):
        folder = root / secrets.token_hex(_OWNER_BYTES)
        folder.mkdir(mode=_PRIVATE_DIR)
        lock = _lock(folder)
        assert lock is not None, "nobody else knows it yet"
        os.write(lock, f"{folder.name} {os.getpid()}\n".encode())
        sync_folder(root)
    return Owned(folder, lock)


def adopt(root: Path) -> list[Owned]:
    """
    Take over all folders under *root* whose owners are dead, oldest first; what holds no spool is left alone.

    Raises:
        OSError: *root* cannot be read, or a folder cannot be locked; told only when no other one is left to take over.
    """
    if not root.is_dir():
        return []
    found: list[Owned] = []
    failed: OSError | None = None
    with _guard(root):
        for path in sorted(folders(root), key=lambda path: path.stat().st_mtime_ns):
            try:
                lock = _lock(path) if _is_spool(path) else None
            except OSError as error:
                failed = error
                continue
            if lock is not None:
                found.append(Owned(path, lock))
    if failed is not None and not found:
        raise failed
    return found


def folders(root: Path) -> list[Path]:
    """Return the folders of all owners under *root*, whether they live or not."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name not in _NOT_SPOOLS)


def damaged(root: Path) -> list[Path]:
    """Return the segments under *root* that were set aside."""
    return segments_of(root / DAMAGED)


def _is_spool(folder: Path) -> bool:
    """Tell whether a process owns *folder* or did, or an operator has put segments into it, under whatever name."""
    return (folder / _LOCK).is_file() or bool(segments_of(folder))


def _lock(folder: Path) -> int | None:
    file = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, _PRIVATE)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


@contextmanager
def _guard(root: Path) -> Iterator[None]:
    file = os.open(root / _GUARD, os.O_RDWR | os.O_CREAT, _PRIVATE)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
