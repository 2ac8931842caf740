"""
Become another program that does not outlive its starter, as another user if asked.

Run as a script (`python -I -S launch.py ...`), so that no Python runs between fork and exec of a caller that may have
threads, and so that a setuid, which clears the parent-death signal, comes before the signal is asked for.

Python turns a SIGINT into an exception wherever it is, and some places swallow it: one at the start of this script was
lost once in 400 times, and the program it became ran on. So whoever asks with that signal starts it with `held_back`.
"""

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AS_STARTER = "-"
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 4
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522


def die_with_parent(parent: int, sig: int = signal.SIGTERM) -> None:
    """
    Have the kernel send *sig* to this process when the thread that started it ends. Off Linux this does nothing.

    *parent* is the process id of the starter; if it is gone already, the signal comes at once.

    Raises:
        OSError: The kernel refused.
    """
    if sys.platform != "linux":
        return
    _prctl(_PR_SET_PDEATHSIG, sig)
    if os.getppid() != parent:
        os.kill(os.getpid(), sig)


@contextmanager
def held_back(sig: int) -> Iterator[None]:
    """Have a process that is started inside, by `command`, take *sig* only once it ends by it without a word."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {sig})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def command(argv: tuple[str, ...], sig: int, run_as: str = AS_STARTER) -> list[str]:
    """Return the command line that becomes *argv*; *run_as* is `uid:gid:right`, see `become`."""
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid()), str(int(sig)), run_as, *argv]


def become(uid: int, gid: int, right: int) -> None:
    """
    Change from root to *uid* and *gid* for good, keeping one right of root, also over exec, or none with 0.

    CAP_DAC_READ_SEARCH is to pass through all folders and to read; where this root has it not (as in a container by
    default) or for CAP_DAC_OVERRIDE it is also to write and to execute.

    Raises:
        OSError: The kernel refused.
    """
    os.setgroups([])
    os.setgid(gid)
    if right == 0:
        os.setuid(uid)
        return
    kept = next((one for one in (right, CAP_DAC_OVERRIDE) if _has(one)), None)
    if kept is None:
        raise PermissionError(errno.EPERM, f"user id {uid} may not pass through the folders to it, nor may this root")
    _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)  # else setuid drops the right, and access(2) ignores it
    os.setuid(uid)
    _keep_only(kept)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, kept)


def _has(capability: int) -> bool:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except FileNotFoundError:  # not Linux
        return False
    effective = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> capability & 1)


def _keep_only(capability: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    bit = 1 << capability
    effective_permitted_inheritable = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    _check(ctypes.CDLL(None, use_errno=True).capset(header, effective_permitted_inheritable))


def _prctl(option: int, value: int, third: int = 0) -> None:
    arguments = (ctypes.c_ulong(value), ctypes.c_ulong(third), ctypes.c_ulong(0), ctypes.c_ulong(0))
    _check(ctypes.CDLL(None, use_errno=True).prctl(option, *arguments))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _main() -> None:
    parent, sig, run_as, argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
    for changed_by_python in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(changed_by_python, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        if run_as != AS_STARTER:
            uid, gid, right = (int(part) for part in run_as.split(":"))
            become(uid, gid, right)
        die_with_parent(parent, sig)
        os.execvp(argv[0], argv)  # noqa: S606 (this is what it is for)
    except OSError as error:
        sys.exit(f"cannot start {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    _main()
