"""The data folder: who made it, who may pass through it, who has it now, and where its sockets are."""

import fcntl
import hashlib
import os
import shutil
import stat
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from service.processes import LauncherError

SOCKET_DIR_MAX = 88  # bytes; a socket address has room for 103 (macOS) and PostgreSQL appends `/.s.PGSQL.5432`
_LOCK = "impledger.lock"
_PASSABLE = 0o711
_PRIVATE = 0o700


class AlreadyRunning(LauncherError):
    """Another supervisor has the data folder; `holder` says which."""

    def __init__(self, data_dir: Path, holder: "Holder") -> None:
        super().__init__(
            f"{data_dir} is in use by process {holder.pid} since {holder.started_at}. "
            f"Stop it (kill {holder.pid}), or choose another folder with IMPLEDGER_DATA_DIR."
        )
        self.holder = holder


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who has the data folder. `started_at` is RFC 3339, UTC."""

    pid: int
    started_at: str


class DataLock:
    """A lock on the data folder that ends with the process, however it ends; a file left over is no obstacle."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._file: int | None = None

    def acquire(self) -> Holder:
        """
        Take the data folder, making it if it is missing; return what others see of it.

        Raises:
            AlreadyRunning: Another process has it.
            LauncherError: The folder cannot be made or written, or another user's runs made it.
        """
        make_data_dir(self._data_dir)
        check_user(self._data_dir)
        try:
            file = os.open(lock_file(self._data_dir), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise not_writable(self._data_dir, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(file)
            os.close(file)
            raise AlreadyRunning(self._data_dir, holder) from None
        now = datetime.fromtimestamp(int(time.time()), UTC).isoformat().replace("+00:00", "Z")
        holder = Holder(pid=os.getpid(), started_at=now)
        os.ftruncate(file, 0)
        os.pwrite(file, msgspec.json.encode(holder), 0)
        self._file = file
        return holder

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def lock_file(data_dir: Path) -> Path:
    return data_dir / _LOCK


def lock_holder(data_dir: Path) -> Holder | None:
    """
    Return who has *data_dir*, or None if nobody has.

    Raises:
        OSError: The lock file cannot be read.
    """
    try:
        file = os.open(lock_file(data_dir), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(file)
    finally:
        os.close(file)
    return None


def make_data_dir(data_dir: Path) -> None:
    """
    Make the data folder if it is missing, close it if it is empty.

    Others may pass through it, for an engine with its own user, but not look.

    Raises:
        LauncherError: It cannot be made.
    """
    try:
        if data_dir.is_dir():
            _close_if_new(data_dir)
            return
        if data_dir.exists():
            raise LauncherError(f"{data_dir} is not a folder. Choose another with IMPLEDGER_DATA_DIR.")
        data_dir.mkdir(parents=True, exist_ok=True)
        data_dir.chmod(_PASSABLE)
    except OSError as error:
        raise not_writable(data_dir, error) from error


def _close_if_new(data_dir: Path) -> None:
    """Take from others what our own folder gives them before the first start; one in use stays."""
    found = data_dir.stat()
    if found.st_uid == os.geteuid() and found.st_mode & 0o777 & ~_PASSABLE and not any(data_dir.iterdir()):
        data_dir.chmod(found.st_mode & _PASSABLE)


def check_user(data_dir: Path) -> None:
    """
    Root could go on with a user's data, but its new files would be closed to that user from then on.

    Raises:
        LauncherError: Another user's runs made what is in *data_dir*.
    """
    lock = lock_file(data_dir)
    if lock.exists() and lock.stat().st_uid != os.geteuid():
        user, ours = lock.stat().st_uid, os.geteuid()
        raise LauncherError(
            f"{data_dir} was made by runs of user id {user}, and this is user id {ours}. Start as that user, "
            f"or choose another folder with IMPLEDGER_DATA_DIR. (To move it for good: chown -R {ours} {data_dir}.)"
        )


def private(folder: Path, owner: tuple[int, int] | None = None) -> Path:
    """
    Make *folder*, for *owner* (uid, gid) alone, or for the caller; one that exists must be as private.

    Raises:
        LauncherError: It is not a folder, belongs to someone else, or others may write into it.
    """
    uid, gid = owner or (os.geteuid(), os.getegid())
    try:
        folder.mkdir(mode=_PRIVATE)
    except FileExistsError:
        pass
    except OSError as error:
        raise not_writable(folder, error) from error
    else:
        _give(folder, uid, gid)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o022:
        raise LauncherError(
            f"{folder} must be a folder that belongs to user id {uid} and that nobody else may write into; "
            f"it belongs to {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}. Remove it and start again."
        )
    return folder


def sockets(data_dir: Path) -> Path:
    """
    Return the folder for Unix sockets: `run` in the data folder.

    A socket's address is short, and libpq takes a comma for the end of it, so for other paths it is a folder in /tmp
    named after the data folder, the same for every process of this user.
    """
    inside = data_dir / "run"
    if len(os.fsencode(inside / "postgres")) <= SOCKET_DIR_MAX and "," not in str(inside):
        return inside
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path("/tmp") / f"impledger-{os.geteuid()}-{name}"  # noqa: S108 (`private` checks whose it is)


def make_sockets(data_dir: Path) -> Path:
    """
    Make the folder for Unix sockets; engines keep their own private folder in it.

    Raises:
        LauncherError: See `private`.
    """
    folder = private(sockets(data_dir))
    folder.chmod(_PASSABLE)
    return folder


def remove_sockets(data_dir: Path) -> None:
    """Remove our folder for sockets where it is not in the data folder, after everything that listens there ended."""
    folder = sockets(data_dir)
    if folder.parent != data_dir and _is_ours(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def passable(path: Path, uid: int, gid: int) -> bool:
    """Say whether the mode bits let *uid* with group *gid*, and no other right, pass through every folder to *path*."""
    return all(_may_enter(folder.stat(), uid, gid) for folder in path.resolve().parents)


def _give(folder: Path, uid: int, gid: int) -> None:
    try:
        os.chown(folder, uid, gid)
    except PermissionError as error:
        folder.rmdir()
        raise LauncherError(
            f"this root may not hand {folder} to user id {uid}, as whom PostgreSQL must run. "
            "Start as an ordinary user (in a container: --user 1000), or with the default capabilities."
        ) from error


def not_writable(folder: Path, error: OSError) -> LauncherError:
    return LauncherError(
        f"{folder} cannot be made or written by user id {os.geteuid()}: {error.strerror}. "
        "Change its owner, or choose another folder with IMPLEDGER_DATA_DIR."
    )


def _may_enter(found: os.stat_result, uid: int, gid: int) -> bool:
    if found.st_uid == uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _read_holder(file: int) -> Holder:
    try:
        return msgspec.json.decode(os.pread(file, 1_000, 0), type=Holder)
    except msgspec.DecodeError:  # read between its locking and its writing
        return Holder(pid=0, started_at="just now")
