"""Starts the processes of one machine in order, starts again what dies, and stops all of them; leaves no orphan."""

import errno
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import msgspec
import structlog

from service.children import Child, ChildState, Patience, State, Watched
from service.folders import DataLock, Holder, lock_holder, remove_sockets
from service.processes import LauncherError, Process, born, end, port_error, port_holder, same, signal_all

_TICK_S = 0.05
_EAGER_S = 0.01  # while starting and stopping
_LEFTOVER_GRACE_S = 30.0
_STATE = "state.json"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class PortsTaken(LauncherError):
    """Ports that are to be listened on are not free; `holders` maps each to its process, if that can be seen."""

    def __init__(self, holders: Mapping[str, tuple[int, Process | None]]) -> None:
        super().__init__("\n".join(_taken(name, port, holder) for name, (port, holder) in holders.items()))
        self.holders = holders


class Interrupted(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP came while a supervisor was in charge."""

    def __init__(self, sig: signal.Signals) -> None:
        super().__init__(sig.name)
        self.signal = sig


class _Record(msgspec.Struct, frozen=True):
    """The states, and whose they are: those that a killed supervisor left are not those of the next."""

    by: Holder
    children: tuple[ChildState, ...]


def running_states(data_dir: Path) -> tuple[ChildState, ...]:
    """Return the states of the children on *data_dir*, for other processes; none before or after a supervisor's run."""
    holder, record = lock_holder(data_dir), _read(data_dir / _STATE)
    if record is None or holder != record.by or born(holder.pid) is None:
        return ()
    return record.children


class Supervisor:
    """
    Keeps *children* running on *data_dir*, from entering the context to leaving it.

    Everything happens in the caller's main thread: `run` stays in charge until a signal, and whoever does something
    else inside the context calls `poll` now and then, for that is when the dead are started again. The children die
    with the process, however it dies. *ports* on *host* must be free; their names are those of the settings (`gate` for
    IMPLEDGER_GATE_PORT). *watch* sees the states after each look. Logs go to `logs/NAME.log` in the data folder, or
    with *inherit_output* to the caller's.
    """

    def __init__(  # noqa: PLR0913 (keywords, with defaults for all but the first two)
        self,
        data_dir: Path,
        children: Sequence[Child],
        *,
        host: str = "127.0.0.1",
        ports: Mapping[str, int] | None = None,
        watch: Callable[[tuple[ChildState, ...]], None] = lambda _: None,
        inherit_output: bool = False,
        patience: Patience | None = None,
    ) -> None:
        self._data_dir = data_dir.resolve()
        logs = self._data_dir / "logs"
        self._children = {
            child.name: Watched(child, None if inherit_output else logs / f"{child.name}.log", patience or Patience())
            for child in _in_order(children)
        }
        self._host = host
        self._ports = ports or {}
        self._watch = watch
        self._lock = DataLock(self._data_dir)
        self._holder = Holder(pid=0, started_at="")
        self._signals: list[signal.Signals] = []
        self._defer = False
        self._old_handlers: dict[signal.Signals, object] = {}
        self._written: tuple[ChildState, ...] = ()

    def __enter__(self) -> Self:
        """
        Take the data folder and start everything, until all are ready.

        Raises:
            AlreadyRunning: Another supervisor has the data folder.
            PortsTaken: A port is not free.
            ChildFailed: A child was never ready in time, or died too often before. All are stopped again.
            LauncherError: Something else on the machine is in the way.
            Interrupted: A signal came. All are stopped again.
        """
        self._holder = self._lock.acquire()
        try:
            self._take_signals()
            self._end_leftovers()
            self._check_ports()
            while not self.poll():
                time.sleep(_EAGER_S)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def poll(self) -> bool:
        """
        Look at every child once, start again what died, and say whether all are ready.

        Raises:
            ChildFailed: A child was never ready in time, or died too often before.
            Interrupted: A signal came meanwhile.
        """
        with self._signals_deferred():
            for watched in self._children.values():
                watched.step(time.monotonic(), needs_ready=self._are_up(watched.child.needs))
            self._tell()
        return self._are_up(self._children)

    def run(self) -> signal.Signals:
        """Start everything and stay in charge until SIGINT, SIGTERM or SIGHUP; stop everything, return the signal."""
        try:
            with self:
                while True:
                    self.poll()
                    time.sleep(_TICK_S)
        except Interrupted as interrupt:
            return interrupt.signal

    def states(self) -> tuple[ChildState, ...]:
        return tuple(watched.view() for watched in self._children.values())

    def _stop(self) -> None:
        self._defer = True
        self._signals.clear()
        try:
            self._stop_in_order()
        finally:
            for watched in self._children.values():
                watched.kill()
            remove_sockets(self._data_dir)
            (self._data_dir / _STATE).unlink(missing_ok=True)
            self._give_signals_back()
            self._lock.release()

    def _stop_in_order(self) -> None:
        """Stop each after those that need it; a second signal ends the patience."""
        while not self._signals and not self._are(self._children, State.STOPPED):
            for watched in self._children.values():
                if self._are(self._needed_by(watched.child.name), State.STOPPED):
                    watched.ask_to_stop(time.monotonic())
            self._tell()
            time.sleep(_EAGER_S)
            for watched in self._children.values():
                if watched.state is State.STOPPING:
                    watched.step(time.monotonic(), needs_ready=False)
        self._tell()

    def _are(self, names: Sequence[str] | Mapping[str, object], state: State) -> bool:
        return all(self._children[name].state is state for name in names)

    def _are_up(self, names: Sequence[str] | Mapping[str, object]) -> bool:
        return all(self._children[name].is_up for name in names)

    def _needed_by(self, name: str) -> list[str]:
        return [other for other, watched in self._children.items() if name in watched.child.needs]

    def _tell(self) -> None:
        states = self.states()
        if states != self._written:
            self._written = states
            try:
                _write(self._data_dir / _STATE, _Record(self._holder, states))
            except OSError as error:  # a full disk must not end what it can still serve
                structlog.get_logger(__name__).warning("the states cannot be written", error=str(error))
        try:
            self._watch(states)
        except OSError as error:  # nor must the screen, which may be a file on that disk
            if isinstance(error, BrokenPipeError):  # nobody is there any more
                raise

    def _check_ports(self) -> None:
        holders = {}
        for name, port in self._ports.items():
            error = port_error(self._host, port)
            if error is not None and error.errno != errno.EADDRINUSE:
                raise LauncherError(f"{name} cannot listen on {self._host}:{port}: {error.strerror}.")
            if error is not None:
                holders[name] = (port, port_holder(port))
        if holders:
            raise PortsTaken(holders)

    def _end_leftovers(self) -> None:
        """End what a killed predecessor left: its children are ending (Linux), or run on (macOS)."""
        record = _read(self._data_dir / _STATE)
        children = () if record is None else record.children
        left = {c.pid: c for c in children if c.pid and c.born and same(c.pid, c.born)}
        for pid, child in left.items():
            structlog.get_logger(__name__).info("ending what an earlier run left", name=child.name, pid=pid)
            signal_all([pid], signal.Signals(child.stop_signal))
        end(lambda: _alive(left), _LEFTOVER_GRACE_S)

    def _take_signals(self) -> None:
        for sig in _SIGNALS:
            if signal.getsignal(sig) is not signal.SIG_IGN:  # as nohup wants it
                self._old_handlers[sig] = signal.signal(sig, self._on_signal)

    def _give_signals_back(self) -> None:
        for sig, handler in self._old_handlers.items():
            signal.signal(sig, handler)  # type: ignore[arg-type]
        self._old_handlers.clear()
        self._defer = False

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(signal.Signals(number))
        if not self._defer:
            raise Interrupted(self._signals[0])

    @contextmanager
    def _signals_deferred(self) -> Iterator[None]:
        """Hold signals back, so that none comes between the start of a process and its being known."""
        self._defer = True
        try:
            yield
        finally:
            self._defer = False
        if self._signals:
            raise Interrupted(self._signals[0])


def _in_order(children: Sequence[Child]) -> list[Child]:
    """Return *children*, each after those that it needs."""
    waiting = {child.name: child for child in children}
    ordered: dict[str, Child] = {}
    while waiting:
        free = [child for child in waiting.values() if set(child.needs) <= ordered.keys()]
        if not free or len(waiting) + len(ordered) < len(children):
            raise ValueError(
                f"children need each other in a circle, need one that is missing, or share a name: {waiting}"
            )
        for child in free:
            ordered[child.name] = waiting.pop(child.name)
    return list(ordered.values())


def _taken(name: str, port: int, holder: Process | None) -> str:
    who = str(holder) if holder else "a process that this user may not see"
    return f"{name} cannot use port {port}: {who} has it. Stop that, or set IMPLEDGER_{name.upper()}_PORT."


def _alive(left: Mapping[int, ChildState]) -> set[int]:
    return {pid for pid, child in left.items() if child.born and same(pid, child.born)}


def _write(file: Path, record: _Record) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(record))
    new.replace(file)


def _read(file: Path) -> _Record | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Record)
    except (FileNotFoundError, msgspec.DecodeError):  # never run, stopped in good order, or written by another version
        return None
