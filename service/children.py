"""One supervised process: what it is, how it is started and stopped, and what becomes of it."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import msgspec
import structlog

from service import launch
from service.folders import private
from service.processes import LauncherError, born

_LOG_MAX_BYTES = 10_000_000
_TAIL_BYTES = 4_000
_TAIL_LINES = 8
_DOUBLINGS_MAX = 16


@dataclass(frozen=True, kw_only=True)
class Child:
    """
    A process to supervise.

    `env` is its whole environment (None: the supervisor's). `ready` is asked until it says yes; it must answer within
    moments, and an OSError means no. `before` runs before every start; what it raises ends everything at the first one,
    and puts off any later one. `run_as` is for `launch.become`. `once`: it does something and ends, and is not started
    again, whatever came of it.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    ready: Callable[[], bool] = field(default=lambda: True)
    ready_timeout_s: float = 30
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 10
    needs: tuple[str, ...] = ()
    before: Callable[[], None] = field(default=lambda: None)
    run_as: str = launch.AS_STARTER
    once: bool = False


@dataclass(frozen=True, kw_only=True)
class Patience:
    """
    How fast a child that dies is started again; `stable_s` of being ready forgets its deaths.

    One that was never ready is given up after `deaths_max`. One that was is not, for the others serve without it.
    """

    deaths_max: int = 6
    pause_s: float = 0.2
    pause_max_s: float = 30
    stable_s: float = 10

    def pause(self, deaths: int) -> float:
        return float(min(self.pause_s * 2 ** min(deaths - 1, _DOUBLINGS_MAX), self.pause_max_s))


class State(StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    PAUSED = "paused"
    DONE = "done"
    STOPPING = "stopping"
    STOPPED = "stopped"


class ChildState(msgspec.Struct, frozen=True, kw_only=True):
    """What a live view shows. `born` and `since` are epoch seconds; `says` is a phrase about the last change."""

    name: str
    state: State
    pid: int | None
    born: float | None
    restarts: int
    since: float
    says: str
    stop_signal: int


class ChildFailed(LauncherError):
    """A child was never ready in time or died too often; `log` is its log file unless its output was inherited."""

    def __init__(self, name: str, what: str, log: Path | None) -> None:
        where = f" Its log is {log}{_tail(log)}" if log else ""
        super().__init__(f"{name} {what}.{where}")
        self.name = name
        self.log = log


class Watched:
    """One child and its process. Call it from the main thread only, see `_spawn`."""

    def __init__(self, child: Child, log: Path | None, patience: Patience) -> None:
        self.child = child
        self._log = log
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._born: float | None = None
        self._state = State.WAITING
        self._since = time.time()
        self._deadline = 0.0
        self._starts = 0
        self._deaths = 0
        self._put_off = 0
        self._was_ready = False
        self._says = ""

    @property
    def state(self) -> State:
        return self._state

    @property
    def is_up(self) -> bool:
        return self._state in {State.READY, State.DONE}

    def view(self) -> ChildState:
        return ChildState(
            name=self.child.name,
            state=self._state,
            pid=self._process.pid if self._process else None,
            born=self._born,
            restarts=max(self._starts - 1, 0),
            since=self._since,
            says=self._says,
            stop_signal=int(self.child.stop_signal),
        )

    def step(self, now: float, *, needs_ready: bool) -> None:
        """
        Look at the process once and do what is due at monotonic time *now*.

        Raises:
            ChildFailed: It was never ready in time, or died too often before.
            LauncherError: What must come before its start failed.
        """
        code = self._process.poll() if self._process else None
        if self._log is not None:
            _keep_small(self._log)
        match self._state:
            case State.WAITING | State.PAUSED:
                if needs_ready and now >= self._deadline:
                    self._start_or_wait()
            case State.STARTING | State.READY if code is not None and self.child.once:
                self._become(State.DONE, self._reap())
            case State.STARTING | State.READY if code is not None:
                self._died(now, _ending(code))
            case State.STARTING:
                self._look_if_ready(now)
            case State.READY if now >= self._deadline:
                self._deaths = 0
            case State.STOPPING if code is not None:
                self._finish()
            case State.STOPPING if now >= self._deadline:
                self._finish(f": {self.child.stop_grace_s:g} s after it was asked to end it still ran")
            case _:
                pass

    def ask_to_stop(self, now: float) -> None:
        if self._state in {State.STOPPING, State.STOPPED}:
            return
        if self._process is None:
            self._become(State.STOPPED, "not running")
        else:
            self._process.send_signal(self.child.stop_signal)
            self._deadline = now + self.child.stop_grace_s
            asked = signal.Signals(self.child.stop_signal).name
            self._become(State.STOPPING, f"asked to stop by {asked}, within {self.child.stop_grace_s:g} s")

    def kill(self) -> None:
        if self._state is not State.STOPPED:
            self._finish()

    def _start_or_wait(self) -> None:
        """What was ready once will be again: until what it needs is back, the others must not end with it."""
        try:
            self._start()
        except Exception as error:
            if not self._was_ready:
                raise
            self._put_off += 1
            self._deadline = time.monotonic() + self._patience.pause(self._put_off)
            self._become(State.PAUSED, f"it cannot be started again yet: {error}")
        else:
            self._put_off = 0

    def _start(self) -> None:
        self.child.before()
        self._process = _spawn(self.child, self._log)
        self._born = born(self._process.pid)
        self._starts += 1
        self._deadline = time.monotonic() + self.child.ready_timeout_s
        self._become(State.STARTING, "started" if self._starts == 1 else f"started again: {self._says}")

    def _look_if_ready(self, now: float) -> None:
        if self._is_ready():
            self._was_ready = True
            self._deadline = now + self._patience.stable_s
            self._become(State.READY, self._says)
        elif now >= self._deadline:
            what = f"was not ready within {self.child.ready_timeout_s:g} s"
            if not self._was_ready:
                raise ChildFailed(self.child.name, what, self._log)
            self._died(now, what)

    def _is_ready(self) -> bool:
        try:
            return self.child.ready()
        except OSError:
            return False

    def _died(self, now: float, what: str) -> None:
        self._reap()
        self._deaths += 1
        if self._deaths >= self._patience.deaths_max and not self._was_ready:
            often = f"was given up: it ended {self._deaths} times in a row; the last time it {what}"
            raise ChildFailed(self.child.name, often, self._log)
        self._deadline = now + self._patience.pause(self._deaths)
        again = f", {self._deaths} times in a row" if self._deaths > 1 else ""
        self._become(State.PAUSED, f"it {what}{again}")

    def _finish(self, why: str = "") -> None:
        self._become(State.STOPPED, self._reap() + why)

    def _reap(self) -> str:
        """Kill what is left of the process and of its group, which it leads, and say how it ended."""
        if self._process is None:
            return "not running"
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter where only a zombie is left
            os.killpg(self._process.pid, signal.SIGKILL)
        ending = _ending(self._process.wait())
        self._process = self._born = None
        return ending

    def _become(self, state: State, says: str) -> None:
        self._state, self._says, self._since = state, says, time.time()
        structlog.get_logger(__name__).info("child", name=self.child.name, state=str(state), says=says)


def _spawn(child: Child, log: Path | None) -> subprocess.Popen[bytes]:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children die with the thread that starts them: start them from the main thread")
    output = _open_log(log) if log else None
    try:
        with launch.held_back(child.stop_signal):
            return subprocess.Popen(  # noqa: S603 (the argument vector is ours)
                launch.command(child.argv, child.stop_signal, child.run_as),
                env=child.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    finally:
        if output is not None:
            os.close(output)


def _open_log(log: Path) -> int:
    private(log.parent)
    _keep_small(log)
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _keep_small(log: Path) -> None:
    """Put a big *log* aside, also while its process writes it: of what comes at that moment lines may be lost."""
    with suppress(OSError):
        if log.stat().st_size <= _LOG_MAX_BYTES:
            return
        with suppress(OSError):  # a full disk has no room for both
            shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)


def _tail(log: Path) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - _TAIL_BYTES, 0))
        lines = file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
    return "".join(f"\n    {line}" for line in ["and ends with:", *lines]) if lines else " (empty)"


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    names = {int(known): known.name for known in signal.Signals}  # without most real-time signals
    return f"ended by {names.get(-code, f'signal {-code}')}"
