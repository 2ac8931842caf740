"""What runs on this machine: who holds a port, who works in a folder, whether a process is still the same one."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

_COMMAND_MAX = 120
_CLOCK_TOLERANCE_S = 2.0
_POLL_S = 0.02
_KILLED_WITHIN_S = 5.0


class LauncherError(RuntimeError):
    """Something on this machine is in the way; the text says what, `next_step` where to look."""

    next_step = "`impledger doctor` looks at everything that can be in the way."


@dataclass(frozen=True)
class Process:
    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def describe(pid: int) -> Process | None:
    """Return process *pid*, or None if there is none."""
    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline()) or process.name()
    except psutil.AccessDenied:
        command = "of another user"
    except psutil.NoSuchProcess:
        return None
    return Process(pid, command if len(command) <= _COMMAND_MAX else command[: _COMMAND_MAX - 1] + "…")


def born(pid: int) -> float | None:
    """Return when process *pid* began (epoch seconds): with its id it names one process, also after ids are reused."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None


def same(pid: int, birth: float) -> bool:
    """Say whether process *pid* runs and is the one that began at *birth*."""
    now = born(pid)
    return now is not None and abs(now - birth) < _CLOCK_TOLERANCE_S


def ancestors(pid: int) -> set[int]:
    """Return the ids of process *pid* and of all that it descends from."""
    try:
        return {pid, *(parent.pid for parent in psutil.Process(pid).parents())}
    except psutil.Error:
        return {pid}


def working_in(folder: Path, name: str) -> set[int]:
    """Return the ids of the processes called *name* whose working directory is *folder*."""
    found = set()
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == name:
            try:
                if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == folder:
                    found.add(process.pid)
            except psutil.Error:
                continue  # ended meanwhile, or another user's
    return found


def port_holder(port: int) -> Process | None:
    """Return the process that has TCP *port*, or None if no process, or none that this user may see, has it."""
    try:
        held = [c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.pid]
    except (psutil.Error, OSError):
        return None
    held.sort(key=lambda c: c.status != psutil.CONN_LISTEN)
    return describe(held[0].pid) if held else None


def port_error(host: str, port: int) -> OSError | None:
    """Return why a server cannot listen on *host* and *port*, or None if it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            return error
    return None


def memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or its container's limit if lower."""
    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no cgroup 2, or the word "max"
        return total


def memory_free_bytes() -> int:
    return min(int(psutil.virtual_memory().available), memory_bytes())


def signal_all(pids: Iterable[int], sig: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            continue


def end(pids: Callable[[], set[int]], grace_s: float) -> None:
    """
    Wait until there are no *pids* any more; kill those that are left after *grace_s*.

    Raises:
        LauncherError: They stay, although killed.
    """
    if not wait_until(lambda: not pids(), grace_s):
        signal_all(pids(), signal.SIGKILL)
        if not wait_until(lambda: not pids(), _KILLED_WITHIN_S):
            raise LauncherError(f"processes of an earlier run do not end, although killed: {sorted(pids())}.")


def wait_until(done: Callable[[], bool], timeout_s: float) -> bool:
    """Ask *done* again and again; answer whether it said yes within *timeout_s*."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
